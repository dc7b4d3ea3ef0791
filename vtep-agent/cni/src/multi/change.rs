//! Changes of running pods: the differences between a sandbox and its pod's selection, and how they are removed.
//!
//! | the pod selects | what is done | when it fails |
//! | --- | --- | --- |
//! | one more | ADD | DEL of the unfinished attachment; retried later |
//! | one fewer | DEL | tried again |
//! | another network under the same name | between networks of this fabric the interface stays and changes its network; otherwise DEL, then ADD | the old network is added again, from the octets of its ADD; the change is not tried again until the pod or definition changes |
//!
//! Changes are made one at a time, and do not touch other interfaces. Each step is in the journal before it is taken.
//! Unfinished work of a crash is removed first.

use std::fs;

use super::catalog::Catalog;
use super::journal::{Attachment, Sandbox, State, Turn};
use super::work::Work;
use super::{plan, status};
use crate::command;
use crate::config::Config;
use crate::error::{self, Error};
use crate::protocol::{Reply, Request, Slot};
use crate::result::Success;

/// What happened to an interface, by the names of Kubernetes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `AddedInterface`, `RemovedInterface`, `FailedAddingInterface` or `FailedRemovingInterface`.
    pub reason: &'static str,
    /// Name of the interface.
    pub interface: String,
    /// The network, or the reason of the failure.
    pub message: String,
    /// The wanted attachment, if it could not be made.
    pub failed: Option<Failed>,
}

/// A change that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The wanted attachment; `None` for a removal.
    pub wanted: Option<Attachment>,
    /// Whether a retry would disturb the existing interface.
    pub disturbs: bool,
}

/// What a sandbox needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Remove everything: its ADD or DEL did not end, or the host has been restarted.
    End,
    /// These attachments, besides the default one.
    Networks(Vec<Attachment>),
}

/// What a sandbox needs, according to its pod in the catalog.
///
/// # Errors
/// When the catalog or the annotation is wrong: then everything stays as it is.
pub fn need(work: &Work, catalog: &dyn Catalog, sandbox: &Sandbox) -> Result<Need, Error> {
    let restarted = sandbox.boot_id != super::journal::boot_id();
    let unfinished = sandbox.attachments.iter().any(|a| a.default && a.state != State::Held);
    if restarted || unfinished {
        return Ok(Need::End);
    }
    if sandbox.netns().is_empty() {
        // The container has ended; the runtime will report that next.
        return Ok(Need::Nothing);
    }
    // A pod whose object is gone is ending: the runtime removes its interfaces.
    let Some(pod) = catalog.pod(&sandbox.pod.namespace, &sandbox.pod.name)? else {
        return Ok(if sandbox.is_whole() {
            Need::Nothing
        } else {
            Need::Networks(secondaries(sandbox))
        });
    };
    if pod.uid.is_some() && sandbox.pod.uid.is_some() && pod.uid != sandbox.pod.uid {
        return Ok(Need::Nothing);
    }
    let wanted = plan::selected(&work.settings, catalog, &pod, &sandbox.slot, &sandbox.attachments)?;
    let held = secondaries(sandbox);
    let same = sandbox.is_whole()
        && held.len() == wanted.len()
        && wanted
            .iter()
            .all(|w| held.iter().any(|h| h.interface == w.interface && plan::is_same(h, w)));
    let shown = fs::read_to_string(status::path(&work.settings.status_dir, &sandbox.pod)).ok();
    let has_status = status::text(&sandbox.attachments).ok() == shown;
    Ok(if same && has_status {
        Need::Nothing
    } else {
        Need::Networks(wanted)
    })
}

fn secondaries(sandbox: &Sandbox) -> Vec<Attachment> {
    let held = sandbox
        .attachments
        .iter()
        .filter(|a| !a.default && a.state == State::Held);
    held.cloned().collect()
}

/// Makes the changes that a sandbox needs. `is_open` returns whether a wanted attachment may be tried now.
///
/// # Errors
/// When the journal or the status cannot be written.
pub fn make(
    work: &Work,
    turn: &Turn,
    sandbox: &mut Sandbox,
    need: &Need,
    is_open: impl Fn(Option<&Attachment>, &str) -> bool,
) -> Result<Vec<Event>, Error> {
    let wanted = match need {
        Need::Nothing => return Ok(Vec::new()),
        Need::End => {
            let netns = sandbox.netns().to_owned();
            work.tear_down(turn, sandbox, &netns)?;
            return Ok(Vec::new());
        }
        Need::Networks(wanted) => wanted,
    };
    let mut change = Change {
        work,
        turn,
        sandbox,
        events: Vec::new(),
    };
    let names = |s: &Sandbox| {
        s.attachments
            .iter()
            .filter(|a| !a.default)
            .map(|a| a.interface.clone())
            .collect::<Vec<_>>()
    };
    for interface in names(change.sandbox) {
        let Some(i) = change.place(&interface) else { continue };
        let held = &change.sandbox.attachments[i];
        let stays = held.state == State::Held && wanted.iter().any(|w| w.interface == interface);
        if !stays && is_open(None, &interface) {
            change.remove(i)?;
        }
    }
    for w in wanted.iter().filter(|w| is_open(Some(w), &w.interface)) {
        match change.place(&w.interface) {
            Some(i) if change.sandbox.attachments[i].state != State::Held => {}
            Some(i) if plan::is_same(&change.sandbox.attachments[i], w) => {}
            Some(i) => change.swap(i, w)?,
            None => change.add(w)?,
        }
    }
    let events = change.events;
    // In the order of the annotation, which the status shows.
    let place = |a: &Attachment| {
        (
            !a.default,
            wanted
                .iter()
                .position(|w| w.interface == a.interface)
                .unwrap_or(usize::MAX),
        )
    };
    if !sandbox.attachments.is_sorted_by_key(place) {
        sandbox.attachments.sort_by_key(place);
        work.journal.put(turn, sandbox)?;
    }
    status::write(&work.settings.status_dir, sandbox)?;
    Ok(events)
}

struct Change<'a> {
    work: &'a Work,
    turn: &'a Turn,
    sandbox: &'a mut Sandbox,
    events: Vec<Event>,
}

impl Change<'_> {
    fn place(&self, interface: &str) -> Option<usize> {
        self.sandbox.attachments.iter().position(|a| a.interface == interface)
    }

    fn note(&self) -> Result<(), Error> {
        self.work.journal.put(self.turn, self.sandbox)
    }

    fn event(&mut self, reason: &'static str, interface: &str, message: impl Into<String>, failed: Option<Failed>) {
        self.events.push(Event {
            reason,
            interface: interface.to_owned(),
            message: message.into(),
            failed,
        });
    }

    /// DEL. An attachment that cannot be removed stays in the journal as leaving.
    fn detach(&mut self, i: usize) -> Result<Result<(), Error>, Error> {
        self.sandbox.attachments[i].state = State::Leaving;
        self.note()?;
        let netns = self.sandbox.netns().to_owned();
        let done = self.work.detach(self.sandbox, &self.sandbox.attachments[i], &netns);
        if done.is_ok() {
            self.sandbox.attachments.remove(i);
            self.note()?;
        }
        Ok(done)
    }

    fn remove(&mut self, i: usize) -> Result<(), Error> {
        let Attachment { interface, network, .. } = self.sandbox.attachments[i].clone();
        match self.detach(i)? {
            Ok(()) => self.event("RemovedInterface", &interface, network, None),
            Err(e) => {
                let failed = Failed {
                    wanted: None,
                    disturbs: false,
                };
                self.event("FailedRemovingInterface", &interface, e.message, Some(failed));
            }
        }
        Ok(())
    }

    /// ADD. Afterwards the attachment is complete, or is being removed.
    fn attach(&mut self, wanted: Attachment) -> Result<Result<(), Error>, Error> {
        let interface = wanted.interface.clone();
        self.sandbox.attachments.push(Attachment {
            state: State::Adding,
            result: None,
            displaced: Vec::new(),
            ..wanted
        });
        let i = self.sandbox.attachments.len() - 1;
        self.note()?;
        let added = self
            .work
            .attach(self.sandbox, i, None)
            .and_then(|()| self.work.prefer(self.sandbox));
        match added {
            Ok(()) => {
                self.sandbox.attachments[i].state = State::Held;
                self.note()?;
                Ok(Ok(()))
            }
            Err(mut why) => {
                if let Err(e) = self.detach(i)? {
                    why.message = format!("{}; and {interface} cannot be removed yet: {}", why.message, e.message);
                }
                Ok(Err(why))
            }
        }
    }

    fn add(&mut self, wanted: &Attachment) -> Result<(), Error> {
        match self.attach(wanted.clone())? {
            Ok(()) => self.event("AddedInterface", &wanted.interface, wanted.network.clone(), None),
            Err(e) => {
                let failed = Failed {
                    wanted: Some(wanted.clone()),
                    disturbs: false,
                };
                self.event("FailedAddingInterface", &wanted.interface, e.message, Some(failed));
            }
        }
        Ok(())
    }

    fn swap(&mut self, i: usize, wanted: &Attachment) -> Result<(), Error> {
        let old = self.sandbox.attachments[i].clone();
        let swapped = match fabric_swap(&self.sandbox.slot.container, &old, wanted) {
            Some(swap) => swap.make(&self.sandbox.netns).map(|result| {
                self.sandbox.attachments[i] = Attachment {
                    state: State::Held,
                    result: Some(result),
                    ..wanted.clone()
                };
            }),
            None => self.exchange(i, &old, wanted)?,
        };
        match swapped {
            Ok(()) => {
                self.note()?;
                let message = format!("{} instead of {}", wanted.network, old.network);
                self.event("AddedInterface", &wanted.interface, message, None);
            }
            Err(e) => {
                let failed = Failed {
                    wanted: Some(wanted.clone()),
                    disturbs: true,
                };
                self.event("FailedAddingInterface", &wanted.interface, e.message, Some(failed));
            }
        }
        Ok(())
    }

    /// DEL of the old one, then ADD of the new one. If that fails, the old one is added again.
    fn exchange(&mut self, i: usize, old: &Attachment, wanted: &Attachment) -> Result<Result<(), Error>, Error> {
        if let Err(e) = self.detach(i)? {
            return Ok(Err(e));
        }
        let Err(mut why) = self.attach(wanted.clone())? else {
            return Ok(Ok(()));
        };
        if self.place(&old.interface).is_none()
            && let Err(e) = self.attach(old.clone())?
        {
            why.message = format!("{}; and {} cannot be restored: {}", why.message, old.network, e.message);
        }
        Ok(Err(why))
    }
}

/// A change from one network of this fabric to another, which the agent makes without a new interface.
struct FabricSwap {
    config: Config,
    request: Request,
    interface: String,
}

/// The swap, if both attachments use only our plugin, in one vDC and at one agent.
fn fabric_swap(container: &str, old: &Attachment, new: &Attachment) -> Option<FabricSwap> {
    let only = |a: &Attachment| match a.calls.as_slice() {
        [call] if call.kind == "vfabric" && a.default_route.is_none() => Config::parse(call.config.as_bytes()).ok(),
        _ => None,
    };
    let (before, config) = (only(old)?, only(new)?);
    let (had, wish) = (before.wish("").ok()?, config.wish("").ok()?);
    let has_ipam = before.ipam().is_some() || config.ipam().is_some();
    let is_other = had.vdc != wish.vdc || had.workload != wish.workload;
    if has_ipam || before.socket != config.socket || is_other {
        return None;
    }
    let request = Request::Swap {
        slot: Slot {
            container: container.to_owned(),
            interface: new.interface.clone(),
        },
        cni_network: Some(wish.cni_network),
        network: wish.network,
        mac: wish.mac,
        ips: wish.ips,
    };
    Some(FabricSwap {
        config,
        request,
        interface: new.interface.clone(),
    })
}

impl FabricSwap {
    /// Sends the request to the agent; returns the result that ADD would have had.
    fn make(&self, netns: &str) -> Result<String, Error> {
        let Reply::Attached(attached) = command::ask(&self.config.socket, &self.request)? else {
            return Err(Error::new(error::IO, "the agent sent a reply to something else"));
        };
        let success = Success {
            version: &self.config.cni_version,
            interface: &self.interface,
            netns,
            attached: &attached,
            previous: None,
            dns: self.config.dns.as_ref(),
        };
        Ok(success.document().to_string())
    }
}
