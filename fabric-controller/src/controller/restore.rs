//! Loads the model from the rows of the store.
//!
//! **Invariants.** Only a store that cannot be read at all stops the start. A row that is damaged, or an object that
//! does not fit the other objects, is set aside and named; its readable numbers are not given to any other object.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::mpsc;

use tracing::warn;
use vfabric_api::access::UserKey;
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::SetAside;
use vfabric_api::topology::Topology;

use super::published::{Changed, Published};
use super::requests::Requests;
use super::rows::{Rest, UID_KEY, parse_rest_key, to_json};
use super::{StartError, inventory, links, now};
use crate::access::{self, StoredUser};
use crate::device::driver::DeviceIndex;
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fabric::Node;
use crate::model::kind::{STORE_PREFIX, Stored, parse_store_key};
use crate::model::number::{StoredNumber, Uid};
use crate::store::{Op, Store, StoreTransaction, Versioned, after};
use crate::topology::links::{Links, Memory};

/// The contents of a store.
pub(super) struct Restored {
    pub(super) model: Model,
    /// What readers see: all objects, and nothing rendered yet.
    pub(super) published: Published,
    pub(super) revision: u64,
    pub(super) links: Links,
    /// Obsolete keys.
    pub(super) expired: BTreeSet<Vec<u8>>,
    /// Rows that could not be loaded.
    pub(super) set_aside: Vec<SetAside>,
    pub(super) users: Vec<(UserKey, StoredUser)>,
    /// Stored responses to calls that may be repeated.
    pub(super) requests: Requests,
}

/// The turn of objects.
const OBJECTS: u8 = 2;

/// Order in which rows are read: objects come after those that they need.
fn turn(key: &[u8]) -> u8 {
    match key.split(|b| *b == b'/').next() {
        Some(b"uid") => 0,
        Some(b"group" | b"rest") => 1,
        Some(b"object") => OBJECTS,
        _ => 3,
    }
}

/// A row of the store that is not an object.
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Revision that wrote it; 0 if that cannot be read.
    pub(super) revision: u64,
    /// Why its value is damaged, if it is.
    pub(super) damage: Option<String>,
}

/// Rows of objects that are passed on together.
const BATCH: usize = 256;
/// Such batches that wait. They bound the memory of a start.
const BATCHES: usize = 8;

/// The row of an object, as far as it can be read.
struct ObjectRow {
    key: Vec<u8>,
    /// The object that the row belongs to; none if the key cannot be read.
    of: Option<Key>,
    object: Result<Stored, String>,
    /// Revision that wrote it; 0 if that cannot be read.
    revision: u64,
    /// Why its value is damaged, if it is.
    damage: Option<String>,
}

impl ObjectRow {
    fn new(key: &[u8], value: &[u8], revision: u64, damage: Option<String>) -> Self {
        Self {
            key: key.to_vec(),
            of: parse_store_key(key),
            object: serde_json::from_slice(value).map_err(|e| e.to_string()),
            revision,
            damage,
        }
    }
}

/// A restart in progress.
struct Restoring {
    model: Model,
    published: Published,
    revision: u64,
    now: std::time::Instant,
    scratch: Applied,
    memories: HashMap<String, Memory>,
    expired: BTreeSet<Vec<u8>>,
    /// Rows of older stores in the current form.
    renewed: Vec<Op>,
    set_aside: Vec<SetAside>,
    users: Vec<(UserKey, StoredUser)>,
    requests: Requests,
}

/// Reads everything back into a model. A store without an inventory starts with that of `topology`. `publish` makes what
/// readers see, without objects, of a model that has the inventory, and its revision.
///
/// Objects are by far the most: each is put into the model and published soon after its row is read, and no copy of all rows
/// is made. All other rows are read before them.
///
/// # Errors
/// The store cannot be read; or rows of an older format cannot be rewritten; or there is neither an inventory nor a
/// topology.
pub(super) async fn restore<S: Store>(
    store: &S,
    topology: Option<&Topology>,
    publish: impl FnOnce(&Model, u64) -> Published,
) -> Result<Restored, StartError> {
    let (revision, mut rows) = self::rows(store, b"", Some(STORE_PREFIX)).await?;
    if let Some(after) = after(STORE_PREFIX) {
        rows.extend(self::rows(store, &after, None).await?.1);
    }
    rows.sort_by(|a, b| turn(&a.key).cmp(&turn(&b.key)).then_with(|| a.key.cmp(&b.key)));
    let in_use = match inventory::is_stored(&rows) {
        true => 0,
        false => greatest_uid(store).await?,
    };
    let loaded = inventory::load(&mut rows, topology, in_use)?;
    let published = publish(&loaded.model, revision);
    let mut restoring = Restoring {
        model: loaded.model,
        published,
        revision,
        now: now(),
        scratch: Applied::default(),
        memories: HashMap::new(),
        expired: BTreeSet::new(),
        renewed: loaded.ops,
        set_aside: Vec::new(),
        users: Vec::new(),
        requests: Requests::default(),
    };
    for (row, reason) in loaded.set_aside {
        restoring.name(format!("row `{row}`"), reason);
    }
    let later = rows.partition_point(|row| turn(&row.key) < OBJECTS);
    let later = rows.split_off(later);
    for row in rows {
        restoring.row(row);
    }
    let mut restoring = objects(restoring, store).await?;
    for row in later {
        restoring.row(row);
    }
    restoring.end(store).await
}

/// Loads all objects. Rows are read and parsed here, and put into the model on a thread beside.
async fn objects<S: Store>(mut restoring: Restoring, store: &S) -> Result<Restoring, StartError> {
    let (parsed, batches) = mpsc::sync_channel::<Vec<ObjectRow>>(BATCHES);
    let work = move || {
        for batch in batches {
            batch.into_iter().for_each(|row| restoring.object(row));
        }
        restoring
    };
    let work = std::thread::Builder::new().name("load".into()).spawn(work);
    let work = work.map_err(StartError::Thread)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut visit = |key: &[u8], value: &Versioned| {
        batch.push(ObjectRow::new(key, &value.value, value.revision, None));
        if batch.len() < BATCH {
            return ControlFlow::Continue(());
        }
        match parsed.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))) {
            Ok(()) => ControlFlow::Continue(()),
            // The thread has panicked, which is passed on below.
            Err(_) => ControlFlow::Break(()),
        }
    };
    let scanned = store.scan(STORE_PREFIX, &mut visit).await;
    if let Ok(scanned) = &scanned {
        let damaged = scanned.damaged.iter();
        batch.extend(damaged.map(|d| ObjectRow::new(&d.key, &d.value, 0, Some(d.reason.clone()))));
        // As above.
        let _ = parsed.send(batch);
    }
    drop(parsed);
    let restoring = work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    scanned?;
    Ok(restoring)
}

/// The rows of a range, damaged ones too, and the revision of the store.
async fn rows<S: Store>(store: &S, from: &[u8], before: Option<&[u8]>) -> Result<(u64, Vec<Row>), StartError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut visit = |key: &[u8], value: &Versioned| {
        rows.push(Row {
            key: key.to_vec(),
            value: value.value.clone(),
            revision: value.revision,
            damage: None,
        });
        ControlFlow::Continue(())
    };
    let scanned = store.scan_range(from, before, &mut visit).await?;
    rows.extend(scanned.damaged.into_iter().map(|d| Row {
        key: d.key,
        value: d.value,
        revision: 0,
        damage: Some(d.reason),
    }));
    Ok((scanned.revision, rows))
}

/// The greatest identity of the objects in a store, as far as they can be read.
async fn greatest_uid<S: Store>(store: &S) -> Result<u64, StartError> {
    let mut greatest = 0;
    let mut visit = |_: &[u8], value: &Versioned| {
        if let Ok(mut object) = serde_json::from_slice::<Stored>(&value.value)
            && let Some(uid) = object.uid_mut()
        {
            greatest = uid.get().max(greatest);
        }
        ControlFlow::Continue(())
    };
    store.scan(STORE_PREFIX, &mut visit).await?;
    Ok(greatest)
}

impl Restoring {
    /// Loads one row, or sets it aside.
    fn row(&mut self, row: Row) {
        let shown = String::from_utf8_lossy(&row.key).into_owned();
        let (kind, rest) = shown.split_once('/').unwrap_or((shown.as_str(), ""));
        let done = match (kind, rest.split('/').collect::<Vec<_>>().as_slice()) {
            ("user", _) => self.user(&row),
            ("request", _) => self.request(&row),
            ("uid", _) => self.uid(&row),
            ("group", [switch, vni]) => self.group(switch, vni, &row),
            ("rest", _) => self.rest(rest, &row),
            ("former", [vni, device]) => self.former(vni, device, &row),
            ("resting", [vni, ip]) => self.resting(vni, ip, &row),
            ("link", _) => serde_json::from_slice(&row.value)
                .map_err(|e| e.to_string())
                .map(|memory| {
                    // A damaged state of a link counts as none: probes will show the real one.
                    if row.damage.is_none() {
                        self.memories.insert(shown.clone(), memory);
                    }
                }),
            _ => Err("is not known to this version".into()),
        };
        if let Some(reason) = row.damage.or(done.err()) {
            self.name(format!("row `{shown}`"), reason);
        }
    }

    fn node(&self, name: &str) -> Option<Node> {
        self.model.fabric.node(&name.parse().ok()?)
    }

    fn name(&mut self, object: String, reason: String) {
        warn!(object, reason, "set aside");
        self.set_aside.push(SetAside { object, reason });
    }

    /// A damaged user may have any roles, so it has none: it is set aside.
    fn user(&mut self, row: &Row) -> Result<(), String> {
        let key = access::parse_row_key(&row.key).ok_or("names no user")?;
        let user = serde_json::from_slice(&row.value).map_err(|e| e.to_string())?;
        if row.damage.is_none() {
            self.users.push((key, user));
        }
        Ok(())
    }

    /// Without its response, a call could be carried out twice; this is logged.
    fn request(&mut self, row: &Row) -> Result<(), String> {
        if row.damage.is_none() && !self.requests.restore(&row.key, &row.value, row.revision)? {
            self.expired.insert(row.key.clone());
        }
        Ok(())
    }

    fn uid(&mut self, row: &Row) -> Result<(), String> {
        // A damaged number may be far too large. Identities in use are checked anyway.
        if row.damage.is_none() {
            self.model
                .restore_next_uid(number(&row.value).ok_or("is not a number")?);
        }
        Ok(())
    }

    fn group(&mut self, switch: &str, vni: &str, row: &Row) -> Result<(), String> {
        let group = number(&row.value).and_then(|n| u16::try_from(n).ok());
        let (Some(group), Ok(vni)) = (group, vni.parse()) else {
            return Err("is not a number".into());
        };
        // The groups of a switch that has left are free.
        if let Some(Node::Switch(at)) = self.node(switch) {
            self.model.restore_group(at, vni, group);
        }
        Ok(())
    }

    fn rest(&mut self, key: &str, row: &Row) -> Result<(), String> {
        let (number, written) = parse_rest_key(key)?;
        let all = || (Uid::default(), self.model.fabric.devices().collect::<Vec<_>>());
        let (owner, devices) = match serde_json::from_slice::<Rest>(&row.value) {
            Ok(rest) if row.damage.is_none() => {
                // A device that has left holds nothing.
                let devices = rest.devices.iter().filter_map(|d| self.model.fabric.node(d));
                let devices: Vec<DeviceIndex> = devices.map(Node::device).collect();
                self.model.restore_uid(rest.owner);
                (rest.owner, devices)
            }
            // Every device may hold it.
            _ => all(),
        };
        let revisions = (self.revision, Some(written));
        self.model.restore_rest(&number, owner, devices, revisions, self.now);
        if number.resolve(&self.model.fabric).is_none() {
            self.expired.insert(row.key.clone());
        }
        Ok(())
    }

    /// Before objects had identities, rows named a VNI and a device.
    fn former(&mut self, vni: &str, device: &str, row: &Row) -> Result<(), String> {
        let vni = vni.parse().map_err(|_| "is not a VNI")?;
        let owner = self.model.owner_of_vni(vni).unwrap_or_default();
        let device = self.node(device).map(Node::device);
        let number = StoredNumber::Vni(vni);
        let revisions = (self.revision, None);
        self.model.restore_rest(&number, owner, device, revisions, self.now);
        self.expired.insert(row.key.clone());
        Ok(())
    }

    /// Rows of that time also named addresses: by VNI and address.
    fn resting(&mut self, vni: &str, ip: &str, row: &Row) -> Result<(), String> {
        let (Ok(vni), Ok(ip)) = (vni.parse(), ip.parse()) else {
            return Err("is not an address of a network".into());
        };
        if let Some(network) = self.model.owner_of_vni(vni) {
            let (number, devices) = (StoredNumber::Ip(network, ip), self.model.devices_of_vni(vni));
            let revisions = (self.revision, None);
            self.model
                .restore_rest(&number, Uid::default(), devices, revisions, self.now);
        }
        self.expired.insert(row.key.clone());
        Ok(())
    }

    /// Loads an object from its row and publishes it, or sets it aside.
    fn object(&mut self, row: ObjectRow) {
        let ObjectRow {
            key: row,
            of,
            object,
            revision,
            damage,
        } = row;
        let Some(key) = of else {
            let reason = damage.unwrap_or_else(|| "is not a key of an object".into());
            return self.name(format!("row `{}`", String::from_utf8_lossy(&row)), reason);
        };
        let mut object = match (object, damage) {
            (Ok(object), None) => object,
            (Ok(object), Some(damage)) => return self.aside(key, Some(object), damage),
            (Err(error), damage) => return self.aside(key, None, damage.unwrap_or(error)),
        };
        if object.kind() != key.kind {
            return self.aside(key, Some(object), "is of another kind than its key says".into());
        }
        if let Some(missing) = self.missing(&key, &object) {
            return self.aside(key, Some(object), missing);
        }
        if let Some(uid) = object.uid_mut() {
            if *uid == Uid::default() {
                *uid = self.model.new_uid();
                self.renewed.push(Op::Put(row, to_json(&object)));
            } else {
                self.model.restore_uid(*uid);
            }
        }
        // What objects are stored as is shared, not copied.
        self.model.put(&key, Some(object.clone()), &mut self.scratch);
        let Some(stored) = self.model.stored(&key) else {
            return self.aside(key, Some(object), "refers to a host or switch that is not there".into());
        };
        let (object, owner) = (Some(stored), self.model.owner(&key));
        self.published.put(Changed { key, object, owner }, revision);
    }

    /// What an object needs that is missing.
    fn missing(&self, key: &Key, object: &Stored) -> Option<String> {
        if key.kind == Kind::Vdc {
            return None;
        }
        let vdc = self.model.vdc(&key.vdc);
        let Some(vdc) = vdc else {
            return Some(format!("its vDC `{}` does not exist", key.vdc));
        };
        let missing = object.networks().iter().find(|n| !vdc.networks.contains_key(*n))?;
        Some(format!("its network `{missing}` does not exist"))
    }

    fn aside(&mut self, key: Key, object: Option<Stored>, reason: String) {
        self.name(key.to_string(), reason.clone());
        self.model.set_aside(key, object, reason);
    }

    async fn end<S: Store>(mut self, store: &S) -> Result<Restored, StartError> {
        self.model.reserve_restored_groups();
        self.model.end_restore();
        if !self.renewed.is_empty() {
            let next = self.model.next_uid().to_string();
            self.renewed.push(Op::Put(UID_KEY.to_vec(), next.into()));
            let transaction = StoreTransaction {
                compares: Vec::new(),
                ops: self.renewed,
                ..StoreTransaction::default()
            };
            self.revision = store.commit(transaction).await?;
        }
        self.model.settle_restored(&self.scratch, self.revision);
        self.model.restore_fences(self.revision);
        // The state of a link that does not exist is ignored.
        let mut links = Links::default();
        for (index, link) in self.model.fabric.links() {
            let memory = self.memories.get(&links::store_key(&link.spec)).copied();
            links.add(index, link.ends, memory.unwrap_or_default());
        }
        self.published.revision = self.revision;
        Ok(Restored {
            model: self.model,
            published: self.published,
            revision: self.revision,
            links,
            expired: self.expired,
            set_aside: self.set_aside,
            users: self.users,
            requests: self.requests,
        })
    }
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
