//! Switches on their way into service: their time lines are made from the reports of devices and of the provisioning
//! server.

use std::sync::{MutexGuard, PoisonError};

use fabric_bootz::enrol::serve::SeenStep;
use tracing::{debug, info};
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::provisioning::{BootStep, Provisioning};
use vfabric_api::status::DeviceState;

use super::Controller;
use crate::device::reports::{Milestone, Report};
use crate::events::News;
use crate::ident::SwitchIndex;
use crate::model::fabric::{Fabric, Node};
use crate::store::Store;
use crate::timeline::Timelines;

/// Most links that are named if a switch waits for more of them.
const NAMED: usize = 4;

impl<S: Store> Controller<S> {
    fn timelines(&self) -> MutexGuard<'_, Timelines> {
        // Every update under the lock is complete before anything in it can panic.
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a device's report to its time line, if it is a switch.
    pub(super) fn note_boot(&self, device: &Name, report: &Report) {
        let milestone = match report {
            Report::Lost(why) => Milestone::now(BootStep::Lost, why.as_str()),
            Report::InSync => Milestone::now(BootStep::InSync, ""),
            Report::Degraded(count) => Milestone::now(BootStep::Degraded, format!("entities it refuses: {count}")),
            Report::Refused(..) => return,
            Report::Step(milestone) => milestone.clone(),
        };
        if matches!(self.fabric_now().node(device), Some(Node::Switch(_))) {
            self.timelines()
                .note(device, milestone.step, milestone.at_ms, &milestone.detail);
        }
    }

    /// Adds a step that the provisioning server saw.
    pub(super) fn note_seen_step(&self, seen: &SeenStep) {
        let step: Result<BootStep, _> = serde_json::from_value(seen.what.as_str().into());
        let Ok(step) = step else {
            debug!(
                what = seen.what,
                "the provisioning server reports a step that this controller does not know"
            );
            return;
        };
        let known: Option<Name> = seen.switch.parse().ok();
        let known = known.filter(|name| matches!(self.fabric_now().node(name), Some(Node::Switch(_))));
        if let Some(name) = &known {
            self.timelines().note(name, step, seen.at_ms, &seen.detail);
        }
        if step == BootStep::Refused {
            self.events.note(News {
                object: Some(format!("machine {}", seen.who)),
                device: known,
                ..News::of_fabric(EventReason::EnrolmentRefused, seen.detail.clone())
            });
        }
    }

    /// Checks the links of switches that are in sync: a switch is in service when probes have crossed all of its links.
    pub(super) fn check_arrivals(&self, fabric: &Fabric) {
        let due: Vec<Name> = self.timelines().to_check().cloned().collect();
        for name in due {
            let Some(Node::Switch(switch)) = fabric.node(&name) else {
                self.timelines().retain(|name| fabric.node(name).is_some());
                continue;
            };
            let device = self.registry.get(fabric.switch_device(switch));
            if device.is_none_or(|device| device.state() != DeviceState::InSync) {
                continue;
            }
            let (links, open) = self.open_links(fabric, switch);
            if open.is_empty() {
                let checked = Milestone::now(BootStep::CablingChecked, format!("links: {links}"));
                let mut lines = self.timelines();
                lines.note(&name, BootStep::CablingChecked, checked.at_ms, &checked.detail);
                lines.note(&name, BootStep::InService, checked.at_ms, "");
                let took_ms = lines.get(&name).took_ms;
                drop(lines);
                info!(switch = %name, links, took_ms, "in service");
            } else {
                let more = open.len().saturating_sub(NAMED);
                let mut words = open.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
                if more > 0 {
                    words = format!("{words}; and {more} more");
                }
                self.timelines().waits_for(&name, words);
            }
        }
    }

    /// The number of a switch's links, and for each one that no probe has crossed, the reason.
    fn open_links(&self, fabric: &Fabric, switch: SwitchIndex) -> (usize, Vec<String>) {
        let links = self.links_locked();
        let all: Vec<_> = fabric.links_of(switch).collect();
        let open = all.iter().filter(|link| !links.is_crossed(**link));
        let words = open.filter_map(|index| {
            let link = &fabric.link(*index)?.spec;
            let (a, b) = (&link.a, &link.b);
            let words = match links.fault(*index) {
                Some(fault) => super::links::reason(fabric, *index, fault, links.pace().hold()),
                None => format!("a probe on link {}:{} - {}:{}", a.switch, a.port, b.switch, b.port),
            };
            // Most often this is why.
            Some(match self.wire.mismatch(fabric, link) {
                Some(mismatch) => format!("{words}; {mismatch}"),
                None => words,
            })
        });
        (all.len(), words.collect())
    }

    /// How often a switch has come into service.
    pub(super) fn arrivals_of(&self, switch: &Name) -> u64 {
        self.timelines().get(switch).arrivals
    }

    /// The time line of each switch of the inventory.
    pub(super) fn all_timelines(&self) -> Vec<Provisioning> {
        let (fabric, lines) = (self.fabric_now(), self.timelines());
        fabric
            .switches()
            .map(|(_, entry)| lines.get(&entry.spec.name))
            .collect()
    }
}
