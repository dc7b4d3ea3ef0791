//! The file of settings: addresses, subnets, images, templates.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use vfabric_api::ident::Label;

pub use crate::dhcp6::settings::{Ipv6, Subnet6};

use crate::dhcp::address::Address;
use crate::error::ProvisionError;
use crate::redirects::Redirects;

/// Largest pool of one subnet: a /16. Finding a free address walks the pool.
pub(crate) const LARGEST_POOL: u32 = 65_536;
/// Shortest and longest lease in seconds. With shorter ones, renewals would be most of the traffic; with longer ones, an address
/// would be lost for weeks.
const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 120..=7 * 24 * 3600;
/// Longest URL in the settings. An option has at most 255 octets (RFC 2132 section 2), and this server appends the end
/// of the URL.
const LONGEST_URI: usize = 200;

/// The file. Paths in it are relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address at which switches reach this server: server identifier of DHCP, host of all URLs.
    pub address: Ipv4Addr,
    /// Port of HTTP.
    #[serde(default = "http_port")]
    pub http_port: u16,
    /// Whether files are served by TFTP too, on port 69.
    #[serde(default)]
    pub tftp: bool,
    /// Interfaces that listen for switches without an address. Relayed requests may arrive on any of them; if the list
    /// is empty, only relayed requests are served.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Subnets in which addresses are given.
    pub subnets: Vec<Subnet>,
    /// The same for IPv6; without it there is no DHCPv6.
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name.
    #[serde(default)]
    pub domain: Option<String>,
    /// How long a lease is valid, in seconds.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u32,
    /// Directory of the leases, writable by this server alone.
    pub state: PathBuf,
    /// Directory of the images, with a file `SHA256SUMS` as `sha256sum` writes it.
    #[serde(default)]
    pub images: Option<PathBuf>,
    /// Directory of templates: `MODEL/NAME`, or `default/NAME` for all other models.
    #[serde(default)]
    pub templates: Option<PathBuf>,
    /// The image of each software release.
    #[serde(default)]
    pub software: Vec<Software>,
    /// OpenConfig Bootz servers, one `bootz://HOST:PORT` or a list, for machines that ask for them; the default is this server's own
    /// one, if it has one.
    #[serde(default)]
    pub bootz: Redirects,
    /// HTTPS beside HTTP, for the same files.
    #[serde(default)]
    pub https: Option<Https>,
    /// This server's own Bootz server.
    #[serde(default)]
    pub bootz_server: Option<BootzServer>,
    /// Values that templates see as `vars`. Everybody on the network can read them.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// UDP port of DHCP; only tests use another one than 67.
    #[serde(default = "dhcp_port", skip_serializing)]
    pub dhcp_port: u16,
}

fn http_port() -> u16 {
    80
}

fn lease_seconds() -> u32 {
    3600
}

fn dhcp_port() -> u16 {
    dhcproto::v4::SERVER_PORT
}

/// HTTPS. Its certificate names this server as clients call it (an IP address or a DNS name, beside the SPIFFE id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Https {
    /// Its TCP port.
    #[serde(default = "https_port")]
    pub port: u16,
    /// Authorities of the fabric (PEM).
    pub tls_ca: PathBuf,
    /// Own certificate, for `spiffe://FABRIC/provision` (PEM).
    pub tls_cert: PathBuf,
    /// Its key (PEM).
    pub tls_key: PathBuf,
}

fn https_port() -> u16 {
    443
}

/// The Bootz server of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootzServer {
    /// Its TCP port.
    #[serde(default = "bootz_port")]
    pub port: u16,
    /// Where the controller accepts requests for enrolment, `HOST:PORT`.
    pub owner: String,
    /// Authorities of the fabric (PEM).
    pub tls_ca: PathBuf,
    /// Own certificate, for `spiffe://FABRIC/provision` (PEM).
    pub tls_cert: PathBuf,
    /// Its key (PEM).
    pub tls_key: PathBuf,
}

/// The port in the examples of the Bootz specification.
fn bootz_port() -> u16 {
    15006
}

/// One subnet of the management network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// Addresses for switches whose P4Runtime address is not in the subnet. Without a pool, such switches get no address.
    #[serde(default)]
    pub pool: Option<Pool>,
    /// Routers of the subnet.
    #[serde(default)]
    pub routers: Vec<Ipv4Addr>,
    /// Address at which switches of this subnet reach this server, if it differs from the common one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
}

/// A range of addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool<A = Ipv4Addr> {
    /// The first.
    pub first: A,
    /// The last.
    pub last: A,
}

impl<A: Address> Pool<A> {
    /// How many addresses it has.
    pub fn size(self) -> u32 {
        let more = self.last.number().saturating_sub(self.first.number());
        u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Whether an address is in it.
    pub fn contains(self, address: A) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// An image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// The release, as the inventory's `software` names it.
    pub name: Label,
    /// Models that the image is for; all, if none is named. The first matching entry is used.
    #[serde(default)]
    pub models: Vec<Label>,
    /// File in the directory of images.
    pub image: Label,
}

impl Settings {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or a field is wrong; the error names it.
    pub fn load(path: &Path) -> Result<Self, ProvisionError> {
        let text = std::fs::read_to_string(path).map_err(ProvisionError::file(path))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ProvisionError> {
        let mut settings: Self = vfabric_api::yaml::read(text).map_err(|source| ProvisionError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |(field, message)| ProvisionError::Settings {
            path: path.to_owned(),
            field,
            message,
        };
        settings.check().map_err(wrong)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        settings.state = dir.join(&settings.state);
        settings.images = settings.images.map(|images| dir.join(images));
        settings.templates = settings.templates.map(|templates| dir.join(templates));
        if let Some(https) = &mut settings.https {
            for file in [&mut https.tls_ca, &mut https.tls_cert, &mut https.tls_key] {
                *file = dir.join(&file);
            }
        }
        if let Some(server) = &mut settings.bootz_server {
            for file in [&mut server.tls_ca, &mut server.tls_cert, &mut server.tls_key] {
                *file = dir.join(&file);
            }
            let own = || format!("bootz://{}:{}", settings.address, server.port);
            settings.bootz.or_own(own());
            if let Some(ipv6) = &mut settings.ipv6 {
                let own = format!("bootz://[{}]:{}", ipv6.address, server.port);
                ipv6.bootz.or_own(own);
            }
        }
        Ok(settings)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let usable = |field: String, a: Ipv4Addr| {
            let bad = a.is_unspecified() || a.is_multicast() || a.is_broadcast();
            let message = format!("`{a}` cannot be used: expected an address of a host");
            if bad { Err((field, message)) } else { Ok(()) }
        };
        usable("address".into(), self.address)?;
        if self.subnets.is_empty() {
            return Err(("subnets".into(), "expected at least one subnet".into()));
        }
        for (i, subnet) in self.subnets.iter().enumerate() {
            let field = |name: &str| format!("subnets[{i}].{name}");
            let net = subnet.subnet;
            if net.trunc() != net {
                let message = format!("`{net}` has bits of a host: expected {}", net.trunc());
                return Err((field("subnet"), message));
            }
            if net.prefix_len() > 30 {
                let message = format!("`{net}` has no room for a switch and its router: expected /30 or larger");
                return Err((field("subnet"), message));
            }
            if let Some(other) = self.subnets[..i].iter().find(|o| overlap(o.subnet, net)) {
                return Err((field("subnet"), format!("`{net}` overlaps with {}", other.subnet)));
            }
            for (j, router) in subnet.routers.iter().enumerate() {
                if !net.contains(router) {
                    return Err((field(&format!("routers[{j}]")), format!("`{router}` is not in {net}")));
                }
            }
            if let Some(address) = subnet.address {
                usable(field("address"), address)?;
            }
            let Some(pool) = subnet.pool else { continue };
            for (name, end) in [("pool.first", pool.first), ("pool.last", pool.last)] {
                if !net.contains(&end) || end == net.network() || end == net.broadcast() {
                    return Err((field(name), format!("`{end}` is not an address of a host in {net}")));
                }
            }
            if pool.first > pool.last || pool.size() > LARGEST_POOL {
                let message = format!("expected a range of 1 to {LARGEST_POOL} addresses");
                return Err((field("pool"), message));
            }
        }
        if !LEASE_SECONDS.contains(&self.lease_seconds) {
            let (least, most) = (LEASE_SECONDS.start(), LEASE_SECONDS.end());
            let message = format!("`{}`: expected {least} to {most} seconds", self.lease_seconds);
            return Err(("lease_seconds".into(), message));
        }
        if let Some(domain) = &self.domain
            && (domain.len() > LONGEST_URI || !domain.bytes().all(|b| b.is_ascii_graphic()))
        {
            let message = format!("`{domain}`: expected at most {LONGEST_URI} visible characters of ASCII");
            return Err(("domain".to_owned(), message));
        }
        self.bootz.check().map_err(|why| ("bootz".to_owned(), why))?;
        if let Some(ipv6) = &self.ipv6 {
            ipv6.check()?;
            ipv6.bootz.check().map_err(|why| ("ipv6.bootz".to_owned(), why))?;
        }
        let named = self.interfaces.iter().enumerate();
        for (i, name) in named {
            // IFNAMSIZ of Linux, with the zero at its end.
            if name.is_empty() || name.len() > 15 {
                let message = format!("`{name}`: expected a name of 1 to 15 octets");
                return Err((format!("interfaces[{i}]"), message));
            }
        }
        Ok(())
    }

    /// The subnet of an address, with its number.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.subnets.iter().position(|s| s.subnet.contains(&address))
    }

    /// The address at which switches of a subnet reach this server.
    pub fn address_in(&self, subnet: Option<&Subnet>) -> Ipv4Addr {
        subnet.and_then(|s| s.address).unwrap_or(self.address)
    }

    /// Start of all URLs for switches of a subnet, without a slash at its end.
    pub fn url(&self, subnet: Option<&Subnet>) -> String {
        let address = self.address_in(subnet);
        match self.http_port {
            80 => format!("http://{address}"),
            port => format!("http://{address}:{port}"),
        }
    }

    /// The image of a release for a model.
    pub fn image(&self, software: &Label, model: Option<&Label>) -> Option<&Label> {
        let fits = |s: &&Software| {
            let model = |m: &Label| Some(m) == model;
            s.name == *software && (s.models.is_empty() || s.models.iter().any(model))
        };
        self.software.iter().find(fits).map(|s| &s.image)
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const GOOD: &str = r#"
address: 192.0.2.1
interfaces: [mgmt0]
subnets:
  - subnet: 192.0.2.0/24
    pool: { first: 192.0.2.100, last: 192.0.2.109 }
    routers: [192.0.2.254]
  - subnet: 198.51.100.0/24
    pool: { first: 198.51.100.10, last: 198.51.100.19 }
    address: 192.0.2.2
dns: [192.0.2.53]
ntp: [192.0.2.123]
domain: fabric.example
state: state
images: images
software:
  - { name: nos-1.0, models: [x86_64-acme_s1-r0], image: nos-1.0-acme.bin }
  - { name: nos-1.0, image: nos-1.0.bin }
bootz: "bootz://192.0.2.5:15006"
"#;

    pub(crate) fn good() -> Settings {
        Settings::parse(GOOD, Path::new("/etc/fabric/provision.yaml")).unwrap()
    }

    #[test]
    fn paths_are_relative_to_the_file_and_images_are_chosen_by_release_and_model() {
        let settings = good();
        assert_eq!(settings.state, Path::new("/etc/fabric/state"));
        assert_eq!(settings.url(None), "http://192.0.2.1");
        assert_eq!(settings.url(settings.subnets.get(1)), "http://192.0.2.2");
        let image = |software: &str, model: Option<&str>| {
            let model: Option<Label> = model.map(|m| m.parse().unwrap());
            let image = settings.image(&software.parse().unwrap(), model.as_ref());
            image.map(|i| i.as_str().to_owned())
        };
        assert_eq!(image("nos-1.0", Some("x86_64-acme_s1-r0")).unwrap(), "nos-1.0-acme.bin");
        assert_eq!(image("nos-1.0", Some("x86_64-other-r0")).unwrap(), "nos-1.0.bin");
        assert_eq!(image("nos-1.0", None).unwrap(), "nos-1.0.bin");
        assert_eq!(image("nos-2.0", None), None);
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (from, to, field) in [
            ("address: 192.0.2.1\n", "address: 224.0.0.1\n", "address"),
            ("192.0.2.0/24", "192.0.2.1/24", "subnets[0].subnet"),
            ("198.51.100.0/24", "192.0.2.0/25", "subnets[1].subnet"),
            ("first: 192.0.2.100", "first: 192.0.2.0", "subnets[0].pool.first"),
            ("last: 192.0.2.109", "last: 192.0.2.99", "subnets[0].pool"),
            (
                "routers: [192.0.2.254]",
                "routers: [192.0.3.254]",
                "subnets[0].routers[0]",
            ),
            ("state: state", "state: state\nlease_seconds: 1", "lease_seconds"),
            ("bootz://192", "http://192", "bootz"),
            ("[mgmt0]", "[a-name-that-is-too-long]", "interfaces[0]"),
            ("state: state", "stat: state", "stat"),
            ("image: nos-1.0.bin", "image: ../etc/shadow", "software[1].image"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = Settings::parse(&GOOD.replacen(from, to, 1), Path::new("p.yaml")).unwrap_err();
            let mut said = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                said = format!("{said}: {error}");
                cause = error.source();
            }
            let last = field.rsplit('.').next().unwrap();
            assert!(
                said.contains("p.yaml") && said.contains(last),
                "{field} is not in {said}"
            );
        }
    }
}
