//! Events: reports of devices, and changes of objects and links, as text.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use vfabric_api::error::ApiError;
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::kind::Key;

use super::Controller;
use crate::device::reports::{Inbox, Report};
use crate::events::News;
use crate::ident::Source;
use crate::store::Store;

/// Most contributions of one entity that are searched for the objects behind it.
const ASKERS: usize = 16;

/// A task that takes note of what devices report; ends with the controller.
pub(super) fn spawn<S: Store>(controller: &Arc<Controller<S>>, reports: Inbox) {
    tokio::spawn(follow(Arc::downgrade(controller), reports));
}

async fn follow<S: Store>(controller: Weak<Controller<S>>, mut reports: Inbox) {
    while let Some((device, report, lost)) = reports.next().await {
        let Some(controller) = controller.upgrade() else { return };
        if lost > 0 {
            let detail = format!("{lost} reports of devices came too fast to be noted");
            controller.events.note(News::of_fabric(EventReason::Overflow, detail));
        }
        controller.note_report(device, report);
    }
}

impl<S: Store> Controller<S> {
    /// A change was refused because it did not fit. If a tenant made it, the event belongs to its vDC; other changes
    /// may concern several vDCs, so their events belong to the fabric.
    pub(super) fn note_exhausted(&self, (vdc, is_tenant): (Option<Name>, bool), error: &ApiError) {
        let object = vdc.as_ref().map(|vdc| Key::vdc(vdc.clone()).to_string());
        // Held until the event is noted, as below.
        let published = self.published();
        let vdc = vdc.filter(|vdc| is_tenant && published.vdcs.contains_key(vdc));
        self.events.note(News {
            vdc,
            object,
            ..News::of_fabric(EventReason::Exhausted, error.detail.clone())
        });
    }

    fn note_report(&self, device: Name, report: Report) {
        let of_device = |reason, detail: String, device| News {
            device: Some(device),
            ..News::of_fabric(reason, detail)
        };
        self.note_boot(&device, &report);
        let news = match report {
            Report::Step(_) => return,
            Report::Lost(why) => of_device(EventReason::DeviceLost, format!("the session ended: {why}"), device),
            Report::InSync => of_device(EventReason::DeviceInSync, "holds what it should".to_owned(), device),
            Report::Degraded(count) => {
                let detail = format!("refuses entities: {count}");
                of_device(EventReason::DeviceDegraded, detail, device)
            }
            Report::Refused(entity, why) => {
                // Held until the events are noted, so that a vDC that is deleted meanwhile takes its events with it.
                let published = self.published();
                let found = self.registry.find(&device).and_then(|index| self.registry.get(index));
                let askers = found.map(|found| found.asked_by(&entity, ASKERS)).unwrap_or_default();
                let owners: BTreeSet<_> = askers.into_iter().map(Source::owner).collect();
                let objects: Vec<_> = owners.into_iter().filter_map(|owner| published.owned(owner)).collect();
                for object in &objects {
                    self.events.note(News {
                        reason: EventReason::Refused,
                        vdc: Some(object.key.vdc.clone()),
                        object: Some(object.key.to_string()),
                        device: Some(device.clone()),
                        detail: why.clone(),
                    });
                }
                if !objects.is_empty() {
                    return;
                }
                of_device(EventReason::Refused, why, device)
            }
        };
        self.events.note(news);
    }
}
