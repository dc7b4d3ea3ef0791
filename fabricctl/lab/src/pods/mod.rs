//! Pods in the lab: the real CNI plugin adds and removes interfaces, and everything must agree afterwards.
//!
//! **Problem.** An attachment is recorded in six places: the pod's network namespace, the host's kernel, the agent's journal,
//! the name that the agent gives the namespace, the controller's store, the tables of leaves. Whatever dies in between,
//! all six must agree in the end.
//!
//! **Model.** A [`Pod`] is a network namespace and the runtime's record of it. The lab plays the runtime
//! ([`runtime`]): it calls `vfabric-cni` as containerd and podman do, and after a failed ADD it sends DEL until that
//! succeeds. So the final state is known whatever happens in between. The exception is an interrupted swap: it may have happened or
//! not, and [`agree`] checks that all places agree on which.
//!
//! **Tenants.** Two vDCs ([`TENANTS`]) with equal subnets, which are created for the run and deleted after it.
//!
//! | file | what |
//! | --- | --- |
//! | [`runtime`] | calls of a container runtime and of the agent's command |
//! | [`agree`] | compares all places |
//! | [`bench`] | the cost of calls, compared with the reference plugins |
//! | [`churn`] | attachments that are exchanged at a steady rate |
//! | [`random`] | random operations and faults from a seed |
//! | [`fault`] | what dies meanwhile |
//! | [`machines`] | workloads that users attached, and that migrate |
//! | [`takeover`] | workloads that move to a pod on another host |

pub(crate) mod agree;
pub(crate) mod bench;
mod churn;
mod fault;
mod machines;
mod random;
pub(crate) mod runtime;
mod takeover;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, NetworkSpec, RouterSpec, SubnetSpec, VdcIntent};
use vfabric_api::service::{ApplyOptions, Key, Kind};
use vfabric_api::status::Progress;

use crate::{Lab, Steps, netns, plan, say};

pub(crate) use random::among_checks;

/// The vDCs of pods.
pub(crate) const TENANTS: [&str; 2] = ["pods-a", "pods-b"];
/// The networks of each, with their subnets. Both tenants have the same, so that a frame or an address in the wrong
/// tenant is noticed.
pub(crate) const NETWORKS: [(&str, &str); 2] = [("front", "10.60.0.0/24"), ("back", "10.60.1.0/24")];
/// Longest time that a change of the tenants themselves may take.
const APPLIED: Duration = Duration::from_secs(30);

/// Random operations on pods, with faults.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many operations
    #[arg(long, default_value_t = 5000)]
    operations: usize,
    /// Seed of the operations [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs random operations on the running lab.
///
/// # Errors
/// Something failed that no fault explains, or places do not agree; names the operation.
pub fn run(lab: &Lab, args: &Args, runtime: &Runtime) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(rand::random);
    eprintln!("seed {seed}");
    let outcome = Steps::default().run("operations on pods", || {
        random::run(lab, runtime, args.operations, seed)
    })?;
    say!("{outcome}");
    Ok(ExitCode::SUCCESS)
}

/// A pod as its runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    /// The runtime's id of the container.
    pub(crate) container: String,
    /// The host that it runs on.
    pub(crate) host: Name,
    /// Its vDC.
    pub(crate) vdc: &'static str,
    /// Its network namespace.
    pub(crate) namespace: String,
    /// Identity of the workload, if that may move to a pod on another host.
    pub(crate) workload: Option<String>,
    /// Its interfaces by name.
    pub(crate) interfaces: BTreeMap<String, Interface>,
}

/// An interface of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its tenant network; unknown (none) after an interrupted swap, until it has been checked.
    pub(crate) network: Option<&'static str>,
    /// Whether the runtime added it; the others were added to the running pod, and are removed with the last of the runtime's.
    pub(crate) by_runtime: bool,
    /// Whether it was put into another network than the runtime asked for.
    pub(crate) swapped: bool,
}

impl Pod {
    /// A pod with a namespace and no interface.
    ///
    /// # Errors
    /// The namespace cannot be made.
    pub(crate) fn start(name: &str, host: &Name, vdc: &'static str) -> Result<Self> {
        let namespace = format!("{}pod-{name}", plan::PREFIX);
        netns::ip_batch(None, &format!("netns add {namespace}"))?;
        netns::ip_batch(Some(&namespace), "link set lo up")?;
        Ok(Self {
            container: format!("lab-{name}"),
            host: host.clone(),
            vdc,
            namespace,
            workload: None,
            interfaces: BTreeMap::new(),
        })
    }
}

/// The tenants of the pods; they are deleted by [`Tenants::remove`].
pub(crate) struct Tenants {
    keys: Vec<Key>,
}

impl Tenants {
    /// Creates them, and assigns all hosts to them.
    ///
    /// # Errors
    /// The controller refuses, or a device does not apply them.
    pub(crate) fn create(lab: &Lab, client: &Client, runtime: &Runtime) -> Result<Self> {
        let vdcs = TENANTS
            .iter()
            .map(|name| tenant(lab, name, true))
            .collect::<Result<Vec<_>>>()?;
        Self::of(client, runtime, vdcs)
    }

    /// Creates these vDCs.
    ///
    /// # Errors
    /// The controller refuses, or a device does not apply them.
    pub(crate) fn of(client: &Client, runtime: &Runtime, vdcs: Vec<VdcIntent>) -> Result<Self> {
        let keys = vdcs.iter().flat_map(|v| {
            let routers = v.routers.iter().map(|r| (Kind::Router, &r.name));
            let networks = v.networks.iter().map(|n| (Kind::Network, &n.name));
            let inside = routers
                .chain(networks)
                .map(|(kind, name)| Key::new(v.name.clone(), kind, name.clone()));
            inside.chain([Key::vdc(v.name.clone())]).collect::<Vec<_>>()
        });
        let tenants = Self { keys: keys.collect() };
        let outcome = runtime.block_on(client.apply(&Intent { vdcs }, ApplyOptions::default(), Some(APPLIED)))?;
        let applied = outcome.applied.context("the answer says nothing of devices")?;
        ensure!(
            applied.progress == Progress::Applied,
            "tenants of pods: {:?}",
            applied.waiting
        );
        Ok(tenants)
    }

    /// Deletes them; they must not have any pods.
    ///
    /// # Errors
    /// Something still uses them, or a device does not confirm.
    pub(crate) fn remove(self, client: &Client, runtime: &Runtime) -> Result<()> {
        for key in &self.keys {
            let outcome = runtime.block_on(client.delete(key, Some(APPLIED)))?;
            let applied = outcome.applied.context("the answer says nothing of devices")?;
            ensure!(applied.progress == Progress::Applied, "{key}: {:?}", applied.waiting);
        }
        Ok(())
    }
}

/// A vDC of pods, with a router or without one.
///
/// # Errors
/// A name or subnet is wrong.
pub(crate) fn tenant(lab: &Lab, name: &str, routed: bool) -> Result<VdcIntent> {
    let network = |(name, cidr): (&str, &str)| -> Result<NetworkSpec> {
        let subnet = SubnetSpec::new(cidr.parse()?);
        Ok(NetworkSpec {
            name: name.parse()?,
            subnets: vec![subnet],
            mtu: 1500,
            vni: None,
            labels: Default::default(),
        })
    };
    let networks = NETWORKS.into_iter().map(network).collect::<Result<Vec<_>>>()?;
    let router = RouterSpec::new("core".parse()?, networks.iter().map(|n| n.name.clone()).collect());
    Ok(VdcIntent {
        hosts: lab.topology.hosts.iter().map(|h| h.name.clone()).collect(),
        networks,
        routers: if routed { vec![router] } else { Vec::new() },
        ..VdcIntent::new(name.parse()?)
    })
}
