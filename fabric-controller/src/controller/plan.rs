//! Plans: what a transaction would change in objects and on devices.
//!
//! **Model.** The transaction is carried out on the model, rendered like any other, compared with what devices should
//! hold now, and undone. **Cost.** The same as committing it, without the disk.

use std::collections::BTreeSet;

use vfabric_api::ident::Name;
use vfabric_api::kind::Key;
use vfabric_api::plan::{self, DevicePlan, EntityChange, ObjectChange, Plan};

use super::Controller;
use crate::engine::Previewed;
use crate::ident::{DeviceIndex, Source};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::kind::Stored;
use crate::store::Store;

impl<S: Store> Controller<S> {
    /// The plan of a transaction that was carried out on the model, and on nothing else.
    pub(super) fn plan(&self, model: &mut Model, applied: &Applied, touched: BTreeSet<Source>) -> Plan {
        let owners = applied.objects.iter().filter_map(|(key, _)| model.owner(key));
        let waits: BTreeSet<String> = owners
            .flat_map(|o| model.reasons(o))
            .map(|(_, reason)| reason)
            .collect();
        let devices = self.device_plans(model, touched.clone());
        let later = if waits.is_empty() {
            Vec::new()
        } else {
            let all = model.without_waits(|model| self.device_plans(model, touched));
            without(all, &devices)
        };
        Plan {
            changes: object_changes(applied),
            devices,
            waits: waits.into_iter().collect(),
            later,
        }
    }

    fn device_plans(&self, model: &Model, touched: BTreeSet<Source>) -> Vec<DevicePlan> {
        let rendered = self.rendered(model, touched);
        let previews = self.published().engine.preview(&rendered);
        let plan = |(index, changes)| self.device_plan(model, index, changes);
        previews.into_iter().filter_map(plan).collect()
    }

    fn device_plan(&self, model: &Model, index: DeviceIndex, changes: Vec<Previewed>) -> Option<DevicePlan> {
        let device = model.fabric.device_name(index)?.parse().ok()?;
        let role = model.fabric.role_of(index);
        let tables = self.table_changes(model, index, &changes);
        let describe = |change: Previewed| {
            let before = change.before.as_deref().map(|e| self.render.describe(role, e));
            let after = change.after.as_deref().map(|e| self.render.describe(role, e));
            let (table, key, _) = after.clone().or_else(|| before.clone())?;
            Some(EntityChange {
                table,
                key,
                before: before.map(|(_, _, action)| action),
                after: after.map(|(_, _, action)| action),
            })
        };
        let mut entities: Vec<EntityChange> = changes.into_iter().filter_map(describe).collect();
        entities.sort_by(|a, b| (&a.table, &a.key).cmp(&(&b.table, &b.key)));
        Some(DevicePlan {
            device,
            entities,
            tables,
        })
    }
}

/// The elements of `all` that are not in `now`.
fn without(all: Vec<DevicePlan>, now: &[DevicePlan]) -> Vec<DevicePlan> {
    let now: BTreeSet<(&Name, &EntityChange)> = now
        .iter()
        .flat_map(|d| d.entities.iter().map(|e| (&d.device, e)))
        .collect();
    let rest = |mut plan: DevicePlan| {
        let device = plan.device.clone();
        plan.entities.retain(|entity| !now.contains(&(&device, entity)));
        (!plan.entities.is_empty()).then_some(plan)
    };
    all.into_iter().filter_map(rest).collect()
}

/// Objects whose content changes, field by field.
fn object_changes(applied: &Applied) -> Vec<ObjectChange> {
    let change = |(key, before, after): (&Key, &Stored, &Stored)| ObjectChange {
        key: key.clone(),
        fields: plan::differences(&before.written().document(), &after.written().document()),
    };
    let changes = applied.updated().map(change);
    changes.filter(|change| !change.fields.is_empty()).collect()
}
