//! Compares every place that has a record of a pod's attachment.
//!
//! | place | read by |
//! | --- | --- |
//! | the runtime's record | the caller's pods |
//! | the agent's journal | its socket, and the files themselves |
//! | the API | `GET /v1/attachments` |
//! | the pod's namespace | `ip`: names, MAC addresses, addresses |
//! | the host's kernel | `ip`: ports, bridges and VXLAN devices of the overlay |
//! | the leaf | P4Runtime, read directly: as many table entries as the controller wants there |
//! | names of namespaces | `/run/netns`; the same namespace as the pod's, and none without an attachment |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_api::kind::Place;
use vfabric_api::service::Kind;
use vfabric_api::status::{Attachment, Progress, View};

use super::machines::Machine;
use super::{Pod, TENANTS};
use crate::{Lab, intruder, netns, process};

/// Directory of named namespaces.
const NETNS: &str = "/run/netns";

/// The names of pods' namespaces, given by agents, that were seen so far.
#[derive(Debug, Default)]
pub(crate) struct Pins(BTreeSet<String>);

/// The attachments of the API.
fn attachments(client: &Client, runtime: &Runtime, vdc: Option<&Name>) -> Result<Vec<Attachment>> {
    let all = runtime.block_on(client.list(Kind::Attachment, vdc))?;
    let one = |view| match view {
        View::Attachment(a) => Ok(a),
        _ => bail!("the controller listed something that is no attachment"),
    };
    all.into_iter().map(one).collect()
}

/// Output of iproute2 in a namespace, as JSON.
fn ip(namespace: &str, what: &str) -> Result<Vec<Value>> {
    let output = process::command("ip").args(["-n", namespace, "-j", what]).output()?;
    ensure!(
        output.status.success(),
        "ip -n {namespace} {what}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The identity of the namespace that has a name.
fn inode(name: &str) -> Option<u64> {
    std::fs::metadata(Path::new(NETNS).join(name)).ok().map(|m| m.ino())
}

/// Whether both names are of one namespace.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    inode(one).is_some_and(|own| inode(other) == Some(own))
}

/// Fails at the first place that differs from the pods and machines.
///
/// # Errors
/// Names the place, what it has, and what it should have.
pub(crate) fn agree(
    lab: &Lab,
    client: &Client,
    runtime: &Runtime,
    (pods, machines): (&[Pod], &[Machine]),
    pins: &mut Pins,
) -> Result<()> {
    let waiting = runtime.block_on(lab.waiting_for(client))?;
    ensure!(waiting.is_empty(), "not in sync: {}", waiting.join("; "));
    journals(lab, pods)?;
    let mut of_pods = Vec::new();
    for vdc in TENANTS {
        of_pods.extend(attachments(client, runtime, Some(&vdc.parse()?))?);
    }
    for a in &of_pods {
        ensure!(
            a.applied.progress == Progress::Applied,
            "{}: {:?}",
            a.spec.name,
            a.applied.waiting
        );
    }
    let interfaces: usize = pods.iter().map(|p| p.interfaces.len()).sum();
    ensure!(
        of_pods.len() == interfaces + machines.len(),
        "the API has {} attachments of tenants, where pods have {interfaces} interfaces, and {} machines one each",
        of_pods.len(),
        machines.len()
    );
    for pod in pods {
        inside(pod, &of_pods)?;
    }
    for machine in machines {
        of_machine(machine, &of_pods)?;
    }
    let by_agents = |a: &&Attachment| matches!(&a.spec.place, Place::Host { netns, .. } if netns.starts_with(vtep_proto::POD_NETNS));
    let pinned: Vec<&Attachment> = of_pods.iter().filter(by_agents).collect();
    names(&pinned, pins)?;
    devices(lab, client, runtime, &TENANTS)
}

/// Fails unless every host's kernel and every leaf's tables have what the attachments of the lab's intent and of these tenants
/// need, and nothing else.
///
/// # Errors
/// Names the device, what it has, and what it should have.
pub(crate) fn devices(lab: &Lab, client: &Client, runtime: &Runtime, tenants: &[&str]) -> Result<()> {
    let mut all: Vec<(String, Attachment)> = Vec::new();
    let intent = lab.intent.vdcs.iter().map(|v| v.name.as_str());
    for vdc in intent.chain(tenants.iter().copied()) {
        let of_vdc = attachments(client, runtime, Some(&vdc.parse()?))?;
        all.extend(of_vdc.into_iter().map(|a| (vdc.to_owned(), a)));
    }
    kernels(lab, &all)?;
    for leaf in lab.leaves() {
        let wanted = runtime.block_on(client.entities(&leaf.name))?;
        let wanted = wanted.iter().filter(|e| intruder::is_table(&e.table)).count();
        let holds = runtime.block_on(intruder::table_entries(lab, leaf))?;
        ensure!(
            holds == wanted,
            "{} holds {holds} table entries, but the controller wants {wanted}",
            leaf.name
        );
    }
    Ok(())
}

/// Each agent's journal has the interfaces of its pods, each in its network.
fn journals(lab: &Lab, pods: &[Pod]) -> Result<()> {
    for host in &lab.topology.hosts {
        let here = pods.iter().filter(|p| p.host == host.name);
        let mut wanted: BTreeMap<(&str, &str), Option<&str>> = BTreeMap::new();
        for pod in here {
            let all = pod.interfaces.iter();
            wanted.extend(all.map(|(name, i)| ((pod.container.as_str(), name.as_str()), i.network)));
        }
        let listed = lab.agent_list(host.name.as_str())?;
        for (slot, wish) in &listed {
            let key = (slot.container.as_str(), slot.interface.as_str());
            match wanted.remove(&key) {
                None => bail!("the agent of {} holds {key:?}, which is gone", host.name),
                Some(Some(network)) if network != wish.network => {
                    bail!(
                        "the agent of {} holds {key:?} in {}, not in {network}",
                        host.name,
                        wish.network
                    )
                }
                Some(_) => {}
            }
        }
        ensure!(wanted.is_empty(), "the agent of {} does not have {wanted:?}", host.name);
        let mut files = 0;
        for file in std::fs::read_dir(lab.agent_state(host.name.as_str()).join("attachments"))? {
            let path = file?.path();
            let read = std::fs::read_to_string(&path).unwrap_or_default();
            ensure!(
                read.contains("\"held\"") && !read.contains("\"back\":{"),
                "{}: {read}",
                path.display()
            );
            files += 1;
        }
        ensure!(
            files == listed.len(),
            "the journal of {} has {files} files for {} interfaces",
            host.name,
            listed.len()
        );
    }
    Ok(())
}

/// The pod's namespace has the interfaces that it should have, each with the addresses that the API shows.
fn inside(pod: &Pod, attachments: &[Attachment]) -> Result<()> {
    let whose = &pod.container;
    let own = inode(&pod.namespace).with_context(|| format!("{whose} has no namespace"))?;
    let links = ip(&pod.namespace, "address")?;
    let names: BTreeSet<&str> = links.iter().map(|l| text(l, "ifname")).filter(|n| *n != "lo").collect();
    let wanted: BTreeSet<&str> = pod.interfaces.keys().map(String::as_str).collect();
    ensure!(names == wanted, "{whose} has interfaces {names:?}, not {wanted:?}");
    for (name, interface) in &pod.interfaces {
        let is_it = |a: &&Attachment| match &a.spec.place {
            Place::Host { netns, interface, .. } => interface == name && inode(netns) == Some(own),
            Place::Port { .. } => false,
        };
        let mut of_it = attachments.iter().filter(is_it);
        let (Some(a), None) = (of_it.next(), of_it.next()) else {
            bail!("the API has not exactly one attachment for {name} of {whose}");
        };
        if let Some(network) = interface.network {
            ensure!(
                a.spec.network.as_str() == network,
                "{name} of {whose} is in {}, not in {network}, by the API",
                a.spec.network
            );
        }
        has_addresses(whose, name, &links, a)?;
    }
    Ok(())
}

/// An interface has the addresses that the API shows.
fn has_addresses(whose: &str, name: &str, links: &[Value], a: &Attachment) -> Result<()> {
    let link = links.iter().find(|l| text(l, "ifname") == name);
    let link = link.with_context(|| format!("{whose} has no {name}"))?;
    let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
    let held: BTreeSet<IpAddr> = addresses
        .iter()
        .filter(|i| text(i, "scope") == "global")
        .filter_map(|i| text(i, "local").parse().ok())
        .collect();
    let given: BTreeSet<IpAddr> = a.ips.iter().copied().collect();
    ensure!(
        held == given && text(link, "address") == a.mac.to_string(),
        "{name} of {whose} has {} {held:?}, by the API {} {given:?}",
        text(link, "address"),
        a.mac
    );
    Ok(())
}

/// A machine is where the API says, with the addresses that the API shows, and does not migrate.
fn of_machine(machine: &Machine, attachments: &[Attachment]) -> Result<()> {
    let (name, place) = (&machine.name, machine.at.place());
    let a = attachments.iter().find(|a| a.spec.name == *name);
    let a = a.with_context(|| format!("the API does not have {name}"))?;
    ensure!(
        a.spec.place == place && a.spec.migration.is_none(),
        "{name} is at {:?}, {:?} by the API, not at {place:?}",
        a.spec.place,
        a.spec.migration
    );
    let Place::Host { interface, .. } = &place else {
        bail!("{name} is on no host");
    };
    has_addresses(name.as_str(), interface, &ip(&machine.at.namespace, "address")?, a)
}

/// Names of the interfaces in a namespace, without the loopback.
pub(crate) fn interfaces(namespace: &str) -> Result<BTreeSet<String>> {
    let links = ip(namespace, "link")?;
    let names = links.iter().map(|l| text(l, "ifname").to_owned());
    Ok(names.filter(|name| name != "lo").collect())
}

/// Every name of a pod's namespace belongs to an attachment.
fn names(attachments: &[&Attachment], pins: &mut Pins) -> Result<()> {
    let now: BTreeSet<String> = attachments
        .iter()
        .filter_map(|a| match &a.spec.place {
            Place::Host { netns, .. } => Some(netns.clone()),
            Place::Port { .. } => None,
        })
        .collect();
    let left = pins.0.difference(&now).find(|pin| Path::new(NETNS).join(pin).exists());
    if let Some(pin) = left {
        bail!("{NETNS}/{pin} exists, but no attachment uses it");
    }
    pins.0 = pins.0.union(&now).cloned().collect();
    Ok(())
}

/// Each host's overlay has a port for each attachment, a bridge, a VXLAN device and a link for unknown stations for each network, and no more. Links that are down
/// are not counted: what is in use is up, and what is out of use waits for the kernel to delete it.
fn kernels(lab: &Lab, attachments: &[(String, Attachment)]) -> Result<()> {
    for host in &lab.topology.hosts {
        let here = attachments.iter().filter(|(_, a)| match &a.spec.place {
            Place::Host { host: at, .. } => *at == host.name,
            Place::Port { .. } => false,
        });
        let mut networks = BTreeSet::new();
        let mut ports = 0;
        for (vdc, a) in here {
            networks.insert((vdc, a.spec.network.clone()));
            ports += 1;
        }
        let links = ip(&lab.overlay(host.name.as_str()), "link")?;
        let is_up = |l: &&Value| l["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == "UP"));
        let in_use = || links.iter().filter(is_up);
        let count = |prefix: &str| in_use().filter(|l| text(l, "ifname").starts_with(prefix)).count();
        let has = [count("vfa"), count("vfb"), count("vfx"), count("vfu")];
        let wants = [ports, networks.len(), networks.len(), networks.len()];
        ensure!(
            has == wants,
            "{}: {has:?} ports, bridges, VXLAN devices and links for unknown stations in the kernel, where {wants:?} are wanted",
            host.name
        );
    }
    Ok(())
}

/// Names that agents have given to these namespaces.
pub(crate) fn names_of(namespaces: &[String]) -> Vec<String> {
    let ours: BTreeSet<u64> = namespaces.iter().filter_map(|n| inode(n)).collect();
    let pins = netns::list(vtep_proto::POD_NETNS);
    pins.into_iter()
        .filter(|pin| inode(pin).is_some_and(|i| ours.contains(&i)))
        .collect()
}
