//! The inventory for enrolment.

use fabric_bootz::data::SwitchConfig;
use fabric_bootz::enrol::serve::{Found, Roster, SeenStep};
use vfabric_api::inventory::ItemState;
use vfabric_api::topology::Switch;

use super::Controller;
use crate::store::Store;

/// What a switch needs to serve.
pub(super) fn settings_of(spec: &Switch) -> SwitchConfig {
    SwitchConfig {
        hostname: spec.name.to_string(),
        device_id: spec.device_id.into(),
        listen: spec.p4runtime,
    }
}

impl<S: Store> Roster for Controller<S> {
    fn by_serial(&self, serial: &str) -> Option<Found> {
        let fabric = self.fabric_now();
        let entry = fabric.switch_of_serial(serial)?;
        let spec = &entry.spec;
        Some(Found {
            uid: entry.uid.get(),
            config: settings_of(spec),
            model: spec.model.as_ref().map(|model| model.as_str().to_owned()),
            software: spec.software.as_ref().map(|software| software.as_str().to_owned()),
            is_retired: entry.gone || entry.state == ItemState::Leaving,
        })
    }

    fn note_seen(&self, seen: &[SeenStep]) {
        seen.iter().for_each(|step| self.note_seen_step(step));
    }
}
