//! TCP between workloads of two hosts: over the agent's links, and, for comparison, over a bridge and a VXLAN device
//! made by hand, with the same filters.
//!
//! One run measures both in turn, because on a machine that does other work only their ratio means something. Hosts are
//! network namespaces that are joined by a veth pair; the links made by hand are in the host's namespace, where an
//! administrator would put them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vtep_proto::{Attachment, FdbEntry, HostEntity, MacAddress, Neighbour, Network, UnderlayFamily, Vni};

use super::{FIRST_VNI, Named, UPLINK_MTU, expect_in_place, failed, file, mac};
use crate::datapath::kernel::{Filters, FloodLimit, Kernel, Overlay};
use crate::desired::Desired;
use crate::engine::Engine;
use crate::error::AgentError;
use crate::netns::Netns;
use crate::object::{LocalVteps, bridge_name, port_name, vxlan_name};
use crate::watch::Watch;

/// Octets of one write: some ten segments.
const WRITE: usize = 128 * 1024;
/// Longest time without an octet.
const SILENCE: Duration = Duration::from_secs(10);
/// MTU of the workloads.
const MTU: u32 = 1500;
/// How long each way transfers data before the first round, so that links are up and TCP has found its window.
const WARM_UP: Duration = Duration::from_millis(300);

/// What was measured; throughputs are medians of all rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Over the agent's links.
    pub ours_mbit_per_s: f64,
    /// Over the links made by hand.
    pub hand_made_mbit_per_s: f64,
    /// Median of the rounds' ratios.
    pub of_hand_made_ratio: f64,
    /// Rounds; each measures both.
    pub rounds: u32,
}

/// Measures `rounds` rounds, each way for `span` in each.
///
/// # Errors
/// When namespaces or links cannot be made (it needs root and `ip`), or nothing arrives.
pub fn run(rounds: u32, span: Duration) -> Result<Figures, AgentError> {
    let (ours, by_hand) = (Side::new("ours")?, Side::new("hand")?);
    let _engines = [ours.engine(0)?, ours.engine(1)?];
    let _filters = [by_hand.links_by_hand(0)?, by_hand.links_by_hand(1)?];
    for side in [&ours, &by_hand] {
        side.transfer(WARM_UP)?;
    }
    let mut figures = Vec::new();
    for round in 0..rounds.max(1) {
        // Take turns with the order, so that neither is always the first.
        figures.push(match round % 2 {
            0 => (ours.transfer(span)?, by_hand.transfer(span)?),
            _ => {
                let second = by_hand.transfer(span)?;
                (ours.transfer(span)?, second)
            }
        });
    }
    let all = |of: fn(&(f64, f64)) -> f64| median(figures.iter().map(of).collect());
    Ok(Figures {
        ours_mbit_per_s: all(|f| f.0),
        hand_made_mbit_per_s: all(|f| f.1),
        of_hand_made_ratio: all(|f| f.0 / f.1),
        rounds: rounds.max(1),
    })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Two hosts with a workload each.
struct Side {
    hosts: [Named; 2],
    workloads: [Named; 2],
    overlays: [Named; 2],
}

fn vtep(host: u8) -> Ipv4Addr {
    [192, 0, 2, host + 1].into()
}

fn address(host: u8) -> Ipv4Addr {
    [10, 0, 0, host + 1].into()
}

fn station(host: u8) -> Result<MacAddress, AgentError> {
    mac(host + 1).ok_or_else(|| failed("MAC address", "is none"))
}

fn vni() -> Result<Vni, AgentError> {
    Vni::new(FIRST_VNI).ok_or_else(|| failed("VNI", "is none"))
}

/// Runs `ip` or `bridge` with these words.
fn call(program: &str, words: &str) -> Result<(), AgentError> {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.map_err(|e| file(program, e))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        &format!("{program} {words}"),
        String::from_utf8_lossy(&output.stderr).trim(),
    ))
}

impl Side {
    fn new(what: &str) -> Result<Self, AgentError> {
        let named = |part: &str| Named::new(format!("vfabric-bench-{what}-{part}-{}", std::process::id()));
        let side = Self {
            hosts: [named("h0")?, named("h1")?],
            workloads: [named("w0")?, named("w1")?],
            overlays: [named("o0")?, named("o1")?],
        };
        let [a, b] = &side.hosts;
        let mtu = UPLINK_MTU;
        let pair = format!("link add up0 mtu {mtu} type veth peer name up0 mtu {mtu} netns {}", b.0);
        call("ip", &format!("-n {} {pair}", a.0))?;
        for (host, at) in (0..).zip(&side.hosts) {
            call("ip", &format!("-n {} address add {}/24 dev up0", at.0, vtep(host)))?;
            call("ip", &format!("-n {} link set up0 up", at.0))?;
        }
        Ok(side)
    }

    fn attachment(&self, host: u8) -> Result<Attachment, AgentError> {
        Ok(Attachment {
            id: format!("bench/{host}"),
            vni: vni()?,
            mac: station(host)?,
            addresses: format!("{}/24", address(host)).parse().into_iter().collect(),
            routes: Default::default(),
            netns: self.workloads[usize::from(host)].0.clone(),
            interface: "eth0".into(),
            mtu: MTU,
            allowed_addresses: Default::default(),
            port_security: true,
            shared_netns: false,
            mode: Default::default(),
        })
    }

    /// The agent's engine on a host, with the workload attached.
    fn engine(&self, host: u8) -> Result<Engine<Kernel>, AgentError> {
        let at = usize::from(host);
        let open = || {
            Kernel::open(
                Overlay::keep(&self.overlays[at].0)?,
                FloodLimit::default(),
                Watch::default(),
            )
        };
        let home = Netns::named(&self.hosts[at].0)?;
        let kernel = home.within(open).map_err(|e| file(&self.hosts[at].0, e))??;
        let local = LocalVteps {
            ipv4: Some(vtep(host)),
            ipv6: None,
        };
        let mut engine = Engine::new(kernel, Desired::new(local, UPLINK_MTU), vec![], true);
        let (other, vni) = (1 - host, vni()?);
        let entities = vec![
            HostEntity::Network(Network {
                vni,
                mtu: MTU,
                underlay: UnderlayFamily::Ipv4,
                flood: [IpAddr::V4(vtep(other))].into(),
                gateways: Default::default(),
            }),
            HostEntity::Fdb(FdbEntry {
                vni,
                mac: station(other)?,
                vtep: vtep(other).into(),
            }),
            HostEntity::Neighbour(Neighbour {
                vni,
                ip: address(other).into(),
                mac: station(other)?,
            }),
            HostEntity::from(self.attachment(host)?),
        ];
        engine.update(entities.clone(), &[])?;
        expect_in_place(&engine, &entities)?;
        Ok(engine)
    }

    /// The links made by hand: as few commands as an administrator would use, with the agent's filters on the
    /// workload's port.
    fn links_by_hand(&self, host: u8) -> Result<Filters, AgentError> {
        let at = usize::from(host);
        let (home, workload) = (&self.hosts[at].0, &self.workloads[at].0);
        let a = self.attachment(host)?;
        let (bridge, vxlan, port) = (bridge_name(a.vni), vxlan_name(a.vni), port_name(&a.id));
        let (vni, here, there) = (a.vni, vtep(host), vtep(1 - host));
        let far = station(1 - host)?;
        let mtu = MTU;
        for words in [
            format!("link add {bridge} mtu {mtu} type bridge mcast_snooping 0"),
            format!(
                "link add {vxlan} mtu {mtu} type vxlan id {vni} dstport 4789 local {here} nolearning noudpcsum df set"
            ),
            format!("link set {vxlan} master {bridge} up"),
            format!(
                "link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} address {} netns {workload}",
                a.mac
            ),
            format!("link set {port} master {bridge} up"),
            format!("link set {bridge} up"),
        ] {
            call("ip", &format!("-n {home} {words}"))?;
        }
        for words in [
            format!("fdb append {far} dev {vxlan} dst {there} self permanent"),
            format!("fdb append 00:00:00:00:00:00 dev {vxlan} dst {there} self permanent"),
            format!("fdb add {far} dev {vxlan} master static"),
            format!("fdb add {} dev {port} master static", a.mac),
        ] {
            call("bridge", &format!("-n {home} {words}"))?;
        }
        call(
            "ip",
            &format!("-n {workload} address add {}/24 dev eth0", address(host)),
        )?;
        call("ip", &format!("-n {workload} link set eth0 up"))?;
        let mut filters = Filters::open(Overlay::keep(home)?)?;
        filters.set(&a)?;
        Ok(filters)
    }

    /// Mbit/s from the first workload to the second.
    fn transfer(&self, span: Duration) -> Result<f64, AgentError> {
        let io = |e| file("TCP between workloads", e);
        let (near, far) = (Netns::named(&self.workloads[0].0)?, Netns::named(&self.workloads[1].0)?);
        let to = SocketAddr::from((address(1), 0));
        let listener = far.within(|| TcpListener::bind(to)).map_err(io)?.map_err(io)?;
        let to = listener.local_addr().map_err(io)?;
        let mut sender = near
            .within(|| TcpStream::connect_timeout(&to, SILENCE))
            .map_err(io)?
            .map_err(io)?;
        let (mut receiver, _) = listener.accept().map_err(io)?;
        receiver.set_read_timeout(Some(SILENCE)).map_err(io)?;
        sender.set_write_timeout(Some(SILENCE)).map_err(io)?;
        let start = Instant::now();
        let send = move || -> std::io::Result<()> {
            let octets = vec![0x5a; WRITE];
            while start.elapsed() < span {
                sender.write_all(&octets)?;
            }
            // The stream is closed when it is dropped here.
            Ok(())
        };
        let (received, sent) = thread::scope(|scope| {
            let sending = scope.spawn(send);
            let (mut buffer, mut received) = (vec![0; WRITE], 0_u64);
            let received = loop {
                match receiver.read(&mut buffer) {
                    Ok(0) => break Ok(received),
                    Ok(n) => received += n as u64,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => break Err(e),
                }
            };
            (received, sending.join())
        });
        let took = start.elapsed();
        sent.map_err(|_| AgentError::Ended("sender of the bench"))?
            .map_err(io)?;
        Ok(received.map_err(io)? as f64 * 8.0 / 1e6 / took.as_secs_f64())
    }
}
