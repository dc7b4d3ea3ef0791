//! Makes the datapath hold what this host should hold, and repairs it.
//!
//! A change applies only the objects that it touches. A comparison ([`Engine::check`])
//! reads a part of the datapath back and repairs the differences: after a start, when a
//! notification says that somebody else has changed something, and from time to time. Failed objects are
//! tried again ([`Engine::retry`]).
//!
//! Nothing here waits or knows the time: see [`crate::agent`].

use std::collections::{BTreeMap, BTreeSet};

use vtep_proto::v1::ErrorCode;
use vtep_proto::{HostEntity, HostKey, Vni};

use crate::datapath::{Datapath, Done, Scope, Seen, Step, StepError};
use crate::desired::Desired;
use crate::error::AgentError;
use crate::object::{Object, ObjectKey};

/// Rounds of restoring the objects of a segment that had to be made again. One is enough unless
/// somebody deletes it again at that very moment; then the notification causes another comparison.
const REBUILD_ROUNDS: usize = 2;

/// What a call changed beyond the objects that it was asked to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Entities that are in place now and were not before.
    pub applied: Vec<HostKey>,
    /// Entities that are not in place now; before, they were, or failed for another reason.
    pub failed: Vec<(HostKey, StepError)>,
    /// What was repaired.
    pub repaired: Vec<String>,
}

impl News {
    /// True when there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.failed.is_empty() && self.repaired.is_empty()
    }

    fn merge(&mut self, other: Self) {
        self.applied.extend(other.applied);
        self.failed.extend(other.failed);
        self.repaired.extend(other.repaired);
    }
}

/// Networks in which steps have disturbed more than their own objects.
#[derive(Default)]
struct Disturbed {
    /// The segment was made again; the objects on it are gone.
    rebuilt: BTreeSet<Vni>,
    /// The segment was removed; objects that are still desired in it cannot exist.
    gone: BTreeSet<Vni>,
}

/// The engine.
pub struct Engine<D> {
    datapath: D,
    desired: Desired,
    /// False until `desired` is known to be complete. Before that, no object is removed only because nobody asked for
    /// it.
    complete: bool,
    /// Objects that are not in place.
    failures: BTreeMap<ObjectKey, StepError>,
    /// Entities that are not in place, as last reported.
    errors: BTreeMap<HostKey, StepError>,
}

impl<D: Datapath> Engine<D> {
    /// An engine on a datapath, with the known part of what the host must hold.
    pub fn new(datapath: D, mut desired: Desired, entities: Vec<HostEntity>, complete: bool) -> Self {
        for entity in entities {
            desired.upsert(entity);
        }
        Self {
            datapath,
            desired,
            complete,
            failures: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    /// What the host must hold.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The datapath.
    pub fn datapath(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// Why an entity is not in place; `None` when it is.
    pub fn error(&self, key: &HostKey) -> Option<&StepError> {
        self.errors.get(key)
    }

    /// Records that `desired` is complete, and removes everything else.
    ///
    /// # Errors
    /// When the datapath cannot be read.
    pub fn set_complete(&mut self) -> Result<News, AgentError> {
        if self.complete {
            return Ok(News::default());
        }
        self.complete = true;
        self.check(&Scope::All)
    }

    /// Applies a change. [`Self::error`] has the outcome for its entities; the result is about the
    /// others.
    ///
    /// # Errors
    /// When the datapath cannot be read.
    pub fn update(&mut self, upserts: Vec<HostEntity>, removes: &[HostKey]) -> Result<News, AgentError> {
        let mut asked: BTreeSet<HostKey> = removes.iter().cloned().collect();
        let mut touched = BTreeSet::new();
        for entity in upserts {
            asked.insert(entity.key());
            touched.extend(self.desired.upsert(entity));
        }
        for key in removes {
            touched.extend(self.desired.remove(key));
        }
        let mut news = self.bring(touched, &asked)?;
        news.applied.retain(|k| !asked.contains(k));
        news.failed.retain(|(k, _)| !asked.contains(k));
        Ok(news)
    }

    /// Retries the objects that failed for that reason, or for any reason.
    ///
    /// # Errors
    /// When the datapath cannot be read.
    pub fn retry(&mut self, reason: impl Fn(ErrorCode) -> bool) -> Result<News, AgentError> {
        let again: BTreeSet<ObjectKey> = self
            .failures
            .iter()
            .filter(|(_, e)| reason(e.code))
            .map(|(k, _)| k.clone())
            .collect();
        if again.is_empty() {
            Ok(News::default())
        } else {
            self.bring(again, &BTreeSet::new())
        }
    }

    /// True when an entry has become what is desired, as after each change of our own: nothing needs to be compared.
    pub fn is_as_desired(&self, seen: &Seen) -> bool {
        let key = seen.key();
        let desired = self.desired.object(&key);
        let same = match seen {
            Seen::Is(object) => desired == Some(object),
            Seen::Tunnelled(..) => desired.is_some(),
            Seen::Gone(_) => desired.is_none(),
        };
        same && !self.failures.contains_key(&key)
    }

    /// Compares a part of the datapath with the desired state and repairs the differences.
    ///
    /// # Errors
    /// When the datapath cannot be read.
    pub fn check(&mut self, scope: &Scope) -> Result<News, AgentError> {
        let wanted = match scope {
            Scope::All => None,
            Scope::Some { vnis, ports } => {
                let ports = ports.iter().map(|p| ObjectKey::Port(p.clone()));
                Some(
                    vnis.iter()
                        .flat_map(|v| self.desired.objects_of(*v))
                        .filter(|key| !matches!(key, ObjectKey::Port(_)))
                        .chain(ports)
                        .collect::<BTreeSet<_>>(),
                )
            }
        };
        let foundations = match scope {
            Scope::All => self.datapath.put_right()?,
            Scope::Some { .. } => Vec::new(),
        };
        let found = self.datapath.read_back(scope, &self.desired.ports(wanted.as_ref()))?;
        let wanted = wanted.unwrap_or_else(|| self.desired.objects().map(|(k, _)| k.clone()).collect());
        let mut differ = BTreeMap::new();
        for key in &wanted {
            let Some(object) = self.desired.object(key) else {
                continue;
            };
            match found.get(key) {
                Some(seen) if seen == object => {
                    self.failures.remove(key);
                    continue;
                }
                Some(_) => differ.insert(key.clone(), "was not as it must be"),
                None => differ.insert(key.clone(), "was missing"),
            };
        }
        if self.complete {
            let strays = found.keys().filter(|k| self.desired.object(k).is_none());
            differ.extend(strays.map(|key| (key.clone(), "was left over")));
        }
        let mut news = self.bring(differ.keys().cloned().collect(), &BTreeSet::new())?;
        news.repaired.extend(foundations);
        news.merge(self.settle(&wanted));
        let repaired = differ.iter().filter(|(key, _)| !self.failures.contains_key(key));
        news.repaired
            .extend(repaired.map(|(key, what)| format!("{key} {what}")));
        Ok(news)
    }

    /// Makes objects as they should be, including the objects of segments that had to be made
    /// again.
    fn bring(&mut self, mut touched: BTreeSet<ObjectKey>, asked: &BTreeSet<HostKey>) -> Result<News, AgentError> {
        let mut all = touched.clone();
        for _ in 0..REBUILD_ROUNDS {
            let disturbed = self.step(&touched);
            // Skip objects that this call has requested already. That applies only to networks that were made again.
            let of = |vnis: BTreeSet<Vni>| {
                vnis.into_iter()
                    .flat_map(|v| self.desired.objects_of(v))
                    .collect::<Vec<_>>()
            };
            touched = of(disturbed.rebuilt).into_iter().filter(|k| !all.contains(k)).collect();
            touched.extend(of(disturbed.gone));
            if touched.is_empty() {
                break;
            }
            all.extend(touched.iter().cloned());
        }
        let mut news = self.settle(&all);
        let refused = self.desired.take_newly_refused();
        for key in refused.union(asked) {
            self.settle_entity(key, &mut news);
        }
        Ok(news)
    }

    /// Applies the steps that objects need, in order of creation, then removals in reverse.
    fn step(&mut self, touched: &BTreeSet<ObjectKey>) -> Disturbed {
        let ensure = touched
            .iter()
            .filter_map(|k| self.desired.object(k))
            .map(|o| Step::Ensure(o.clone()));
        let remove = touched
            .iter()
            .rev()
            .filter(|k| self.desired.object(k).is_none())
            .map(|k| Step::Remove(k.clone()));
        let steps: Vec<Step> = ensure.chain(remove).collect();
        let outcomes = self.datapath.apply(&steps);
        let mut disturbed = Disturbed::default();
        for (step, outcome) in steps.iter().zip(outcomes) {
            let key = match step {
                Step::Ensure(object) => object.key(),
                Step::Remove(key) => key.clone(),
            };
            match outcome {
                Ok(done) => {
                    if let ObjectKey::Segment(vni) = &key {
                        match step {
                            Step::Remove(_) => drop(disturbed.gone.insert(*vni)),
                            Step::Ensure(_) if done == Done::Rebuilt => drop(disturbed.rebuilt.insert(*vni)),
                            Step::Ensure(_) => {}
                        }
                    }
                    self.failures.remove(&key);
                }
                Err(error) => {
                    tracing::debug!(object = %key, %error, "not in place");
                    self.failures.insert(key, error);
                }
            }
        }
        disturbed
    }

    /// Finds out which entities changed their state with these objects.
    fn settle(&mut self, touched: &BTreeSet<ObjectKey>) -> News {
        let owners: BTreeSet<HostKey> = touched.iter().flat_map(|k| self.desired.askers(k).cloned()).collect();
        let mut news = News::default();
        for owner in &owners {
            self.settle_entity(owner, &mut news);
        }
        news
    }

    fn settle_entity(&mut self, key: &HostKey, news: &mut News) {
        let asked = self.desired.asked_by(key);
        let failure = asked.iter().find_map(|o| self.failures.get(o));
        let collision = || self.collision(key, &asked);
        let now = self.desired.refusal(key).or(failure).cloned().or_else(collision);
        match (now, self.errors.get(key)) {
            (Some(now), before) if before != Some(&now) => {
                self.errors.insert(key.clone(), now.clone());
                news.failed.push((key.clone(), now));
            }
            (None, Some(_)) => {
                self.errors.remove(key);
                if self.desired.entities().contains_key(key) {
                    news.applied.push(key.clone());
                }
            }
            _ => {}
        }
    }

    /// Two attachments have the same port name: the port belongs to the other one.
    fn collision(&self, key: &HostKey, asked: &BTreeSet<ObjectKey>) -> Option<StepError> {
        let HostKey::Attachment(id) = key else { return None };
        asked.iter().find_map(|o| match self.desired.object(o) {
            Some(Object::Port(p)) if p.attachment.id != *id => {
                let message = format!("attachment {id} and attachment {} get one port name", p.attachment.id);
                Some(StepError::new(ErrorCode::NameInUse, message))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
