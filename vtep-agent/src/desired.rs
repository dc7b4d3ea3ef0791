//! What this host must hold: the controller's entities, and the objects they stand for.
//!
//! Several entities may ask for one object. The greatest [`HostKey`] wins: an attachment on
//! this host over a neighbour entry for the same address elsewhere, which over a gateway's.
//! While an attachment moves between hosts its old and its new place are both known for a
//! moment; the order of the two updates does not matter then.

use std::collections::{BTreeMap, BTreeSet};

use vtep_proto::v1::ErrorCode;
use vtep_proto::{HostEntity, HostKey, Network, Vni};

use crate::datapath::{Expected, StepError};
use crate::object::{LocalVteps, Object, ObjectKey, lower, port_name, unsupported};

/// The desired state.
#[derive(Debug)]
pub struct Desired {
    local: LocalVteps,
    /// Largest tunnelled packet that the uplink takes, in octets.
    uplink_mtu: u32,
    entities: BTreeMap<HostKey, HostEntity>,
    /// Who asks for what, ascending; nearly always one.
    objects: BTreeMap<ObjectKey, Vec<(HostKey, Object)>>,
    /// Attachments and forwarding entries by network: they depend on it.
    members: BTreeMap<Vni, BTreeSet<HostKey>>,
    /// Entities that cannot be made here, and why.
    refused: BTreeMap<HostKey, StepError>,
}

impl Desired {
    /// Nothing, on a host with these addresses and that uplink.
    pub fn new(local: LocalVteps, uplink_mtu: u32) -> Self {
        Self {
            local,
            uplink_mtu,
            entities: BTreeMap::new(),
            objects: BTreeMap::new(),
            members: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes an entity over; gives the objects that may have to change.
    pub fn upsert(&mut self, entity: HostEntity) -> BTreeSet<ObjectKey> {
        let key = entity.key();
        let mut touched = self.remove(&key);
        if !matches!(entity, HostEntity::Network(_)) {
            self.members.entry(entity.vni()).or_default().insert(key.clone());
        }
        self.entities.insert(key.clone(), entity);
        touched.extend(self.lower_again(&key));
        touched.extend(self.lower_members(&key));
        touched
    }

    /// Gives an entity up; gives the objects that may have to change.
    pub fn remove(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let mut touched = self.withdraw(key);
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

    /// What depends on a network changes with it.
    fn lower_members(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let HostKey::Network(vni) = key else {
            return BTreeSet::new();
        };
        let members: Vec<HostKey> = self.members.get(vni).into_iter().flatten().cloned().collect();
        members.iter().flat_map(|m| self.lower_again(m)).collect()
    }

    /// Withdraws what an entity asks for.
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

    /// Works out anew what an entity asks for; gives the objects that differ.
    fn lower_again(&mut self, key: &HostKey) -> BTreeSet<ObjectKey> {
        let mut touched = self.withdraw(key);
        let Some(entity) = self.entities.get(key) else {
            return touched;
        };
        let network = self.network(entity.vni());
        let why = unsupported(entity, &self.local, network).or_else(|| self.too_large(entity));
        if let Some(why) = why {
            self.refused
                .insert(key.clone(), StepError::new(ErrorCode::Unsupported, why));
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

    /// Who asks for an object.
    pub fn askers(&self, key: &ObjectKey) -> impl Iterator<Item = &HostKey> {
        self.objects.get(key).into_iter().flatten().map(|(k, _)| k)
    }

    /// What an object must be; `None` when it must not be.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)?.last().map(|(_, o)| o)
    }

    /// All objects there must be.
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

    /// Why an entity cannot be made here.
    pub fn refusal(&self, key: &HostKey) -> Option<&StepError> {
        self.refused.get(key)
    }

    /// The ports there must be among those named, or all.
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
