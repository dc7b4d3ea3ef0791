//! Writes: bounded batches, one outcome per change.
//!
//! A server may reorder the updates of one Write, so changes that depend on
//! each other travel in different Writes: a batch ends where the kind of change
//! or the rank of the entity changes. All batches say CONTINUE_ON_ERROR, the one
//! mode that every server has.
//!
//! Writing converges: inserting what exists modifies it, modifying what does not
//! exist inserts it, and deleting what is gone succeeds. So a change whose
//! outcome was lost with a connection can simply be repeated.

use p4runtime_proto::{
    google::rpc::{Code, Status as RpcStatus},
    p4::v1 as p4,
};
use prost::Message as _;

use crate::{
    entity::{Entity, EntityKey},
    error::{Error, Result, code},
    session::{Session, limit},
};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entity is new. Permanent objects are modified.
    Insert(Entity),
    /// The entity exists with another value.
    Modify(Entity),
    /// The entity is deleted. Permanent objects get their initial value back.
    Delete(EntityKey),
}

impl Change {
    /// The changed entity.
    #[must_use]
    pub fn key(&self) -> &EntityKey {
        match self {
            Self::Insert(entity) | Self::Modify(entity) => entity.key(),
            Self::Delete(key) => key,
        }
    }

    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> p4::Update {
        use p4::update::Type;
        let (kind, entity) = match self {
            Self::Insert(entity) if entity.key().is_permanent() => (Type::Modify, entity.to_proto()),
            Self::Insert(entity) => (Type::Insert, entity.to_proto()),
            Self::Modify(entity) => (Type::Modify, entity.to_proto()),
            Self::Delete(key) if key.is_permanent() => (Type::Modify, key.to_proto()),
            Self::Delete(key) => (Type::Delete, key.to_proto()),
        };
        p4::Update {
            r#type: kind.into(),
            entity: Some(entity),
        }
    }

    /// What to do if the switch's state is not the one that this change assumes.
    fn instead(&self, code: Code) -> Instead {
        match (self, code) {
            (Self::Insert(entity), Code::AlreadyExists) => Instead::Try(Self::Modify(entity.clone())),
            (Self::Modify(entity), Code::NotFound) if !entity.key().is_permanent() => {
                Instead::Try(Self::Insert(entity.clone()))
            }
            (Self::Delete(_), Code::NotFound) => Instead::Done,
            _ => Instead::Failed,
        }
    }
}

enum Instead {
    Try(Change),
    Done,
    Failed,
}

/// Why the switch refused one change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} ({})", if message.is_empty() { "refused" } else { message }, code.as_str_name())]
pub struct Refusal {
    /// Canonical code.
    pub code: Code,
    /// The switch's message, often empty.
    pub message: String,
}

impl Refusal {
    /// Whether the same change may succeed later without any other change of
    /// the intent: a table is full, the switch is busy, an object is in use.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code,
            Code::ResourceExhausted
                | Code::Unavailable
                | Code::Aborted
                | Code::DeadlineExceeded
                | Code::FailedPrecondition
                | Code::Internal
        )
    }
}

/// Outcome of one change.
pub type Outcome = Result<(), Refusal>;

impl Session {
    /// Makes changes. Where rank or kind differs between one change and the next, the order is kept; changes between two
    /// such places may be made in any order. Returns one outcome per change, in the order of `changes`.
    ///
    /// # Errors
    /// When the outcome of some change is unknown: the session is over, time ran
    /// out, or we are not primary. Changes may have been made; repeat them, or
    /// read back, in a new session.
    pub async fn write(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for batch in batches(changes, self.target.max_updates) {
            let mut results = self.write_batch(batch).await?;
            let mut retry = Vec::new();
            for (i, (change, outcome)) in batch.iter().zip(&mut results).enumerate() {
                let Err(refusal) = outcome else { continue };
                match change.instead(refusal.code) {
                    Instead::Done => *outcome = Ok(()),
                    Instead::Try(change) => retry.push((i, change)),
                    Instead::Failed => {}
                }
            }
            if !retry.is_empty() {
                let (places, again): (Vec<usize>, Vec<Change>) = retry.into_iter().unzip();
                for (i, outcome) in places.into_iter().zip(self.write_batch(&again).await?) {
                    if let Some(place) = results.get_mut(i) {
                        *place = outcome;
                    }
                }
            }
            outcomes.append(&mut results);
        }
        Ok(outcomes)
    }

    /// One batch. If the server refuses it as a whole, each half is sent on its
    /// own, down to single updates, so that one bad update does not fail the others.
    async fn write_batch(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![Ok(()); changes.len()];
        let mut parts: Vec<_> = std::iter::once(0..changes.len()).collect();
        while let Some(part) = parts.pop() {
            let Some(slice) = changes.get(part.clone()) else {
                continue;
            };
            let status = match self.write_once(slice).await? {
                Ok(()) => continue,
                Err(status) => status,
            };
            let refusals = refusals(&status, slice.len());
            let places = outcomes.get_mut(part.clone()).unwrap_or_default();
            if let Some(refusals) = refusals {
                for (place, refusal) in places.iter_mut().zip(refusals) {
                    *place = refusal;
                }
            } else if slice.len() > 1 {
                let middle = part.start + slice.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            } else if let Some(place) = places.first_mut() {
                *place = Err(Refusal {
                    code: code(status.code() as i32),
                    message: status.message().to_owned(),
                });
            }
        }
        Ok(outcomes)
    }

    /// One Write. The inner error is an answer about the updates; the outer one
    /// leaves their outcome unknown.
    async fn write_once(&self, changes: &[Change]) -> Result<Result<(), tonic::Status>> {
        let request = p4::WriteRequest {
            device_id: self.options.device_id,
            role: self.options.role.clone(),
            election_id: self.election_id(),
            updates: changes.iter().map(Change::to_proto).collect(),
            atomicity: p4::write_request::Atomicity::ContinueOnError.into(),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let call = client.write(request);
        match limit("write", self.options.bulk_timeout, call).await {
            Ok(_) => Ok(Ok(())),
            Err(Error::Rpc { what, status }) => match status.code() {
                tonic::Code::PermissionDenied => Err(Error::NotPrimary(format!("unknown, {}", status.message()))),
                tonic::Code::Unavailable
                | tonic::Code::Cancelled
                | tonic::Code::DeadlineExceeded
                | tonic::Code::Unauthenticated
                | tonic::Code::Unimplemented => Err(Error::Rpc { what, status }),
                _ => Ok(Err(*status)),
            },
            Err(error) => Err(error),
        }
    }
}

/// Splits changes where they may not travel together, and after `most` of them.
fn batches(changes: &[Change], most: usize) -> impl Iterator<Item = &[Change]> {
    let alike = |a: &Change, b: &Change| {
        let delete = |c: &Change| matches!(c, Change::Delete(_));
        delete(a) == delete(b) && a.key().rank() == b.key().rank()
    };
    changes.chunk_by(alike).flat_map(move |run| run.chunks(most.max(1)))
}

/// The outcomes from the details of a failed Write (P4Runtime 1.4, section 12.3), or `None` if there is not exactly one
/// for each of the `count` updates.
fn refusals(status: &tonic::Status, count: usize) -> Option<Vec<Outcome>> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    if details.len() != count {
        return None;
    }
    details
        .iter()
        .map(|any| {
            let error = p4::Error::decode(&*any.value).ok()?;
            Some(match code(error.canonical_code) {
                Code::Ok => Ok(()),
                code => Err(Refusal {
                    code,
                    message: error.message,
                }),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{ActionCall, Match, TableKey};

    #[test]
    fn dependent_changes_travel_apart() {
        let entry = |n: u32| {
            let key = TableKey::new(1, Match::builder().exact(1, n.to_be_bytes()));
            Entity::table(key, ActionCall::bare(1))
        };
        let changes = [
            Change::Insert(Entity::member(1, 1, ActionCall::bare(1))),
            Change::Insert(entry(1)),
            Change::Modify(entry(2)),
            Change::Insert(entry(3)),
            Change::Delete(entry(4).key().clone()),
        ];
        let lengths: Vec<_> = batches(&changes, 2).map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 2, 1, 1]);
    }

    #[test]
    fn permanent_objects_are_only_modified() {
        let default = Entity::default_action(1, ActionCall::bare(1));
        let modify = i32::from(p4::update::Type::Modify);
        let reset = Change::Delete(default.key().clone()).to_proto();
        assert_eq!(reset.r#type, modify);
        let Some(p4::entity::Entity::TableEntry(entry)) = reset.entity.unwrap().entity else {
            panic!("not a table entry");
        };
        assert!(entry.is_default_action && entry.action.is_none());
        assert_eq!(Change::Insert(default).to_proto().r#type, modify);
    }
}
