//! Building the network and starting the daemons in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use vfabric_api::ident::{Name, PortId};
use vfabric_api::topology::{Host, Role, Switch};

use super::pki::Subject;
use super::plan::{self, Node};
use super::{AGENT_PORT, Lab, REST_PORT, Target, netns, process};

/// bmv2's switch with a P4Runtime server.
const BMV2: &str = "simple_switch_grpc";
/// CPU port of the switches, as v1model programs know it.
const CPU_PORT: u16 = 510;
/// Drop port of v1model.
const DROP_PORT: u16 = 511;
/// Name of the controller among the daemons.
pub const CONTROLLER: &str = "controller";

/// Kernel parameters of every new namespace: addresses are usable at once, and no interface configures itself.
const QUIET: [(&str, &str); 4] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
];
/// Only interfaces that are created later copy these settings, so the existing cable needs its own. Its multicast
/// memberships are reported at once instead of within a second (RFC 3810 section 9.11), when a check may already be
/// counting refused frames.
const QUIET_CABLE: [(&str, &str); 3] = [
    ("ipv6/conf/eth0/accept_dad", "0"),
    ("ipv6/conf/eth0/accept_ra", "0"),
    ("ipv6/conf/eth0/mldv2_unsolicited_report_interval", "1"),
];
/// More for switches, whose ports have no addresses of their own.
pub(super) const NO_IPV6: [(&str, &str); 2] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
];

impl Lab {
    /// All subjects that get a certificate, including an operator with read access, one for emergencies, and a user without rights.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let subject = |id: String, names: &[String]| Subject {
            id,
            names: names.to_vec(),
        };
        let switches = self.topology.switches.iter().zip(&self.plan.switches);
        let switches = switches.map(|(s, node)| {
            // The DNS name is for simple_switch_grpc, whose gRPC clients do not know SPIFFE ids.
            let names = [format!("{}.switch.vfabric", s.name), node.mgmt.to_string()];
            subject(format!("switch/{}", s.name), &names)
        });
        let hosts = self.topology.hosts.iter();
        let hosts = hosts.map(|h| subject(format!("host/{}", h.name), &[]));
        let names = ["controller.vfabric", "localhost", "127.0.0.1"].map(str::to_owned);
        let names = [names.as_slice(), &[self.plan.controller.to_string()]].concat();
        let user = format!("user/{}", crate::attack::USER);
        let people = ["operator/lab", "operator/lab/admin", &user].map(|id| subject(id.to_owned(), &[]));
        let controller = subject("controller".to_owned(), &names);
        let all = hosts.chain([controller]).chain(people);
        if self.options.ztp {
            // Switches have none before they are enrolled.
            return all.chain([Self::provision_subject()]).collect();
        }
        switches.chain(all).collect()
    }

    fn ports(&self, switch: &Switch) -> Vec<u16> {
        let ends = self.topology.links.iter().flat_map(|l| [&l.a, &l.b]);
        let uplinks = self.topology.hosts.iter().map(|h| &h.uplink);
        let metals = self.plan.metals.iter().map(|m| &m.at);
        let all = ends.chain(uplinks).chain(metals).chain(&self.plan.spares);
        let mine = all.filter(|r| r.switch == switch.name);
        let mut ports: Vec<u16> = mine.map(|r| r.port.get()).collect();
        ports.sort_unstable();
        ports
    }

    pub(super) fn build_network(&self) -> Result<()> {
        netns::ip_batch(None, &self.plan.links(&self.topology))?;
        netns::ip_batch(Some(plan::MGMT), &self.plan.mgmt_bridge())?;
        let mtu = self.topology.fabric.mtu;
        for (switch, node) in self.topology.switches.iter().zip(&self.plan.switches) {
            netns::sysctl(&node.namespace, &NO_IPV6)?;
            netns::ip_batch(
                Some(&node.namespace),
                &plan::switch(node, &self.ports(switch), mtu, self.options.ztp),
            )?;
        }
        for (host, node) in self.topology.hosts.iter().zip(&self.plan.hosts) {
            let leaf = self.topology.switch(&host.uplink.switch).context("the host's leaf")?;
            netns::sysctl(&node.namespace, &QUIET)?;
            netns::sysctl(&node.namespace, &QUIET_CABLE)?;
            let script = plan::host(node, host, leaf.loopback_ipv4, leaf.loopback_ipv6, mtu);
            netns::ip_batch(Some(&node.namespace), &script)?;
            complete_checksums(&node.namespace)?;
        }
        for metal in &self.plan.metals {
            netns::sysctl(&metal.namespace, &QUIET)?;
            netns::sysctl(&metal.namespace, &QUIET_CABLE)?;
            netns::ip_batch(Some(&metal.namespace), &plan::metal(metal))?;
            complete_checksums(&metal.namespace)?;
        }
        for workload in &self.plan.workloads {
            netns::sysctl(workload, &QUIET)?;
            netns::ip_batch(Some(workload), "link set lo up")?;
        }
        Ok(())
    }

    /// Compiles the pipelines with `p4c`, if requested. Returns their folder.
    pub(super) fn compile_with_p4c(&self) -> Result<Option<PathBuf>> {
        if !self.options.p4c {
            return Ok(None);
        }
        let out = self.dir.join("pipelines");
        std::fs::create_dir_all(&out)?;
        for role in ["leaf", "spine"] {
            let file = |end: &str| out.join(format!("{role}.{end}"));
            let mut p4c = process::command("p4c-bm2-ss");
            p4c.args(["--std", "p4-16"]).arg("-I").arg(&self.options.p4_dir);
            p4c.arg("--p4runtime-files")
                .arg(file("p4info.bin"))
                .arg("-o")
                .arg(file("json"));
            p4c.arg(self.options.p4_dir.join(format!("{role}.p4")));
            let output = p4c
                .output()
                .context("cannot run `p4c-bm2-ss`; leave out --p4c to use the embedded compiler")?;
            if !output.status.success() {
                bail!("p4c: {role}.p4: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(Some(out))
    }

    /// A binary of the fabric.
    pub(super) fn bin(&self, name: &str) -> PathBuf {
        self.options.bin_dir.join(name)
    }

    fn tls(&self, command: &mut Command, identity: &str) {
        let files = self.pki.identity(identity);
        command
            .arg("--tls-ca")
            .arg(self.pki.ca())
            .arg("--tls-cert")
            .arg(files.cert)
            .arg("--tls-key")
            .arg(files.key);
    }

    pub(super) fn start_switches(&self) -> Result<()> {
        self.topology
            .switches
            .iter()
            .try_for_each(|s| self.start_switch(&s.name))
    }

    /// Starts a switch, empty.
    ///
    /// # Errors
    /// It is not in the topology, or its program cannot be run.
    pub fn start_switch(&self, name: &Name) -> Result<()> {
        let (switch, _) = self.find_switch(name)?;
        self.start_switch_as(name, switch.device_id)
    }

    /// Starts other hardware in the place of a switch, empty. A switch that configures itself gets its device id from the
    /// inventory.
    ///
    /// # Errors
    /// As [`Lab::start_switch`].
    pub(crate) fn start_switch_as(&self, name: &Name, device_id: u16) -> Result<()> {
        let (switch, node) = self.find_switch(name)?;
        let (mut command, namespace) = match self.options.target {
            Target::P4Switch => (process::command(self.bin("p4-switch")), Some(node.namespace.as_str())),
            // It looks for interfaces in /sys/class/net, so it needs a /sys of its namespace: a
            // mount namespace too, which `ip netns exec` makes before it becomes the program.
            Target::Bmv2 => {
                let mut command = process::command("ip");
                command.args(["netns", "exec", &node.namespace, BMV2]);
                (command, None)
            }
        };
        command.arg("--no-p4");
        if self.options.ztp {
            self.blank(switch, &mut command);
        } else {
            command.arg("--device-id").arg(device_id.to_string());
        }
        for port in self.ports(switch) {
            command.arg("-i").arg(format!("{port}@swp{port}"));
            if self.options.target == Target::Bmv2 {
                single_frames(&node.namespace, &format!("swp{port}"))?;
            }
        }
        if self.options.target == Target::Bmv2 {
            if self.bmv2_has("--notifications-addr")? {
                // By default it leaves a socket in /tmp.
                let socket = self.dir.join("run").join(format!("{name}.ipc"));
                command
                    .arg("--notifications-addr")
                    .arg(format!("ipc://{}", socket.display()));
            }
            // The options after this are those of simple_switch_grpc, not of every bmv2 switch.
            command.arg("--");
        }
        if !self.options.ztp {
            command.arg("--grpc-server-addr").arg(switch.p4runtime.to_string());
        }
        command.args(["--cpu-port", &CPU_PORT.to_string()]);
        command.args(["--drop-port", &DROP_PORT.to_string()]);
        let identity = format!("switch/{name}");
        match self.options.target {
            Target::P4Switch if self.options.ztp => {}
            Target::P4Switch => self.tls(&mut command, &identity),
            Target::Bmv2 => {
                let files = self.pki.identity(&identity);
                command.args(["--grpc-server-ssl", "--grpc-server-with-client-auth"]);
                command.arg("--grpc-server-cacert").arg(self.pki.ca());
                command.arg("--grpc-server-cert").arg(files.cert);
                command.arg("--grpc-server-key").arg(files.key);
            }
        }
        self.daemons.start(name.as_str(), namespace, command)
    }

    /// The port of a leaf whose cable leads nowhere.
    ///
    /// # Errors
    /// The switch is not a leaf.
    pub(crate) fn spare_port(&self, leaf: &Name) -> Result<PortId> {
        let spare = self.plan.spares.iter().find(|at| at.switch == *leaf);
        Ok(spare.with_context(|| format!("leaf `{leaf}` is unknown"))?.port)
    }

    /// Plugs the cables of two ports of a p4-switch into each other's place: the devices behind them change names, and the
    /// switch opens again what is behind a port's name.
    ///
    /// # Errors
    /// A port does not exist.
    pub(crate) fn swap_cables(&self, switch: &Name, (a, b): (PortId, PortId)) -> Result<()> {
        let (_, node) = self.find_switch(switch)?;
        let script =
            format!("link set swp{a} name unplugged\nlink set swp{b} name swp{a}\nlink set unplugged name swp{b}");
        netns::ip_batch(Some(&node.namespace), &script)
    }

    /// Fails if the target is not installed.
    pub(super) fn expect_target(&self) -> Result<()> {
        if self.options.target == Target::Bmv2 {
            self.bmv2_has("--grpc-server-addr")?;
        }
        Ok(())
    }

    /// Whether the installed simple_switch_grpc knows an option; that depends on how it was built.
    fn bmv2_has(&self, option: &str) -> Result<bool> {
        let help = process::command(BMV2).arg("--help").output().with_context(|| {
            format!("`{BMV2}` is not on the PATH; leave out --target bmv2 to use the embedded switch")
        })?;
        Ok(String::from_utf8_lossy(&help.stdout).contains(option))
    }

    fn find_switch(&self, name: &Name) -> Result<(&Switch, &Node)> {
        let mut all = self.topology.switches.iter().zip(&self.plan.switches);
        all.find(|(s, _)| &s.name == name)
            .with_context(|| format!("switch `{name}` is unknown"))
    }

    pub(super) fn start_controller(&self, pipelines: Option<&Path>) -> Result<()> {
        let mut command = process::command(self.bin("fabric-controller"));
        command.arg("--topology").arg(self.dir.join("topology.yaml"));
        command.arg("--data-dir").arg(self.dir.join("controller"));
        command.arg("--listen").arg(format!("127.0.0.1:{REST_PORT}"));
        command
            .arg("--agent-listen")
            .arg(format!("{}:{AGENT_PORT}", self.plan.controller));
        command.arg("--token-file").arg(self.pki.token());
        self.tls(&mut command, "controller");
        if self.options.ztp {
            command.arg("--bootz").arg(self.bootz_settings());
        }
        if let Some(interval) = &self.options.probe_interval {
            command.arg("--probe-interval").arg(interval);
        }
        if let Some(dir) = pipelines {
            command.arg("--pipeline-dir").arg(dir);
        }
        self.daemons.start(CONTROLLER, None, command)
    }

    /// Starts the controller again after it was stopped or killed.
    ///
    /// # Errors
    /// Its program cannot be run.
    pub fn restart_controller(&self) -> Result<()> {
        let pipelines = Some(self.dir.join("pipelines")).filter(|_| self.options.p4c);
        self.start_controller(pipelines.as_deref())
    }

    pub(super) fn start_agents(&self) -> Result<()> {
        self.topology.hosts.iter().try_for_each(|h| self.start_agent(h))
    }

    /// Where a host's agent keeps its state.
    pub(super) fn agent_state(&self, host: &str) -> PathBuf {
        self.dir.join("agents").join(host)
    }

    /// The network namespace that a host's agent keeps.
    pub(super) fn overlay(&self, host: &str) -> String {
        format!("{}{host}-overlay", plan::PREFIX)
    }

    /// Starts a host's agent.
    ///
    /// # Errors
    /// Its program cannot be run.
    pub fn start_agent(&self, host: &Host) -> Result<()> {
        let mut command = process::command(self.bin("vtep-agent"));
        command.args(["--host", host.name.as_str(), "--uplink", "eth0"]);
        command
            .arg("--controller")
            .arg(format!("https://{}:{AGENT_PORT}", self.plan.controller));
        command.arg("--vtep-ipv4").arg(host.vtep_ipv4.to_string());
        command.arg("--vtep-ipv6").arg(host.vtep_ipv6.to_string());
        command.arg("--state-dir").arg(self.agent_state(host.name.as_str()));
        // With the lab's prefix, so that `lab down` removes it with the others.
        command.arg("--overlay").arg(self.overlay(host.name.as_str()));
        self.tls(&mut command, &format!("host/{}", host.name));
        self.daemons
            .start(host.name.as_str(), Some(&plan::namespace(&host.name)), command)
    }

    /// Fails if a daemon has ended.
    ///
    /// # Errors
    /// The end of its log.
    pub fn expect_daemons(&self) -> Result<()> {
        self.daemons.expect_alive(CONTROLLER)?;
        let names = self
            .topology
            .switches
            .iter()
            .map(|s| &s.name)
            .chain(self.topology.hosts.iter().map(|h| &h.name));
        names
            .into_iter()
            .try_for_each(|n| self.daemons.expect_alive(n.as_str()))
    }

    /// The leaves of the topology.
    pub fn leaves(&self) -> impl Iterator<Item = &Switch> {
        self.topology.switches.iter().filter(|s| s.role == Role::Leaf)
    }
}

/// Turns off offloads that merge frames. simple_switch_grpc receives through libpcap's ring of two megabytes. For
/// merged frames it has only eight places of the largest size, so some frames of a burst of nine are lost without being
/// counted.
fn single_frames(namespace: &str, interface: &str) -> Result<()> {
    let off = ["-K", interface, "tso", "off", "gso", "off", "gro", "off"];
    netns::run(namespace, "ethtool", &off).context("Debian package ethtool")
}

/// A veth leaves the TCP checksum to hardware that does not exist, and a userspace switch would
/// forward it unfinished.
fn complete_checksums(namespace: &str) -> Result<()> {
    netns::run(namespace, "ethtool", &["-K", "eth0", "tx", "off"]).context("Debian package ethtool")
}
