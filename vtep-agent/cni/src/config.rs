//! The network configuration and the environment (CNI 1.1 sections 1 and 2).

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{self, Error};
use crate::protocol::{SOCKET, Slot, Wish};

/// The newest supported version.
pub const CURRENT_VERSION: &str = "1.1.0";
/// All supported versions.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", CURRENT_VERSION];

/// Length of a workload's identity: long enough for one that nobody guesses.
const WORKLOAD: std::ops::RangeInclusive<usize> = 16..=128;

/// MAC address, IP addresses and the workload's identity, which can be requested in several places of the input.
#[derive(Debug, Clone, Default, Deserialize)]
struct Given {
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    ips: Vec<String>,
    /// Identity of the workload.
    #[serde(default)]
    workload: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: Given,
}

#[derive(Debug, Clone, Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ifname")]
    interface: String,
}

/// A network configuration. Runtimes add keys of their own, which are left alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Version of CNI in which the result is written.
    #[serde(default = "oldest")]
    pub cni_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    vdc: String,
    #[serde(default)]
    network: String,
    #[serde(flatten)]
    given: Given,
    #[serde(default)]
    args: Args,
    #[serde(default)]
    runtime_config: Given,
    /// The agent's socket.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    #[serde(default)]
    ipam: Option<Value>,
    /// Name servers of the container, copied into the result.
    #[serde(default)]
    pub dns: Option<Value>,
    /// The result of the plugin before this one in the list, or of ADD.
    #[serde(default)]
    pub prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<Valid>,
}

fn oldest() -> String {
    "0.1.0".into()
}

fn socket() -> PathBuf {
    SOCKET.into()
}

/// Addresses with or without the length of a prefix.
fn addresses<'a>(field: &str, all: impl Iterator<Item = &'a str>) -> Result<Vec<IpAddr>, Error> {
    let one = |(i, text): (usize, &str)| {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let wrong = |_| Error::field(&format!("{field}[{i}]"), text, "an IPv4 or IPv6 address");
        address.parse().map_err(wrong)
    };
    all.enumerate().map(one).collect()
}

/// The identity of a workload. An error does not repeat it, because who knows it may take the workload over.
fn workload(field: &str, text: &str) -> Result<String, Error> {
    if WORKLOAD.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let expected = "16 to 128 printable ASCII characters without a space, such as a UID";
    Err(Error::field(field, format!("{} octets", text.len()), expected))
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `DECODE` says where it is wrong; `INCOMPATIBLE_VERSION`.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        let wrong = |e: serde_json::Error| Error::new(error::DECODE, format!("network configuration: {e}"));
        let config: Self = serde_json::from_slice(input).map_err(wrong)?;
        if !VERSIONS.contains(&config.cni_version.as_str()) {
            let message = format!(
                "cniVersion: `{}`: expected one of {}",
                config.cni_version,
                VERSIONS.join(", ")
            );
            return Err(Error::new(error::INCOMPATIBLE_VERSION, message));
        }
        Ok(config)
    }

    /// The IPAM plugin, if one allocates addresses.
    pub fn ipam(&self) -> Option<&str> {
        self.ipam.as_ref()?.get("type")?.as_str().filter(|t| !t.is_empty())
    }

    /// The requested attachment. If a MAC address or IP addresses are given more than once, `runtimeConfig` comes
    /// before `args.cni`, then `CNI_ARGS`, then the configuration itself; so does the workload's identity, which `runtimeConfig` does
    /// not have.
    ///
    /// # Errors
    /// Names the field.
    pub fn wish(&self, cni_args: &str) -> Result<Wish, Error> {
        for (field, value) in [("name", &self.name), ("vdc", &self.vdc), ("network", &self.network)] {
            if value.is_empty() {
                return Err(Error::field(field, value, "a name"));
            }
        }
        let arg = |key| {
            let pairs = cni_args.split(';').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(k, v)| *k == key && !v.is_empty())
                .map(|(_, v)| v)
                .next_back()
        };
        let mac = [&self.runtime_config.mac, &self.args.cni.mac]
            .into_iter()
            .flatten()
            .next()
            .map(String::as_str);
        let mac = mac
            .or_else(|| arg("MAC"))
            .or(self.given.mac.as_deref())
            .map(str::to_owned);
        let lists = [
            (
                "runtimeConfig.ips",
                self.runtime_config.ips.iter().map(String::as_str).collect(),
            ),
            ("args.cni.ips", self.args.cni.ips.iter().map(String::as_str).collect()),
            (
                "CNI_ARGS: IP",
                arg("IP").map(|list| list.split(',').collect()).unwrap_or_default(),
            ),
            ("ips", self.given.ips.iter().map(String::as_str).collect::<Vec<_>>()),
        ];
        let given = lists.into_iter().find(|(_, list)| !list.is_empty());
        let ips = given.map_or_else(|| Ok(Vec::new()), |(field, list)| addresses(field, list.into_iter()))?;
        let places = [
            ("args.cni.workload", self.args.cni.workload.as_deref()),
            ("CNI_ARGS: WORKLOAD", arg("WORKLOAD")),
            ("workload", self.given.workload.as_deref()),
        ];
        let given = places.into_iter().find_map(|(field, text)| Some((field, text?)));
        let workload = given.map(|(field, text)| workload(field, text)).transpose()?;
        Ok(Wish {
            cni_network: self.name.clone(),
            vdc: self.vdc.clone(),
            network: self.network.clone(),
            mac,
            ips,
            workload,
        })
    }

    /// What GC must keep, with the name of the CNI network.
    ///
    /// # Errors
    /// When the name is missing.
    pub fn valid(&self) -> Result<(String, Vec<Slot>), Error> {
        if self.name.is_empty() {
            return Err(Error::field("name", "", "a name"));
        }
        let slot = |v: &Valid| Slot {
            container: v.container.clone(),
            interface: v.interface.clone(),
        };
        Ok((self.name.clone(), self.valid.iter().map(slot).collect()))
    }
}

/// The interface that the environment names (CNI 1.1 section 2, "Parameters").
///
/// # Errors
/// Names the variable.
pub fn slot(environment: &impl Fn(&str) -> Option<String>) -> Result<Slot, Error> {
    let container = environment("CNI_CONTAINERID").unwrap_or_default();
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let starts_well = container.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || container.len() > 255 || !container.bytes().all(inner) {
        let expected = "1 to 255 of letters, digits, `_`, `.` and `-`, starting with a letter or digit";
        return Err(Error::environment("CNI_CONTAINERID", expected));
    }
    let interface = environment("CNI_IFNAME").unwrap_or_default();
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    if interface.is_empty() || interface.len() > 15 || interface.starts_with('.') || !interface.bytes().all(good) {
        return Err(Error::environment(
            "CNI_IFNAME",
            "an interface name of 1 to 15 characters without `/`, `:` and `%`",
        ));
    }
    Ok(Slot { container, interface })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rest: &str) -> Result<Config, Error> {
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"vfabric","vdc":"v","network":"red"{rest}}}"#);
        Config::parse(text.as_bytes())
    }

    #[test]
    fn addresses_come_from_the_nearest_place() {
        let all = r#","mac":"m0","ips":["10.0.0.1"],"args":{"cni":{"mac":"m2","ips":["10.0.0.3/24"]}},
            "runtimeConfig":{"mac":"m3","ips":["10.0.0.4/24","fd00::4"]}"#;
        let nearest = config(all).unwrap().wish("MAC=m1;IP=10.0.0.2").unwrap();
        assert_eq!(nearest.mac.as_deref(), Some("m3"));
        assert_eq!(
            nearest.ips,
            ["10.0.0.4".parse::<IpAddr>().unwrap(), "fd00::4".parse().unwrap()]
        );
        let own = config(r#","mac":"m0","ips":["10.0.0.1"]"#).unwrap();
        let args = own.wish("IgnoreUnknown=1;MAC=m1;IP=10.0.0.2").unwrap();
        assert_eq!(
            (args.mac.as_deref(), args.ips[0].to_string().as_str()),
            (Some("m1"), "10.0.0.2")
        );
        assert_eq!(own.wish("").unwrap().mac.as_deref(), Some("m0"));
    }

    #[test]
    fn a_workloads_identity_comes_from_the_nearest_place_and_is_long() {
        let id = |n: u8| format!("0000000{n}-0000-4000-8000-000000000000");
        let all = format!(r#","workload":"{}","args":{{"cni":{{"workload":"{}"}}}}"#, id(1), id(3));
        let of = |rest: &str, args: &str| config(rest).unwrap().wish(args).unwrap().workload;
        let args = format!("WORKLOAD={}", id(2));
        assert_eq!(of(&all, &args), Some(id(3)));
        let own = format!(r#","workload":"{}""#, id(1));
        assert_eq!(of(&own, &args), Some(id(2)));
        assert_eq!(of(&own, ""), Some(id(1)));
        assert_eq!(of("", ""), None);
        for (rest, args, field) in [
            (r#","workload":"vm1""#, "", "workload"),
            ("", "WORKLOAD=vm1", "CNI_ARGS: WORKLOAD"),
            (
                r#","args":{"cni":{"workload":"0000 0000 0000 0000"}}"#,
                "",
                "args.cni.workload",
            ),
        ] {
            let error = config(rest).unwrap().wish(args).unwrap_err();
            assert!(
                error.message.starts_with(field) && !error.message.contains("vm1"),
                "{error}"
            );
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let error = config(r#","ips":["10.0.0.300"]"#).unwrap().wish("").unwrap_err();
        assert!(error.message.starts_with("ips[0]"), "{error}");
        let missing = Config::parse(br#"{"cniVersion":"1.1.0","name":"n","network":"r"}"#).unwrap();
        assert!(missing.wish("").unwrap_err().message.starts_with("vdc"));
        assert_eq!(Config::parse(b"[").unwrap_err().code, error::DECODE);
        for version in ["0.2.0", "2.0.0", ""] {
            let text = format!(r#"{{"cniVersion":"{version}"}}"#);
            assert_eq!(
                Config::parse(text.as_bytes()).unwrap_err().code,
                error::INCOMPATIBLE_VERSION
            );
        }
    }

    #[test]
    fn wrong_variables_are_named() {
        let of = |id: &'static str, name: &'static str| {
            slot(&move |key: &str| Some(if key == "CNI_IFNAME" { name } else { id }.to_owned()))
        };
        assert!(of("abc-1", "eth0").is_ok());
        for id in ["", "-a", "a/b", "a b"] {
            assert!(
                of(id, "eth0").unwrap_err().message.starts_with("CNI_CONTAINERID"),
                "{id}"
            );
        }
        for name in ["", "..", "a/b", "sixteen-characters", "a b", "a:b"] {
            assert!(of("a", name).unwrap_err().message.starts_with("CNI_IFNAME"), "{name}");
        }
    }
}
