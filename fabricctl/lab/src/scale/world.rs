//! The fabric that is measured: devices in this process, the controller in one of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fabric_identity::{Credentials, Files};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vfabric_api::client::Client;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::topology::{Fabric, Host as HostSpec, IpFamily, Link, PortRef, Role, Switch as SwitchSpec, Topology};

use super::host::Host;
use super::size::Size;
use super::switch::Switch;
use crate::pki::{Pki, Subject};

/// Name of the fabric.
const FABRIC: &str = "scale";
/// Longest wait for anything of the fabric: far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a state is checked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Local addresses from which agents and watchers connect: the controller accepts 256 connections from one address.
const ADDRESSES: u8 = 8;

/// The fabric.
pub(super) struct World {
    pub(super) size: Size,
    pub(super) topology: Topology,
    /// In the order of the topology.
    pub(super) switches: Vec<Switch>,
    pub(super) hosts: Vec<Host>,
    pub(super) client: Client,
    dir: PathBuf,
    pki: Pki,
    bin_dir: PathBuf,
    controller: Option<Child>,
    rest: SocketAddr,
    agents: SocketAddr,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            // It may have ended already.
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }
}

/// One of the machine's own addresses that has room for one more connection.
pub(super) fn own_address(index: usize) -> IpAddr {
    let last = u8::try_from(index % usize::from(ADDRESSES)).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 0, 1, last).into()
}

fn name(text: String) -> Result<Name> {
    text.parse().with_context(|| text.clone())
}

/// Ports of a leaf: uplinks from 1, hosts behind them.
fn port(number: usize) -> Result<vfabric_api::ident::PortId> {
    Ok(u16::try_from(number)?.try_into()?)
}

fn low(number: usize) -> Result<[u8; 2]> {
    Ok(u16::try_from(number)?.to_be_bytes())
}

fn switch(role: Role, index: usize, address: SocketAddr) -> Result<SwitchSpec> {
    let (word, net, first) = match role {
        Role::Leaf => ("leaf", 0, 1),
        Role::Spine => ("spine", 1, 1001),
    };
    let [high, low] = low(index + 1)?;
    Ok(SwitchSpec {
        name: name(format!("{word}{}", index + 1))?,
        role,
        device_id: u16::try_from(index + first)?,
        loopback_ipv4: Ipv4Addr::new(10, 254 + net, high, low),
        loopback_ipv6: Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, u16::from_be_bytes([high, low])),
        p4runtime: address,
        access_ports: Vec::new(),
        serial: None,
        mac: None,
        model: None,
        software: None,
        ports: Vec::new(),
        breakouts: Vec::new(),
    })
}

impl World {
    /// Starts devices and the controller, with files in `dir`; returns once all devices are in sync.
    ///
    /// # Errors
    /// Something cannot be started.
    pub(super) async fn start(size: Size, dir: &Path, bin_dir: &Path) -> Result<Self> {
        fabric_identity::private_directory(dir)?;
        let pki = Pki::at(&dir.join("pki"));
        let roles = (0..size.leaves)
            .map(|i| (Role::Leaf, i))
            .chain((0..size.spines).map(|i| (Role::Spine, i)));
        let roles: Vec<(Role, usize)> = roles.collect();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut specs = roles
            .iter()
            .map(|(role, i)| switch(*role, *i, nowhere))
            .collect::<Result<Vec<_>>>()?;
        let hosts = (0..size.hosts).map(|i| host(&size, i)).collect::<Result<Vec<_>>>()?;
        let subject = |id: String, names: &[&str]| Subject {
            id,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        let subjects: Vec<Subject> = specs
            .iter()
            .map(|s| subject(format!("switch/{}", s.name), &[]))
            .chain(hosts.iter().map(|h| subject(format!("host/{}", h.name), &[])))
            .chain([subject("controller".into(), &["localhost", "127.0.0.1"])])
            .collect();
        pki.create(FABRIC, &subjects)?;
        let mut switches = Vec::new();
        for (spec, (role, _)) in specs.iter_mut().zip(&roles) {
            let ports = match role {
                Role::Leaf => 1..=size.spines,
                Role::Spine => 1..=size.leaves,
            };
            let ports = ports.map(u16::try_from).collect::<Result<Vec<_>, _>>()?;
            let credentials = credentials(&pki, &format!("switch/{}", spec.name))?;
            let (switch, address) = Switch::serve(&credentials, ports).await?;
            spec.p4runtime = address;
            switches.push(switch);
        }
        let mut links = Vec::new();
        for leaf in 0..size.leaves {
            for spine in 0..size.spines {
                let end = |switch: &SwitchSpec, number| -> Result<PortRef> {
                    Ok(PortRef {
                        switch: switch.name.clone(),
                        port: port(number)?,
                    })
                };
                let (leaf_spec, spine_spec) = (specs.get(leaf), specs.get(size.leaves + spine));
                let (leaf_spec, spine_spec) = leaf_spec.zip(spine_spec).context("a link without an end")?;
                links.push(Link {
                    a: end(leaf_spec, spine + 1)?,
                    b: end(spine_spec, leaf + 1)?,
                });
            }
        }
        let topology = Topology {
            fabric: Fabric {
                name: FABRIC.parse()?,
                mtu: 9216,
                vxlan_underlay: IpFamily::Ipv4,
                gateway_mac: Mac([0x00, 0x00, 0x5e, 0x00, 0x01, 0x01]),
                vni_pool: Default::default(),
            },
            switches: specs,
            links,
            hosts,
        };
        std::fs::write(dir.join("topology.yaml"), serde_saphyr::to_string(&topology)?)?;
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut world = Self {
            size,
            topology,
            switches,
            hosts: Vec::new(),
            client: Client::new("https://127.0.0.1", &std::fs::read(pki.ca())?, "none")?,
            dir: dir.to_owned(),
            pki,
            bin_dir: bin_dir.to_owned(),
            controller: None,
            rest: anywhere,
            agents: anywhere,
        };
        world.start_controller().await?;
        for (index, spec) in world.topology.hosts.iter().enumerate() {
            let host = Host::default();
            let credentials = credentials(&world.pki, &format!("host/{}", spec.name))?;
            host.follow(spec.clone(), credentials, world.agents.to_string(), own_address(index));
            world.hosts.push(host);
        }
        world.in_sync().await?;
        Ok(world)
    }

    /// Starts the controller, the first time on ports that the system chooses; returns how long it took to serve.
    ///
    /// # Errors
    /// The controller cannot be started, or ends.
    pub(super) async fn start_controller(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let identity = self.pki.identity("controller");
        let mut command = Command::new(self.bin_dir.join("fabric-controller"));
        command
            .arg("--topology")
            .arg(self.dir.join("topology.yaml"))
            .arg("--data-dir")
            .arg(self.dir.join("store"))
            .arg("--listen")
            .arg(self.rest.to_string())
            .arg("--agent-listen")
            .arg(self.agents.to_string())
            .arg("--token-file")
            .arg(self.pki.token())
            .arg("--tls-ca")
            .arg(self.pki.ca())
            .arg("--tls-cert")
            .arg(identity.cert)
            .arg("--tls-key")
            .arg(identity.key)
            .args(["--log-format", "json", "--log-level", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run fabric-controller")?;
        let stderr = child.stderr.take().context("no standard error")?;
        self.controller = Some(child);
        let log_path = self.dir.join("controller.log");
        let mut log = File::options().create(true).append(true).open(&log_path)?;
        let (serving, served) = mpsc::channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(at) = serving_at(&line) {
                    let _ = serving.send(at);
                }
                let _ = writeln!(log, "{line}");
            }
        });
        let at = tokio::task::spawn_blocking(move || served.recv_timeout(PATIENCE)).await?;
        let ended = || format!("the controller does not serve; its log is {}", log_path.display());
        (self.rest, self.agents) = at.with_context(ended)?;
        self.client = self.client_from(None)?;
        // A call that needs what was stored.
        self.client.fabric().await?;
        Ok(started.elapsed())
    }

    /// Whether the controller runs.
    pub(super) fn is_alive(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        self.controller.as_mut().is_some_and(|child| !ended(child))
    }

    /// Stops the controller as a service manager does.
    ///
    /// # Errors
    /// The controller does not run.
    pub(super) async fn stop_controller(&mut self) -> Result<()> {
        let mut controller = self.controller.take().context("the controller does not run")?;
        kill(Pid::from_raw(controller.id().cast_signed()), Signal::SIGTERM)?;
        tokio::task::spawn_blocking(move || controller.wait()).await??;
        Ok(())
    }

    /// A client with connections of its own, from a certain address if one is given.
    ///
    /// # Errors
    /// Files are missing.
    pub(super) fn client_from(&self, from: Option<IpAddr>) -> Result<Client> {
        let (base, ca) = (format!("https://{}", self.rest), std::fs::read(self.pki.ca())?);
        let token = std::fs::read_to_string(self.pki.token())?;
        Ok(match from {
            Some(from) => Client::from_address(&base, &ca, &token, from)?,
            None => Client::new(&base, &ca, &token)?,
        })
    }

    /// Waits until every device is in sync and holds what it should hold; returns how long that took.
    ///
    /// # Errors
    /// It takes too long; names a device.
    pub(super) async fn in_sync(&self) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let fabric = self.client.fabric().await?;
            if fabric.switches.ok == fabric.switches.total && fabric.hosts.ok == fabric.hosts.total {
                let switches = self.client.switches().await?;
                let hosts = self.client.hosts().await?;
                let statuses = switches
                    .iter()
                    .map(|s| &s.status)
                    .chain(hosts.iter().map(|h| &h.status));
                if statuses.clone().all(|status| status.pending == 0) {
                    return Ok(started.elapsed());
                }
            }
            if started.elapsed() > PATIENCE {
                let (switches, hosts) = (&fabric.switches, &fabric.hosts);
                bail!(
                    "{} of {} switches and {} of {} hosts are in sync",
                    switches.ok,
                    switches.total,
                    hosts.ok,
                    hosts.total
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Writes that devices have carried out.
    pub(super) fn writes(&self) -> u64 {
        let switches: u64 = self.switches.iter().map(Switch::writes).sum();
        switches + self.hosts.iter().map(Host::writes).sum::<u64>()
    }

    /// Entities that devices hold.
    pub(super) fn held(&self) -> usize {
        let switches: usize = self.switches.iter().map(Switch::held).sum();
        switches + self.hosts.iter().map(Host::held).sum::<usize>()
    }

    /// A figure of the controller's memory in MiB, such as `VmRSS` (proc(5)).
    ///
    /// # Errors
    /// The controller does not run.
    pub(super) fn memory_mib(&self, what: &str) -> Result<f64> {
        let controller = self.controller.as_ref().context("the controller does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", controller.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.with_context(|| what.to_owned())? / 1024.0)
    }

    /// Processor time of the controller so far, in milliseconds (proc(5), fields 14 and 15 of `stat`).
    ///
    /// # Errors
    /// The controller does not run.
    pub(super) fn processor_ms(&self) -> Result<f64> {
        let controller = self.controller.as_ref().context("the controller does not run")?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", controller.id()))?;
        let (_, rest) = stat.rsplit_once(") ").context("stat")?;
        let ticks = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<f64>().ok());
        // Linux shows them in hundredths of a second on all its platforms.
        Ok(ticks.sum::<f64>() * 10.0)
    }

    /// Size of the store's file in MiB.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn store_mib(&self) -> Result<f64> {
        Ok(std::fs::metadata(self.dir.join("store/intent.redb"))?.len() as f64 / f64::from(1 << 20))
    }
}

fn host(size: &Size, index: usize) -> Result<HostSpec> {
    let [high, low] = low(index + 1)?;
    let (leaf, place) = (index % size.leaves, index / size.leaves);
    Ok(HostSpec {
        name: name(format!("host{}", index + 1))?,
        uplink: PortRef {
            switch: name(format!("leaf{}", leaf + 1))?,
            port: port(size.spines + 1 + place)?,
        },
        mac: Mac([0x02, 0, 0, 1, high, low]),
        vtep_ipv4: Ipv4Addr::new(10, 253, high, low),
        vtep_ipv6: Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, u16::from_be_bytes([high, low])),
    })
}

fn credentials(pki: &Pki, subject: &str) -> Result<Arc<Credentials>> {
    let files = pki.identity(subject);
    Ok(Credentials::load(Files {
        ca: pki.ca(),
        cert: files.cert,
        key: files.key,
    })?)
}

/// The address at which the controller serves, if this line of its log has it.
fn serving_at(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields")?;
    let address = |field: &str| fields.get(field)?.as_str()?.parse().ok();
    (fields.get("message")? == "serving").then_some(())?;
    Some((address("rest")?, address("agents")?))
}
