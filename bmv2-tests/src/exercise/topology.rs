//! A topology: hosts, switches, links. Read from `topology.json` of p4lang's tutorials, from p4-utils' `p4app.json`
//! ([`super::p4app`]), or from ONOS' `netcfg.json` ([`super::netcfg`]).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{netcfg, p4app};

/// The contents of a topology file.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Hosts by name.
    pub hosts: BTreeMap<String, Host>,
    /// Switches by name.
    pub switches: BTreeMap<String, Switch>,
    /// Links; no port has two.
    pub links: Vec<Link>,
    /// Whether a switch without entries gets its program: p4-utils loads it, tutorials leave that to a controller.
    pub programs_are_loaded: bool,
    /// Whether every switch needs a program. ONOS' files name no programs, because a controller loads them.
    pub programs_are_needed: bool,
    /// Settings of the file that have no effect here, in words.
    pub ignored: Vec<String>,
}

/// `topology.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tutorial {
    hosts: BTreeMap<String, Host>,
    switches: BTreeMap<String, Switch>,
    /// Two ends, then latency and bandwidth where they are given.
    links: Vec<Vec<Value>>,
}

/// A host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Address with prefix length, such as `10.0.1.1/24`.
    pub ip: Option<String>,
    /// MAC address.
    pub mac: Option<String>,
    /// Shell commands that complete the host's set-up. Its interface is called `eth0` in them.
    #[serde(default)]
    pub commands: Vec<String>,
    /// IPv6 addresses with prefix lengths. Without any, the host has no IPv6 at all.
    #[serde(skip)]
    pub ipv6: Vec<String>,
}

/// Where a switch serves P4Runtime, if the file says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address and port, in the namespace of the switches.
    pub address: SocketAddrV4,
    /// The switch's device id.
    pub device_id: u64,
}

/// A switch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// What it should hold, written over P4Runtime.
    pub runtime_json: Option<PathBuf>,
    /// Commands for `simple_switch_CLI`.
    pub cli_input: Option<PathBuf>,
    /// Its program: P4 or BMv2 JSON. None: the exercise's only program.
    pub program: Option<PathBuf>,
    /// Port of packets from and to the controller.
    #[serde(default, deserialize_with = "number")]
    pub cpu_port: Option<u16>,
    /// Egress queues of each port.
    #[serde(default, deserialize_with = "number")]
    pub priority_queues: Option<u16>,
    /// Where it serves P4Runtime. None: by its place among the switches.
    #[serde(skip)]
    pub server: Option<Server>,
}

/// A number, or a text with a number: files have both.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{value}: expected a number from 0 to 65535")))
}

/// An end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The interface of a host.
    Host(String),
    /// A port of a switch.
    Port(String, u16),
}

impl End {
    /// Its name in files and messages.
    fn name(&self) -> String {
        match self {
            Self::Host(name) => name.clone(),
            Self::Port(switch, port) => format!("{switch}-p{port}"),
        }
    }
}

/// A link.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Its ends.
    pub ends: [End; 2],
    /// Delay of each direction, in microseconds.
    pub delay_us: u64,
    /// Frames lost in each direction, in percent.
    pub loss_percent: f64,
    /// Bandwidth of each direction, in Mbit/s; none: not limited.
    pub mbit: Option<f64>,
}

impl Link {
    /// A link between two ends, without delay, loss or limit.
    pub(super) fn plain(ends: [End; 2]) -> Self {
        Self {
            ends,
            delay_us: 0,
            loss_percent: 0.0,
            mbit: None,
        }
    }
}

impl Topology {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a topology; the error names the place.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        if p4app::is_one(text) {
            return p4app::parse(text);
        }
        if netcfg::is_one(text) {
            return netcfg::parse(text);
        }
        let file: Tutorial = serde_json::from_str(text)?;
        let mut links = Vec::new();
        for (i, parts) in file.links.iter().enumerate() {
            links.push(file.link(parts).with_context(|| format!("links[{i}]"))?);
        }
        Self {
            hosts: file.hosts,
            switches: file.switches,
            links,
            programs_are_loaded: false,
            programs_are_needed: true,
            ignored: Vec::new(),
        }
        .checked()
    }

    /// The topology with one more link: two ends joined by a comma, each a host or SWITCH/PORT.
    ///
    /// # Errors
    /// The text does not have this form, or an end is taken; the error names it.
    pub fn with_link(mut self, text: &str) -> Result<Self> {
        let (a, b) = text
            .split_once(',')
            .with_context(|| format!("link {text}: expected two ends joined by a comma, as in h1,s1/1"))?;
        let end = |text: &str| -> Result<End> {
            if self.hosts.contains_key(text) {
                return Ok(End::Host(text.to_owned()));
            }
            let (switch, port) = text.rsplit_once('/').unwrap_or_default();
            let port = port.parse().ok().filter(|port| *port > 0);
            match port {
                Some(port) if self.switches.contains_key(switch) => Ok(End::Port(switch.to_owned(), port)),
                _ => bail!("link end {text}: expected a host or SWITCH/PORT of this topology"),
            }
        };
        let link = Link::plain([end(a)?, end(b)?]);
        self.links.push(link);
        self.checked()
    }

    /// The topology, if no two links share an end.
    ///
    /// # Errors
    /// Two links share one; the error names them.
    pub(super) fn checked(self) -> Result<Self> {
        let mut taken = BTreeMap::new();
        for (i, link) in self.links.iter().enumerate() {
            for end in link.ends.iter().map(End::name) {
                if let Some(other) = taken.insert(end.clone(), i) {
                    bail!("links[{i}]: {end} is an end of links[{other}] already");
                }
            }
        }
        Ok(self)
    }
}

impl Tutorial {
    fn link(&self, parts: &[Value]) -> Result<Link> {
        let [a, b, rest @ ..] = parts else {
            bail!("expected two ends");
        };
        if rest.len() > 2 {
            bail!(
                "expected two ends, a latency and a bandwidth, found {} values",
                parts.len()
            );
        }
        let latency = rest.first().map_or(Ok(0), latency)?;
        let mbit = match rest.get(1) {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                value
                    .as_f64()
                    .filter(|m| *m > 0.0)
                    .with_context(|| format!("bandwidth {value}"))?,
            ),
        };
        Ok(Link {
            ends: [self.end(a)?, self.end(b)?],
            delay_us: latency,
            loss_percent: 0.0,
            mbit,
        })
    }

    fn end(&self, value: &Value) -> Result<End> {
        let text = value
            .as_str()
            .with_context(|| format!("end {value}: expected a name"))?;
        if self.hosts.contains_key(text) {
            return Ok(End::Host(text.to_owned()));
        }
        let (switch, port) = text
            .rsplit_once("-p")
            .with_context(|| format!("end {text}: expected a host, or a switch's port such as s1-p1"))?;
        if !self.switches.contains_key(switch) {
            bail!("end {text}: no switch is called {switch}");
        }
        let port = port
            .parse()
            .ok()
            .filter(|p| *p > 0)
            .with_context(|| format!("end {text}: port number"))?;
        Ok(End::Port(switch.to_owned(), port))
    }
}

/// A latency in microseconds: a number is milliseconds, a text may name its unit.
///
/// # Errors
/// It is neither, or longer than a minute.
pub(super) fn latency(value: &Value) -> Result<u64> {
    let wrong = || format!("latency {value}: expected milliseconds, or a text such as \"10ms\"");
    let milliseconds = match value {
        Value::Null => Some(0.0),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let text = text.trim();
            let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("", 1.0)];
            units.iter().find_map(|(unit, factor)| {
                let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
                Some(number * factor)
            })
        }
        _ => None,
    };
    let milliseconds = milliseconds
        .filter(|m| (0.0..=60_000.0).contains(m))
        .with_context(wrong)?;
    Ok((milliseconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_links(links: &str) -> Result<Topology> {
        Topology::parse(&format!(
            r#"{{"hosts": {{"h1": {{"ip": "10.0.1.1/24"}}, "h2": {{}}}}, "switches": {{"s1": {{}}, "s1-p": {{}}}}, "links": {links}}}"#
        ))
    }

    #[test]
    fn ends_latencies_and_bandwidths_are_understood() {
        let links = with_links(r#"[["h1", "s1-p1"], ["s1-p2", "s1-p-p3", "250us", 0.5], ["h2", "s1-p3", 0]]"#);
        let links = links.unwrap().links;
        assert_eq!(links[0].ends, [End::Host("h1".into()), End::Port("s1".into(), 1)]);
        assert_eq!(links[1].ends[1], End::Port("s1-p".into(), 3));
        assert_eq!((links[1].delay_us, links[1].mbit), (250, Some(0.5)));
        assert_eq!((links[2].delay_us, links[2].mbit), (0, None));
        for (text, us) in [
            ("\"10ms\"", 10_000),
            ("\"1s\"", 1_000_000),
            ("2.5", 2500),
            ("\"3\"", 3000),
            ("null", 0),
        ] {
            assert_eq!(latency(&serde_json::from_str(text).unwrap()).unwrap(), us, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (links, expected) in [
            (r#"[["h1"]]"#, "links[0]"),
            (r#"[["h1", "h9"]]"#, "end h9"),
            (r#"[["h1", "s7-p1"]]"#, "no switch is called s7"),
            (r#"[["h1", "s1-p0"]]"#, "port number"),
            (
                r#"[["h1", "s1-p1"], ["h2", "s1-p1"]]"#,
                "links[1]: s1-p1 is an end of links[0]",
            ),
            (r#"[["h1", "s1-p1", "soon"]]"#, "latency \"soon\""),
            (r#"[["h1", "s1-p1", 0, 0]]"#, "bandwidth 0"),
            (r#"[["h1", "s1-p1", 0, 1, 2]]"#, "found 5 values"),
        ] {
            let error = format!("{:#}", with_links(links).unwrap_err());
            assert!(error.contains(expected), "{links}: {error}");
        }
        for (link, expected) in [
            ("h1", "expected two ends"),
            ("h1,h9", "link end h9"),
            ("h1,s1/0", "link end s1/0"),
            ("h1,s1/1", "s1-p1 is an end of links[0] already"),
        ] {
            let topology = with_links(r#"[["h2", "s1-p1"]]"#).unwrap();
            let error = format!("{:#}", topology.with_link(link).unwrap_err());
            assert!(error.contains(expected), "{link}: {error}");
        }
        let linked = with_links("[]").unwrap().with_link("s1-p/3,h1").unwrap();
        assert_eq!(
            linked.links[0].ends,
            [End::Port("s1-p".into(), 3), End::Host("h1".into())]
        );
        let error = Topology::parse(r#"{"hosts": {}, "switches": {"s1": {"thrift": 1}}, "links": []}"#);
        assert!(error.unwrap_err().to_string().contains("thrift"));
    }
}
