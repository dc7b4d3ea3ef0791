//! P4Runtime entities in a keyed, canonical, comparable form.
//!
//! An [`Entity`] is an [`EntityKey`], which names an object of the switch,
//! and an [`EntityValue`], which is the object's content. Two
//! entities that mean the same are equal and hash alike, whatever order,
//! leading zeros or deprecated fields their wire forms had. So desired and
//! applied state can be compared as maps. Both halves are small and clone by
//! reference count.
//!
//! Counters of table entries and times of last hits are observations; they are not part of a value.

mod convert;
mod packed;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use packed::{ActionCall, FieldMatch, Match, MatchBuilder};

/// A port, as the pipeline numbers it (P4Runtime 1.4, section 8.5). Targets
/// whose port type is translated to strings are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub u32);

/// Names one object of a switch.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityKey {
    /// An entry of a table.
    Table(TableKey),
    /// The default action of a table. It always exists: setting it modifies it, removing it restores the program's own.
    DefaultAction {
        /// The table.
        table_id: u32,
    },
    /// A member of an action profile or selector.
    Member {
        /// The profile.
        profile_id: u32,
        /// Chosen by the controller, from 1.
        member_id: u32,
    },
    /// A group of an action selector.
    Group {
        /// The selector.
        profile_id: u32,
        /// Chosen by the controller, from 1.
        group_id: u32,
    },
    /// A multicast group, from 1.
    MulticastGroup(u32),
    /// A clone session, from 1.
    CloneSession(u32),
    /// The configuration of a digest.
    Digest(u32),
    /// A cell of a meter. It always exists; removing it sets it to its default.
    Meter {
        /// The meter.
        meter_id: u32,
        /// The cell.
        index: u32,
    },
    /// A cell of a counter. It always exists.
    Counter {
        /// The counter.
        counter_id: u32,
        /// The cell.
        index: u32,
    },
    /// The content of a parser value set. It always exists; removing it
    /// empties it.
    ValueSet(u32),
    /// A cell of a register array. It always exists and cannot be removed.
    Register {
        /// The array.
        register_id: u32,
        /// The cell.
        index: u32,
    },
}

/// Key of a table entry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableKey {
    /// The table.
    pub table_id: u32,
    /// The entry with the largest priority wins. It is above 0 if the key has a ternary, range or optional field, and 0
    /// otherwise.
    pub priority: i32,
    /// The match fields.
    pub fields: Match,
}

/// The content of an object, desired or read back. The variant matches the key's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntityValue {
    /// Of a table entry or default action.
    Table(TableValue),
    /// Of a member: its action.
    Member(ActionCall),
    /// Of a group.
    Group(Arc<GroupValue>),
    /// Of a multicast group.
    MulticastGroup(Arc<MulticastValue>),
    /// Of a clone session.
    CloneSession(Arc<CloneValue>),
    /// Of a digest.
    Digest(DigestConfig),
    /// Of a meter cell.
    Meter(Arc<MeterRates>),
    /// Of a counter cell.
    Counter(CounterValue),
    /// Of a value set: its members, sorted.
    ValueSet(Arc<[Match]>),
    /// Of a register cell.
    Register(RegisterData),
}

/// Value of a table entry or default action.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableValue {
    /// What to do.
    pub action: TableAction,
    /// Parts that few entries have.
    pub extra: Option<Arc<TableExtra>>,
}

/// Parts that few table entries have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TableExtra {
    /// Direct meter; `None` is the default, all green.
    pub meter: Option<MeterRates>,
    /// Time without a hit after which the entry ages out; 0: never.
    pub idle_timeout_ns: i64,
    /// Opaque to the switch.
    pub metadata: Vec<u8>,
}

/// The action of a table entry, or what it points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TableAction {
    /// An action.
    Call(ActionCall),
    /// A member of the table's action profile.
    Member(u32),
    /// A group of the table's action selector.
    Group(u32),
    /// Members without ids, owned by this entry.
    OneShot(Arc<OneShot>),
}

/// A one-shot group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OneShot {
    /// Sorted.
    pub members: Vec<OneShotMember>,
    /// Executed once for the set, in addition to the chosen member's action.
    pub group_action: Option<ActionCall>,
    /// `p4.v1.ActionProfileActionSet.ActionSelectionMode`.
    pub selection_mode: i32,
    /// `p4.v1.ActionProfileActionSet.SizeSemantics`.
    pub size_semantics: i32,
}

/// Member of a one-shot group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OneShotMember {
    /// What it does.
    pub action: ActionCall,
    /// Its share, from 1.
    pub weight: i32,
    /// The member is skipped while this port is down.
    pub watch_port: Option<Port>,
}

/// Value of a group of an action selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupValue {
    /// Sorted by member id.
    pub members: Vec<GroupMember>,
    /// Fixed when the group is made. From 1 to the selector's `max_group_size` if P4Info has one; otherwise 0, which
    /// sets no limit (section 9.2.2).
    pub max_size: i32,
}

/// A member's part in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupMember {
    /// The member.
    pub member_id: u32,
    /// Its share, from 1.
    pub weight: i32,
    /// The member is skipped while this port is down.
    pub watch_port: Option<Port>,
}

/// Value of a multicast group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MulticastValue {
    /// Sorted by (port, instance), which is unique in a group.
    pub replicas: Vec<Replica>,
    /// Opaque to the switch.
    pub metadata: Vec<u8>,
}

/// One copy of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The port on which it leaves.
    pub port: Port,
    /// Its `egress_rid`.
    pub instance: u32,
    /// The ports on which it leaves while those before them are down, in order of preference.
    pub backups: Vec<BackupReplica>,
}

/// The port on which a replica leaves while the ports before it are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupReplica {
    /// Port.
    pub port: Port,
    /// Its `egress_rid`.
    pub instance: u32,
}

/// Value of a clone session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CloneValue {
    /// Sorted by (port, instance).
    pub replicas: Vec<Replica>,
    /// Traffic class of the copies.
    pub class_of_service: u32,
    /// Copies are cut to this length in bytes; 0: not cut.
    pub packet_length_bytes: i32,
}

/// How a digest is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DigestConfig {
    /// A list is sent at the latest after this time; 0: at once.
    pub max_timeout_ns: i64,
    /// A list is sent when it has this many messages. With 0, bmv2 never sends.
    pub max_list_size: i32,
    /// The same message is sent again only after an acknowledgement or after this time.
    pub ack_timeout_ns: i64,
}

/// Rates per second and bursts of a meter, in bytes or packets as P4Info says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MeterRates {
    /// Committed rate.
    pub cir: i64,
    /// Committed burst.
    pub cburst: i64,
    /// Peak rate.
    pub pir: i64,
    /// Peak burst.
    pub pburst: i64,
    /// Excess burst of a single-rate meter.
    pub eburst: i64,
}

/// Value of a register cell, kept encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisterData(Arc<[u8]>);

/// Value of a counter. If the counter does not count bytes, or packets, that part is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CounterValue {
    /// Bytes.
    pub bytes: i64,
    /// Packets.
    pub packets: i64,
}

/// An object of a switch, with its desired content or the content that was read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entity {
    key: EntityKey,
    value: EntityValue,
}

/// Coarse order in which entities are created; they are removed in reverse.
/// [`crate::order::Order`] refines it by the references between tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rank {
    /// Refers to nothing: digests, meters, registers, value sets, counters.
    Leaf,
    /// Members of action profiles.
    Member,
    /// Groups, which refer to members.
    Group,
    /// Multicast groups and clone sessions.
    Replication,
    /// Table entries and default actions, which refer to all of these.
    Entry,
}

impl Entity {
    /// A table entry.
    #[must_use]
    pub fn table(key: TableKey, action: impl Into<TableAction>) -> Self {
        let action = action.into();
        Self {
            key: EntityKey::Table(key),
            value: EntityValue::Table(TableValue { action, extra: None }),
        }
    }

    /// A table entry with a direct meter, ageing or metadata. An empty `extra` is the same as none.
    #[must_use]
    pub fn table_with(key: TableKey, action: impl Into<TableAction>, extra: TableExtra) -> Self {
        let action = action.into();
        let extra = (extra != TableExtra::default()).then(|| Arc::new(extra));
        Self {
            key: EntityKey::Table(key),
            value: EntityValue::Table(TableValue { action, extra }),
        }
    }

    /// The default action of a table.
    #[must_use]
    pub fn default_action(table_id: u32, action: impl Into<TableAction>) -> Self {
        let action = action.into();
        Self {
            key: EntityKey::DefaultAction { table_id },
            value: EntityValue::Table(TableValue { action, extra: None }),
        }
    }

    /// A member of an action profile.
    #[must_use]
    pub fn member(profile_id: u32, member_id: u32, action: ActionCall) -> Self {
        Self {
            key: EntityKey::Member { profile_id, member_id },
            value: EntityValue::Member(action),
        }
    }

    /// A group of an action selector; the order of `members` is free.
    #[must_use]
    pub fn group(profile_id: u32, group_id: u32, mut members: Vec<GroupMember>, max_size: i32) -> Self {
        members.sort_unstable();
        Self {
            key: EntityKey::Group { profile_id, group_id },
            value: EntityValue::Group(Arc::new(GroupValue { members, max_size })),
        }
    }

    /// A multicast group; the order of `replicas` is free.
    #[must_use]
    pub fn multicast_group(group_id: u32, replicas: Vec<Replica>) -> Self {
        Self::multicast_group_with(group_id, replicas, Vec::new())
    }

    /// A multicast group with metadata.
    #[must_use]
    pub fn multicast_group_with(group_id: u32, mut replicas: Vec<Replica>, metadata: Vec<u8>) -> Self {
        replicas.sort_unstable();
        Self {
            key: EntityKey::MulticastGroup(group_id),
            value: EntityValue::MulticastGroup(Arc::new(MulticastValue { replicas, metadata })),
        }
    }

    /// A clone session.
    #[must_use]
    pub fn clone_session(session_id: u32, mut value: CloneValue) -> Self {
        value.replicas.sort_unstable();
        Self {
            key: EntityKey::CloneSession(session_id),
            value: EntityValue::CloneSession(Arc::new(value)),
        }
    }

    /// The configuration of a digest.
    #[must_use]
    pub fn digest(digest_id: u32, config: DigestConfig) -> Self {
        Self {
            key: EntityKey::Digest(digest_id),
            value: EntityValue::Digest(config),
        }
    }

    /// A meter cell.
    #[must_use]
    pub fn meter(meter_id: u32, index: u32, rates: MeterRates) -> Self {
        Self {
            key: EntityKey::Meter { meter_id, index },
            value: EntityValue::Meter(Arc::new(rates)),
        }
    }

    /// A counter cell.
    #[must_use]
    pub fn counter(counter_id: u32, index: u32, value: CounterValue) -> Self {
        Self {
            key: EntityKey::Counter { counter_id, index },
            value: EntityValue::Counter(value),
        }
    }

    /// The content of a parser value set; the order of `members` is free.
    #[must_use]
    pub fn value_set(value_set_id: u32, mut members: Vec<Match>) -> Self {
        members.sort_unstable();
        Self {
            key: EntityKey::ValueSet(value_set_id),
            value: EntityValue::ValueSet(members.into()),
        }
    }

    /// A register cell.
    #[must_use]
    pub fn register(register_id: u32, index: u32, data: RegisterData) -> Self {
        Self {
            key: EntityKey::Register { register_id, index },
            value: EntityValue::Register(data),
        }
    }

    /// Joins a key and a value; `None` if they are of different kinds.
    #[must_use]
    pub fn from_parts(key: EntityKey, value: EntityValue) -> Option<Self> {
        let fit = matches!(
            (&key, &value),
            (
                EntityKey::Table(_) | EntityKey::DefaultAction { .. },
                EntityValue::Table(_)
            ) | (EntityKey::Member { .. }, EntityValue::Member(_))
                | (EntityKey::Group { .. }, EntityValue::Group(_))
                | (EntityKey::MulticastGroup(_), EntityValue::MulticastGroup(_))
                | (EntityKey::CloneSession(_), EntityValue::CloneSession(_))
                | (EntityKey::Digest(_), EntityValue::Digest(_))
                | (EntityKey::Meter { .. }, EntityValue::Meter(_))
                | (EntityKey::Counter { .. }, EntityValue::Counter(_))
                | (EntityKey::ValueSet(_), EntityValue::ValueSet(_))
                | (EntityKey::Register { .. }, EntityValue::Register(_))
        );
        fit.then_some(Self { key, value })
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &EntityKey {
        &self.key
    }

    /// The object's content.
    #[must_use]
    pub fn value(&self) -> &EntityValue {
        &self.value
    }

    /// Key and value.
    #[must_use]
    pub fn into_parts(self) -> (EntityKey, EntityValue) {
        (self.key, self.value)
    }
}

impl EntityKey {
    /// Coarse order of creation.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::Digest(_) | Self::Meter { .. } | Self::Counter { .. } | Self::ValueSet(_) | Self::Register { .. } => {
                Rank::Leaf
            }
            Self::Member { .. } => Rank::Member,
            Self::Group { .. } => Rank::Group,
            Self::MulticastGroup(_) | Self::CloneSession(_) => Rank::Replication,
            Self::Table(_) | Self::DefaultAction { .. } => Rank::Entry,
        }
    }

    /// Whether the object always exists, so that it can only be modified (default actions and cells of arrays).
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::DefaultAction { .. }
                | Self::Meter { .. }
                | Self::Counter { .. }
                | Self::ValueSet(_)
                | Self::Register { .. }
        )
    }

    /// The table of an entry or default action.
    #[must_use]
    pub fn table_id(&self) -> Option<u32> {
        match self {
            Self::Table(key) => Some(key.table_id),
            Self::DefaultAction { table_id } => Some(*table_id),
            _ => None,
        }
    }
}

impl GroupValue {
    /// Whether the two differ at most in watch ports, which some servers do not have
    /// ([`crate::target::Target::watches_ports`]).
    #[must_use]
    pub fn eq_but_watch_ports(&self, other: &Self) -> bool {
        let plain = |group: &Self| -> Vec<_> {
            let members = group.members.iter();
            members.map(|m| (m.member_id, m.weight)).collect()
        };
        self.max_size == other.max_size && plain(self) == plain(other)
    }
}

impl TableKey {
    /// A key without priority: exact and LPM fields only.
    #[must_use]
    pub fn new(table_id: u32, fields: MatchBuilder) -> Self {
        Self::with_priority(table_id, fields, 0)
    }

    /// A key with a priority, larger wins.
    #[must_use]
    pub fn with_priority(table_id: u32, fields: MatchBuilder, priority: i32) -> Self {
        Self {
            table_id,
            priority,
            fields: fields.build(),
        }
    }
}

impl From<ActionCall> for TableAction {
    fn from(call: ActionCall) -> Self {
        Self::Call(call)
    }
}

impl Replica {
    /// A replica without backups.
    #[must_use]
    pub fn new(port: Port, instance: u32) -> Self {
        Self {
            port,
            instance,
            backups: Vec::new(),
        }
    }
}

impl fmt::Display for EntityKey {
    /// Kind and ids in numbers; [`crate::names::Names::describe`] has names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(key) => {
                write!(f, "table {:#010x} {:?}", key.table_id, key.fields)?;
                if key.priority != 0 {
                    write!(f, " priority {}", key.priority)?;
                }
                Ok(())
            }
            Self::DefaultAction { table_id } => write!(f, "table {table_id:#010x} default"),
            Self::Member { profile_id, member_id } => write!(f, "profile {profile_id:#010x} member {member_id}"),
            Self::Group { profile_id, group_id } => write!(f, "profile {profile_id:#010x} group {group_id}"),
            Self::MulticastGroup(id) => write!(f, "multicast group {id}"),
            Self::CloneSession(id) => write!(f, "clone session {id}"),
            Self::Digest(id) => write!(f, "digest {id:#010x}"),
            Self::Meter { meter_id, index } => write!(f, "meter {meter_id:#010x}[{index}]"),
            Self::Counter { counter_id, index } => {
                write!(f, "counter {counter_id:#010x}[{index}]")
            }
            Self::ValueSet(id) => write!(f, "value set {id:#010x}"),
            Self::Register { register_id, index } => {
                write!(f, "register {register_id:#010x}[{index}]")
            }
        }
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&EntityKey::Table(self.clone()), f)
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.key, self.value)
    }
}
