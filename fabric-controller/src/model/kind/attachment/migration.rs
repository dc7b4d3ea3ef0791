//! Attachments that migrate: the second place, and how the migration may end (`docs/adr/host-8`).

use std::sync::Arc;

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{AttachmentSpec, Key, Kind, Migration, MigrationPhase, Place, Spec};
use vfabric_api::service::Change;

use super::{At, Attachment};
use crate::ident::{AttachmentId, DeviceIndex, HostIndex};
use crate::model::Model;
use crate::model::fabric::Node;
use crate::model::fields::Fields;
use crate::model::number::Number;

/// Seconds that a migration may be prepared.
const TIMEOUT_S: std::ops::RangeInclusive<u32> = 10..=86_400;

/// Where an attachment is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: HostIndex,
    /// Network namespace there.
    pub netns: String,
    /// Interface in it.
    pub interface: String,
    /// Whether it serves there already.
    pub active: bool,
}

impl Target {
    /// The number that stands for it.
    pub fn number(&self) -> Number {
        let (netns, interface) = (Arc::from(self.netns.as_str()), Arc::from(self.interface.as_str()));
        Number::Interface(self.host, netns, interface)
    }
}

impl Attachment {
    /// Whether frames for it go to this host.
    fn is_served_by(&self, host: HostIndex) -> bool {
        match &self.target {
            Some(target) if target.active => target.host == host,
            _ => self.at == At::Host(host),
        }
    }
}

impl Model {
    /// The second place of an attachment; none if it does not migrate, or one of the two hosts is not there.
    pub(in crate::model) fn target_of(&self, spec: &AttachmentSpec) -> Option<Target> {
        let migration = spec.migration.as_ref()?;
        let Place::Host { host, netns, interface } = migration.target(&spec.place)? else {
            return None;
        };
        let Some(Node::Host(host)) = self.fabric.node(&host) else {
            return None;
        };
        Some(Target {
            host,
            netns,
            interface,
            active: migration.phase == MigrationPhase::Active,
        })
    }

    /// Checks what an attachment says about its migration.
    pub(in crate::model) fn check_migration(
        &self,
        fields: &Fields<'_>,
        own: Option<AttachmentId>,
        spec: &AttachmentSpec,
    ) -> Result<(), ApiError> {
        let Some(migration) = &spec.migration else {
            return Ok(());
        };
        let before = own.and_then(|o| self.attachments.get(o));
        let Some(Place::Host { host, netns, interface }) = migration.target(&spec.place) else {
            let expected = "an attachment on a host: a machine at an access port does not migrate";
            return Err(fields.invalid("migration.host", &migration.host, expected));
        };
        if matches!(&spec.place, Place::Host { host: now, .. } if *now == host) {
            let expected = format!("another host than `{host}`, where it is");
            return Err(fields.invalid("migration.host", &host, expected));
        }
        if !TIMEOUT_S.contains(&migration.timeout_s) {
            let expected = format!("{} to {} seconds", TIMEOUT_S.start(), TIMEOUT_S.end());
            return Err(fields.invalid("migration.timeout_s", migration.timeout_s, expected));
        }
        self.check_interface(fields, "migration", own, (&host, &netns, &interface))?;
        check_course(fields, before.map(|b| &b.spec), spec, migration)?;
        let target = self.target_of(spec);
        let uid = before.map(|b| b.uid).unwrap_or_default();
        // In the intent it would wait, and with it the place that serves.
        if let Some(target) = target.filter(|t| self.quarantine.bars(&t.number(), uid)) {
            let expected = format!(
                "an interface that is free in `{netns}`: `{host}` has not confirmed yet that the last one is gone"
            );
            return Err(fields.error(ErrorCode::Taken, "migration.interface", &target.interface, expected));
        }
        Ok(())
    }

    /// What becomes of an attachment when a device that it is at is removed: it stays where it is served, if that is elsewhere.
    pub(in crate::model) fn evicted(&self, id: AttachmentId, device: DeviceIndex) -> Option<Change> {
        let attachment = self.attachments.get(id)?;
        let spec = &attachment.spec;
        let key = Key::new(attachment.vdc.clone(), Kind::Attachment, spec.name.clone());
        let stays = match &attachment.target {
            Some(target) if !attachment.is_served_by(HostIndex(device.0)) => {
                let mut stays = spec.clone();
                if target.active {
                    stays.place = spec.migration.as_ref()?.target(&spec.place)?;
                }
                stays.migration = None;
                Some(stays)
            }
            _ => None,
        };
        Some(match stays {
            Some(stays) => Change::Replace(key.vdc, Spec::Attachment(stays)),
            None => Change::Delete(key),
        })
    }

    /// The attachments that migrate.
    pub fn migrating(&self) -> impl Iterator<Item = (Key, &AttachmentSpec)> {
        let found = self.migrating.iter().filter_map(|id| self.attachments.get(*id));
        found.map(|a| {
            let key = Key::new(a.vdc.clone(), Kind::Attachment, a.spec.name.clone());
            (key, &a.spec)
        })
    }
}

/// What may follow on what: a migration begins prepared, and goes where it began to go.
fn check_course(
    fields: &Fields<'_>,
    before: Option<&AttachmentSpec>,
    spec: &AttachmentSpec,
    migration: &Migration,
) -> Result<(), ApiError> {
    let under_way = before.and_then(|b| Some((b, b.migration.as_ref()?)));
    if let Some((before, _)) = under_way {
        let busy = |field: &str, value: &str| {
            fields.error(
                ErrorCode::InUse,
                field,
                value,
                "what it is: the attachment migrates; end that first",
            )
        };
        if before.network != spec.network {
            return Err(busy("network", spec.network.as_str()));
        }
        if before.place != spec.place {
            return Err(busy("place", spec.name.as_str()));
        }
    }
    let same =
        |(before, had): (&AttachmentSpec, &Migration)| had.target(&before.place) == migration.target(&spec.place);
    match (migration.phase, under_way) {
        (MigrationPhase::Active, None) => {
            let expected = "`prepared`: a migration becomes `active` later";
            Err(fields.invalid("migration.phase", "active", expected))
        }
        (MigrationPhase::Active, Some(was)) if !same(was) => {
            let expected = "the target that was prepared";
            Err(fields.invalid("migration.host", &migration.host, expected))
        }
        (MigrationPhase::Prepared, Some((_, had))) if had.phase == MigrationPhase::Active => {
            let expected = "`active`, or no migration, which brings it back to `place`";
            Err(fields.invalid("migration.phase", "prepared", expected))
        }
        _ => Ok(()),
    }
}
