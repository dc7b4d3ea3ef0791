//! Multicast groups and clone sessions of the packet replication engine (specification, section 9.5).

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use std::collections::BTreeSet;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::packet_replication_engine_entry::Type as Wire;
use p4runtime_proto::p4::v1::replica::PortKind;
use p4runtime_proto::p4::v1::update::Type;

use super::bytestring;
use super::error::EntityError;
use super::state::{CloneSession, Multicast, Replica, State};
use super::target::Op;
use super::translation::Translator;
use super::write::{Transaction, Undo};

/// Largest multicast group id: v1model's `mcast_grp` has 16 bits.
const MAX_MULTICAST_GROUP: u32 = 0xffff;

/// Largest clone session id: BMv2 keeps mirror sessions in 15 bits.
const MAX_CLONE_SESSION: u32 = 0x7fff;

/// Largest port number of a replica: v1model's `egress_port` has 9 bits.
const MAX_PORT: u64 = 0x1ff;

/// Largest class of service: v1model's `priority` has 3 bits.
const MAX_CLASS_OF_SERVICE: u32 = 7;

/// Most copies in one group or session: far above any port count, and a bound on the work for one packet.
const MAX_REPLICAS: usize = 65_536;

/// Carries out an update of a group or session.
pub(super) fn write(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::PacketReplicationEngineEntry,
) -> Result<(), EntityError> {
    match &wire.r#type {
        Some(Wire::MulticastGroupEntry(group)) => write_multicast(transaction, kind, group)
            .map_err(|error| error.at(&format!("multicast group {}", group.multicast_group_id))),
        Some(Wire::CloneSessionEntry(session)) => write_clone(transaction, kind, session)
            .map_err(|error| error.at(&format!("clone session {}", session.session_id))),
        None => Err(EntityError::invalid(
            "neither a multicast group nor a clone session is given",
        )),
    }
}

fn check_existence(kind: Type, exists: bool) -> Result<(), EntityError> {
    match (kind, exists) {
        (Type::Insert, true) => Err(EntityError::exists("it exists already")),
        (Type::Modify | Type::Delete, false) => Err(EntityError::not_found("it does not exist")),
        _ => Ok(()),
    }
}

fn write_multicast(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::MulticastGroupEntry,
) -> Result<(), EntityError> {
    let id = wire.multicast_group_id;
    if !(1..=MAX_MULTICAST_GROUP).contains(&id) {
        return Err(EntityError::invalid(format!(
            "the id is not in 1..={MAX_MULTICAST_GROUP}"
        )));
    }
    check_existence(kind, transaction.state.multicast.contains_key(&id))?;
    let new = match kind {
        Type::Delete => None,
        _ => Some(Multicast {
            replicas: replicas(&wire.replicas, &transaction.state.translator)?,
            metadata: wire.metadata.clone(),
        }),
    };
    let replicas = new.as_ref().map(|group| group.replicas.clone());
    let groups = &mut transaction.state.multicast;
    let old = match new {
        Some(new) => groups.insert(id, new),
        None => groups.remove(&id),
    };
    let old = old.map(Box::new);
    transaction.remember(|_| Undo::Multicast { id, old });
    transaction.ops.push(Op::Multicast { id, replicas });
    Ok(())
}

fn write_clone(transaction: &mut Transaction<'_>, kind: Type, wire: &v1::CloneSessionEntry) -> Result<(), EntityError> {
    let id = wire.session_id;
    if !(1..=MAX_CLONE_SESSION).contains(&id) {
        return Err(EntityError::invalid(format!(
            "the id is not in 1..={MAX_CLONE_SESSION}"
        )));
    }
    check_existence(kind, transaction.state.clone_sessions.contains_key(&id))?;
    let new = match kind {
        Type::Delete => None,
        _ => Some(clone_session(wire, &transaction.state.translator)?),
    };
    let sessions = &mut transaction.state.clone_sessions;
    let old = match new.clone() {
        Some(new) => sessions.insert(id, new),
        None => sessions.remove(&id),
    };
    let old = old.map(Box::new);
    transaction.remember(|_| Undo::Clone { id, old });
    transaction.ops.push(Op::Clone { id, session: new });
    Ok(())
}

fn clone_session(wire: &v1::CloneSessionEntry, translator: &Translator) -> Result<CloneSession, EntityError> {
    let class_of_service = u8::try_from(wire.class_of_service)
        .ok()
        .filter(|class| u32::from(*class) <= MAX_CLASS_OF_SERVICE)
        .ok_or_else(|| EntityError::invalid(format!("class_of_service is not in 0..={MAX_CLASS_OF_SERVICE}")))?;
    let truncate_bytes =
        u32::try_from(wire.packet_length_bytes).map_err(|_| EntityError::invalid("packet_length_bytes is negative"))?;
    Ok(CloneSession {
        replicas: replicas(&wire.replicas, translator)?,
        class_of_service,
        truncate_bytes,
    })
}

fn port(value: &[u8], translator: &Translator) -> Result<u32, EntityError> {
    let number = translator.port_inward(value).filter(|number| *number <= MAX_PORT);
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| EntityError::invalid(format!("a replica's port is not in 0..={MAX_PORT}")))
}

fn instance(value: u32) -> Result<u16, EntityError> {
    u16::try_from(value).map_err(|_| EntityError::invalid("a replica's instance does not fit 16 bits"))
}

fn replicas(wire: &[v1::Replica], translator: &Translator) -> Result<Vec<Replica>, EntityError> {
    if wire.len() > MAX_REPLICAS {
        return Err(EntityError::exhausted(format!("more than {MAX_REPLICAS} replicas")));
    }
    let mut pairs = BTreeSet::new();
    let mut unique = |port: u32, instance: u16| match pairs.insert((port, instance)) {
        true => Ok(()),
        false => Err(EntityError::invalid(format!(
            "port {port} with instance {instance} is listed twice"
        ))),
    };
    let replicas = wire.iter().map(|replica| {
        let (number, deprecated) = match &replica.port_kind {
            Some(PortKind::Port(value)) => (port(value, translator)?, false),
            Some(PortKind::EgressPort(number)) => (port(&number.to_be_bytes(), translator)?, true),
            None => return Err(EntityError::invalid("a replica has no port")),
        };
        let rid = instance(replica.instance)?;
        unique(number, rid)?;
        let mut used = BTreeSet::from([number]);
        let backups = replica.backup_replicas.iter().map(|backup| {
            let backup_port = port(&backup.port, translator)?;
            let backup_rid = instance(backup.instance)?;
            if !used.insert(backup_port) {
                return Err(EntityError::invalid(format!("port {backup_port} backs itself up")));
            }
            unique(backup_port, backup_rid)?;
            Ok((backup_port, backup_rid))
        });
        let backups = backups.collect::<Result<Vec<_>, _>>()?;
        Ok(Replica {
            port: number,
            instance: rid,
            backups,
            deprecated,
        })
    });
    replicas.collect()
}

fn to_replicas(replicas: &[Replica]) -> Vec<v1::Replica> {
    let port = |port: u32| bytestring::from_u64(port.into());
    let wire = replicas.iter().map(|replica| v1::Replica {
        port_kind: Some(match replica.deprecated {
            true => PortKind::EgressPort(replica.port),
            false => PortKind::Port(port(replica.port)),
        }),
        instance: replica.instance.into(),
        backup_replicas: replica
            .backups
            .iter()
            .map(|(number, rid)| v1::BackupReplica {
                port: port(*number),
                instance: (*rid).into(),
            })
            .collect(),
    });
    wire.collect()
}

fn entry(entry: Wire) -> v1::PacketReplicationEngineEntry {
    v1::PacketReplicationEngineEntry { r#type: Some(entry) }
}

/// A multicast group as a message.
pub(super) fn multicast_to_wire(state: &State, id: u32) -> Option<v1::PacketReplicationEngineEntry> {
    let group = state.multicast.get(&id)?;
    Some(entry(Wire::MulticastGroupEntry(v1::MulticastGroupEntry {
        multicast_group_id: id,
        replicas: to_replicas(&group.replicas),
        metadata: group.metadata.clone(),
    })))
}

/// A clone session as a message.
pub(super) fn clone_to_wire(state: &State, id: u32) -> Option<v1::PacketReplicationEngineEntry> {
    let session = state.clone_sessions.get(&id)?;
    Some(entry(Wire::CloneSessionEntry(v1::CloneSessionEntry {
        session_id: id,
        replicas: to_replicas(&session.replicas),
        class_of_service: session.class_of_service.into(),
        packet_length_bytes: session.truncate_bytes as i32,
    })))
}
