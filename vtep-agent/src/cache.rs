//! The desired state on disk.
//!
//! An update is durable here before the kernel is touched. So after a crash the agent knows everything that it
//! made in the kernel. The controller can send all of it again. So if the cache cannot be opened or read, it
//! is moved aside and a new one is made; until the controller has sent everything, nothing is removed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use vtep_proto::{HostEntity, HostKey, v1};

use crate::error::AgentError;

/// Name of the database inside the state directory.
const DATABASE: &str = "desired";
/// Key of the epoch; its presence says that the cache is complete. Object keys are protobuf
/// messages and never start with this octet, which is not a valid tag.
const EPOCH: &[u8] = b"\x00epoch";

/// Key of the controller's store, by its number.
const STORE: &[u8] = b"\x00store";

/// First octet of the key of an attachment's place in the order of arrival; its object key follows.
/// The order decides to which vDC a namespace belongs.
const ORDER: &[u8] = b"\x00order";

/// How long a database that was just closed may stay locked: its threads end later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two attempts to open it during that wait.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// True when somebody else has the database open; sled has no separate error for that.
fn is_locked(error: &AgentError) -> bool {
    matches!(error, AgentError::Cache(sled::Error::Io(e)) if e.to_string().contains("acquire lock"))
}

/// The cache.
pub struct Cache {
    database: sled::Db,
    /// The next place in the order of arrival.
    next: AtomicU64,
}

/// The contents of the cache.
#[derive(Debug, Default)]
pub struct Cached {
    /// The entities, attachments in the order in which they came.
    pub entities: Vec<HostEntity>,
    /// Epoch of the last update.
    pub epoch: u64,
    /// Number of the store that has this host's claim; 0 if it is not known.
    pub store: u32,
    /// True when this is everything that the host must hold.
    pub complete: bool,
}

impl Cache {
    /// Opens the cache in a state directory, moving aside one that cannot be used.
    ///
    /// # Errors
    /// When not even a new one can be made.
    pub fn open(directory: &Path) -> Result<(Self, Cached), AgentError> {
        let path = directory.join(DATABASE);
        let start = Instant::now();
        let opened = loop {
            match Self::try_open(&path) {
                Err(e) if is_locked(&e) && start.elapsed() < LOCK_TIMEOUT => thread::sleep(LOCK_POLL),
                opened => break opened,
            }
        };
        match opened {
            Ok(opened) => Ok(opened),
            // A cache that another process uses is not a damaged one.
            Err(error) if is_locked(&error) => Err(error),
            Err(error) => {
                let now = SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0, |d| d.as_nanos());
                let aside = directory.join(format!("{DATABASE}.unusable.{now}"));
                tracing::warn!(%error, moved_to = %aside.display(), "the cache cannot be used; a new one is made");
                fs::rename(&path, &aside).map_err(|source| AgentError::File {
                    path: path.clone(),
                    source,
                })?;
                Self::try_open(&path)
            }
        }
    }

    fn try_open(path: &Path) -> Result<(Self, Cached), AgentError> {
        let database = sled::Config::new().path(path).open()?;
        let mut cached = Cached::default();
        let (mut orders, mut unreadable) = (HashMap::new(), 0);
        for item in database.iter() {
            let (key, value) = item?;
            if let Some(object) = key.strip_prefix(ORDER) {
                let order = value.as_ref().try_into().map(u64::from_be_bytes).unwrap_or(0);
                orders.insert(object.to_vec(), order);
                continue;
            }
            if key == STORE {
                cached.store = value.as_ref().try_into().map(u32::from_be_bytes).unwrap_or(0);
                continue;
            }
            if key == EPOCH {
                cached.epoch = value.as_ref().try_into().map(u64::from_be_bytes).unwrap_or(0);
                cached.complete = true;
                continue;
            }
            let entity = v1::HostObject::decode(value.as_ref())
                .ok()
                .and_then(|o| HostEntity::try_from(&o).ok());
            match entity {
                Some(entity) => cached.entities.push(entity),
                // An earlier version accepted objects that this one refuses.
                None => {
                    unreadable += 1;
                    database.remove(&key)?;
                }
            }
        }
        if unreadable > 0 {
            tracing::warn!(objects = unreadable, "left out of the cache: they cannot be read");
            database.remove(EPOCH)?;
            database.flush()?;
            cached.complete = false;
        }
        let next = orders.values().max().map_or(0, |last| last + 1);
        cached
            .entities
            .sort_by_key(|e| orders.get(&name(&e.key())).copied().unwrap_or(0));
        let next = AtomicU64::new(next);
        Ok((Self { database, next }, cached))
    }

    /// Remembers the store that has this host's claim.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, store: u32) -> Result<(), AgentError> {
        self.database.insert(STORE, store.to_be_bytes().as_slice())?;
        self.database.flush()?;
        Ok(())
    }

    /// Stores a change, all of it or nothing, and waits until it is on disk. `arrived`
    /// are the attachments that are new at their place. `epoch` is set once the cache is
    /// complete.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(
        &self,
        upserts: &[HostEntity],
        arrived: &[HostKey],
        removes: &[HostKey],
        epoch: Option<u64>,
    ) -> Result<(), AgentError> {
        let mut batch = sled::Batch::default();
        for entity in upserts {
            batch.insert(name(&entity.key()), v1::HostObject::from(entity).encode_to_vec());
        }
        for key in arrived {
            let order = self.next.fetch_add(1, Ordering::Relaxed);
            batch.insert([ORDER, &name(key)].concat(), order.to_be_bytes().as_slice());
        }
        for key in removes {
            batch.remove(name(key));
            if matches!(key, HostKey::Attachment(_)) {
                batch.remove([ORDER, &name(key)].concat());
            }
        }
        if let Some(epoch) = epoch {
            batch.insert(EPOCH, epoch.to_be_bytes().as_slice());
        }
        self.database.apply_batch(batch)?;
        self.database.flush()?;
        Ok(())
    }
}

fn name(key: &HostKey) -> Vec<u8> {
    v1::ObjectKey::from(key).encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtep_proto::{FdbEntry, MacAddress, Vni};

    fn station(last: u8) -> HostEntity {
        let mac = MacAddress::new([2, 0, 0, 0, 0, last]).unwrap();
        HostEntity::Fdb(FdbEntry {
            vni: Vni::new(1).unwrap(),
            mac,
            vtep: [10, 0, 0, last].into(),
        })
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, cached) = Cache::open(directory.path()).unwrap();
        assert!(cached.entities.is_empty() && !cached.complete);
        cache.write(&[station(1), station(2)], &[], &[], None).unwrap();
        cache.write(&[], &[], &[station(1).key()], Some(7)).unwrap();
        cache.keep(9).unwrap();
        drop(cache);
        let (_, cached) = Cache::open(directory.path()).unwrap();
        assert_eq!(
            (cached.entities, cached.epoch, cached.store, cached.complete),
            (vec![station(2)], 7, 9, true)
        );
    }

    #[test]
    fn attachments_come_back_in_the_order_in_which_they_came() {
        let attachment = |id: &str| {
            HostEntity::from(vtep_proto::Attachment {
                id: id.into(),
                vni: Vni::new(1).unwrap(),
                mac: MacAddress::new([2, 0, 0, 0, 0, 1]).unwrap(),
                addresses: Default::default(),
                routes: Default::default(),
                netns: "w".into(),
                interface: "eth0".into(),
                mtu: 0,
                allowed_addresses: Default::default(),
                port_security: true,
                shared_netns: false,
                mode: Default::default(),
            })
        };
        let directory = tempfile::tempdir().unwrap();
        let names = ["red/b", "blue/a", "green/c"];
        let (cache, _) = Cache::open(directory.path()).unwrap();
        for id in names {
            let a = attachment(id);
            cache.write(std::slice::from_ref(&a), &[a.key()], &[], None).unwrap();
        }
        // A change of an existing one does not move it to the end.
        cache.write(&[attachment("red/b")], &[], &[], None).unwrap();
        drop(cache);
        let (_, cached) = Cache::open(directory.path()).unwrap();
        let ids: Vec<HostKey> = cached.entities.iter().map(HostEntity::key).collect();
        assert_eq!(ids, names.map(|n| HostKey::Attachment(n.into())));
    }

    #[test]
    fn an_object_that_cannot_be_read_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = Cache::open(directory.path()).unwrap();
        cache.write(&[station(1), station(2)], &[], &[], Some(7)).unwrap();
        cache.database.insert(name(&station(1).key()), b"\xff").unwrap();
        drop(cache);
        for _ in 0..2 {
            let (_, cached) = Cache::open(directory.path()).unwrap();
            assert_eq!((cached.entities, cached.complete), (vec![station(2)], false));
        }
    }

    #[test]
    fn an_unusable_cache_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DATABASE), "not a database").unwrap();
        let (cache, cached) = Cache::open(directory.path()).unwrap();
        assert!(cached.entities.is_empty() && !cached.complete);
        cache.write(&[station(1)], &[], &[], Some(1)).unwrap();
        let kept = fs::read_dir(directory.path()).unwrap().filter_map(Result::ok);
        assert!(
            kept.map(|e| e.file_name())
                .any(|n| n.to_string_lossy().contains("unusable"))
        );
    }
}
