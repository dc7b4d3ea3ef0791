//! Which options a client gets, by the kind of client that it says it is.
//!
//! | client | options for its next step |
//! | --- | --- |
//! | ONIE | 125 with the installer's URL under the enterprise number that it used, and 114; with TFTP 150, 66 and 67 |
//! | SONiC | 67: URL of `ztp.json` |
//! | Cumulus | 239: URL of the script |
//! | Arista | 67: URL of the script |
//! | any client that asks for 143 | the Bootz server, in the form of RFC 8572 section 8 |
//! | others | 239, if they ask for it |
//!
//! Options come in order of importance: a small message leaves out the last ones.

use std::net::Ipv4Addr;

use vfabric_api::ident::Label;
use vfabric_api::topology::Switch;

use super::packet::{Packet, code};
use crate::client::{Client, Kind};
use crate::settings::{Settings, Subnet};

/// The client that asks, and its place.
pub struct Asker<'a> {
    /// Its message.
    pub packet: &'a Packet,
    /// What it says about itself.
    pub client: &'a Client,
    /// The switch that it is; none for a machine in the enrolment window.
    pub switch: Option<&'a Switch>,
    /// The subnet that it is in.
    pub subnet: &'a Subnet,
}

/// The image that a switch should run; none if no file of the settings fits.
pub fn image_of<'a>(settings: &'a Settings, switch: &Switch) -> Option<&'a Label> {
    let software = switch.software.as_ref()?;
    settings.image(software, switch.model.as_ref())
}

/// The options of an OFFER or ACK; of an answer to INFORM with `lease` false.
pub fn options(settings: &Settings, asker: &Asker<'_>, lease: bool) -> Vec<(u8, Vec<u8>)> {
    let Asker { packet, subnet, .. } = asker;
    let mut all = vec![(code::SERVER_ID, settings.address_in(Some(subnet)).octets().to_vec())];
    if lease {
        all.push((code::LEASE_SECONDS, settings.lease_seconds.to_be_bytes().to_vec()));
    }
    all.push((code::SUBNET_MASK, subnet.subnet.netmask().octets().to_vec()));
    let addresses = |list: &[Ipv4Addr]| list.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>();
    let mut push = |code: u8, octets: Vec<u8>| {
        if !octets.is_empty() {
            all.push((code, octets));
        }
    };
    push(code::ROUTERS, addresses(&subnet.routers));
    for (code, octets) in boot(settings, asker) {
        push(code, octets);
    }
    // Without a list the client takes what it gets (RFC 2131 section 4.3.1).
    let asks = |code| packet.option(code::PARAMETERS).is_none() || packet.asks_for(code);
    let name = asker.switch.map(|s| s.name.as_str()).unwrap_or_default();
    for (code, octets) in [
        (code::HOST_NAME, name.as_bytes().to_vec()),
        (code::DNS, addresses(&settings.dns)),
        (code::DOMAIN, settings.domain.clone().unwrap_or_default().into_bytes()),
        (code::NTP, addresses(&settings.ntp)),
        (code::BROADCAST, subnet.subnet.broadcast().octets().to_vec()),
    ] {
        if asks(code) {
            push(code, octets);
        }
    }
    all
}

fn boot(settings: &Settings, asker: &Asker<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    let Some(switch) = asker.switch else { return all };
    let (packet, subnet) = (asker.packet, Some(asker.subnet));
    let (url, address) = (settings.url(subnet), settings.address_in(subnet));
    let file = |name: &str| format!("{url}/ztp/{}/{name}", switch.name).into_bytes();
    match asker.client.kind {
        Kind::Onie => {
            let Some(image) = image_of(settings, switch) else {
                return all;
            };
            let installer = format!("{url}/images/{image}").into_bytes();
            all.push((code::VENDOR_OPTIONS, onie(asker.client.enterprise, &installer)));
            all.push((code::DEFAULT_URL, installer.clone()));
            if packet.asks_for(code::WWW) {
                all.push((code::WWW, address.octets().to_vec()));
            }
            if settings.tftp {
                all.push((code::TFTP_ADDRESS, address.octets().to_vec()));
                all.push((code::TFTP_NAME, address.to_string().into_bytes()));
                all.push((code::BOOT_FILE, image.as_str().as_bytes().to_vec()));
            } else if packet.asks_for(code::BOOT_FILE) {
                all.push((code::BOOT_FILE, installer));
            }
        }
        Kind::Sonic => all.push((code::BOOT_FILE, file("ztp.json"))),
        Kind::Arista => all.push((code::BOOT_FILE, file("first-boot.sh"))),
        Kind::Cumulus => all.push((code::SCRIPT, file("first-boot.sh"))),
        Kind::Bootz | Kind::Other => {
            if packet.asks_for(code::SCRIPT) {
                all.push((code::SCRIPT, file("first-boot.sh")));
            }
        }
    }
    if packet.asks_for(code::SZTP_REDIRECT)
        && let Some(bootz) = settings.bootz.option()
    {
        all.push((code::SZTP_REDIRECT, bootz));
    }
    all
}

/// Option 125 (RFC 3925) with ONIE's option 1, the installer's URL. A length is one octet, so a longer URL does not
/// fit.
fn onie(enterprise: u32, url: &[u8]) -> Vec<u8> {
    let Some((length, all)) = u8::try_from(url.len()).ok().and_then(|l| Some((l, l.checked_add(2)?))) else {
        return Vec::new();
    };
    [&enterprise.to_be_bytes()[..], &[all, 1, length], url].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dhcp::packet::tests::packet;
    use crate::directory::tests::directory;
    use crate::settings::tests::good;

    fn given(settings: &Settings, name: Option<&str>, options: &[(u8, &[u8])]) -> BTreeMap<u8, Vec<u8>> {
        let (packet, directory) = (packet(1, options), directory());
        let asker = Asker {
            packet: &packet,
            client: &Client::of_packet(&packet),
            switch: name.map(|name| directory.switch(&name.parse().unwrap()).unwrap()),
            subnet: &settings.subnets[0],
        };
        super::options(settings, &asker, true).into_iter().collect()
    }

    const ONIE: &[(u8, &[u8])] = &[
        (60, b"onie_vendor:x86_64-acme_s1-r0"),
        (55, &[1, 3, 6, 12, 42, 66, 67, 72, 114, 150]),
    ];

    #[test]
    fn onie_gets_the_image_of_its_model() {
        let mut settings = good();
        let url = b"http://192.0.2.1/images/nos-1.0-acme.bin";
        let onie = given(&settings, Some("leaf1"), ONIE);
        assert_eq!(onie[&114], url);
        let mut vendor = vec![0, 0, 0xa6, 0x7f, url.len() as u8 + 2, 1, url.len() as u8];
        vendor.extend(url);
        assert_eq!(onie[&125], vendor);
        assert_eq!(
            (onie[&67].as_slice(), onie[&72].as_slice()),
            (&url[..], &[192, 0, 2, 1][..])
        );
        assert_eq!(
            (onie[&12].as_slice(), onie[&42].as_slice()),
            (&b"leaf1"[..], &[192, 0, 2, 123][..])
        );
        assert!(
            !onie.contains_key(&150) && !onie.contains_key(&15),
            "15 is not asked for"
        );
        settings.tftp = true;
        let tftp = given(&settings, Some("leaf1"), ONIE);
        assert_eq!(
            (tftp[&66].as_slice(), tftp[&67].as_slice()),
            (&b"192.0.2.1"[..], &b"nos-1.0-acme.bin"[..])
        );
        // There is no image for its release: the switch gets an address, but no URL that leads nowhere.
        settings.software.clear();
        let none = given(&settings, Some("leaf1"), ONIE);
        assert!(none.contains_key(&1) && !none.contains_key(&114) && !none.contains_key(&67));
    }

    #[test]
    fn each_system_gets_its_own_option() {
        let settings = good();
        let script = b"http://192.0.2.1/ztp/leaf1/first-boot.sh";
        let sonic = given(&settings, Some("leaf1"), &[(77, b"SONiC-ZTP"), (55, &[67, 239])]);
        assert_eq!(sonic[&67], b"http://192.0.2.1/ztp/leaf1/ztp.json");
        let cumulus = given(&settings, Some("leaf1"), &[(60, b"cumulus-linux x86_64")]);
        assert_eq!(cumulus[&239], script);
        let arista = given(&settings, Some("leaf1"), &[(60, b"Arista;DCS;01;AF40")]);
        assert_eq!(arista[&67], script);
        let bootz = given(&settings, Some("leaf1"), &[(55, &[143])]);
        assert_eq!(bootz[&143], b"\x00\x17bootz://192.0.2.5:15006");
        assert_eq!(given(&settings, Some("leaf1"), &[(55, &[239])])[&239], script);
        let plain = given(&settings, Some("leaf1"), &[(55, &[1, 3])]);
        assert_eq!(plain.keys().copied().collect::<Vec<_>>(), [1, 3, 51, 54]);
        // A machine that is not in the inventory gets an address, and nothing to boot.
        assert!(
            given(&settings, None, ONIE)
                .keys()
                .all(|code| ![12, 66, 67, 114, 125].contains(code))
        );
    }
}
