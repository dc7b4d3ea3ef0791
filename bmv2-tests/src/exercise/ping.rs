//! Which host reaches which: every host pings every other.

use std::fmt;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::network::Network;
use super::topology::{End, Host, Topology};

/// Pings under way at a time.
const AT_ONCE: usize = 64;

/// A ping from one host to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The sender.
    pub from: String,
    /// The host that should answer, with the family if that is IPv6.
    pub to: String,
    /// Whether a reply came.
    pub answered: bool,
}

/// All pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix(pub Vec<Pair>);

impl Matrix {
    /// Pings between all hosts that have an address, by each family that both have, each pair in both directions, many at a
    /// time.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn measure(network: &Network, topology: &Topology) -> Result<Self> {
        // Hosts without a link are not pinged.
        let linked = |name: &String| {
            let end = End::Host(name.clone());
            topology.links.iter().any(|link| link.ends.contains(&end))
        };
        let addresses = |host: &Host| [host.ip.clone(), host.ipv6.first().cloned()];
        let hosts: Vec<(&String, [Option<String>; 2])> = topology
            .hosts
            .iter()
            .filter(|(name, _)| linked(name))
            .map(|(name, host)| (name, addresses(host)))
            .collect();
        let mut all: Vec<(&String, String, &str)> = Vec::new();
        for (from, own) in &hosts {
            for (to, theirs) in hosts.iter().filter(|to| to.0 != *from) {
                for (i, mark) in ["", " (IPv6)"].into_iter().enumerate() {
                    if let (Some(_), Some(address)) = (&own[i], &theirs[i]) {
                        let address = address.split('/').next().unwrap_or(address);
                        all.push((*from, format!("{to}{mark}"), address));
                    }
                }
            }
        }
        let mut pairs = Vec::new();
        for some in all.chunks(AT_ONCE) {
            let mut running = Vec::new();
            for (from, to, address) in some {
                let mut ping = Network::command(&network.host(from), "ping");
                ping.args(["-n", "-q", "-c", "1", "-W", "2", address]);
                ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let child = ping.spawn();
                let child = child.context("cannot run `ping` (Debian package iputils-ping)")?;
                running.push((from, to, child));
            }
            for (from, to, mut child) in running {
                pairs.push(Pair {
                    from: (*from).clone(),
                    to: to.clone(),
                    answered: child.wait()?.success(),
                });
            }
        }
        Ok(Self(pairs))
    }

    /// Pairs without a reply.
    pub fn silent(&self) -> impl Iterator<Item = &Pair> {
        self.0.iter().filter(|p| !p.answered)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut from = None;
        for pair in &self.0 {
            if from != Some(&pair.from) {
                if from.is_some() {
                    writeln!(f)?;
                }
                write!(f, "{} ->", pair.from)?;
                from = Some(&pair.from);
            }
            let mark = if pair.answered { "" } else { "!" };
            write!(f, " {mark}{}", pair.to)?;
        }
        let lost = self.silent().count();
        write!(f, "\n{} of {} pings answered", self.0.len() - lost, self.0.len())
    }
}
