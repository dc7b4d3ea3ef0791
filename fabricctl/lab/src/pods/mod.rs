//! Pods in the lab: interfaces come and go through the real CNI plugin, and everything agrees afterwards.
//!
//! **Problem.** An attachment stands in six places: the pod's network namespace, the host's kernel, the agent's journal,
//! the name that the agent gives the namespace, the controller's store, the tables of leaves. Whatever dies in between,
//! all of them have to say the same in the end.
//!
//! **Model.** A [`Pod`] is a network namespace and what a container runtime remembers of it. The lab plays the runtime
//! ([`runtime`]): it calls `vfabric-cni` as containerd and podman do, and after an ADD that failed it sends DEL until that
//! succeeds. So the end is known whatever happens in between, except for a swap that was cut off: it may have happened or
//! not, and [`agree`] holds all places to one answer.
//!
//! **Tenants.** Two vDCs of their own ([`TENANTS`]) with equal subnets, which are made for the run and deleted after it.
//!
//! | file | what |
//! | --- | --- |
//! | [`runtime`] | calls of a container runtime and of the agent's command |
//! | [`agree`] | compares all places |
//! | [`bench`] | what calls cost, beside the reference plugins |
//! | [`random`] | operations and faults drawn from a seed |

pub(crate) mod agree;
pub(crate) mod bench;
mod random;
pub(crate) mod runtime;

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
/// The networks of each, with their subnets. Both tenants have the same, so that frames or addresses that get into the
/// wrong one are noticed.
pub(crate) const NETWORKS: [(&str, &str); 2] = [("front", "10.60.0.0/24"), ("back", "10.60.1.0/24")];
/// Longest time that a change of the tenants themselves may take.
const APPLIED: Duration = Duration::from_secs(30);

/// Pods that come, go and change at random, with faults.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many operations
    #[arg(long, default_value_t = 5000)]
    operations: usize,
    /// What they are drawn from [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs random operations on the lab that runs.
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
    /// Its interfaces by name.
    pub(crate) interfaces: BTreeMap<String, Interface>,
}

/// An interface of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its tenant network; none after a swap that was cut off, until somebody has looked.
    pub(crate) network: Option<&'static str>,
    /// Whether the runtime added it; the others were added to the running pod, and go with the last of these.
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
            interfaces: BTreeMap::new(),
        })
    }
}

/// The tenants of the pods; they are deleted by [`Tenants::remove`].
pub(crate) struct Tenants {
    keys: Vec<Key>,
}

impl Tenants {
    /// Makes them, and assigns all hosts to them.
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

    /// Makes these vDCs.
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

    /// Deletes them: no pod of theirs may be there.
    ///
    /// # Errors
    /// Something uses them still, or a device does not confirm.
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
        let subnet = SubnetSpec {
            cidr: cidr.parse()?,
            gateway: None,
        };
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
