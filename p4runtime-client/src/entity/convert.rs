//! Wire form of entities and back.

// Older servers return ports in the deprecated number form.
#![allow(deprecated)]

use p4runtime_proto::p4::v1 as p4;
use prost::Message as _;

use super::{
    ActionCall, BackupReplica, CloneValue, CounterValue, DigestConfig, Entity, EntityKey, EntityValue, FieldMatch,
    GroupMember, Match, MeterRates, OneShot, OneShotMember, Port, RegisterData, Replica, TableAction, TableExtra,
    TableKey, TableValue,
};
use crate::{
    canonical::{canonical, from_u128, to_u32},
    error::{Error, Result},
};

type Wire = p4::entity::Entity;

impl Entity {
    /// The wire form, as in an INSERT or MODIFY.
    #[must_use]
    pub fn to_proto(&self) -> p4::Entity {
        let mut wire = self.key.wire();
        match (&mut wire, &self.value) {
            (Wire::TableEntry(entry), EntityValue::Table(value)) => put_table(entry, value),
            (Wire::ActionProfileMember(member), EntityValue::Member(call)) => {
                member.action = Some(call.to_proto());
            }
            (Wire::ActionProfileGroup(group), EntityValue::Group(value)) => {
                group.max_size = value.max_size;
                group.members = value.members.iter().map(|m| m.to_proto()).collect();
            }
            (Wire::PacketReplicationEngineEntry(entry), value) => put_replication(entry, value),
            (Wire::DigestEntry(digest), EntityValue::Digest(config)) => {
                digest.config = Some(p4::digest_entry::Config {
                    max_timeout_ns: config.max_timeout_ns,
                    max_list_size: config.max_list_size,
                    ack_timeout_ns: config.ack_timeout_ns,
                });
            }
            (Wire::MeterEntry(meter), EntityValue::Meter(rates)) => {
                meter.config = Some(rates.to_proto());
            }
            (Wire::CounterEntry(counter), EntityValue::Counter(value)) => {
                counter.data = Some(p4::CounterData {
                    byte_count: value.bytes,
                    packet_count: value.packets,
                });
            }
            (Wire::ValueSetEntry(set), EntityValue::ValueSet(members)) => {
                let member = |m: &Match| p4::ValueSetMember { r#match: m.to_proto() };
                set.members = members.iter().map(member).collect();
            }
            (Wire::RegisterEntry(register), EntityValue::Register(data)) => {
                register.data = Some(data.to_proto());
            }
            // An `Entity` is only built from a key and a value of the same kind.
            _ => {}
        }
        p4::Entity { entity: Some(wire) }
    }

    /// Reads a wire form.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the message lacks a required part,
    /// [`Error::Unsupported`] for externs, match kinds and ports that this crate cannot express.
    pub fn from_proto(entity: &p4::Entity) -> Result<Self> {
        let missing = || Error::malformed("entity", "is empty");
        match entity.entity.as_ref().ok_or_else(missing)? {
            Wire::TableEntry(entry) => table(entry),
            Wire::ActionProfileMember(member) => {
                let action = member.action.as_ref();
                let action = action.ok_or_else(|| Error::malformed("member", "has no action"))?;
                let action = ActionCall::from_proto(action);
                Ok(Self::member(member.action_profile_id, member.member_id, action))
            }
            Wire::ActionProfileGroup(group) => {
                let members = group.members.iter().map(GroupMember::from_proto);
                let members = members.collect::<Result<_>>()?;
                let (profile, id) = (group.action_profile_id, group.group_id);
                Ok(Self::group(profile, id, members, group.max_size))
            }
            Wire::PacketReplicationEngineEntry(entry) => replication(entry),
            Wire::DigestEntry(digest) => {
                let config = digest.config.unwrap_or_default();
                let config = DigestConfig {
                    max_timeout_ns: config.max_timeout_ns,
                    max_list_size: config.max_list_size,
                    ack_timeout_ns: config.ack_timeout_ns,
                };
                Ok(Self::digest(digest.digest_id, config))
            }
            Wire::MeterEntry(meter) => {
                let rates = MeterRates::from_proto(&meter.config.unwrap_or_default());
                Ok(Self::meter(meter.meter_id, index(meter.index.as_ref())?, rates))
            }
            Wire::CounterEntry(counter) => {
                let value = CounterValue::from_proto(&counter.data.unwrap_or_default());
                Ok(Self::counter(counter.counter_id, index(counter.index.as_ref())?, value))
            }
            Wire::ValueSetEntry(set) => {
                let members = set.members.iter().map(|m| Match::from_proto(&m.r#match));
                Ok(Self::value_set(set.value_set_id, members.collect::<Result<_>>()?))
            }
            Wire::RegisterEntry(register) => {
                let data = register.data.as_ref();
                let data = RegisterData::from_proto(data.unwrap_or(&p4::P4Data::default()));
                Ok(Self::register(
                    register.register_id,
                    index(register.index.as_ref())?,
                    data,
                ))
            }
            Wire::DirectMeterEntry(_) => Err(Error::Unsupported("direct meter entry")),
            Wire::DirectCounterEntry(_) => Err(Error::Unsupported("direct counter entry")),
            Wire::ExternEntry(_) => Err(Error::Unsupported("extern entry")),
        }
    }
}

impl EntityKey {
    /// The wire form of the key without a value. A DELETE sends it, and so does a MODIFY that gives a permanent object
    /// its initial state again.
    #[must_use]
    pub fn to_proto(&self) -> p4::Entity {
        p4::Entity {
            entity: Some(self.wire()),
        }
    }

    fn wire(&self) -> Wire {
        match self {
            Self::Table(key) => Wire::TableEntry(p4::TableEntry {
                table_id: key.table_id,
                r#match: key.fields.to_proto(),
                priority: key.priority,
                ..Default::default()
            }),
            Self::DefaultAction { table_id } => Wire::TableEntry(p4::TableEntry {
                table_id: *table_id,
                is_default_action: true,
                ..Default::default()
            }),
            Self::Member { profile_id, member_id } => Wire::ActionProfileMember(p4::ActionProfileMember {
                action_profile_id: *profile_id,
                member_id: *member_id,
                action: None,
            }),
            Self::Group { profile_id, group_id } => Wire::ActionProfileGroup(p4::ActionProfileGroup {
                action_profile_id: *profile_id,
                group_id: *group_id,
                ..Default::default()
            }),
            Self::MulticastGroup(id) => replication_wire(
                p4::packet_replication_engine_entry::Type::MulticastGroupEntry(p4::MulticastGroupEntry {
                    multicast_group_id: *id,
                    ..Default::default()
                }),
            ),
            Self::CloneSession(id) => replication_wire(p4::packet_replication_engine_entry::Type::CloneSessionEntry(
                p4::CloneSessionEntry {
                    session_id: *id,
                    ..Default::default()
                },
            )),
            Self::Digest(digest_id) => Wire::DigestEntry(p4::DigestEntry {
                digest_id: *digest_id,
                config: None,
            }),
            Self::Meter { meter_id, index } => Wire::MeterEntry(p4::MeterEntry {
                meter_id: *meter_id,
                index: Some(cell(*index)),
                ..Default::default()
            }),
            Self::Counter { counter_id, index } => Wire::CounterEntry(p4::CounterEntry {
                counter_id: *counter_id,
                index: Some(cell(*index)),
                data: None,
            }),
            Self::ValueSet(value_set_id) => Wire::ValueSetEntry(p4::ValueSetEntry {
                value_set_id: *value_set_id,
                members: Vec::new(),
            }),
            Self::Register { register_id, index } => Wire::RegisterEntry(p4::RegisterEntry {
                register_id: *register_id,
                index: Some(cell(*index)),
                data: None,
            }),
        }
    }
}

fn replication_wire(kind: p4::packet_replication_engine_entry::Type) -> Wire {
    Wire::PacketReplicationEngineEntry(p4::PacketReplicationEngineEntry { r#type: Some(kind) })
}

fn cell(index: u32) -> p4::Index {
    p4::Index {
        index: i64::from(index),
    }
}

fn index(index: Option<&p4::Index>) -> Result<u32> {
    let index = index.ok_or_else(|| Error::malformed("cell", "has no index"))?;
    u32::try_from(index.index).map_err(|_| Error::malformed("cell", format!("has index {}", index.index)))
}

fn table(entry: &p4::TableEntry) -> Result<Entity> {
    let action = entry.action.as_ref().and_then(|a| a.r#type.as_ref());
    let action = action.ok_or_else(|| Error::malformed("table entry", "has no action"))?;
    let action = TableAction::from_proto(action)?;
    if entry.is_default_action {
        return Ok(Entity::default_action(entry.table_id, action));
    }
    let key = TableKey {
        table_id: entry.table_id,
        priority: entry.priority,
        fields: Match::from_proto(&entry.r#match)?,
    };
    let extra = TableExtra {
        meter: entry.meter_config.as_ref().map(MeterRates::from_proto),
        idle_timeout_ns: entry.idle_timeout_ns,
        metadata: entry.metadata.clone(),
    };
    Ok(Entity::table_with(key, action, extra))
}

fn put_table(entry: &mut p4::TableEntry, value: &TableValue) {
    entry.action = Some(p4::TableAction {
        r#type: Some(value.action.to_proto()),
    });
    if let Some(extra) = &value.extra {
        entry.meter_config = extra.meter.map(MeterRates::to_proto);
        entry.idle_timeout_ns = extra.idle_timeout_ns;
        entry.metadata.clone_from(&extra.metadata);
    }
}

fn replication(entry: &p4::PacketReplicationEngineEntry) -> Result<Entity> {
    use p4::packet_replication_engine_entry::Type;
    let empty = || Error::malformed("packet replication engine entry", "is empty");
    match entry.r#type.as_ref().ok_or_else(empty)? {
        Type::MulticastGroupEntry(group) => {
            let replicas = group.replicas.iter().map(Replica::from_proto);
            Ok(Entity::multicast_group_with(
                group.multicast_group_id,
                replicas.collect::<Result<_>>()?,
                group.metadata.clone(),
            ))
        }
        Type::CloneSessionEntry(session) => {
            let replicas = session.replicas.iter().map(Replica::from_proto);
            let value = CloneValue {
                replicas: replicas.collect::<Result<_>>()?,
                class_of_service: session.class_of_service,
                packet_length_bytes: session.packet_length_bytes,
            };
            Ok(Entity::clone_session(session.session_id, value))
        }
    }
}

fn put_replication(entry: &mut p4::PacketReplicationEngineEntry, value: &EntityValue) {
    use p4::packet_replication_engine_entry::Type;
    match (&mut entry.r#type, value) {
        (Some(Type::MulticastGroupEntry(group)), EntityValue::MulticastGroup(value)) => {
            group.replicas = value.replicas.iter().map(Replica::to_proto).collect();
            group.metadata.clone_from(&value.metadata);
        }
        (Some(Type::CloneSessionEntry(session)), EntityValue::CloneSession(value)) => {
            session.replicas = value.replicas.iter().map(Replica::to_proto).collect();
            session.class_of_service = value.class_of_service;
            session.packet_length_bytes = value.packet_length_bytes;
        }
        _ => {}
    }
}

impl Match {
    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> Vec<p4::FieldMatch> {
        use p4::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
        let wire = |(field_id, field)| p4::FieldMatch {
            field_id,
            field_match_type: Some(match field {
                FieldMatch::Exact(value) => FieldMatchType::Exact(Exact { value: value.to_vec() }),
                FieldMatch::Ternary { value, mask } => FieldMatchType::Ternary(Ternary {
                    value: value.to_vec(),
                    mask: mask.to_vec(),
                }),
                FieldMatch::Lpm { value, prefix_len } => FieldMatchType::Lpm(Lpm {
                    value: value.to_vec(),
                    prefix_len: i32::try_from(prefix_len).unwrap_or(i32::MAX),
                }),
                FieldMatch::Range { low, high } => FieldMatchType::Range(Range {
                    low: low.to_vec(),
                    high: high.to_vec(),
                }),
                FieldMatch::Optional(value) => FieldMatchType::Optional(Optional { value: value.to_vec() }),
            }),
        };
        self.fields().map(wire).collect()
    }

    /// Reads a wire form.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a field without value or with a negative prefix
    /// length, [`Error::Unsupported`] for match kinds of an architecture.
    pub fn from_proto(fields: &[p4::FieldMatch]) -> Result<Self> {
        use p4::field_match::FieldMatchType;
        let mut builder = Self::builder();
        for field in fields {
            let id = field.field_id;
            let empty = || Error::malformed("match field", format!("{id} has no value"));
            builder = match field.field_match_type.as_ref().ok_or_else(empty)? {
                FieldMatchType::Exact(m) => builder.exact(id, &m.value),
                FieldMatchType::Ternary(m) => builder.ternary(id, &m.value, &m.mask),
                FieldMatchType::Lpm(m) => {
                    let prefix_len = u32::try_from(m.prefix_len).map_err(|_| {
                        let problem = format!("{id} has prefix length {}", m.prefix_len);
                        Error::malformed("match field", problem)
                    })?;
                    // Servers return values that are zero after the prefix. So the field's width, which is not known
                    // here, is not needed.
                    builder.lpm(id, prefix_len, &m.value, prefix_len)
                }
                FieldMatchType::Range(m) => builder.range(id, 0, &m.low, &m.high),
                FieldMatchType::Optional(m) => builder.optional(id, &m.value),
                FieldMatchType::Other(_) => {
                    return Err(Error::Unsupported("match kind of an architecture"));
                }
            };
        }
        Ok(builder.build())
    }
}

impl ActionCall {
    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> p4::Action {
        let params = self.params().map(|(param_id, value)| p4::action::Param {
            param_id,
            value: value.to_vec(),
        });
        p4::Action {
            action_id: self.action_id(),
            params: params.collect(),
        }
    }

    /// Reads a wire form.
    #[must_use]
    pub fn from_proto(action: &p4::Action) -> Self {
        let params = action.params.iter().map(|p| (p.param_id, &p.value));
        Self::new(action.action_id, params)
    }
}

impl TableAction {
    fn to_proto(&self) -> p4::table_action::Type {
        use p4::table_action::Type;
        match self {
            Self::Call(call) => Type::Action(call.to_proto()),
            Self::Member(id) => Type::ActionProfileMemberId(*id),
            Self::Group(id) => Type::ActionProfileGroupId(*id),
            Self::OneShot(set) => Type::ActionProfileActionSet(p4::ActionProfileActionSet {
                action_profile_actions: set.members.iter().map(OneShotMember::to_proto).collect(),
                action_selection_mode: set.selection_mode,
                size_semantics: set.size_semantics,
                group_action: set.group_action.as_ref().map(ActionCall::to_proto),
            }),
        }
    }

    fn from_proto(action: &p4::table_action::Type) -> Result<Self> {
        use p4::table_action::Type;
        Ok(match action {
            Type::Action(action) => Self::Call(ActionCall::from_proto(action)),
            Type::ActionProfileMemberId(id) => Self::Member(*id),
            Type::ActionProfileGroupId(id) => Self::Group(*id),
            Type::ActionProfileActionSet(set) => {
                let members = set.action_profile_actions.iter();
                let members = members.map(OneShotMember::from_proto);
                let mut members = members.collect::<Result<Vec<_>>>()?;
                members.sort_unstable();
                Self::OneShot(
                    OneShot {
                        members,
                        group_action: set.group_action.as_ref().map(ActionCall::from_proto),
                        selection_mode: set.action_selection_mode,
                        size_semantics: set.size_semantics,
                    }
                    .into(),
                )
            }
        })
    }
}

impl OneShotMember {
    fn to_proto(&self) -> p4::ActionProfileAction {
        use p4::action_profile_action::WatchKind;
        let watch = self.watch_port.map(|p| WatchKind::WatchPort(p.to_bytes()));
        p4::ActionProfileAction {
            action: Some(self.action.to_proto()),
            weight: self.weight,
            watch_kind: watch,
        }
    }

    fn from_proto(member: &p4::ActionProfileAction) -> Result<Self> {
        use p4::action_profile_action::WatchKind;
        let missing = || Error::malformed("one-shot member", "has no action");
        let watch_port = match &member.watch_kind {
            Some(WatchKind::WatchPort(port)) => Port::watched(port)?,
            Some(WatchKind::Watch(port)) => Port::watched_number(*port)?,
            None => None,
        };
        Ok(Self {
            action: ActionCall::from_proto(member.action.as_ref().ok_or_else(missing)?),
            weight: member.weight,
            watch_port,
        })
    }
}

impl GroupMember {
    fn to_proto(self) -> p4::action_profile_group::Member {
        use p4::action_profile_group::member::WatchKind;
        p4::action_profile_group::Member {
            member_id: self.member_id,
            weight: self.weight,
            watch_kind: self.watch_port.map(|p| WatchKind::WatchPort(p.to_bytes())),
        }
    }

    fn from_proto(member: &p4::action_profile_group::Member) -> Result<Self> {
        use p4::action_profile_group::member::WatchKind;
        let watch_port = match &member.watch_kind {
            Some(WatchKind::WatchPort(port)) => Port::watched(port)?,
            Some(WatchKind::Watch(port)) => Port::watched_number(*port)?,
            None => None,
        };
        Ok(Self {
            member_id: member.member_id,
            weight: member.weight,
            watch_port,
        })
    }
}

impl Replica {
    fn to_proto(&self) -> p4::Replica {
        let backup = |b: &BackupReplica| p4::BackupReplica {
            port: b.port.to_bytes(),
            instance: b.instance,
        };
        p4::Replica {
            port_kind: Some(p4::replica::PortKind::Port(self.port.to_bytes())),
            instance: self.instance,
            backup_replicas: self.backups.iter().map(backup).collect(),
        }
    }

    fn from_proto(replica: &p4::Replica) -> Result<Self> {
        use p4::replica::PortKind;
        let port = match &replica.port_kind {
            Some(PortKind::Port(port)) => Port::from_bytes(port)?,
            Some(PortKind::EgressPort(port)) => Port(*port),
            None => return Err(Error::malformed("replica", "has no port")),
        };
        let backup = |b: &p4::BackupReplica| {
            Ok(BackupReplica {
                port: Port::from_bytes(&b.port)?,
                instance: b.instance,
            })
        };
        Ok(Self {
            port,
            instance: replica.instance,
            backups: replica.backup_replicas.iter().map(backup).collect::<Result<_>>()?,
        })
    }
}

impl MeterRates {
    fn to_proto(self) -> p4::MeterConfig {
        p4::MeterConfig {
            cir: self.cir,
            cburst: self.cburst,
            pir: self.pir,
            pburst: self.pburst,
            eburst: self.eburst,
        }
    }

    fn from_proto(config: &p4::MeterConfig) -> Self {
        Self {
            cir: config.cir,
            cburst: config.cburst,
            pir: config.pir,
            pburst: config.pburst,
            eburst: config.eburst,
        }
    }
}

impl CounterValue {
    pub(crate) fn from_proto(data: &p4::CounterData) -> Self {
        Self {
            bytes: data.byte_count,
            packets: data.packet_count,
        }
    }
}

impl RegisterData {
    /// Encodes a value.
    #[must_use]
    pub fn from_proto(data: &p4::P4Data) -> Self {
        Self(data.encode_to_vec().into())
    }

    /// The wire form.
    #[must_use]
    pub fn to_proto(&self) -> p4::P4Data {
        // Only `from_proto` makes these bytes, so they decode.
        p4::P4Data::decode(&*self.0).unwrap_or_default()
    }
}

impl Port {
    fn to_bytes(self) -> Vec<u8> {
        from_u128(u128::from(self.0))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        to_u32(bytes)
            .filter(|_| !canonical(bytes).is_empty())
            .map(Self)
            .ok_or(Error::Unsupported("port that is not a 32-bit number"))
    }

    /// A watch port; empty means that no port is watched.
    fn watched(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        Self::from_bytes(bytes).map(Some)
    }

    /// The deprecated number form, in which 0 means that no port is watched.
    fn watched_number(port: i32) -> Result<Option<Self>> {
        let negative = |_| Error::malformed("watch", format!("is port {port}"));
        let port = u32::try_from(port).map_err(negative)?;
        Ok((port != 0).then_some(Self(port)))
    }
}
