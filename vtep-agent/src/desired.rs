//! What this host should hold: the controller's entities, and the objects made from them.
//!
//! Several entities may ask for one object. The greatest [`HostKey`] wins: an attachment on this host wins over a
//! neighbour entry for the same address elsewhere, and a neighbour entry over that of a gateway. While an attachment
//! moves between hosts, its old and its new place are both known for a moment; the order of the two updates then does
//! not matter.

use std::collections::{BTreeMap, BTreeSet};

use vtep_proto::v1::ErrorCode;
use vtep_proto::{Attachment, HostEntity, HostKey, Mode, Network, Vni};

use crate::datapath::{Expected, StepError};
use crate::object::{LocalVteps, Object, ObjectKey, lower, port_name, unsupported};

/// The desired state.
#[derive(Debug)]
pub struct Desired {
    local: LocalVteps,
    /// Largest tunnelled packet that the uplink can carry, in octets.
    uplink_mtu: u32,
    entities: BTreeMap<HostKey, HostEntity>,
    /// The objects, each with the entities that ask for it, in ascending order; nearly always one.
    objects: BTreeMap<ObjectKey, Vec<(HostKey, Object)>>,
    /// Attachments and forwarding entries by network: they depend on it.
    members: BTreeMap<Vni, BTreeSet<HostKey>>,
    /// Attachments by namespace, in the order in which they came: the first one's vDC owns it.
    places: BTreeMap<String, Vec<HostKey>>,
    /// Attachments in standby: their workloads have not arrived yet.
    standby: BTreeSet<HostKey>,
    /// Entities that cannot be made here, and why.
    refused: BTreeMap<HostKey, StepError>,
    /// Entities that were refused since the last [`Self::take_newly_refused`].
    newly_refused: BTreeSet<HostKey>,
}

impl Desired {
    /// An empty desired state of a host with these addresses and that uplink.
    pub fn new(local: LocalVteps, uplink_mtu: u32) -> Self {
        Self {
            local,
            uplink_mtu,
            entities: BTreeMap::new(),
            objects: BTreeMap::new(),
            members: BTreeMap::new(),
            places: BTreeMap::new(),
            standby: BTreeSet::new(),
            refused: BTreeMap::new(),
            newly_refused: BTreeSet::new(),
        }
    }

    /// The attachment with that interface in that namespace.
    pub fn id_at(&self, netns: &str, interface: &str) -> Option<&str> {
        let there = self.places.get(netns)?.iter();
        there
            .filter_map(|key| match self.entities.get(key)? {
                HostEntity::Attachment(a) => Some(a),
                _ => None,
            })
            .find(|a| a.interface == interface)
            .map(|a| a.id.as_str())
    }

    /// Adds or replaces an entity; returns the objects that may have to change.
    pub fn upsert(&mut self, entity: HostEntity) -> BTreeSet<ObjectKey> {
        let key = entity.key();
        let mut touched = self.replace(&key, Some(&entity));
        if !matches!(entity, HostEntity::Network(_)) {
            self.members.entry(entity.vni()).or_default().insert(key.clone());
        }
        self.entities.insert(key.clone(), entity);
        touched.extend(self.lower_again(&key));
        touched.extend(self.lower_members(&key));
        touched.extend(self.lower_neighbours_in_place(&key));
        touched
    }

    /// Removes an entity; returns the objects that may have to change.
    pub fn remove(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        self.replace(key, None)
    }

    /// Removes an entity that `by` will replace.
    fn replace(&mut self, key: &HostKey, by: Option<&HostEntity>) -> BTreeSet<ObjectKey> {
        let mut touched = self.withdraw(key);
        touched.extend(self.leave_place(key, by));
        self.standby.remove(key);
        if matches!(by, Some(HostEntity::Attachment(a)) if a.mode == Mode::Standby) {
            self.standby.insert(key.clone());
        }
        if let Some(entity) = self.entities.remove(key) {
            let vni = entity.vni();
            if let Some(members) = self.members.get_mut(&vni) {
                members.remove(key);
                if members.is_empty() {
                    self.members.remove(&vni);
                }
            }
        }
        touched.extend(self.lower_members(key));
        touched
    }

    /// Adds an attachment to the list of its namespace, and removes it from that of its old one.
    /// Returns the objects of others that this concerns.
    fn leave_place(&mut self, key: &HostKey, by: Option<&HostEntity>) -> BTreeSet<ObjectKey> {
        let netns = |entity: Option<&HostEntity>| match entity {
            Some(HostEntity::Attachment(a)) => Some(a.netns.clone()),
            _ => None,
        };
        let (old, new) = (netns(self.entities.get(key)), netns(by));
        if old == new {
            return BTreeSet::new();
        }
        let mut others = Vec::new();
        if let Some(old) = old
            && let Some(there) = self.places.get_mut(&old)
        {
            there.retain(|k| k != key);
            // An attachment that leaves can only make room.
            others.extend(there.iter().filter(|k| self.refused.contains_key(k)).cloned());
            if there.is_empty() {
                self.places.remove(&old);
            }
        }
        if let Some(new) = new {
            self.places.entry(new).or_default().push(key.clone());
        }
        others.iter().flat_map(|k| self.lower_again(k)).collect()
    }

    /// Computes again the objects of attachments that came to the same namespace later, because this one's settings
    /// affect them.
    fn lower_neighbours_in_place(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let Some(HostEntity::Attachment(a)) = self.entities.get(key) else {
            return BTreeSet::new();
        };
        let there = self.places.get(&a.netns).cloned().unwrap_or_default();
        let later = there.iter().skip_while(|k| *k != key).skip(1);
        later.flat_map(|k| self.lower_again(k)).collect()
    }

    /// The attachments among these entities that are new at their place.
    pub fn arrivals(&self, upserts: &[HostEntity]) -> Vec<HostKey> {
        let new = upserts.iter().filter_map(|entity| match entity {
            HostEntity::Attachment(a) => Some((entity.key(), &a.netns)),
            _ => None,
        });
        let stays = |key: &HostKey, netns: &String| self.places.get(netns).is_some_and(|there| there.contains(key));
        new.filter(|(key, netns)| !stays(key, netns))
            .map(|(key, _)| key)
            .collect()
    }

    /// Why an attachment may not go into its namespace: another vDC was there first.
    fn place_taken(&self, entity: &HostEntity) -> Option<StepError> {
        let HostEntity::Attachment(a) = entity else { return None };
        let key = entity.key();
        let earlier = self.places.get(&a.netns)?.iter().take_while(|k| **k != key);
        let earlier = earlier.filter_map(|k| match self.entities.get(k) {
            Some(HostEntity::Attachment(other)) => Some(other),
            _ => None,
        });
        let shared = |other: &Attachment| a.shared_netns && other.shared_netns;
        let mut others = earlier.filter(|other| other.vdc() != a.vdc() && !shared(other));
        others.next().map(|_| {
            let message = format!(
                "netns {} of attachment {}: it holds a workload of another vDC; both must allow that it is shared",
                a.netns, a.id
            );
            StepError::new(ErrorCode::PlaceRefused, message)
        })
    }

    /// Computes again the objects of entities that depend on a network.
    fn lower_members(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let HostKey::Network(vni) = key else {
            return BTreeSet::new();
        };
        let members: Vec<HostKey> = self.members.get(vni).into_iter().flatten().cloned().collect();
        members.iter().flat_map(|m| self.lower_again(m)).collect()
    }

    /// Withdraws the objects that an entity asks for.
    fn withdraw(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        self.refused.remove(key);
        let asked = self.asked_by(key);
        for object in &asked {
            if let Some(askers) = self.objects.get_mut(object) {
                askers.retain(|(k, _)| k != key);
                if askers.is_empty() {
                    self.objects.remove(object);
                }
            }
        }
        asked
    }

    /// Computes the objects of an entity again; returns those that differ.
    fn lower_again(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let mut touched = self.withdraw(key);
        let Some(entity) = self.entities.get(key) else {
            return touched;
        };
        let network = self.network(entity.vni());
        let why = unsupported(entity, &self.local, network).or_else(|| self.too_large(entity));
        let why = why.map(|why| StepError::new(ErrorCode::Unsupported, why));
        if let Some(why) = why.or_else(|| self.place_taken(entity)) {
            self.refused.insert(key.clone(), why);
            self.newly_refused.insert(key.clone());
            return touched;
        }
        for object in lower(entity, &self.local, network) {
            touched.insert(object.key());
            let askers = self
                .objects
                .entry(object.key())
                .or_insert_with(|| Vec::with_capacity(1));
            let at = askers.partition_point(|(k, _)| k < key);
            askers.insert(at, (key.clone(), object));
        }
        touched
    }

    fn too_large(&self, entity: &HostEntity) -> Option<String> {
        let HostEntity::Network(n) = entity else { return None };
        let (needed, have) = (n.mtu + n.underlay.overhead(), self.uplink_mtu);
        (needed > have).then(|| {
            format!(
                "network {}: MTU {} needs {needed} octets on the uplink, which takes {have}",
                n.vni, n.mtu
            )
        })
    }

    fn network(&self, vni: Vni) -> Option<&Network> {
        match self.entities.get(&HostKey::Network(vni)) {
            Some(HostEntity::Network(n)) => Some(n),
            _ => None,
        }
    }

    /// The objects that an entity asks for.
    pub fn asked_by(&self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let Some(entity) = self.entities.get(key) else {
            return BTreeSet::new();
        };
        let asked = lower(entity, &self.local, self.network(entity.vni()))
            .into_iter()
            .map(|o| o.key());
        asked
            .filter(|o| {
                self.objects
                    .get(o)
                    .is_some_and(|askers| askers.iter().any(|(k, _)| k == key))
            })
            .collect()
    }

    /// The entities that ask for an object.
    pub fn askers(&self, key: &ObjectKey) -> impl Iterator<Item = &HostKey> {
        self.objects.get(key).into_iter().flatten().map(|(k, _)| k)
    }

    /// The desired object; `None` when it should not exist.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)?.last().map(|(_, o)| o)
    }

    /// All desired objects.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects
            .iter()
            .filter_map(|(k, askers)| Some((k, &askers.last()?.1)))
    }

    /// The objects of a network.
    pub fn objects_of(&self, vni: Vni) -> BTreeSet<ObjectKey> {
        let members = self.members.get(&vni).into_iter().flatten();
        members
            .chain([&HostKey::Network(vni)])
            .flat_map(|m| self.asked_by(m))
            .collect()
    }

    /// The entities.
    pub fn entities(&self) -> &BTreeMap<HostKey, HostEntity> {
        &self.entities
    }

    /// The entities that were refused since the last call, possibly because of a change of another entity.
    pub fn take_newly_refused(&mut self) -> BTreeSet<HostKey> {
        std::mem::take(&mut self.newly_refused)
    }

    /// Attachments in standby, by id.
    pub fn standby(&self) -> impl Iterator<Item = &Attachment> {
        let found = self.standby.iter().filter_map(|key| self.entities.get(key));
        found.filter_map(|entity| match entity {
            HostEntity::Attachment(a) => Some(a.as_ref()),
            _ => None,
        })
    }

    /// Why an entity cannot be made here.
    pub fn refusal(&self, key: &HostKey) -> Option<&StepError> {
        self.refused.get(key)
    }

    /// The desired ports among those named, or all.
    pub fn ports(&self, names: Option<&BTreeSet<ObjectKey>>) -> Expected {
        let port = |(_, object): (&ObjectKey, &Object)| match object {
            Object::Port(p) => Some((port_name(&p.attachment.id), p.attachment.clone())),
            _ => None,
        };
        match names {
            None => self.objects().filter_map(port).collect(),
            Some(names) => names.iter().filter_map(|k| port((k, self.object(k)?))).collect(),
        }
    }
}
