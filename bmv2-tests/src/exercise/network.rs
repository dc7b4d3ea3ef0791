//! Namespaces and links of a run.
//!
//! Each host has a namespace; all switches are in one, so that a program of the user's, started there, reaches every
//! switch's P4Runtime server on 127.0.0.1, as tutorials expect. Interfaces have the same names as in Mininet: `eth0` in
//! a host, `s1-eth2` for port 2 of switch s1.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::topology::{End, Host, Link, Topology};

/// Kernel settings of every namespace. Nothing configures itself automatically, so a capture shows only packets of the
/// exercise.
const QUIET: &[&str] = &[
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
];
/// Frames that a delayed link may hold, beyond which it loses them: 10 Gbit/s of small frames for a hundredth of a second.
const DELAYED_FRAMES: &str = "100000";
/// Largest burst, in octets, on a link of limited bandwidth: a few large frames.
const TOKENS: &str = "64kb";
/// How long a frame may wait for bandwidth before it is lost.
const LONGEST_QUEUE: &str = "50ms";

/// The namespaces; dropping it removes them, with all processes that the run put there.
#[derive(Debug)]
pub struct Network {
    prefix: String,
}

impl Network {
    /// Lays everything out; `links` are those of the topology. Also returns the errors of hosts' commands, because some
    /// commands in files fail harmlessly: for example, they add a route that exists already.
    ///
    /// # Errors
    /// Something cannot be made; what was made before is gone again.
    pub fn build(topology: &Topology, links: &[Link]) -> Result<(Self, Vec<String>)> {
        let network = Self {
            prefix: Self::own_prefix(),
        };
        let switches = network.switches();
        Self::namespace(&switches)?;
        for name in topology.hosts.keys() {
            let namespace = network.host(name);
            Self::namespace(&namespace)?;
        }
        let servers = topology.switches.values().filter_map(|switch| switch.server.as_ref());
        let addresses: BTreeSet<_> = servers.map(|server| *server.address.ip()).collect();
        for address in addresses.into_iter().filter(|address| !address.is_loopback()) {
            ip(&["-n", &switches, "addr", "add", &format!("{address}/32"), "dev", "lo"])?;
        }
        for link in links {
            network.link(link)?;
        }
        let mut complaints = Vec::new();
        for (name, host) in &topology.hosts {
            if !links.iter().any(|link| link.ends.contains(&End::Host(name.clone()))) {
                complaints.push(format!("hosts.{name} has no link, so it gets no address"));
                continue;
            }
            network.address(name, host).with_context(|| format!("hosts.{name}"))?;
            let namespace = network.host(name);
            for command in &host.commands {
                if let Err(error) = call(Self::command(&namespace, "sh").args(["-c", command])) {
                    complaints.push(format!("hosts.{name}: command `{command}`: {}", error.root_cause()));
                }
            }
        }
        Ok((network, complaints))
    }

    /// The prefix of all names of a run in this process.
    pub fn own_prefix() -> String {
        format!("ex{}", std::process::id())
    }

    /// Removes all namespaces of a run, with the processes in them.
    pub fn remove(prefix: &str) {
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let ours = |name: &String| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(['-', '.']))
        };
        for namespace in names.filter(ours) {
            let inside = Command::new("ip").args(["netns", "pids", &namespace]).output();
            let inside = inside
                .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
                .unwrap_or_default();
            for pid in inside.lines().filter_map(|l| l.trim().parse().ok()) {
                // A process that has ended meanwhile is fine.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
        }
    }

    /// The prefix of all names of this run.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Namespace of a host.
    pub fn host(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Namespace of the switches.
    pub fn switches(&self) -> String {
        format!("{}.switches", self.prefix)
    }

    /// Interface of a switch's port.
    pub fn port(switch: &str, port: u16) -> String {
        format!("{switch}-eth{port}")
    }

    /// A command that runs inside a namespace, with its own `/sys`.
    pub fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    fn namespace(name: &str) -> Result<()> {
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        call(Self::command(name, "sysctl").arg("-qw").args(QUIET))
    }

    /// Where an end of a link is: namespace and interface.
    fn place(&self, end: &End) -> (String, String) {
        match end {
            End::Host(name) => (self.host(name), "eth0".into()),
            End::Port(switch, port) => (self.switches(), Self::port(switch, *port)),
        }
    }

    fn link(&self, link: &Link) -> Result<()> {
        let [(near, a), (far, b)] = link.ends.each_ref().map(|end| self.place(end));
        if near == far && a == b {
            bail!("{a} is linked with itself");
        }
        ip(&[
            "-n", &near, "link", "add", &a, "type", "veth", "peer", "name", &b, "netns", &far,
        ])?;
        for (namespace, interface) in [(&near, &a), (&far, &b)] {
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
            // Complete checksums, as on a real cable.
            call(Self::command(namespace, "ethtool").args(["-K", interface, "tx", "off"]))?;
            shape(namespace, interface, link)?;
        }
        Ok(())
    }

    fn address(&self, name: &str, host: &Host) -> Result<()> {
        let namespace = self.host(name);
        if let Some(mac) = &host.mac {
            ip(&["-n", &namespace, "link", "set", "eth0", "address", mac]).context("mac")?;
        }
        if let Some(address) = &host.ip {
            ip(&["-n", &namespace, "addr", "add", address, "dev", "eth0"]).context("ip")?;
        }
        if !host.ipv6.is_empty() {
            call(Self::command(&namespace, "sysctl").args(["-qw", "net.ipv6.conf.eth0.disable_ipv6=0"]))?;
        }
        for address in &host.ipv6 {
            ip(&["-n", &namespace, "addr", "add", address, "dev", "eth0", "nodad"]).context("ips")?;
        }
        Ok(())
    }
}

/// Delay, loss and bandwidth for frames that leave an interface. A link without any of these keeps its default queueing
/// discipline.
fn shape(namespace: &str, interface: &str, link: &Link) -> Result<()> {
    let rate = link.mbit.map(|mbit| format!("{}kbit", (mbit * 1000.0).round()));
    let mut tc = Network::command(namespace, "tc");
    tc.args(["qdisc", "add", "dev", interface, "root"]);
    let loses = link.loss_percent > 0.0;
    match (link.delay_us, rate) {
        (0, None) if !loses => Ok(()),
        (0, Some(rate)) if !loses => {
            tc.args(["tbf", "rate", &rate, "burst", TOKENS, "latency", LONGEST_QUEUE]);
            call(&mut tc).context("bandwidth needs the kernel module sch_tbf")
        }
        (delay, rate) => {
            tc.args(["netem", "limit", DELAYED_FRAMES, "delay", &format!("{delay}us")]);
            if loses {
                tc.args(["loss", &format!("{}%", link.loss_percent)]);
            }
            if let Some(rate) = &rate {
                tc.args(["rate", rate]);
            }
            call(&mut tc).context(
                "delay and loss need the kernel module sch_netem; --without-delay runs the exercise without them",
            )
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove(&self.prefix);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    call(Command::new("ip").args(args))
}

/// Runs a command; an error contains its output.
pub(super) fn call(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        bail!("{shown}: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}
