//! Migrations in a walk: attachments of both tenants move between three hosts, while networks go, hosts die and sessions break.
//!
//! A step is what a user, a workload or the controller could do next ([`Step`]). Many are refused, because the target is not ready
//! or its interface is taken; what was accepted is counted ([`Steps`]), so that a test can require each.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use serde_json::json;
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, MigrationPhase, NetworkSpec, Place, SubnetSpec};
use vfabric_api::inventory::{InventoryChange, Item, ItemKey};
use vfabric_api::service::{Change, Key, Kind, Spec};
use vtep_proto::HostEntity;

use super::devices::Sim;
use super::walk::{Walk, name};
use crate::entity::Entity;

/// Rounds in which a target and its leaf carry out writes before the next step.
const ROUNDS: usize = 40;

/// What happened in migrations of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A user begins one, or gives it another target.
    Prepared,
    /// The workload announced itself, and the controller made it active.
    Arrived,
    /// A user made it active.
    Called,
    /// It was called off before it was active, or after.
    CalledOff,
    /// The controller ended it at its target.
    Finished,
    /// The session with the target breaks.
    TargetAway,
    /// The target, or the source, is removed or declared gone.
    HostGone,
    /// The controller starts again in the middle.
    Restarted,
    /// The attachment is deleted, or put elsewhere or into another network.
    Overturned,
}

impl Step {
    pub(super) const ALL: [Self; 9] = [
        Self::Prepared,
        Self::Arrived,
        Self::Called,
        Self::CalledOff,
        Self::Finished,
        Self::TargetAway,
        Self::HostGone,
        Self::Restarted,
        Self::Overturned,
    ];
}

/// How often each happened.
pub(super) type Steps = BTreeMap<Step, usize>;

impl Walk {
    /// The attachments on hosts, of both tenants.
    pub(super) fn on_hosts(&self) -> Vec<(Key, AttachmentSpec)> {
        let state = self.controller.state.try_lock().unwrap();
        let keys = ["blue", "red"]
            .into_iter()
            .flat_map(|vdc| (0..4).map(move |a| Key::new(name(vdc), Kind::Attachment, name(&format!("a{a}")))));
        let found = keys.filter_map(|key| Some((state.model.attachment_spec(&key)?.clone(), key)));
        let on_host = found.filter(|(spec, _)| matches!(spec.place, Place::Host { .. }));
        on_host.map(|(spec, key)| (key, spec)).collect()
    }

    fn spec_of(&self, key: &Key) -> Option<AttachmentSpec> {
        let state = self.controller.state.try_lock().unwrap();
        state.model.attachment_spec(key).cloned()
    }

    fn count(&mut self, step: Step) {
        *self.steps_taken.entry(step).or_default() += 1;
    }

    /// Both tenants get a network, and attachments in it on all hosts that are there.
    pub(super) async fn populate(&mut self) {
        self.bring_hosts_back().await;
        for (vdc, netns) in [("blue", "x"), ("red", "y")] {
            let network = NetworkSpec {
                name: name("n0"),
                subnets: vec![SubnetSpec::new("10.0.0.0/28".parse().unwrap())],
                mtu: 1500,
                vni: None,
                labels: Default::default(),
            };
            self.commit(vec![Change::Put(name(vdc), Spec::Network(network))]).await;
            for (number, host) in self.topology.hosts.clone().into_iter().enumerate() {
                let attachment = AttachmentSpec {
                    name: name(&format!("a{number}")),
                    network: name("n0"),
                    mac: None,
                    ips: Vec::new(),
                    place: Place::Host {
                        host: host.name,
                        netns: netns.to_owned(),
                        interface: "eth0".into(),
                    },
                    port_security: true,
                    allowed_addresses: Vec::new(),
                    migration: None,
                    labels: Default::default(),
                };
                self.commit(vec![Change::Put(name(vdc), Spec::Attachment(attachment))])
                    .await;
            }
        }
    }

    /// Hosts that were removed or declared gone come back. False if all are there.
    pub(super) async fn bring_hosts_back(&mut self) -> bool {
        let first = self.topology.switches.len();
        let away = |at: &usize| self.device(first + at).is_none();
        let hosts: Vec<_> = (0..self.topology.hosts.len()).filter(away).collect();
        for at in &hosts {
            let host = self.topology.hosts[*at].clone();
            let key = ItemKey::Host(host.name.clone());
            let cascade = true;
            // A host that was declared gone is removed first; one that was removed cannot be.
            self.commit(vec![Change::Inventory(InventoryChange::Remove { key, cascade })])
                .await;
            self.commit(vec![Change::Inventory(InventoryChange::Put(Item::Host(host)))])
                .await;
        }
        !hosts.is_empty()
    }

    /// One step of one migration.
    pub(super) async fn migrate(&mut self) -> Result<(), String> {
        let all = self.on_hosts();
        // Those that migrate are few; they go on more often than others begin.
        let under_way: Vec<_> = all
            .iter()
            .filter(|(_, spec)| spec.migration.is_some())
            .cloned()
            .collect();
        let from = if under_way.is_empty() || self.rng.random_bool(0.3) {
            all
        } else {
            under_way
        };
        let Some((key, spec)) = from.choose(&mut self.rng).cloned() else {
            return Ok(());
        };
        match spec.migration.as_ref().map(|m| m.phase) {
            None => self.prepare(&key).await,
            Some(phase) => {
                let target = spec.migration.as_ref().unwrap().host.clone();
                self.go_on(&key, &target, phase).await?;
            }
        }
        self.note_end(&key, &spec);
        Ok(())
    }

    async fn prepare(&mut self, key: &Key) {
        let host = format!("host{}", self.rng.random_range(1..=3));
        let netns = *["x", "y", "z"].choose(&mut self.rng).unwrap();
        let patch = json!({"migration": {"host": host, "netns": netns}});
        if self.commit(vec![Change::Patch(key.clone(), patch)]).await {
            self.count(Step::Prepared);
        }
    }

    async fn go_on(&mut self, key: &Key, target: &Name, phase: MigrationPhase) -> Result<(), String> {
        let patch = |migration| vec![Change::Patch(key.clone(), json!({ "migration": migration }))];
        match (self.rng.random_range(0..14), phase) {
            (0, _) => self.prepare(key).await,
            (1, _) => {
                if self.commit(patch(json!(null))).await {
                    self.count(Step::CalledOff);
                }
            }
            (2, _) => {
                let at = self.topology.hosts.iter().position(|host| host.name == *target);
                self.disconnect(self.topology.switches.len() + at.unwrap());
                self.count(Step::TargetAway);
            }
            (3, _) => {
                self.restart().await;
                self.count(Step::Restarted);
            }
            (4 | 5, _) => {
                let hosts = self.topology.hosts.clone();
                let any = hosts.choose(&mut self.rng).unwrap().name.clone();
                let gone = if self.rng.random_bool(0.5) { target.clone() } else { any };
                let host = ItemKey::Host(gone);
                let (key, cascade) = (host.clone(), true);
                let change = match self.rng.random_bool(0.5) {
                    true => InventoryChange::Remove { key, cascade },
                    false => InventoryChange::Gone(key),
                };
                if self.commit(vec![Change::Inventory(change)]).await {
                    self.count(Step::HostGone);
                }
            }
            (6..=9, MigrationPhase::Prepared) => {
                self.make_ready(target).await?;
                if self.commit(patch(json!({"phase": "active"}))).await {
                    self.count(Step::Called);
                }
            }
            (_, MigrationPhase::Prepared) => {
                self.make_ready(target).await?;
                if let Some(device) = self.controller.registry.find(target) {
                    let id = format!("{}/{}", key.vdc, key.name);
                    self.controller.announced(device, &id, "RARP".into());
                }
                self.controller.tend_migrations().await;
                let now = self.spec_of(key).and_then(|spec| spec.migration);
                if now.is_some_and(|m| m.phase == MigrationPhase::Active) {
                    self.count(Step::Arrived);
                }
            }
            (_, MigrationPhase::Active) => {
                self.make_ready(target).await?;
                // Longer than the source sends late frames on.
                for _ in 0..4 {
                    self.controller.tend_migrations().await;
                    tokio::time::advance(Duration::from_millis(400)).await;
                    self.check()?;
                }
            }
        }
        Ok(())
    }

    /// The target and its leaf carry out some of their writes.
    async fn make_ready(&mut self, target: &Name) -> Result<(), String> {
        let at = self
            .topology
            .hosts
            .iter()
            .position(|host| host.name == *target)
            .unwrap();
        let leaf = &self.topology.hosts[at].uplink.switch;
        let leaf = self.topology.switches.iter().position(|switch| switch.name == *leaf);
        let host = self.topology.switches.len() + at;
        for _ in 0..ROUNDS {
            for device in [host, leaf.unwrap()] {
                if self.step(device) {
                    self.check()?;
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Counts how a migration that was under way has ended, if it has.
    fn note_end(&mut self, key: &Key, before: &AttachmentSpec) {
        let Some(target) = before.migration.as_ref().and_then(|m| m.target(&before.place)) else {
            return;
        };
        if self
            .spec_of(key)
            .is_some_and(|now| now.migration.is_none() && now.place == target)
        {
            self.count(Step::Finished);
        }
    }

    /// After transactions: migrations that they have overturned, and those that the controller ended.
    pub(super) fn note_overturned(&mut self, before: &[(Key, AttachmentSpec)]) {
        for (key, was) in before.iter().filter(|(_, spec)| spec.migration.is_some()) {
            let now = self.spec_of(key);
            let moved = now
                .as_ref()
                .is_none_or(|now| now.network != was.network || now.place != was.place);
            if moved && now.is_none_or(|now| now.migration.is_none()) {
                self.count(Step::Overturned);
            }
        }
    }

    /// On a host no interface belongs to two attachments, whatever part the host has in them: the second would get the first one's
    /// workload.
    pub(super) fn check_interfaces(&self) -> Result<(), String> {
        for (device, sim) in self.sims.iter().enumerate() {
            let Sim::Host(host) = sim else { continue };
            let mut held: BTreeMap<(&str, &str), &str> = BTreeMap::new();
            for entity in host.held().values() {
                let Entity::Host(HostEntity::Attachment(a)) = entity else {
                    continue;
                };
                if let Some(other) = held.insert((a.netns.as_str(), a.interface.as_str()), a.id.as_str()) {
                    let (netns, interface, id) = (&a.netns, &a.interface, &a.id);
                    return Err(format!(
                        "a frame of {other} would reach {id}: both hold {interface} in {netns} of device {device}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// When everything is confirmed, a host that was broken into speaks in no network that it has no part in: frames that it makes up
    /// for every VNI and every workload reach nobody.
    pub(super) fn check_intruders(&self) -> Result<(), String> {
        for (device, sim) in self.sims.iter().enumerate() {
            let Sim::Host(host) = sim else { continue };
            let own: Vec<u32> = host.networks().collect();
            for vni in (10..=15).filter(|vni| !own.contains(vni)) {
                if let Some(edge) = self.network.intrudes(&self.sims, device, vni, &self.targets()) {
                    return Err(format!(
                        "a frame that host {device} made up for VNI {vni}, which it does not hold, reached {edge:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}
