//! Pods whose workload moves to a pod on another host, as KubeVirt moves a virtual machine, while something dies.
//!
//! The second pod asks for the same interfaces with the same workload. What happens then is drawn ([`Course`]). If a fault makes a
//! call fail, the runtimes end both pods: some interfaces may have moved.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::json;
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::Place;
use vfabric_api::service::Kind;
use vfabric_api::status::{Attachment, View};

use super::random::{Ended, Run, expect_gateway};
use super::{Pod, agree, machines, runtime};
use crate::{Lab, netns};

/// What happens once both pods are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// The workload announces itself at the second pod, and the first one ends.
    Arrives,
    /// The first pod ends before the workload has announced itself.
    SourceEnds,
    /// The second pod ends: the workload stays.
    TargetEnds,
}

const COURSES: [Course; 3] = [Course::Arrives, Course::SourceEnds, Course::TargetEnds];

impl Run<'_> {
    /// The workload of a pod moves to a pod on another host, or does not after all.
    pub(super) fn take_over(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let old = self.pods()[i].clone();
        let hosts = self.lab.topology.hosts.iter().map(|host| &host.name);
        let others: Vec<&Name> = hosts.filter(|host| **host != old.host).collect();
        let (Some(host), Some(workload)) = (others.choose(rng), &old.workload) else {
            return Ok(());
        };
        let unknown = old.interfaces.values().any(|interface| interface.network.is_none());
        if unknown {
            return Ok(());
        }
        let mut new = Pod::start(&self.number().to_string(), host, old.vdc)?;
        new.workload = Some(workload.clone());
        let course = *COURSES.choose(rng).context("courses")?;
        let hit = *[&old.host, &new.host].choose(rng).context("hosts")?;
        let fault = self.fault(hit, rng)?;
        let what = format!(
            "{} on {} is taken over by {} on {}: {course:?}",
            old.container, old.host, new.container, new.host
        );
        let steps = Steps {
            client: self.client.clone(),
            runtime: self.runtime,
            old: &old,
            new: &new,
        };
        let went = self.during("take over", what, fault, |lab| steps.carry_out(lab, course))?;
        if !went {
            self.pods_mut().swap_remove(i);
            return [&new, &old].into_iter().try_for_each(|pod| self.end_pod(pod, &old));
        }
        let (stays, ended) = match course {
            Course::TargetEnds => (old.clone(), &new),
            Course::Arrives | Course::SourceEnds => {
                new.interfaces = old.interfaces.clone();
                for interface in new.interfaces.values_mut() {
                    // The second runtime has asked for the network in which it is.
                    interface.swapped = false;
                }
                (new.clone(), &old)
            }
        };
        machines::eventually(|| {
            let left = agree::interfaces(&ended.namespace)?;
            ensure!(left.is_empty(), "{} still has {left:?}", ended.container);
            Ok(())
        })?;
        netns::ip_batch(None, &format!("netns del {}", ended.namespace))?;
        self.pods_mut()[i] = stays.clone();
        let distinct: std::collections::BTreeSet<_> = stays.interfaces.values().filter_map(|i| i.network).collect();
        if distinct.len() == stays.interfaces.len() {
            for network in distinct {
                expect_gateway(&stays.namespace, network)?;
            }
        }
        Ok(())
    }

    /// DEL of all interfaces that its runtime may have added.
    fn end_pod(&self, pod: &Pod, like: &Pod) -> Result<()> {
        for (name, interface) in &like.interfaces {
            if interface.by_runtime {
                self.lab.cni_done("DEL", pod, name, &json!({}))?;
            }
        }
        netns::ip_batch(None, &format!("netns del {}", pod.namespace))
    }
}

/// A takeover under way.
struct Steps<'a> {
    client: Client,
    runtime: &'a Runtime,
    old: &'a Pod,
    new: &'a Pod,
}

impl Steps<'_> {
    fn carry_out(&self, lab: &Lab, course: Course) -> Result<Ended> {
        for (name, interface) in self.by_runtime_first() {
            let network = interface.network.context("a network")?;
            let added = if interface.by_runtime {
                lab.cni("ADD", self.new, name, &json!({ "network": network }))?
                    .end()?
                    .map(drop)
            } else {
                let asked = lab.ask_agent(self.new.host.as_str(), &runtime::plug(self.new, name, network));
                asked.map(drop).map_err(|e| format!("{e:#}"))
            };
            if let Err(why) = added {
                return Ok(Err(why));
            }
        }
        if course == Course::Arrives {
            machines::eventually(|| self.arrived())?;
        }
        let ends = if course == Course::TargetEnds {
            self.new
        } else {
            self.old
        };
        for (name, interface) in &self.old.interfaces {
            if interface.by_runtime
                && let Err(why) = lab.cni("DEL", ends, name, &json!({}))?.end()?
            {
                return Ok(Err(why));
            }
        }
        let stays = if course == Course::TargetEnds {
            self.old
        } else {
            self.new
        };
        machines::eventually(|| {
            let here = self.attachments()?.iter().filter(|a| is_in(a, stays)).count();
            let wanted = self.old.interfaces.len();
            ensure!(
                here == wanted,
                "{here} of {wanted} interfaces are in {}",
                stays.container
            );
            Ok(())
        })?;
        Ok(Ok(()))
    }

    /// Only a container with an interface of its runtime gets others.
    fn by_runtime_first(&self) -> Vec<(&String, &super::Interface)> {
        let mut all: Vec<_> = self.old.interfaces.iter().collect();
        all.sort_by_key(|(_, interface)| !interface.by_runtime);
        all
    }

    /// Lets the workload announce itself wherever it has not been heard yet; an error until it has everywhere.
    fn arrived(&self) -> Result<()> {
        let all = self.attachments()?;
        let waiting: Vec<&Attachment> = all.iter().filter(|a| is_in(a, self.old)).collect();
        for attachment in &waiting {
            let Place::Host { interface, .. } = &attachment.spec.place else {
                bail!("{} is on no host", attachment.spec.name)
            };
            self.announce(interface, attachment.mac)?;
        }
        let names: Vec<&Name> = waiting.iter().map(|a| &a.spec.name).collect();
        ensure!(names.is_empty(), "{names:?} do not move");
        Ok(())
    }

    fn announce(&self, interface: &str, mac: Mac) -> Result<()> {
        std::thread::sleep(Duration::from_millis(50));
        machines::announce(&self.new.namespace, interface, mac)
    }

    fn attachments(&self) -> Result<Vec<Attachment>> {
        let vdc = self.old.vdc.parse()?;
        let all = self.runtime.block_on(self.client.list(Kind::Attachment, Some(&vdc)))?;
        let one = |view| match view {
            View::Attachment(a) => Ok(a),
            _ => bail!("the controller listed something that is no attachment"),
        };
        all.into_iter().map(one).collect()
    }
}

/// Whether an attachment is in a pod.
fn is_in(attachment: &Attachment, pod: &Pod) -> bool {
    match &attachment.spec.place {
        Place::Host { netns, .. } => agree::is_same(netns, &pod.namespace),
        Place::Port { .. } => false,
    }
}
