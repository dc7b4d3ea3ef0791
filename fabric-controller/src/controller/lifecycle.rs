//! A switch's machine is replaced, or the switch is retired: everything that belongs to it, in one call.
//!
//! **Replace.** The role stays (name, addresses, links, what is attached), the identity does not. One transaction gives the entry the new
//! machine's serial number and MAC address, and makes the switch *arriving*: no other device uses it until the new machine was read back and
//! holds nothing of an earlier life. From that moment the old machine is nobody: its key is bound to another serial number, its token is for
//! another machine, and the controller refuses sessions with certificates that were made before. The new one comes into service without a
//! further call; links are used when probes have crossed them.
//!
//! **Retire.** The switch is drained, its links and the switch are removed in one transaction, and it leaves when every device has confirmed.
//! Its identity is never reused.
//!
//! **Order.** What would be refused is refused before anything is drained.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tracing::info;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::inventory::{InventoryChange, ItemKey, ItemState, NewMachine};
use vfabric_api::lifecycle::{DrainFirst, Lifecycle, ReplaceSpec, RetireSpec};
use vfabric_api::service::{Change, Committed, FabricService as _, Origin, Transaction};
use vfabric_api::status::Progress;

use super::Controller;
use crate::device::reports::Report;
use crate::model::fabric::Node;
use crate::store::Store;

/// From one look at who has applied a drain to the next.
const LOOK: Duration = Duration::from_secs(1);

fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl<S: Store> Controller<S> {
    async fn carry_out(
        &self,
        changes: Vec<InventoryChange>,
        dry_run: bool,
        origin: Origin,
    ) -> Result<Committed, ApiError> {
        let changes = changes
            .into_iter()
            .map(|change| (String::new(), Change::Inventory(change)));
        let transaction = Transaction {
            changes: changes.collect(),
            dry_run,
            origin,
            ..Transaction::default()
        };
        self.propose(transaction).await
    }

    /// Drains a switch that is in service, and waits until the other devices have applied it. The switch itself may be dead. Whether it was
    /// drained.
    async fn drain_around(
        &self,
        name: &Name,
        state: ItemState,
        drain: &DrainFirst,
        origin: Origin,
    ) -> Result<bool, ApiError> {
        let wait = drain.wait()?;
        if drain.now || state != ItemState::InService {
            return Ok(false);
        }
        let change = InventoryChange::Drain(ItemKey::Switch(name.clone()));
        let committed = self.carry_out(vec![change], false, origin).await?;
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let applied = self.wait_applied(committed.revision, left.min(LOOK)).await;
            let others: Vec<_> = applied
                .waiting
                .iter()
                .filter(|waiting| waiting.device != *name)
                .collect();
            if applied.progress == Progress::Applied || others.is_empty() {
                return Ok(true);
            }
            if left.is_zero() {
                let detail = format!(
                    "switch `{name}` is drained, but not every other device has applied that in {} s, so nothing else was done: {others:?}",
                    wait.as_secs_f64()
                );
                return Err(ApiError::new(ErrorCode::Unavailable, detail));
            }
        }
    }

    fn drain_step(state: ItemState, drain: &DrainFirst) -> Option<String> {
        let is_due = !drain.now && state == ItemState::InService;
        is_due.then(|| "drained: paths avoid it, and the other devices have applied that".to_owned())
    }

    /// Another machine becomes this switch.
    pub(super) async fn replace_switch(
        &self,
        name: &Name,
        spec: ReplaceSpec,
        origin: Origin,
    ) -> Result<Lifecycle, ApiError> {
        spec.check()?;
        let drain = spec.drain();
        let (before, state) = self.machine(name)?;
        let machine = NewMachine {
            serial: spec.serial.clone(),
            mac: spec.mac,
            model: spec.model.clone(),
            software: spec.software.clone(),
        };
        let change = |since_s| InventoryChange::NewMachine {
            switch: name.clone(),
            machine: machine.clone(),
            since_s,
        };
        let planned = self
            .carry_out(vec![change(seconds_now())], true, origin.clone())
            .await?;
        let known = |serial: Option<&vfabric_api::ident::Label>| match serial {
            Some(serial) => format!("the machine with serial number {serial}"),
            None => "the machine".to_owned(),
        };
        let mut steps: Vec<String> = Self::drain_step(state, &drain).into_iter().collect();
        steps.push(format!(
            "{} is not `{name}` any more: its key, its token and its certificates open nothing",
            known(before.serial.as_ref())
        ));
        steps.push(format!("{} may enrol as `{name}`", known(spec.serial.as_ref())));
        steps.push("it is read back and emptied; until then no other device uses it".to_owned());
        steps.push("it is in service when probes have crossed its links".to_owned());
        let mut done = Lifecycle {
            switch: name.clone(),
            dry_run: spec.dry_run,
            drained: false,
            steps,
            inventory: planned.inventory,
            revision: None,
            arrivals: self.arrivals_of(name),
        };
        if spec.dry_run {
            return Ok(done);
        }
        done.drained = self.drain_around(name, state, &drain, origin.clone()).await?;
        // Certificates count from now on: the old machine could renew its own until here.
        let committed = self.carry_out(vec![change(seconds_now())], false, origin).await?;
        done.revision = Some(committed.revision);
        done.inventory = committed.inventory;
        let words = format!("its machine is replaced by {}", known(spec.serial.as_ref()));
        info!(switch = %name, words, reason = drain.reason, "a machine is replaced");
        self.about(name, EventReason::MachineReplaced, words.clone());
        self.note_boot(name, &Report::Lost(words));
        Ok(done)
    }

    /// A switch leaves the fabric.
    pub(super) async fn retire_switch(
        &self,
        name: &Name,
        spec: RetireSpec,
        origin: Origin,
    ) -> Result<Lifecycle, ApiError> {
        let wanted = spec.drain();
        wanted.wait()?;
        let (_, state) = self.machine(name)?;
        let key = ItemKey::Switch(name.clone());
        let changes = || {
            let fabric = self.fabric_now();
            let links: Vec<InventoryChange> = match fabric.node(name) {
                Some(Node::Switch(switch)) => fabric
                    .links_of(switch)
                    .filter_map(|link| fabric.link(link))
                    .map(|link| InventoryChange::Remove {
                        key: ItemKey::link(&link.spec),
                        cascade: false,
                    })
                    .collect(),
                _ => Vec::new(),
            };
            let remove = InventoryChange::Remove {
                key: key.clone(),
                cascade: spec.cascade,
            };
            let dead = spec.dead.then(|| InventoryChange::Gone(key.clone()));
            links.into_iter().chain(dead).chain([remove]).collect::<Vec<_>>()
        };
        let planned = self.carry_out(changes(), true, origin.clone()).await?;
        // A dead machine forwards nothing that could be moved away first.
        let drain = DrainFirst {
            now: wanted.now || spec.dead,
            ..wanted
        };
        let mut steps: Vec<String> = Self::drain_step(state, &drain).into_iter().collect();
        steps.push(
            "its links and the switch are removed; its key, its token and its certificates open nothing".to_owned(),
        );
        steps.push(match spec.dead {
            true => "it leaves the inventory when its neighbours have shut it out".to_owned(),
            false => {
                "it leaves the inventory when it and every other device have confirmed that they hold nothing of it"
                    .to_owned()
            }
        });
        let mut done = Lifecycle {
            switch: name.clone(),
            dry_run: spec.dry_run,
            drained: false,
            steps,
            inventory: planned.inventory,
            revision: None,
            arrivals: self.arrivals_of(name),
        };
        if spec.dry_run {
            return Ok(done);
        }
        done.drained = self.drain_around(name, state, &drain, origin.clone()).await?;
        let committed = self.carry_out(changes(), false, origin).await?;
        done.revision = Some(committed.revision);
        done.inventory = committed.inventory;
        info!(switch = %name, dead = spec.dead, reason = drain.reason, "a switch is retired");
        self.about(
            name,
            EventReason::Retired,
            "it is being removed, and its identity opens nothing".to_owned(),
        );
        Ok(done)
    }
}
