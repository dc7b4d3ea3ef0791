//! Switches as machines: they are asked for their clock, software and health, restarted on request, and get newer certificates.
//!
//! A switch is asked when it comes into sync, and every [`LOOK`] from then on. It gets a newer certificate when one
//! part in [`RENEW_LAST_PART`] of its certificate's life is left. A switch that renews its certificate itself does so
//! earlier.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fabric_identity::Validity;
use futures::StreamExt as _;
use rustls::pki_types::UnixTime;
use tokio::time::Instant;
use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::inventory::{InventoryChange, ItemKey, ItemState};
use vfabric_api::machine::{MachineStatus, Reboot, RebootSpec};
use vfabric_api::provisioning::BootStep;
use vfabric_api::service::{Change, FabricService as _, Origin, Transaction};
use vfabric_api::status::{DeviceState, Progress};
use vfabric_api::topology::Switch;

use super::Controller;
use crate::device::machine::{MachineError, Maintenance};
use crate::device::reports::{Milestone, Report};
use crate::events::News;
use crate::model::fabric::Node;
use crate::store::Store;

/// Time between two looks at the list of switches. A switch that comes into sync is asked within this time.
const ROUND: Duration = Duration::from_secs(1);
/// Time between two questions to the same switch.
const LOOK: Duration = Duration::from_secs(60);
/// Switches that are asked at a time.
const AT_ONCE: usize = 8;
/// A certificate is renewed when one part in this many of its life is left; switches renew their own at a third.
const RENEW_LAST_PART: u32 = 4;
/// For this long after a restart was requested, the switch is asked in each round, because it may be away for
/// less than a round.
const RESTART: Duration = Duration::from_secs(900);
/// Wait after a failed renewal: it begins with the first value and doubles up to the second.
const RENEW_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// What is known of a switch that is in sync.
struct Known {
    status: MachineStatus,
    look_at: Instant,
    renew_at: Instant,
    /// Renewals that failed in a row.
    failures: u32,
}

/// A switch that accepted a restart.
struct Restarting {
    /// When it was started before.
    started_ms: Option<u64>,
    /// When the frequent questions end.
    until: Instant,
}

/// What is known of all switches.
#[derive(Default)]
pub(super) struct Machines {
    access: OnceLock<Arc<dyn Maintenance>>,
    known: Mutex<HashMap<Name, Known>>,
    restarting: Mutex<HashMap<Name, Restarting>>,
}

impl Machines {
    fn known(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        // Every update under the lock is complete before anything in it can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restarting(&self) -> MutexGuard<'_, HashMap<Name, Restarting>> {
        self.restarting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a switch said when it was last asked; none if it has none of the services.
    pub(super) fn status(&self, switch: &Name) -> Option<MachineStatus> {
        let says = |known: &&Known| known.status != MachineStatus::default();
        self.known().get(switch).filter(says).map(|known| known.status.clone())
    }
}

pub(super) fn refused(error: &MachineError, switch: &Name) -> ApiError {
    let code = match error {
        MachineError::Missing(_) | MachineError::Refused(_) | MachineError::Ours(_) => ErrorCode::PreconditionFailed,
        MachineError::Unreachable(_) => ErrorCode::Unavailable,
    };
    ApiError::new(code, format!("switch `{switch}`: {error}"))
}

/// Whether a certificate should be renewed.
fn is_due(shown: Validity) -> bool {
    shown.left(UnixTime::now()) < shown.whole() / RENEW_LAST_PART
}

impl<S: Store> Controller<S> {
    /// Sets the access to switches as machines; until then nothing is asked, and nothing can be restarted.
    pub fn set_maintenance(&self, access: Arc<dyn Maintenance>) {
        // The first call counts; there is only one.
        let _ = self.machines.access.set(access);
    }

    pub(super) fn about(&self, switch: &Name, reason: EventReason, detail: String) {
        self.events.note(News {
            device: Some(switch.clone()),
            ..News::of_fabric(reason, detail)
        });
    }

    /// A switch of the inventory, with its state.
    pub(super) fn machine(&self, name: &Name) -> Result<(Switch, ItemState), ApiError> {
        let fabric = self.fabric_now();
        let found = match fabric.node(name) {
            Some(Node::Switch(switch)) => fabric.switch(switch).map(|entry| (entry.spec.clone(), entry.state)),
            _ => None,
        };
        found.ok_or_else(|| ApiError::not_found(ItemKey::Switch(name.clone())))
    }

    pub(super) fn access(&self) -> Result<Arc<dyn Maintenance>, ApiError> {
        let access = self.machines.access.get().map(Arc::clone);
        access.ok_or_else(|| {
            let detail = "this controller has no access to switches as machines";
            ApiError::new(ErrorCode::PreconditionFailed, detail)
        })
    }

    /// Drains a switch that is in service, and waits until every device has applied that. Returns whether
    /// the switch was drained by this call.
    pub(super) async fn drain_for(
        &self,
        name: &Name,
        state: ItemState,
        spec: &RebootSpec,
        origin: Origin,
    ) -> Result<bool, ApiError> {
        let wait = spec.wait()?;
        if spec.now || state != ItemState::InService {
            return Ok(false);
        }
        let change = Change::Inventory(InventoryChange::Drain(ItemKey::Switch(name.clone())));
        let committed = self.propose(Transaction::one(change, origin)).await?;
        let applied = self.wait_applied(committed.revision, wait).await;
        if applied.progress == Progress::Applied {
            return Ok(true);
        }
        let detail = format!(
            "switch `{name}` is drained, but not every device has applied that in {} s, so it was not restarted: {:?}",
            wait.as_secs_f64(),
            applied.waiting
        );
        Err(ApiError::new(ErrorCode::Unavailable, detail))
    }

    /// Restarts a switch. Unless the caller wants that at once, the switch is drained first.
    pub(super) async fn reboot_switch(
        &self,
        name: &Name,
        spec: RebootSpec,
        origin: Origin,
    ) -> Result<Reboot, ApiError> {
        let (switch, state) = self.machine(name)?;
        let access = self.access()?;
        // A switch that cannot be restarted must not be drained.
        let before = access.look(&switch).await.map_err(|error| refused(&error, name))?;
        if before.clock_ahead_ms.is_none() {
            let error = match before.missing.iter().any(|service| service == "gnoi.system") {
                true => MachineError::Missing("gnoi.system"),
                false => MachineError::Unreachable(before.troubles.join("; ")),
            };
            return Err(refused(&error, name));
        }
        let drained = self.drain_for(name, state, &spec, origin).await?;
        let arrivals = self.arrivals_of(name);
        access
            .reboot(&switch, &spec.reason)
            .await
            .map_err(|error| refused(&error, name))?;
        let words = match (drained, spec.reason.is_empty()) {
            (true, true) => "drained, then restarted".to_owned(),
            (false, true) => "restarted".to_owned(),
            (true, false) => format!("drained, then restarted: {}", spec.reason),
            (false, false) => format!("restarted: {}", spec.reason),
        };
        let restarting = Restarting {
            started_ms: before.started_ms,
            until: Instant::now() + RESTART,
        };
        self.machines.restarting().insert(name.clone(), restarting);
        info!(switch = %name, drained, reason = spec.reason, "restarting a switch");
        self.about(name, EventReason::Rebooting, words.clone());
        self.note_boot(name, &Report::Step(Milestone::now(BootStep::Rebooting, words)));
        Ok(Reboot {
            switch: name.clone(),
            drained,
            started_ms: before.started_ms,
            arrivals,
        })
    }

    /// Asks switches that are in sync, renews certificates, and installs software. Runs until dropped.
    pub async fn tend_machines(&self) {
        let Ok(access) = self.access() else {
            return std::future::pending().await;
        };
        tokio::join!(self.ask_machines(&access), self.install_all(&access));
    }

    async fn ask_machines(&self, access: &Arc<dyn Maintenance>) {
        loop {
            let due = self.machines_to_ask();
            futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |(switch, shown)| self.tend(access, switch, shown))
                .await;
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Switches that are in sync and are due to be asked, each with the certificate that it showed.
    fn machines_to_ask(&self) -> Vec<(Switch, Option<Validity>)> {
        let (fabric, now) = (self.fabric_now(), Instant::now());
        let in_sync: Vec<_> = fabric
            .switches()
            .filter(|(_, entry)| entry.state.is_live())
            .filter_map(|(index, entry)| {
                let device = self.registry.get(fabric.switch_device(index))?;
                let is_in_sync = device.state() == DeviceState::InSync;
                is_in_sync.then(|| (entry.spec.clone(), device.shown_certificate()))
            })
            .collect();
        let mut known = self.machines.known();
        // A switch that was away is asked as soon as it is back.
        known.retain(|name, _| in_sync.iter().any(|(switch, _)| switch.name == *name));
        let mut restarting = self.machines.restarting();
        restarting.retain(|_, restarting| restarting.until > now);
        let is_due = |(switch, _): &(Switch, _)| {
            let is_time = known.get(&switch.name).is_none_or(|known| known.look_at <= now);
            is_time || restarting.contains_key(&switch.name)
        };
        in_sync.into_iter().filter(is_due).collect()
    }

    async fn tend(&self, access: &Arc<dyn Maintenance>, switch: Switch, shown: Option<Validity>) {
        let name = &switch.name;
        let status = access.look(&switch).await.unwrap_or_else(|error| MachineStatus {
            troubles: vec![error.to_string()],
            ..MachineStatus::default()
        });
        let now = Instant::now();
        if status.started_ms.is_some() {
            let mut restarting = self.machines.restarting();
            if restarting
                .get(name)
                .is_some_and(|before| before.started_ms != status.started_ms)
            {
                restarting.remove(name);
            }
        }
        let (renew, before) = {
            let mut known = self.machines.known();
            let entry = known.entry(name.clone()).or_insert_with(|| Known {
                status: MachineStatus::default(),
                look_at: now,
                renew_at: now,
                failures: 0,
            });
            entry.look_at = now + LOOK;
            let before = std::mem::replace(&mut entry.status, status.clone());
            (entry.renew_at <= now, before)
        };
        if status.troubles != before.troubles {
            match status.troubles.is_empty() {
                true => self.about(name, EventReason::MachineWell, "no trouble any more".to_owned()),
                false => self.about(name, EventReason::MachineTrouble, status.troubles.join("; ")),
            }
        }
        let due = shown.is_some_and(is_due) && access.renews() && !status.missing.iter().any(|s| s == "gnsi.certz");
        if due && renew {
            self.renew(access, &switch).await;
        }
    }

    async fn renew(&self, access: &Arc<dyn Maintenance>, switch: &Switch) {
        let name = &switch.name;
        let done = access.renew(switch).await;
        let mut known = self.machines.known();
        let Some(entry) = known.get_mut(name) else { return };
        match &done {
            Ok(not_after) => {
                // The session shows the earlier certificate until it is opened again.
                let whole = u64::try_from(*not_after).unwrap_or_default();
                let left = Duration::from_secs(whole.saturating_sub(UnixTime::now().as_secs()));
                entry.failures = 0;
                entry.renew_at = Instant::now() + left - left / RENEW_LAST_PART;
            }
            Err(_) => {
                let wait = RENEW_AGAIN.0 * 2u32.saturating_pow(entry.failures.min(16));
                entry.failures = entry.failures.saturating_add(1);
                entry.renew_at = Instant::now() + wait.min(RENEW_AGAIN.1);
            }
        }
        drop(known);
        match done {
            Ok(not_after) => {
                info!(switch = %name, not_after, "the switch has a newer certificate");
                let words = format!("valid until {not_after} s after 1970");
                self.about(name, EventReason::CertificateRenewed, words.clone());
                self.note_boot(name, &Report::Step(Milestone::now(BootStep::CertificateRenewed, words)));
            }
            Err(error) => {
                warn!(switch = %name, %error, "the switch's certificate expires soon, and was not renewed");
                self.about(
                    name,
                    EventReason::CertificateTrouble,
                    format!("its certificate was not renewed: {error}"),
                );
            }
        }
    }
}
