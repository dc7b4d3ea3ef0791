//! The file of expectations.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vfabric_api::ident::Name;

/// What a user expects of a fabric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// One row of the report each.
    pub expect: Vec<Expectation>,
}

/// One expectation: about every machine of `from` towards every machine of `to`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Its name in the report; made from the other fields when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `VDC/ATTACHMENT`, `VDC/NETWORK/*`, `VDC/*` or `*`.
    pub from: String,
    /// In the form of `from`. Machines of `from` itself are left out.
    pub to: String,
    /// IPv4 or IPv6 alone; both when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Whether packets must arrive and be answered; `false`: none may arrive.
    #[serde(default = "yes")]
    pub reach: bool,
    /// Kinds of probes; ping and UDP when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<By>,
    /// Hops of traceroute: `gateway`, `target` or an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The switches that carry the packets, and no others; a final `*` matches any rest of a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<String>,
    /// Largest IP packet that arrives whole, in octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// TTL or hop limit on arrival of packets that are sent with 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Longest median time of an answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<f64>,
    /// The fault under which all this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<Fault>,
    /// Most packets that may be lost around the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<usize>,
    /// Longest time without answers around the fault, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

/// IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RFC 791
    Ipv4,
    /// RFC 8200
    Ipv6,
}

impl Family {
    /// Whether the address is of this version.
    pub fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::Ipv4)
    }
}

/// Kind of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// ICMP or ICMPv6 echo
    Ping,
    /// A datagram to a server that returns its name
    Udp,
    /// A transfer that is compared octet by octet
    Tcp,
}

/// A fault that the run causes and mends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// `SWITCH:PORT`, one end of a link
    CutLink(String),
    /// A switch's process is killed
    KillSwitch(Name),
    /// A host's agent is killed
    KillAgent(Name),
    /// The controller is killed
    KillController,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// It does not have this form (with line and column), or a row expects nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Self = vfabric_api::yaml::read(text).context("expectations")?;
        if file.expect.is_empty() {
            bail!("expectations: expect: at least one is needed");
        }
        for (i, e) in file.expect.iter().enumerate() {
            e.check().with_context(|| format!("expect[{i}] ({})", e.title()))?;
        }
        Ok(file)
    }
}

impl Expectation {
    /// Its name in the report.
    pub fn title(&self) -> String {
        let verb = if self.reach { "reaches" } else { "never reaches" };
        let under = self
            .under
            .as_ref()
            .map_or(String::new(), |f| format!(" under {}", f.title()));
        let made = || format!("{} {verb} {}{under}", self.from, self.to);
        self.name.clone().unwrap_or_else(made)
    }

    /// Its kinds of probe.
    pub fn by(&self) -> &[By] {
        if self.by.is_empty() {
            &[By::Ping, By::Udp]
        } else {
            &self.by
        }
    }

    fn check(&self) -> Result<()> {
        let arrives = !self.path.is_empty()
            || !self.through.is_empty()
            || self.mtu.is_some()
            || self.ttl.is_some()
            || self.answer_ms.is_some();
        if !self.reach && arrives {
            bail!("reach: false cannot be combined with path, through, mtu, ttl or answer_ms");
        }
        if self.under.is_none() && (self.lost.is_some() || self.outage_ms.is_some()) {
            bail!("lost and outage_ms need a fault: under");
        }
        if self.mtu.is_some_and(|mtu| mtu < 576) {
            bail!("mtu: expected 576 or more");
        }
        if let Some(Fault::CutLink(end)) = &self.under {
            Fault::port(end)?;
        }
        for hop in &self.path {
            if hop != "gateway" && hop != "target" && hop.parse::<IpAddr>().is_err() {
                bail!("path: `{hop}`: expected gateway, target or an IP address");
            }
        }
        Ok(())
    }
}

impl Fault {
    /// In words.
    pub fn title(&self) -> String {
        match self {
            Self::CutLink(end) => format!("a cut link {end}"),
            Self::KillSwitch(name) => format!("killed switch {name}"),
            Self::KillAgent(name) => format!("killed agent of {name}"),
            Self::KillController => "killed controller".into(),
        }
    }

    /// Switch and port of a link's end.
    ///
    /// # Errors
    /// It is not written as `SWITCH:PORT`.
    pub fn port(end: &str) -> Result<(&str, u16)> {
        let split = end.split_once(':').and_then(|(s, p)| Some((s, p.parse().ok()?)));
        split.with_context(|| format!("under: cut_link: `{end}`: expected SWITCH:PORT"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named() {
        for (text, says) in [
            ("expect: []", "at least one"),
            ("expect: [{from: a/b, to: a/c, colour: red}]", "colour"),
            ("expect: [{from: a/b, to: a/c, reach: false, ttl: 63}]", "reach: false"),
            ("expect: [{from: a/b, to: a/c, lost: 1}]", "need a fault"),
            ("expect: [{from: a/b, to: a/c, path: [door]}]", "`door`"),
            (
                "expect: [{from: a/b, to: a/c, under: {cut_link: leaf1}}]",
                "SWITCH:PORT",
            ),
        ] {
            let error = format!("{:#}", File::parse(text).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn faults_are_read() {
        let text = "expect: [{from: a/b, to: a/c, under: kill_controller, lost: 0}, {from: a/b, to: '*', under: {kill_switch: spine1}}]";
        let file = File::parse(text).unwrap();
        let under: Vec<_> = file.expect.iter().map(|e| e.under.clone()).collect();
        let switch = Fault::KillSwitch("spine1".parse().unwrap());
        assert_eq!(under, [Some(Fault::KillController), Some(switch)]);
        assert_eq!(File::parse(&serde_saphyr::to_string(&file).unwrap()).unwrap(), file);
    }
}
