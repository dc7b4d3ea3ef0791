//! Digests: configuration, and building of lists from messages of the data plane (specification, section 9.10).
//!
//! [`Learner`] is pure: it takes messages, acknowledgements and the time, and returns lists. Memory is bounded: a
//! buffer holds at most [`MAX_LIST_SIZE`] messages, the cache of unacknowledged ones [`MAX_CACHED`]; further messages
//! are dropped and counted, which the specification allows.

use std::collections::{BTreeMap, VecDeque};

use foldhash::HashMap;
use p4runtime_proto::p4::config::v1 as config;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::p4_data::Data;
use p4runtime_proto::p4::v1::update::Type;

use super::array::signed_to_wire;
use super::bytestring;
use super::error::EntityError;
use super::info::{Digest, Info, Object};
use super::state::DigestConfig;
use super::write::{Transaction, Undo};

/// Longest list that is built, even if the client asks for longer ones: it must fit into a default gRPC message (4
/// MiB).
pub const MAX_LIST_SIZE: usize = 4096;

/// Sent messages remembered per digest until they are acknowledged or time out.
pub const MAX_CACHED: usize = 65_536;

/// One digest message: the fields' values as the data plane sent them, padded, in order.
pub type Message = Vec<Vec<u8>>;

/// The digest with this id.
pub(super) fn digest_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    match info.object(id) {
        Some(Object::Digest(index)) => Ok(index),
        _ => Err(EntityError::invalid(format!("digest {id:#x} does not exist"))),
    }
}

/// `DigestEntry`.
pub(super) fn write_config(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::DigestEntry,
) -> Result<(), EntityError> {
    let id = wire.digest_id;
    digest_index(&transaction.state.info, id)?;
    let digests = &mut transaction.state.digests;
    let old = match (kind, digests.contains_key(&id)) {
        (Type::Insert, true) => return Err(EntityError::exists("the digest is enabled already")),
        (Type::Modify | Type::Delete, false) => {
            return Err(EntityError::not_found("the digest is not enabled"));
        }
        (Type::Delete, _) => digests.remove(&id),
        _ => digests.insert(id, digest_config(wire.config.as_ref())?),
    };
    transaction.state.digest_changes += 1;
    transaction.remember(|_| Undo::Digest { id, old });
    Ok(())
}

fn digest_config(wire: Option<&v1::digest_entry::Config>) -> Result<DigestConfig, EntityError> {
    let wire = wire.cloned().unwrap_or_default();
    let negative = |name: &str| EntityError::invalid(format!("{name} is negative"));
    Ok(DigestConfig {
        max_timeout_ns: u64::try_from(wire.max_timeout_ns).map_err(|_| negative("max_timeout_ns"))?,
        max_list_size: usize::try_from(wire.max_list_size).map_err(|_| negative("max_list_size"))?,
        ack_timeout_ns: u64::try_from(wire.ack_timeout_ns).map_err(|_| negative("ack_timeout_ns"))?,
    })
}

/// A digest's configuration as a message.
pub(super) fn config_to_wire(id: u32, config: &DigestConfig) -> v1::DigestEntry {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let config = v1::digest_entry::Config {
        max_timeout_ns: signed(config.max_timeout_ns),
        max_list_size: i32::try_from(config.max_list_size).unwrap_or(i32::MAX),
        ack_timeout_ns: signed(config.ack_timeout_ns),
    };
    v1::DigestEntry {
        digest_id: id,
        config: Some(config),
    }
}

/// A list ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Which digest.
    pub digest_id: u32,
    /// Names the list in its acknowledgement.
    pub list_id: u64,
    /// Its messages, all different.
    pub messages: Vec<Message>,
}

#[derive(Debug, Default)]
struct Learning {
    config: Option<DigestConfig>,
    buffer: Vec<Message>,
    buffered_since_ns: u64,
    /// Sent or buffered messages; `None` is buffered, `Some` the list that carried it.
    known: HashMap<Message, Option<u64>>,
    /// Lists not acknowledged yet, oldest first, with their time and messages.
    unacknowledged: VecDeque<(u64, u64, Vec<Message>)>,
}

/// Builds digest lists. Times are nanoseconds of any clock that does not run backwards.
#[derive(Debug, Default)]
pub struct Learner {
    digests: BTreeMap<u32, Learning>,
    next_list: u64,
    /// Messages dropped because too many were unacknowledged, until somebody takes the number.
    pub dropped: u64,
}

impl Learner {
    /// Sets the current configurations; discards buffers of digests that are gone.
    pub fn configure(&mut self, configs: &BTreeMap<u32, DigestConfig>) {
        self.digests.retain(|id, _| configs.contains_key(id));
        for (id, config) in configs {
            self.digests.entry(*id).or_default().config = Some(*config);
        }
    }

    /// Forgets everything that was sent, because a new primary has seen none of it.
    pub fn forget(&mut self) {
        for learning in self.digests.values_mut() {
            learning.known.retain(|_, list| list.is_none());
            learning.unacknowledged.clear();
        }
    }

    /// Adds a message from the data plane; returns the list that it completed.
    pub fn learn(&mut self, digest_id: u32, message: Message, now_ns: u64) -> Option<List> {
        let learning = self.digests.get_mut(&digest_id)?;
        let config = learning.config?;
        if learning.known.contains_key(&message) {
            return None;
        }
        if learning.known.len() >= MAX_CACHED {
            self.dropped += 1;
            return None;
        }
        if learning.buffer.is_empty() {
            learning.buffered_since_ns = now_ns;
        }
        learning.known.insert(message.clone(), None);
        learning.buffer.push(message);
        let wanted = if config.max_list_size == 0 {
            MAX_LIST_SIZE
        } else {
            config.max_list_size
        };
        if config.max_timeout_ns == 0 || learning.buffer.len() >= wanted.min(MAX_LIST_SIZE) {
            return self.flush(digest_id, now_ns);
        }
        None
    }

    fn flush(&mut self, digest_id: u32, now_ns: u64) -> Option<List> {
        let learning = self.digests.get_mut(&digest_id)?;
        let messages = std::mem::take(&mut learning.buffer);
        if messages.is_empty() {
            return None;
        }
        self.next_list += 1;
        let list_id = self.next_list;
        if learning.config.is_some_and(|config| config.ack_timeout_ns > 0) {
            for message in &messages {
                learning.known.insert(message.clone(), Some(list_id));
            }
            learning.unacknowledged.push_back((list_id, now_ns, messages.clone()));
        } else {
            for message in &messages {
                learning.known.remove(message);
            }
        }
        Some(List {
            digest_id,
            list_id,
            messages,
        })
    }

    /// An acknowledgement: its messages may be sent again. Unknown lists have timed out before and are ignored.
    pub fn acknowledge(&mut self, digest_id: u32, list_id: u64) {
        let Some(learning) = self.digests.get_mut(&digest_id) else {
            return;
        };
        if let Some(place) = learning.unacknowledged.iter().position(|(id, ..)| *id == list_id)
            && let Some((_, _, messages)) = learning.unacknowledged.remove(place)
        {
            for message in &messages {
                learning.known.remove(message);
            }
        }
    }

    /// Lists whose messages have waited long enough. Forgets messages that timed out without an acknowledgement.
    pub fn tick(&mut self, now_ns: u64) -> Vec<List> {
        let mut due = Vec::new();
        for (id, learning) in &mut self.digests {
            let Some(config) = learning.config else { continue };
            while let Some((_, sent, _)) = learning.unacknowledged.front()
                && now_ns.saturating_sub(*sent) >= config.ack_timeout_ns
                && let Some((_, _, messages)) = learning.unacknowledged.pop_front()
            {
                for message in &messages {
                    learning.known.remove(message);
                }
            }
            if !learning.buffer.is_empty() && now_ns.saturating_sub(learning.buffered_since_ns) >= config.max_timeout_ns
            {
                due.push(*id);
            }
        }
        due.into_iter().filter_map(|id| self.flush(id, now_ns)).collect()
    }
}

/// Padded field values of one message as `P4Data` of the digest's type.
pub fn message_to_wire(info: &Info, digest: &Digest, message: &Message) -> v1::P4Data {
    let mut values = Values {
        rest: message.iter(),
        budget: MAX_NODES,
    };
    data(info, &digest.spec, &mut values, 0)
}

/// Nested types deeper than this are cut off: P4 types cannot be recursive, a hostile P4Info could claim so.
const MAX_DEPTH: usize = 16;

/// Parts of one message: no digest has as many fields, and a P4Info whose types contain themselves ends here.
const MAX_NODES: usize = 4096;

/// Values not used yet, and how many more parts may be built.
struct Values<'a> {
    rest: std::slice::Iter<'a, Vec<u8>>,
    budget: usize,
}

impl<'a> Values<'a> {
    fn next(&mut self) -> Option<&'a Vec<u8>> {
        self.rest.next()
    }
}

fn data(info: &Info, spec: &config::P4DataTypeSpec, values: &mut Values<'_>, depth: usize) -> v1::P4Data {
    use config::p4_data_type_spec::TypeSpec;
    if depth > MAX_DEPTH || values.budget == 0 {
        return v1::P4Data::default();
    }
    values.budget -= 1;
    let bits = |value: Option<&Vec<u8>>| bytestring::canonical_vec(value.map_or(&[], Vec::as_slice));
    let data = match &spec.type_spec {
        Some(TypeSpec::Bitstring(kind)) => Data::Bitstring(bitstring(kind, values.next())),
        Some(TypeSpec::Bool(_)) => Data::Bool(values.next().is_some_and(|value| value.iter().any(|b| *b != 0))),
        Some(TypeSpec::Tuple(tuple)) => {
            let members = tuple.members.iter().map(|member| data(info, member, values, depth + 1));
            Data::Tuple(v1::P4StructLike {
                members: members.collect(),
            })
        }
        Some(TypeSpec::Struct(named)) => {
            let members = info
                .types
                .structs
                .get(&named.name)
                .map_or(&[][..], |spec| &spec.members);
            let empty = config::P4DataTypeSpec::default();
            let members = members
                .iter()
                .map(|member| data(info, member.type_spec.as_ref().unwrap_or(&empty), values, depth + 1));
            Data::Struct(v1::P4StructLike {
                members: members.collect(),
            })
        }
        Some(TypeSpec::SerializableEnum(_)) => Data::EnumValue(bits(values.next())),
        Some(TypeSpec::Header(named)) => {
            let members = info
                .types
                .headers
                .get(&named.name)
                .map_or(&[][..], |spec| &spec.members);
            let bitstrings = members.iter().map(|member| match &member.type_spec {
                Some(kind) => bitstring(kind, values.next()),
                None => bits(values.next()),
            });
            Data::Header(v1::P4Header {
                is_valid: true,
                bitstrings: bitstrings.collect(),
            })
        }
        _ => Data::Bitstring(bits(values.next())),
    };
    v1::P4Data { data: Some(data) }
}

fn bitstring(kind: &config::P4BitstringLikeTypeSpec, value: Option<&Vec<u8>>) -> Vec<u8> {
    use config::p4_bitstring_like_type_spec::TypeSpec as Bits;
    let value = value.map_or(&[][..], Vec::as_slice);
    match &kind.type_spec {
        Some(Bits::Int(int)) => signed_to_wire(value, usize::try_from(int.bitwidth).unwrap_or(0)),
        _ => bytestring::canonical_vec(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learner(max_timeout_ns: u64, max_list_size: usize, ack_timeout_ns: u64) -> Learner {
        let mut learner = Learner::default();
        let config = DigestConfig {
            max_timeout_ns,
            max_list_size,
            ack_timeout_ns,
        };
        learner.configure(&BTreeMap::from([(1, config)]));
        learner
    }

    fn message(n: u8) -> Message {
        vec![vec![n]]
    }

    #[test]
    fn a_list_is_sent_when_it_is_full_of_distinct_messages() {
        let mut l = learner(1000, 2, 0);
        assert_eq!(l.learn(1, message(1), 0), None);
        assert_eq!(l.learn(1, message(1), 1), None);
        let list = l.learn(1, message(2), 2).unwrap();
        assert_eq!(list.messages, [message(1), message(2)]);
        assert_eq!(l.learn(1, message(3), 2), None);
        assert_eq!(l.learn(9, message(1), 2), None, "not enabled");
    }

    #[test]
    fn a_list_is_sent_when_its_first_message_has_waited() {
        let mut l = learner(1000, 0, 0);
        l.learn(1, message(1), 100);
        assert!(l.tick(1099).is_empty());
        assert_eq!(l.tick(1100)[0].messages, [message(1)]);
        assert!(l.tick(5000).is_empty());
    }

    #[test]
    fn unacknowledged_messages_are_not_repeated() {
        let mut l = learner(0, 1, 1000);
        let list = l.learn(1, message(1), 0).unwrap();
        assert_eq!(l.learn(1, message(1), 10), None);
        l.acknowledge(1, list.list_id);
        let again = l.learn(1, message(1), 20).unwrap();
        assert_ne!(again.list_id, list.list_id);
        l.tick(1019);
        assert_eq!(l.learn(1, message(1), 1019), None);
        l.tick(1020);
        assert!(l.learn(1, message(1), 1020).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let mut l = learner(0, 1, u64::MAX);
        for n in 0..=MAX_CACHED as u32 {
            l.learn(1, vec![n.to_be_bytes().to_vec()], 0);
        }
        assert_eq!(l.dropped, 1);
        l.forget();
        assert!(l.learn(1, message(1), 0).is_some());
    }

    #[test]
    fn removed_digests_are_forgotten() {
        let mut l = learner(0, 1, 0);
        l.configure(&BTreeMap::new());
        assert_eq!(l.learn(1, message(1), 0), None);
    }
}
