//! A whole fabric on one machine.
//!
//! **Problem.** Few people have a rack of P4 switches at hand. Yet everything that the fabric
//! promises must be shown with real packets, real daemons and real kernel objects.
//!
//! **Model.** Each switch, host, workload and bare-metal machine is a network namespace
//! named `vflab-*`; each cable is a veth pair ([`plan`]). Switches, agents and the
//! controller are the same binaries as in production, one process each, with mutual
//! TLS ([`pki`]), on a separate management network. Only one link
//! ([`plan::MGMT_LINK`]) is outside the namespaces.
//!
//! **Invariants.** Everything that a lab creates has the prefix or is below [`STATE_DIR`]. So
//! [`Lab::down`] finds it, however far a crashed lab had got. Its processes
//! carry a mark in their environment ([`process::command`]). `up` starts with `down`. Only one
//! command works on a lab at a time ([`lock`]). Nothing else on the machine is touched.
//!
//! **Cost.** One process for each switch and host, and one for the controller; a network namespace for each node, a veth pair
//! for each cable.
//!
//! The [`checks`] show that the fabric keeps its promises; each returns a measured figure.
//!
//! # Example
//! A lab is planned before anything is created:
//! ```
//! use fabric_lab::plan::{Plan, namespace};
//! use vfabric_api::{intent::Intent, topology::Topology, yaml};
//!
//! let topology = Topology::from_yaml(
//!     r#"
//! fabric: { name: first }
//! switches:
//!   - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559" }
//! "#,
//! )
//! .unwrap();
//! let intent: Intent = yaml::read("vdcs: []").unwrap();
//! let plan = Plan::new(&topology, &intent).unwrap();
//! assert_eq!(plan.switches[0].namespace, namespace(&topology.switches[0].name));
//! assert_eq!(plan.switches[0].namespace, "vflab-leaf1");
//! assert!(plan.hosts.is_empty());
//! ```

#![deny(clippy::print_stdout)]

pub mod attack;
pub mod bench;
pub mod boot;
pub mod checks;
pub mod expect;
pub mod intruder;
pub mod netns;
pub mod out;
pub mod pki;
pub mod plan;
pub mod pods;
pub mod probe;
pub mod process;
pub mod scale;
pub mod traffic;

mod command;
mod counters;
pub mod daemons;
mod lock;
mod operator;
mod steps;
mod ztp;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::intent::Intent;
use vfabric_api::service::ApplyOptions;
use vfabric_api::status::{DeviceState, Progress};
use vfabric_api::topology::Topology;

pub use command::{Command, run};
pub use steps::Steps;

use pki::Pki;
use plan::Plan;
use process::Daemons;

/// Everything that a lab keeps in files.
pub const STATE_DIR: &str = "/run/vfabric-lab";
/// The topology used when none is given.
pub const TOPOLOGY: &str = include_str!("../topology.yaml");
/// The intent used when none is given.
pub const INTENT: &str = include_str!("../intent.yaml");
/// The file that keeps how long the start took, in seconds.
const STARTUP: &str = "startup";
/// Port of the REST API, on loopback.
const REST_PORT: u16 = 8443;
/// Port of the agents' stream, on the management network.
const AGENT_PORT: u16 = 9443;
/// Longest time the fabric may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often readiness is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What runs the pipelines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The embedded software switch
    #[default]
    P4Switch,
    /// simple_switch_grpc, where it is installed
    Bmv2,
}

/// How a lab was requested; stored with it for later commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What runs the pipelines.
    pub target: Target,
    /// Compile the pipelines with `p4c` instead of the embedded ones.
    pub p4c: bool,
    /// Start with blank switches, which get addresses, certificates and settings at power-on.
    #[serde(default)]
    pub ztp: bool,
    /// Time between two probes of a link's end, such as `200ms`; `None` leaves it to the controller.
    #[serde(default)]
    pub probe_interval: Option<String>,
    /// A folder with a Linux kernel for virtual machines, laid out as the root of a system; the machine's own kernel if there is none.
    #[serde(default)]
    pub guest: Option<PathBuf>,
    /// Directory of the daemons' binaries.
    pub bin_dir: PathBuf,
    /// Directory of the P4 programs; only `p4c` needs it.
    pub p4_dir: PathBuf,
}

/// A lab: how it was requested, and handles to its parts.
pub struct Lab {
    /// How it was requested.
    pub options: Options,
    /// The physical fabric.
    pub topology: Topology,
    /// The lab's intent.
    pub intent: Intent,
    /// What it consists of.
    pub plan: Plan,
    /// Its daemons.
    pub daemons: Daemons,
    /// Its certificates.
    pub pki: Pki,
    /// Time from the first namespace to every device in sync with the intent.
    pub startup: Option<Duration>,
    dir: PathBuf,
}

impl Lab {
    fn new(options: Options, topology: &str, intent: &str) -> Result<Self> {
        let mut topology = Topology::from_yaml(topology)?;
        if options.ztp {
            ztp::label(&mut topology)?;
        }
        let intent: Intent = vfabric_api::yaml::read(intent).context("intent")?;
        let plan = Plan::new(&topology, &intent)?;
        let dir = PathBuf::from(STATE_DIR);
        let (daemons, pki) = (Daemons::at(&dir.join("run")), Pki::at(&dir.join("pki")));
        Ok(Self {
            options,
            topology,
            intent,
            plan,
            daemons,
            pki,
            startup: None,
            dir,
        })
    }

    /// The lab that runs on this machine.
    ///
    /// # Errors
    /// No lab runs.
    pub fn open() -> Result<Self> {
        let dir = Path::new(STATE_DIR);
        let read = |name: &str| {
            std::fs::read_to_string(dir.join(name))
                .with_context(|| "no lab runs on this machine (`cargo xtask lab` builds one)")
        };
        let options = serde_json::from_str(&read("options.json")?)?;
        let mut lab = Self::new(options, &read("topology.yaml")?, &read("intent.yaml")?)?;
        // The file is missing after a start that was cut short.
        lab.startup = read(STARTUP)
            .ok()
            .and_then(|s| Duration::try_from_secs_f64(s.parse().ok()?).ok());
        Ok(lab)
    }

    /// Builds a lab and waits until every device holds what the intent asks for. An existing lab, or the remains of
    /// one, is removed first.
    ///
    /// # Errors
    /// Names the step that failed; [`Lab::down`] removes what was built.
    pub fn up(options: Options, topology: &str, intent: &str, steps: &Steps, runtime: &Runtime) -> Result<Self> {
        let mut lab = Self::new(options, topology, intent)?;
        lab.expect_target()?;
        steps.run("removing what an earlier lab left", Self::down)?;
        let started = Instant::now();
        fabric_identity::private_directory(&lab.dir)?;
        std::fs::write(lab.dir.join("options.json"), serde_json::to_string(&lab.options)?)?;
        let labelled = lab
            .options
            .ztp
            .then(|| serde_saphyr::to_string(&lab.topology))
            .transpose()?;
        std::fs::write(lab.dir.join("topology.yaml"), labelled.as_deref().unwrap_or(topology))?;
        std::fs::write(lab.dir.join("intent.yaml"), intent)?;
        steps.run("certificates", || {
            lab.pki.create(lab.topology.fabric.name.as_str(), &lab.subjects())
        })?;
        lab.write_client_config()?;
        let pipelines = steps.run("pipelines", || lab.compile_with_p4c())?;
        steps.run("namespaces, cables, addresses", || lab.build_network())?;
        let mut powered_on = None;
        if lab.options.ztp {
            steps.run("blank switches and their vouchers", || lab.deliver_switches())?;
            steps.run("controller", || lab.start_controller(pipelines.as_deref()))?;
            steps.run("provisioning server", || lab.start_provision())?;
            powered_on = Some(Instant::now());
            steps.run("switches powered on", || lab.start_switches())?;
        } else {
            steps.run("switches", || lab.start_switches())?;
            steps.run("controller", || lab.start_controller(pipelines.as_deref()))?;
        }
        steps.run("agents", || lab.start_agents())?;
        let client = lab.client()?;
        steps.run("devices in sync", || runtime.block_on(lab.ready(&client)))?;
        steps.run("intent applied", || runtime.block_on(lab.apply(&client)))?;
        if let Some(powered_on) = powered_on {
            let words = steps.run("first packet", || lab.first_packet())?;
            let packet = words.map(|words| (words, powered_on.elapsed()));
            let lines = steps.run("switches in service", || runtime.block_on(lab.in_service(&client)))?;
            lab.report_ztp(packet, powered_on.elapsed(), &lines);
        }
        let startup = started.elapsed();
        lab.startup = Some(startup);
        std::fs::write(lab.dir.join(STARTUP), startup.as_secs_f64().to_string())?;
        Ok(lab)
    }

    /// Removes every trace of a lab: processes, namespaces, link, files.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn down() -> Result<()> {
        // End the processes that a killed command left running first, because they may still create something.
        process::stop_all(&process::marked());
        let namespaces = netns::list(plan::PREFIX);
        let inside: Vec<i32> = namespaces.iter().flat_map(|n| netns::processes(n)).collect();
        process::stop_all(&inside);
        let names = pods::agree::names_of(&namespaces);
        let mut lines: Vec<String> = namespaces
            .iter()
            .chain(&names)
            .map(|n| format!("netns del {n}"))
            .collect();
        if mgmt_link_exists() {
            lines.insert(0, format!("link del {}", plan::MGMT_LINK));
        }
        let removed = if lines.is_empty() {
            Ok(())
        } else {
            netns::ip_batch(None, &lines.join("\n"))
        };
        match std::fs::remove_dir_all(STATE_DIR) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(STATE_DIR),
            _ => {}
        }
        let left = [
            netns::list(plan::PREFIX),
            process::marked().iter().map(|pid| format!("process {pid}")).collect(),
            mgmt_link_exists()
                .then(|| plan::MGMT_LINK.to_owned())
                .into_iter()
                .collect(),
        ]
        .concat();
        if left.is_empty() {
            // Whatever could not be removed was gone already.
            return Ok(());
        }
        removed.with_context(|| format!("still there: {}", left.join(", ")))?;
        bail!("still there: {}", left.join(", "))
    }

    /// A client of the lab's controller.
    ///
    /// # Errors
    /// The lab's files are missing.
    pub fn client(&self) -> Result<Client> {
        Ok(vfabric_api::client::Config::client(&self.client_config())?)
    }

    /// The client settings that the lab wrote.
    pub fn client_config(&self) -> PathBuf {
        self.dir.join("client.yaml")
    }

    /// Waits until the controller answers and every device is in sync.
    ///
    /// # Errors
    /// A daemon ended, or it takes too long; says which device and why.
    pub async fn ready(&self, client: &Client) -> Result<()> {
        let until = Instant::now() + READY_TIMEOUT;
        loop {
            self.expect_daemons()?;
            let why = match self.waiting_for(client).await {
                Ok(waiting) if waiting.is_empty() => return Ok(()),
                Ok(waiting) => waiting.join("; "),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > until {
                bail!("not ready after {} s: {why}", READY_TIMEOUT.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Devices that are not in sync, each with the reason in words.
    pub(crate) async fn waiting_for(&self, client: &Client) -> Result<Vec<String>> {
        let switches = client.switches().await?.into_iter().map(|s| (s.name, s.status));
        let devices = switches.chain(client.hosts().await?.into_iter().map(|h| (h.name, h.status)));
        let waiting = devices.filter(|(_, s)| s.state != DeviceState::InSync || s.pending > 0);
        Ok(waiting
            .map(|(name, s)| {
                let failed = s.failed.first().or(s.last_error.as_ref());
                format!(
                    "{name} is {:?}, {} pending, {}",
                    s.state,
                    s.pending,
                    failed.map_or("", String::as_str)
                )
            })
            .collect())
    }

    /// Applies the lab's intent and waits for the devices.
    ///
    /// # Errors
    /// The intent was refused, or a device has not applied it in time.
    pub async fn apply(&self, client: &Client) -> Result<()> {
        let outcome = client
            .apply(&self.intent, ApplyOptions::default(), Some(Duration::from_secs(30)))
            .await?;
        let applied = outcome
            .applied
            .context("the answer does not say how far the devices are")?;
        if applied.progress != Progress::Applied {
            let why: Vec<_> = applied
                .waiting
                .iter()
                .map(|w| format!("{}: {}", w.device, w.reason))
                .collect();
            bail!(
                "applied on {} of {} devices: {}",
                applied.applied,
                applied.devices,
                why.join("; ")
            );
        }
        Ok(())
    }

    fn write_client_config(&self) -> Result<()> {
        let config = vfabric_api::client::Config {
            server: format!("https://127.0.0.1:{REST_PORT}"),
            ca: "pki/ca.pem".into(),
            token: "pki/token".into(),
        };
        Ok(std::fs::write(self.client_config(), serde_saphyr::to_string(&config)?)?)
    }
}

/// Reads `/proc`, which shows the links of the caller's own namespace. `/sys` would show those of the namespace in
/// which it was mounted.
fn mgmt_link_exists() -> bool {
    let links = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut names = links.lines().filter_map(|line| line.split(':').next());
    names.any(|name| name.trim() == plan::MGMT_LINK)
}
