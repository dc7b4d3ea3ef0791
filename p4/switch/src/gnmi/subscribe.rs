//! The state of one subscription: what was sent, and what is due (gNMI specification, section 3.5). Pure, except for
//! the data source.

use std::collections::BTreeMap;

use gnmi_proto::gnmi;
use gnmi_proto::gnmi::SubscriptionMode;
use tonic::Status;

use super::path::{self, Path};
use super::tree::{Interfaces, Leaf, Value, select};

/// Shortest sampling interval; 0 ("as fast as you can", section 3.5.1.5.2) means this.
const MIN_SAMPLE_NS: u64 = 100_000_000;

/// Sampling interval of counters when the client leaves the mode to the target.
const DEFAULT_SAMPLE_NS: u64 = 10_000_000_000;

/// Subscriptions in one list; a fabric controller needs a handful.
const MAX_SUBSCRIPTIONS: usize = 128;

/// One followed path.
struct Followed {
    pattern: Path,
    /// Leaves that change are sent at once.
    on_change: bool,
    /// Nanoseconds between samples.
    sample_ns: Option<u64>,
    /// With `sample_ns` of mode `TARGET_DEFINED`, only counters are sampled.
    only_counters: bool,
    suppress_redundant: bool,
    heartbeat_ns: Option<u64>,
    next_sample_ns: u64,
    next_heartbeat_ns: u64,
    sent: BTreeMap<Path, Value>,
}

/// A subscription list in mode `STREAM`.
pub struct Subscriptions(Vec<Followed>);

/// Leaves to send and paths that are gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Values.
    pub updates: Vec<Leaf>,
    /// Paths.
    pub deletes: Vec<Path>,
}

impl Subscriptions {
    /// Reads a list.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for malformed paths, modes and too many subscriptions.
    pub fn new(list: &gnmi::SubscriptionList, now_ns: u64) -> Result<Self, Status> {
        if list.subscription.len() > MAX_SUBSCRIPTIONS {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_SUBSCRIPTIONS} subscriptions"
            )));
        }
        let followed = list.subscription.iter().map(|wire| {
            let pattern = path::join(list.prefix.as_ref(), wire.path.as_ref())?;
            let mode = SubscriptionMode::try_from(wire.mode)
                .map_err(|_| Status::invalid_argument(format!("subscription mode {} is not valid", wire.mode)))?;
            let sample_ns = match mode {
                SubscriptionMode::OnChange => None,
                SubscriptionMode::Sample => Some(wire.sample_interval.max(MIN_SAMPLE_NS)),
                SubscriptionMode::TargetDefined => Some(DEFAULT_SAMPLE_NS),
            };
            let heartbeat_ns = (wire.heartbeat_interval > 0).then(|| wire.heartbeat_interval.max(MIN_SAMPLE_NS));
            Ok(Followed {
                pattern,
                on_change: mode != SubscriptionMode::Sample,
                sample_ns,
                only_counters: mode == SubscriptionMode::TargetDefined,
                suppress_redundant: wire.suppress_redundant,
                heartbeat_ns,
                next_sample_ns: now_ns.saturating_add(sample_ns.unwrap_or(u64::MAX)),
                next_heartbeat_ns: now_ns.saturating_add(heartbeat_ns.unwrap_or(u64::MAX)),
                sent: BTreeMap::new(),
            })
        });
        Ok(Self(followed.collect::<Result<_, Status>>()?))
    }

    /// Everything, once, at the start.
    pub fn initial(&mut self, source: &dyn Interfaces) -> News {
        let mut news = News::default();
        for followed in &mut self.0 {
            let leaves = select(source, &followed.pattern);
            followed.sent = leaves
                .iter()
                .map(|leaf| (leaf.path.clone(), leaf.value.clone()))
                .collect();
            news.updates.extend(leaves);
        }
        news
    }

    /// Called after a change; returns the leaves that differ from those that were sent. If the changed interface is
    /// named, only that one is checked.
    pub fn changed(&mut self, source: &dyn Interfaces, interface: Option<&str>) -> News {
        let mut news = News::default();
        for followed in self.0.iter_mut().filter(|followed| followed.on_change) {
            let pattern = narrow(&followed.pattern, interface);
            let leaves = select(source, &pattern);
            let mut live = std::collections::BTreeSet::new();
            for leaf in leaves {
                live.insert(leaf.path.clone());
                if !leaf.is_counter && followed.sent.get(&leaf.path) != Some(&leaf.value) {
                    followed.sent.insert(leaf.path.clone(), leaf.value.clone());
                    news.updates.push(leaf);
                }
            }
            let gone = followed
                .sent
                .keys()
                .filter(|path| path::covers(&pattern, path) && !live.contains(*path));
            let gone: Vec<_> = gone.cloned().collect();
            for path in gone {
                followed.sent.remove(&path);
                news.deletes.push(path);
            }
        }
        news
    }

    /// When the next sample or heartbeat is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        let due = self
            .0
            .iter()
            .flat_map(|followed| [followed.next_sample_ns, followed.next_heartbeat_ns]);
        due.min().filter(|due| *due != u64::MAX)
    }

    /// Samples and heartbeats that are due.
    pub fn due(&mut self, source: &dyn Interfaces, now_ns: u64) -> News {
        let mut news = News::default();
        for followed in &mut self.0 {
            let sample = followed.next_sample_ns <= now_ns;
            let heartbeat = followed.next_heartbeat_ns <= now_ns;
            if !sample && !heartbeat {
                continue;
            }
            if let (true, Some(interval)) = (sample, followed.sample_ns) {
                followed.next_sample_ns = now_ns.saturating_add(interval);
            }
            if let (true, Some(interval)) = (heartbeat, followed.heartbeat_ns) {
                followed.next_heartbeat_ns = now_ns.saturating_add(interval);
            }
            for leaf in select(source, &followed.pattern) {
                let redundant = followed.suppress_redundant && followed.sent.get(&leaf.path) == Some(&leaf.value);
                let sampled = sample && !redundant && (!followed.only_counters || leaf.is_counter);
                if heartbeat || sampled {
                    followed.sent.insert(leaf.path.clone(), leaf.value.clone());
                    news.updates.push(leaf);
                }
            }
        }
        news
    }
}

/// The pattern, restricted to one interface if it spans several.
fn narrow(pattern: &[path::Elem], interface: Option<&str>) -> Path {
    let mut narrowed = pattern.to_vec();
    if let (Some(name), Some(elem)) = (interface, narrowed.get_mut(1))
        && elem.name == "interface"
        && elem.keys.get("name").is_none_or(|key| key == "*")
    {
        elem.keys.insert("name".to_owned(), name.to_owned());
    }
    narrowed
}
