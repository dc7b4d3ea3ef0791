//! What the fabric says it has lost: every counter that a lost frame can move.
//!
//! | where | what | read from |
//! | --- | --- | --- |
//! | switch | refused by the pipeline, by reason (and host) | the controller, `GET /v1/drops` |
//! | switch, port | no room in the ring, not taken by the device, in error | the switch, gNMI, as an operator |
//! | host, attachment or link | refused by the filter, dropped by a link | `vtep-agent status` |

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use gnmi_proto::gnmi::{
    Encoding, GetRequest, Path, PathElem, TypedValue, g_nmi_client::GNmiClient, typed_value::Value,
};
use serde::Deserialize;
use tonic::transport::Channel;
use vfabric_api::topology::Switch;

use crate::{Lab, Target, intruder, plan, process};

/// Who reads the switches' own counters: somebody who may look at everything and change nothing.
const READER: &str = "operator/lab";

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counter {
    /// The switch or host.
    pub(crate) device: String,
    /// The port, attachment, link or host that it is about; empty for a whole switch.
    pub(crate) place: String,
    /// Why the frames were lost.
    pub(crate) reason: String,
}

impl Counter {
    /// A reason of a switch's pipeline.
    pub(crate) fn switch(switch: impl fmt::Display, reason: &str) -> Self {
        Self {
            device: switch.to_string(),
            place: String::new(),
            reason: reason.to_owned(),
        }
    }

    /// Whether a pipeline or a filter refused the frames; the others were lost by a link. (A link's
    /// counters follow with a delay, and hold frames that the kernel's own stack did not want.)
    pub(crate) fn is_refusal(&self) -> bool {
        let by_link = ["-discards", "-errors", ", dropped", ", in error"];
        !by_link.iter().any(|end| self.reason.ends_with(end))
    }

    /// A reason at a place of a device.
    pub(crate) fn at(device: impl fmt::Display, place: impl fmt::Display, reason: &str) -> Self {
        Self {
            device: device.to_string(),
            place: place.to_string(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "" } else { " " };
        write!(f, "{}{place}{} {}", self.device, self.place, self.reason)
    }
}

/// Frames lost so far.
pub(crate) type Counts = BTreeMap<Counter, u64>;

/// What was lost since. A counter that began anew has counted all it says since.
pub(crate) fn since(before: &Counts, now: &Counts) -> Counts {
    let grown = now.iter().map(|(counter, n)| {
        let then = before.get(counter).copied().unwrap_or(0);
        (counter.clone(), n.checked_sub(then).unwrap_or(*n))
    });
    grown.filter(|(_, n)| *n > 0).collect()
}

/// In words.
pub(crate) fn words(counts: &Counts) -> String {
    if counts.is_empty() {
        return "no counter moved".into();
    }
    let each: Vec<String> = counts.iter().map(|(c, n)| format!("{c} +{n}")).collect();
    each.join(", ")
}

/// Reads all counters; keeps connections to the switches.
pub(crate) struct Reader<'a> {
    lab: &'a Lab,
    client: vfabric_api::client::Client,
    switches: Vec<(&'a Switch, GNmiClient<Channel>)>,
}

impl<'a> Reader<'a> {
    /// Connects.
    ///
    /// # Errors
    /// A switch does not answer.
    pub(crate) async fn open(lab: &'a Lab) -> Result<Self> {
        let mut switches = Vec::new();
        // simple_switch_grpc has no counters of its ports.
        let asked = lab
            .topology
            .switches
            .iter()
            .filter(|_| lab.options.target != Target::Bmv2);
        for switch in asked {
            let channel = intruder::channel(lab, READER, switch).await?;
            switches.push((switch, GNmiClient::new(channel)));
        }
        Ok(Self {
            lab,
            client: lab.client()?,
            switches,
        })
    }

    /// Everything that was lost anywhere, ever.
    ///
    /// # Errors
    /// A device does not answer.
    pub(crate) async fn read(&mut self) -> Result<Counts> {
        let mut counts = self.refused().await?;
        for (switch, client) in &mut self.switches {
            let lost = of_ports(client)
                .await
                .with_context(|| format!("counters of {}", switch.name))?;
            counts.extend(
                lost.into_iter()
                    .map(|(port, reason, n)| (Counter::at(&switch.name, port, &reason), n)),
            );
        }
        Ok(counts)
    }

    /// What pipelines and hosts' filters refused, without the counters of switches' ports.
    ///
    /// # Errors
    /// A device does not answer.
    pub(crate) async fn refused(&self) -> Result<Counts> {
        let mut counts = Counts::new();
        for d in self.client.drops().await? {
            let place = d.host.map_or(String::new(), |h| h.to_string());
            *counts.entry(Counter::at(&d.switch, place, &d.reason)).or_default() += d.packets;
        }
        for host in &self.lab.topology.hosts {
            let of_host = of_host(self.lab, host.name.as_str()).with_context(|| format!("losses of {}", host.name))?;
            for loss in of_host {
                *counts
                    .entry(Counter::at(&host.name, loss.place, &loss.reason))
                    .or_default() += loss.frames;
            }
        }
        Ok(counts)
    }
}

/// What a port has lost, by name of the port and of the counter.
async fn of_ports(client: &mut GNmiClient<Channel>) -> Result<Vec<(String, String, u64)>> {
    let elem = |name: &str| PathElem {
        name: name.to_owned(),
        ..Default::default()
    };
    let mut interface = elem("interface");
    interface.key.insert("name".to_owned(), "*".to_owned());
    let path = Path {
        elem: vec![elem("interfaces"), interface, elem("state"), elem("counters")],
        ..Default::default()
    };
    let request = GetRequest {
        path: vec![path],
        encoding: Encoding::Proto.into(),
        ..Default::default()
    };
    let answer = client.get(request).await?.into_inner();
    let mut lost = Vec::new();
    for notification in &answer.notification {
        let prefix = notification.prefix.iter().flat_map(|p| &p.elem);
        for update in &notification.update {
            let path: Vec<&PathElem> = prefix.clone().chain(update.path.iter().flat_map(|p| &p.elem)).collect();
            let name = path.iter().find_map(|e| e.key.get("name"));
            let (Some(name), Some(leaf)) = (name, path.last()) else {
                continue;
            };
            if leaf.name.ends_with("discards") || leaf.name.ends_with("errors") {
                let n = update.val.as_ref().and_then(number).unwrap_or(0);
                lost.push((name.clone(), leaf.name.clone(), n));
            }
        }
    }
    Ok(lost)
}

fn number(value: &TypedValue) -> Option<u64> {
    match value.value.as_ref()? {
        Value::UintVal(n) => Some(*n),
        Value::IntVal(n) => u64::try_from(*n).ok(),
        Value::JsonVal(json) | Value::JsonIetfVal(json) => {
            let text = String::from_utf8_lossy(json);
            text.trim_matches('"').parse().ok()
        }
        _ => None,
    }
}

/// The part of an agent's status that is of interest here.
#[derive(Debug, Deserialize)]
struct HostStatus {
    losses: Vec<Loss>,
    running: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Loss {
    place: String,
    reason: String,
    frames: u64,
}

fn of_host(lab: &Lab, host: &str) -> Result<Vec<Loss>> {
    let mut command = process::command(lab.bin("vtep-agent"));
    let output = command
        .args(["status", "--json", "--state-dir"])
        .arg(lab.agent_state(host))
        .output()
        .context("cannot run `vtep-agent`")?;
    if !output.status.success() {
        bail!("vtep-agent status: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let status: HostStatus = serde_json::from_slice(&output.stdout)?;
    if status.losses.is_empty() && !status.running.is_empty() {
        bail!("its engine is at work: {:?}", status.running);
    }
    Ok(status.losses)
}

/// The namespace of a device.
pub(crate) fn namespace(device: &str) -> String {
    format!("{}{device}", plan::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_loses_is_no_refusal() {
        for reason in ["in-discards", "out-errors", "received, dropped", "sent, in error"] {
            assert!(!Counter::at("leaf1", "swp1", reason).is_refusal(), "{reason}");
        }
        assert!(Counter::switch("leaf1", "host_vni").is_refusal());
        assert!(Counter::at("host1", "blue/web1", "source-mac").is_refusal());
    }

    #[test]
    fn only_what_has_grown_was_lost_since() {
        let counter = |reason| Counter::switch("leaf1", reason);
        let before = Counts::from([(counter("same"), 5), (counter("more"), 5), (counter("anew"), 5)]);
        let now = Counts::from([
            (counter("same"), 5),
            (counter("more"), 7),
            (counter("anew"), 2),
            (counter("new"), 1),
        ]);
        let expected = Counts::from([(counter("more"), 2), (counter("anew"), 2), (counter("new"), 1)]);
        assert_eq!(since(&before, &now), expected);
        assert_eq!(words(&expected), "leaf1 anew +2, leaf1 more +2, leaf1 new +1");
        assert_eq!(words(&Counts::new()), "no counter moved");
    }
}
