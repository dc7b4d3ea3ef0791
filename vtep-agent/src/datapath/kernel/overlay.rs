//! The network namespace that contains everything of the tenants on a host.
//!
//! Bridges, VXLAN devices and the host's ends of workloads' interfaces live in a namespace of
//! their own, the *overlay*. Linux has an IP stack, routes, filters, connection tracking and reassembly of fragments
//! for each namespace. So the host's never touch tenants' frames, however the host is configured (`docs/adr/host-3`). A
//! VXLAN device keeps its UDP socket in the namespace in which it was created, the host's: only tunnelled packets go
//! there.
//!
//! The overlay has a name, so that it survives the agent and can be looked into with
//! `ip -n NAME`. It has no address, no route and no socket of a user.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{AgentError, NetlinkError, NetnsError};
use crate::netns::Netns;

/// Settings that the overlay must have, below `/proc/sys/net`. If a kernel lacks a file, it lacks the feature.
const SETTINGS: &[(&str, &str)] = &[
    // br_netfilter would hand bridged frames to the filters of IP. It is on in a new namespace.
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("bridge/bridge-nf-filter-vlan-tagged", "0"),
    ("bridge/bridge-nf-filter-pppoe-tagged", "0"),
    // No packet is routed here. New links copy `default`.
    ("ipv4/conf/all/forwarding", "0"),
    ("ipv4/conf/default/forwarding", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/default/forwarding", "0"),
    // Bridges answer no ARP request and take no packet as their own.
    ("ipv4/conf/default/arp_ignore", "8"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    // No automatic link-local address (RFC 4291 section 2.5.6).
    ("ipv6/conf/default/addr_gen_mode", "1"),
];

/// Settings of each link, below `/proc/sys/net/*/conf/<link>`: those that the kernel copies from `default` when a link is created, or
/// combines with `all`. Somebody may change them at one link alone.
const OF_LINKS: &[(&str, &str, &str)] = &[
    ("ipv4", "forwarding", "0"),
    ("ipv4", "arp_ignore", "8"),
    ("ipv4", "rp_filter", "1"),
    ("ipv4", "send_redirects", "0"),
    ("ipv6", "forwarding", "0"),
    ("ipv6", "accept_ra", "0"),
];
/// Directories there that are no links of tenants.
const NO_LINKS: [&str; 3] = ["all", "default", "lo"];

/// The namespace, used by this value alone.
pub struct Overlay {
    name: String,
    netns: Netns,
    _lock: Flock<File>,
}

impl Overlay {
    /// Finds or makes the namespace of that name. It stays when the value is dropped.
    ///
    /// # Errors
    /// When the name belongs to something else, another agent uses it, or the kernel refuses.
    pub fn keep(name: &str) -> Result<Self, AgentError> {
        match Netns::named(name) {
            Ok(netns) => Self::new(name, netns),
            Err(NetnsError::Absent { .. }) => Self::new(name, Netns::create(name)?),
            Err(e) => Err(e.into()),
        }
    }

    fn new(name: &str, netns: Netns) -> Result<Self, AgentError> {
        let io = |source| NetnsError::Io {
            name: name.to_owned(),
            source,
        };
        let current = Netns::current().map_err(io)?;
        if current.id() == netns.id() {
            return Err(AgentError::Config {
                what: "--overlay".into(),
                message: format!("{name} is the network namespace in which the agent runs"),
            });
        }
        let file = netns.file().try_clone().map_err(io)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| AgentError::Config {
            what: "--overlay".into(),
            message: format!("network namespace {name} is in use by another agent"),
        })?;
        let overlay = Self {
            name: name.to_owned(),
            netns,
            _lock: lock,
        };
        overlay.put_right()?;
        Ok(overlay)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Checks name and settings and corrects differences; returns a text for each.
    pub(super) fn put_right(&self) -> Result<Vec<String>, AgentError> {
        let mut changed = Vec::new();
        if self.netns.keep_name(&self.name)? {
            changed.push(format!("name of network namespace {} was missing", self.name));
        }
        let set = self.netns.within(|| -> Result<Vec<String>, NetlinkError> {
            let mut changed = settings(SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), *value)))?;
            changed.extend(settings(of_links()?)?);
            Ok(changed)
        });
        let set = set.map_err(|e| NetlinkError::io(format!("enter network namespace {}", self.name), &e))?;
        changed.extend(
            set?.into_iter()
                .map(|s| format!("{s} in network namespace {}", self.name)),
        );
        Ok(changed)
    }
}

/// The settings that the links in the namespace of this thread must have.
fn of_links() -> Result<Vec<(String, &'static str)>, NetlinkError> {
    const LINKS: &str = "/proc/sys/net/ipv4/conf";
    let fail = |e: io::Error| NetlinkError::io(format!("read {LINKS}"), &e);
    let mut wanted = Vec::new();
    for entry in std::fs::read_dir(LINKS).map_err(fail)? {
        let link = entry.map_err(fail)?.file_name();
        let Some(link) = link.to_str().filter(|l| !NO_LINKS.contains(l)) else {
            continue;
        };
        let of_link =
            |(family, name, value): &(&str, &str, &'static str)| (format!("{family}/conf/{link}/{name}"), *value);
        wanted.extend(OF_LINKS.iter().map(of_link));
    }
    Ok(wanted)
}

/// Brings files below `/proc/sys/net`, in the namespace of this thread, to what they must
/// be; returns what differed. A file that does not exist belongs to a link that is gone, or to a feature that the kernel lacks.
fn settings(wanted: impl IntoIterator<Item = (String, &'static str)>) -> Result<Vec<String>, NetlinkError> {
    let mut changed = Vec::new();
    for (name, value) in wanted {
        let path = Path::new("/proc/sys/net").join(&name);
        let fail = |e: io::Error| NetlinkError::io(format!("set {} to {value}", path.display()), &e);
        match std::fs::read_to_string(&path) {
            Ok(now) if now.trim() == value => {}
            Ok(now) => {
                std::fs::write(&path, value).map_err(fail)?;
                changed.push(format!("{name} was {}", now.trim()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(changed)
}
