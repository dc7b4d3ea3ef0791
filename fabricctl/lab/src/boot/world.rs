//! The fabric that boots: its plan, its manufacturer and owner, the controller and the provisioning server.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fabric_bootz::testing::{World as Makers, signer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vfabric_api::client::Client;
use vfabric_api::ident::{Mac, Name, PortId};
use vfabric_api::topology::{Fabric, IpFamily, Link, PortRef, Role, Switch as Spec, Topology};

use super::device::{Place, power_on};
use crate::netns;
use crate::pki::{Pki, Subject};
use crate::scale::switch::{Cables, Switch};

/// Name of the fabric.
const FABRIC: &str = "boot";
/// What vouchers and the inventory say the model is.
const MODEL: &str = "x86_64-acme_s1-r0";
/// Longest wait for anything: far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Switches in a rack, which has a subnet and a relay of its own.
const RACK: usize = 4;
/// Most leaves for each spine.
const LEAVES_PER_SPINE: usize = 15;
/// Port of the Bootz server.
const BOOTZ: u16 = 15006;
/// Ports of P4Runtime. Those of switches in memory stay in use until this process ends, so switches that are
/// processes use another port.
const P4RUNTIME: u16 = 9559;
const P4RUNTIME_OF_PROCESSES: u16 = 9560;
/// REST API of the controller.
const REST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// What the switches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tasks of this process.
    Memory,
    /// `p4-switch`.
    Processes,
}

/// The other end of each cable, by switch and port.
type Wiring = Arc<Mutex<HashMap<(usize, u16), (usize, u16)>>>;

/// The fabric.
pub(super) struct World {
    kind: Kind,
    topology: Topology,
    pub(super) client: Client,
    dir: PathBuf,
    bin_dir: PathBuf,
    wiring: Wiring,
    /// The fabric's switches in memory.
    switches: Vec<Switch>,
    children: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn low(index: usize) -> [u8; 2] {
    u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes()
}

/// Address of a rack's relay, and of the provisioning server there.
fn relay(index: usize) -> Ipv4Addr {
    let [high, rack] = low(index / RACK);
    Ipv4Addr::new(10, 90 + high, rack, 1)
}

fn address(index: usize) -> Ipv4Addr {
    let [high, rack] = low(index / RACK);
    let [_, place] = low(index % RACK);
    Ipv4Addr::new(10, 90 + high, rack, 10 + place)
}

fn serial(index: usize) -> String {
    format!("BOOT-{index}")
}

fn mac(index: usize) -> [u8; 6] {
    let [high, low] = low(index + 1);
    [0x02, 0xb0, 0, 0, high, low]
}

/// Spines come first; each leaf has a link to each spine.
fn plan(kind: Kind, count: usize) -> Result<Topology> {
    let listen = match kind {
        Kind::Memory => P4RUNTIME,
        Kind::Processes => P4RUNTIME_OF_PROCESSES,
    };
    let spines = count.div_ceil(LEAVES_PER_SPINE + 1).max(2).min(count - 1);
    let mut switches = Vec::new();
    for index in 0..count {
        let (role, word, number) = match index.checked_sub(spines) {
            Some(leaf) => (Role::Leaf, "leaf", leaf + 1),
            None => (Role::Spine, "spine", index + 1),
        };
        let [high, last] = low(index + 1);
        switches.push(Spec {
            name: format!("{word}{number}").parse()?,
            role,
            device_id: u16::try_from(index + 1)?,
            loopback_ipv4: Ipv4Addr::new(10, 255, high, last),
            loopback_ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from_be_bytes([high, last])),
            p4runtime: (address(index), listen).into(),
            access_ports: Vec::new(),
            serial: Some(serial(index).parse()?),
            mac: Some(Mac(mac(index))),
            model: Some(MODEL.parse()?),
            software: None,
            ports: Vec::new(),
            breakouts: Vec::new(),
        });
    }
    let end = |index: usize, port: usize| -> Result<PortRef> {
        let switch: &Spec = switches.get(index).context("an end of a link")?;
        let port: PortId = u16::try_from(port)?.try_into()?;
        Ok(PortRef {
            switch: switch.name.clone(),
            port,
        })
    };
    let mut links = Vec::new();
    for leaf in spines..count {
        for spine in 0..spines {
            links.push(Link {
                a: end(leaf, spine + 1)?,
                b: end(spine, leaf - spines + 1)?,
            });
        }
    }
    Ok(Topology {
        fabric: Fabric {
            name: FABRIC.parse()?,
            mtu: 9000,
            vxlan_underlay: IpFamily::Ipv4,
            gateway_mac: Mac([0x00, 0x00, 0x5e, 0x00, 0x01, 0x01]),
            vni_pool: Default::default(),
        },
        switches,
        links,
        hosts: Vec::new(),
    })
}

/// Settings of the provisioning server.
fn settings(count: usize, pki: &Pki) -> String {
    let racks = (0..count).step_by(RACK).map(relay);
    let subnets: Vec<String> = racks
        .map(|at| {
            let [a, b, c, _] = at.octets();
            format!("{{ subnet: {a}.{b}.{c}.0/24, address: {at} }}")
        })
        .collect();
    let files = pki.identity("provision");
    format!(
        "address: {address}\nsubnets: [{subnets}]\nlease_seconds: 3600\nstate: state\nbootz_server: {{ port: {BOOTZ}, \
         owner: \"127.0.0.1:15007\", tls_ca: {ca}, tls_cert: {cert}, tls_key: {key} }}\n",
        address = relay(0),
        subnets = subnets.join(", "),
        ca = pki.ca().display(),
        cert = files.cert.display(),
        key = files.key.display(),
    )
}

const OWNER: &str = "listen: 127.0.0.1:15007\nmanufacturers: maker.pem\nvouchers: .\nowner_certificate: owner.cms\n\
                     owner_key: owner.key\nauthority_certificate: enrol.pem\nauthority_key: enrol.key\n";

impl World {
    /// Starts the controller and the provisioning server, with blank switches that are off. Files are in `dir`.
    ///
    /// # Errors
    /// Something cannot be started.
    pub(super) async fn start(kind: Kind, count: usize, dir: &Path, bin_dir: &Path) -> Result<Self> {
        fabric_identity::private_directory(dir)?;
        let topology = plan(kind, count)?;
        addresses(count)?;
        let pki = Pki::at(&dir.join("pki"));
        let subject = |id: &str, names: &[&str]| Subject {
            id: id.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let subjects = [
            subject("controller", &["localhost", "127.0.0.1"]),
            subject("provision", &[]),
        ];
        pki.create(FABRIC, &subjects)?;
        let makers = Makers::new(dir);
        for index in 0..count {
            makers.deliver(&makers.maker.device(&serial(index)), &dir.join(serial(index)));
            makers.lay_down(&serial(index), &makers.voucher_text(&serial(index), ""));
        }
        let enrolling = signer("vfabric boot enrolment");
        std::fs::write(dir.join("enrol.pem"), &enrolling.pem)?;
        std::fs::write(dir.join("enrol.key"), &enrolling.key)?;
        let both = format!("{}{}", std::fs::read_to_string(pki.ca())?, enrolling.pem);
        std::fs::write(pki.ca(), both)?;
        std::fs::write(dir.join("bootz.yaml"), OWNER)?;
        std::fs::write(dir.join("provision.yaml"), settings(count, &pki))?;
        std::fs::write(dir.join("topology.yaml"), serde_saphyr::to_string(&topology)?)?;
        let token = std::fs::read_to_string(pki.token())?;
        let client = Client::new(&format!("https://{REST}"), &std::fs::read(pki.ca())?, &token)?;
        let mut world = Self {
            kind,
            wiring: Arc::default(),
            topology,
            client,
            dir: dir.to_owned(),
            bin_dir: bin_dir.to_owned(),
            switches: Vec::new(),
            children: Vec::new(),
        };
        world.wire()?;
        world.start_controller(&pki)?;
        let mut provision = world.program("fabric-provision");
        provision
            .arg("serve")
            .arg("--settings")
            .arg(world.dir.join("provision.yaml"));
        provision.arg("--inventory").arg(world.dir.join("topology.yaml"));
        world.spawn("provision", provision)?;
        world
            .until("the controller replies", async |world| {
                Ok(world.client.fabric().await.is_ok())
            })
            .await?;
        let bootz = SocketAddr::from((relay(0), BOOTZ));
        let listens = async |_: &Self| Ok(tokio::net::TcpStream::connect(bootz).await.is_ok());
        world.until("the provisioning server listens", listens).await?;
        Ok(world)
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.bin_dir.join(name))
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<()> {
        let log = File::create(self.dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
        self.children.push(child);
        Ok(())
    }

    fn start_controller(&mut self, pki: &Pki) -> Result<()> {
        let identity = pki.identity("controller");
        let mut command = self.program("fabric-controller");
        command.arg("--topology").arg(self.dir.join("topology.yaml"));
        command.arg("--data-dir").arg(self.dir.join("store"));
        command.args(["--listen", &REST.to_string(), "--agent-listen", "127.0.0.1:9443"]);
        command
            .arg("--token-file")
            .arg(pki.token())
            .arg("--bootz")
            .arg(self.dir.join("bootz.yaml"));
        command.arg("--tls-ca").arg(pki.ca());
        command
            .arg("--tls-cert")
            .arg(identity.cert)
            .arg("--tls-key")
            .arg(identity.key);
        self.spawn("controller", command)
    }

    fn index(&self, name: &Name) -> Result<usize> {
        let found = self.topology.switches.iter().position(|s| s.name == *name);
        found.with_context(|| format!("switch {name}"))
    }

    /// Lays the cables: entries of a table, or veth pairs.
    fn wire(&self) -> Result<()> {
        let mut script = String::new();
        let mut wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
        for link in &self.topology.links {
            let a = (self.index(&link.a.switch)?, link.a.port.get());
            let b = (self.index(&link.b.switch)?, link.b.port.get());
            wiring.insert(a, b);
            wiring.insert(b, a);
            let (near, far) = (interface(a), interface(b));
            script += &format!("link add {near} mtu 9216 type veth peer name {far} mtu 9216\n");
            script += &format!("link set {near} up\nlink set {far} up\n");
        }
        drop(wiring);
        if self.kind == Kind::Processes {
            for scope in ["all", "default"] {
                // Nothing but the switches speaks on the cables.
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
            }
            netns::ip_batch(None, &script)?;
        }
        Ok(())
    }

    fn ports(&self, index: usize) -> Vec<u16> {
        let wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ports: Vec<u16> = wiring
            .keys()
            .filter(|(of, _)| *of == index)
            .map(|(_, port)| *port)
            .collect();
        ports.sort_unstable();
        ports
    }

    /// Powers all switches on, at once.
    ///
    /// # Errors
    /// A process cannot be started.
    pub(super) fn power_on(&mut self) -> Result<()> {
        match self.kind {
            Kind::Memory => {
                self.power_on_in_memory();
                Ok(())
            }
            Kind::Processes => (0..self.switches()).try_for_each(|index| self.power_on_process(index)),
        }
    }

    fn power_on_in_memory(&mut self) {
        let all: Arc<Mutex<Vec<Switch>>> = Arc::default();
        for index in 0..self.switches() {
            let (wiring, others) = (Arc::clone(&self.wiring), Arc::clone(&all));
            let cables: Cables = Arc::new(move |port, frame| {
                let far = wiring
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(&(index, port))
                    .copied();
                let Some((other, port)) = far else { return };
                let other = others
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(other)
                    .cloned();
                if let Some(other) = other {
                    other.deliver(port, frame);
                }
            });
            self.switches.push(Switch::with_cables(self.ports(index), cables));
        }
        *all.lock().unwrap_or_else(PoisonError::into_inner) = self.switches.clone();
        for (index, switch) in self.switches.iter().enumerate() {
            let place = Place {
                dir: self.dir.join(serial(index)),
                mac: mac(index),
                relay: relay(index),
                server: relay(0),
            };
            let switch = switch.clone();
            tokio::spawn(async move {
                if let Err(error) = power_on(place, switch).await {
                    crate::say!("{}: {error:#}", serial(index));
                }
            });
        }
    }

    fn power_on_process(&mut self, index: usize) -> Result<()> {
        let mut command = self.program("p4-switch");
        command.arg("--no-p4").arg("--ztp").arg(self.dir.join(serial(index)));
        command.args(["--ztp-server", &format!("bootz://{}:{BOOTZ}", relay(index))]);
        for port in self.ports(index) {
            command.arg("-i").arg(format!("{port}@{}", interface((index, port))));
        }
        command.args(["--cpu-port", "510", "--drop-port", "511"]);
        self.spawn(&serial(index), command)
    }

    /// How many switches there are.
    pub(super) fn switches(&self) -> usize {
        self.topology.switches.len()
    }

    /// How many links there are.
    pub(super) fn links(&self) -> usize {
        self.topology.links.len()
    }

    /// How many switches are processes.
    pub(super) fn processes(&self) -> usize {
        match self.kind {
            Kind::Memory => 0,
            Kind::Processes => self.switches(),
        }
    }

    async fn until(&mut self, what: &str, is_so: impl AsyncFn(&Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !is_so(self).await? {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("a process ended ({status}); the logs are in {}", self.dir.display());
                }
            }
            if began.elapsed() > PATIENCE {
                bail!("waited in vain until {what}; the logs are in {}", self.dir.display());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until every switch is in service.
    ///
    /// # Errors
    /// It takes too long; names a switch and what it waits for.
    pub(super) async fn in_service(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let lines = self.client.provisioning().await?;
            let Some(waiting) = lines.iter().find(|line| !line.in_service) else {
                return Ok(());
            };
            if began.elapsed() > PATIENCE {
                let what = waiting.waits_for.as_deref().unwrap_or_default();
                let error = waiting.last_error.as_deref().unwrap_or_default();
                bail!(
                    "{} waits for {what}; last error: {error}; logs: {}",
                    waiting.switch,
                    self.dir.display()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn set_ports(&self, ports: &[(usize, u16)], up: bool) {
        for (switch, port) in ports {
            if let Some(switch) = self.switches.get(*switch) {
                switch.set_port(*port, up);
            }
        }
    }

    /// Swaps the cables of two leaves at the first spine. Returns the time from the links coming up until both wrong cables
    /// are named.
    ///
    /// # Errors
    /// They are not named.
    pub(super) async fn miscable(&mut self) -> Result<Duration> {
        let leaves: Vec<usize> = self
            .topology
            .switches
            .iter()
            .enumerate()
            .filter(|(_, s)| s.role == Role::Leaf)
            .map(|(i, _)| i)
            .collect();
        let (Some(one), Some(other)) = (leaves.first(), leaves.last()) else {
            bail!("no two leaves")
        };
        let ends = [(*one, 1), (*other, 1)];
        let far = {
            let wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
            ends.map(|end| wiring.get(&end).copied())
        };
        let [Some(far_one), Some(far_other)] = far else {
            bail!("no cables")
        };
        let all = [ends[0], ends[1], far_one, far_other];
        self.set_ports(&all, false);
        {
            let mut wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
            for (near, far) in [(ends[0], far_other), (ends[1], far_one)] {
                wiring.insert(near, far);
                wiring.insert(far, near);
            }
        }
        // Until the controller has seen that the links were down, it takes them for the
        // earlier links.
        self.until("both links are down", async |world: &Self| {
            Ok(world.faults("").await? >= 2)
        })
        .await?;
        self.set_ports(&all, true);
        let up = Instant::now();
        self.until("both wrong cables are named", async |world: &Self| {
            Ok(world.faults("wrong cabling").await? >= 2)
        })
        .await?;
        Ok(up.elapsed())
    }

    /// Links with a fault whose description contains this text.
    async fn faults(&self, words: &str) -> Result<usize> {
        let links = self.client.links().await?;
        let is_it = |link: &&vfabric_api::status::LinkStatus| {
            link.fault.is_some() && link.reason.as_deref().is_some_and(|reason| reason.contains(words))
        };
        Ok(links.iter().filter(is_it).count())
    }

    /// Ends all processes as a service manager does.
    ///
    /// # Errors
    /// A process cannot be waited for.
    pub(super) async fn stop(mut self) -> Result<()> {
        let children = std::mem::take(&mut self.children);
        for child in &children {
            // The process may have ended already.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        }
        let waiting =
            tokio::task::spawn_blocking(move || children.into_iter().try_for_each(|mut child| child.wait().map(drop)));
        Ok(waiting.await??)
    }
}

/// Name of the interface of a port that is a veth.
fn interface((switch, port): (usize, u16)) -> String {
    format!("s{switch}p{port}")
}

/// Gives the machine the addresses of relays and switches.
fn addresses(count: usize) -> Result<()> {
    let relays = (0..count).step_by(RACK).map(relay);
    let all = relays.chain((0..count).map(address));
    // `replace`, because an earlier fabric may have left its addresses in this namespace.
    let lines: Vec<String> = all.map(|at| format!("addr replace {at}/32 dev lo")).collect();
    netns::ip_batch(None, &lines.join("\n"))
}
