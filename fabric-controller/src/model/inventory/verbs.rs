//! The operations on the inventory.

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Label, Name};
use vfabric_api::inventory::{InventoryChange, Item, ItemKey, ItemState, NewMachine};
use vfabric_api::service::{Change, Key, Kind};
use vfabric_api::topology::Switch;

use super::stored::{StoredItem, StoredSwitch};
use crate::ident::DeviceIndex;
use crate::model::change::{Applied, By, Undo};
use crate::model::fabric::Node;
use crate::model::fields::Fields;
use crate::model::{Model, SwitchIndex};

impl Model {
    /// Checks and carries out a change of the inventory.
    pub(in crate::model) fn change_inventory(
        &mut self,
        path: &str,
        change: &InventoryChange,
        applied: &mut Applied,
    ) -> Result<(), ApiError> {
        match change {
            InventoryChange::Put(item) => self.put_checked(path, item, applied),
            InventoryChange::Remove { key, cascade } => self.remove_item(key, *cascade, applied),
            InventoryChange::Drain(key) => self.drain(key, ItemState::Drained, applied),
            InventoryChange::Undrain(key) => self.drain(key, ItemState::InService, applied),
            InventoryChange::Gone(key) => {
                let item = self.known_device(key)?;
                self.exchange(key.clone(), Some(item.in_state(ItemState::Gone)), applied);
                Ok(())
            }
            InventoryChange::NewMachine {
                switch,
                machine,
                since_s,
            } => self.new_machine(path, switch, machine, *since_s, applied),
            InventoryChange::Import(topology) => self.import(path, topology, applied),
            InventoryChange::Arrived(key) => {
                let item = self.stored_item(key).filter(|i| i.state() == ItemState::Arriving);
                if let Some(item) = item {
                    self.exchange(key.clone(), Some(item.in_state(ItemState::InService)), applied);
                }
                Ok(())
            }
            InventoryChange::Left(key) => {
                if self.may_leave(key) {
                    self.exchange(key.clone(), None, applied);
                }
                Ok(())
            }
        }
    }

    pub(super) fn put_checked(&mut self, path: &str, item: &Item, applied: &mut Applied) -> Result<(), ApiError> {
        let new = self.stored_item(&item.key()).is_none();
        let next = self.check_item(path, item)?;
        if new {
            // The identity with which it was checked.
            self.next_uid += 1;
            applied.uids = true;
        }
        self.exchange(item.key(), Some(next), applied);
        Ok(())
    }

    /// Replaces an object, and records what is needed to store or undo that.
    fn exchange(&mut self, key: ItemKey, next: Option<StoredItem>, applied: &mut Applied) {
        let before = self.stored_item(&key);
        if before == next {
            applied.committed.unchanged += 1;
            return;
        }
        applied
            .committed
            .inventory
            .extend(super::diff::describe(&key, before.as_ref(), next.as_ref()));
        applied.undo.push(Undo::Item(key.clone(), before));
        applied.items.push((key.clone(), next.clone()));
        self.put_item(&key, next, applied);
    }

    /// Another machine becomes a switch. It arrives: it may have been in the fabric before.
    fn new_machine(
        &mut self,
        path: &str,
        switch: &Name,
        machine: &NewMachine,
        since_s: u64,
        applied: &mut Applied,
    ) -> Result<(), ApiError> {
        let key = ItemKey::Switch(switch.clone());
        let Some(StoredItem::Switch(before)) = self.stored_item(&key) else {
            return Err(ApiError::not_found(&key));
        };
        let NewMachine {
            serial,
            mac,
            model,
            software,
        } = machine.clone();
        let mut spec = before.spec.clone();
        spec.serial = serial.or(spec.serial);
        spec.mac = mac.or(spec.mac);
        spec.model = model.or(spec.model);
        spec.software = software.or(spec.software);
        let folded = |spec: &Switch| (spec.serial.as_ref().map(Label::folded), spec.mac);
        if folded(&spec) == folded(&before.spec) {
            let shown = spec.serial.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(Fields(path).invalid("serial", shown, "another machine than the switch has now"));
        }
        let next = self.check_item(path, &Item::Switch(spec))?;
        let StoredItem::Switch(next) = next else {
            return Err(ApiError::not_found(&key));
        };
        let next = StoredSwitch {
            state: ItemState::Arriving,
            replaced_s: since_s,
            ..next
        };
        self.exchange(key, Some(StoredItem::Switch(next)), applied);
        Ok(())
    }

    /// A switch or host.
    fn known_device(&self, key: &ItemKey) -> Result<StoredItem, ApiError> {
        if !matches!(key, ItemKey::Switch(_) | ItemKey::Host(_)) {
            let detail = format!("{key} is neither a switch nor a host");
            return Err(ApiError::new(ErrorCode::Invalid, detail));
        }
        self.stored_item(key).ok_or_else(|| ApiError::not_found(key))
    }

    fn drain(&mut self, key: &ItemKey, to: ItemState, applied: &mut Applied) -> Result<(), ApiError> {
        let item = self.known_device(key)?;
        let state = item.state();
        if !state.is_live() {
            return Err(ApiError::new(ErrorCode::InUse, format!("{key} is {state}")));
        }
        self.exchange(key.clone(), Some(item.in_state(to)), applied);
        Ok(())
    }

    pub(super) fn remove_item(&mut self, key: &ItemKey, cascade: bool, applied: &mut Applied) -> Result<(), ApiError> {
        let item = self.stored_item(key).ok_or_else(|| ApiError::not_found(key))?;
        match &item {
            StoredItem::Fabric(_) => {
                let detail = "the settings of the fabric cannot be removed";
                return Err(ApiError::new(ErrorCode::Invalid, detail));
            }
            StoredItem::Link(_) => {
                self.exchange(key.clone(), None, applied);
                return Ok(());
            }
            StoredItem::Switch(_) | StoredItem::Host(_) => {}
        }
        if item.state() == ItemState::Leaving {
            applied.committed.unchanged += 1;
            return Ok(());
        }
        while let Some(user) = self.user_of(key) {
            if !cascade {
                return Err(ApiError::new(
                    ErrorCode::InUse,
                    format!("{key} is still used by {user}"),
                ));
            }
            match user {
                User::Attachment(_, change) => {
                    // The caller asked for a cascade, and the plan shows what it deletes.
                    let by = By {
                        force: true,
                        ..By::default()
                    };
                    self.change("", &change, &by, applied)?;
                }
                User::Item(user) => self.remove_item(&user, true, applied)?,
            }
        }
        self.exchange(key.clone(), Some(item.in_state(ItemState::Leaving)), applied);
        Ok(())
    }

    /// The first user that prevents the removal of an object.
    fn user_of(&self, key: &ItemKey) -> Option<User> {
        let (ItemKey::Switch(name) | ItemKey::Host(name)) = key else {
            return None;
        };
        let node = self.fabric.node(name)?;
        let first = self.at.get(&node.device()).and_then(|all| all.first()).copied();
        if let Some((attachment, change)) =
            first.and_then(|a| Some((self.attachments.get(a)?, self.evicted(a, node.device())?)))
        {
            let (vdc, name) = (attachment.vdc.clone(), attachment.spec.name.clone());
            return Some(User::Attachment(
                Key::new(vdc, Kind::Attachment, name),
                Box::new(change),
            ));
        }
        let Node::Switch(at) = node else { return None };
        if let Some(link) = self.fabric.links_of(at).find_map(|l| self.fabric.link(l)) {
            return Some(User::Item(ItemKey::link(&link.spec)));
        }
        // A leaving object is being removed already.
        let hosts = self.fabric.hosts_under(at).filter_map(|h| self.fabric.host(h));
        let host = hosts.into_iter().find(|h| h.state != ItemState::Leaving)?;
        Some(User::Item(ItemKey::Host(host.spec.name.clone())))
    }

    /// Whether no device holds anything of a leaving object.
    fn may_leave(&self, key: &ItemKey) -> bool {
        let Some(item) = self.stored_item(key) else {
            return false;
        };
        let hosts = match &item {
            StoredItem::Switch(s) => self.fabric.hosts_under(SwitchIndex(s.handle)).next().is_some(),
            _ => false,
        };
        item.state() == ItemState::Leaving && !hosts && self.held_numbers(&item).is_empty()
    }

    fn key_of(&self, device: DeviceIndex) -> Option<ItemKey> {
        match self.fabric.node_of(device)? {
            Node::Switch(s) => Some(ItemKey::Switch(self.fabric.switch(s)?.spec.name.clone())),
            Node::Host(h) => Some(ItemKey::Host(self.fabric.host(h)?.spec.name.clone())),
        }
    }

    /// Objects that can leave or have arrived. Costs the number of leaving and arriving objects. `confirmed` returns
    /// whether a device has confirmed a revision.
    pub fn travellers(&mut self, confirmed: impl Fn(DeviceIndex, u64) -> bool) -> Vec<InventoryChange> {
        // No transaction is under way that could still be undone.
        self.fabric.removed_links.clear();
        let leaving = self.fabric.leaving.iter().filter_map(|d| self.key_of(*d));
        let left = leaving.filter(|key| self.may_leave(key)).map(InventoryChange::Left);
        let arriving = self.fabric.arriving.iter();
        let here = arriving.filter(|(device, revision)| revision.is_some_and(|r| confirmed(**device, r)));
        let here = here.filter_map(|(device, _)| self.key_of(*device));
        left.chain(here.map(InventoryChange::Arrived)).collect()
    }

    /// Records the revision that shuts out gone devices, and the one since which devices arrive.
    pub(in crate::model) fn fence(&mut self, items: &[(ItemKey, Option<StoredItem>)], revision: u64) {
        for (_, item) in items {
            let handle = match item {
                Some(StoredItem::Switch(s)) => s.handle,
                Some(StoredItem::Host(h)) => h.handle,
                _ => continue,
            };
            if let Some(since @ None) = self.fabric.arriving.get_mut(&DeviceIndex(handle)) {
                *since = Some(revision);
            }
        }
        for (_, item) in items {
            let gone = match item {
                Some(StoredItem::Switch(s)) => s.gone.then_some(s.handle),
                Some(StoredItem::Host(h)) => h.gone.then_some(h.handle),
                _ => None,
            };
            if let Some(handle) = gone {
                self.fabric.fences.entry(DeviceIndex(handle)).or_insert(revision);
            }
        }
    }
}

/// Something that uses an object of the inventory.
enum User {
    /// An attachment, and the change to make to it when the object goes.
    Attachment(Key, Box<Change>),
    /// A link, or a host.
    Item(ItemKey),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attachment(key, _) => key.fmt(f),
            Self::Item(key) => key.fmt(f),
        }
    }
}
