//! The rights of a role (specification, section 5.2).
//!
//! The specification leaves the format of `Role.config` open. This server understands the one that Stratum switches
//! use, `stratum.P4RoleConfig`, which names P4 objects by id; anything else is refused with `INVALID_ARGUMENT`. A role
//! without config may do everything. The packet replication engine has no P4 id, so it belongs to roles without config.

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use prost::Message as _;

use super::bytestring;
use super::error::EntityError;

/// Name of the accepted message.
const CONFIG_TYPE: &str = "stratum.P4RoleConfig";

/// Largest accepted config; it lists object ids, and a pipeline has a few hundred of them.
const MAX_CONFIG_LEN: usize = 64 * 1024;

/// Wire format of `stratum.P4RoleConfig`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireConfig {
    #[prost(uint32, repeated, tag = "1")]
    exclusive_p4_ids: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    shared_p4_ids: Vec<u32>,
    #[prost(message, optional, tag = "3")]
    packet_in_filter: Option<WireFilter>,
    #[prost(bool, tag = "4")]
    receives_packet_ins: bool,
    #[prost(bool, tag = "5")]
    can_push_pipeline: bool,
}

/// Wire format of `stratum.P4RoleConfig.PacketFilter`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireFilter {
    #[prost(uint32, tag = "1")]
    metadata_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A role's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleConfig {
    wire: WireConfig,
    original: prost_types::Any,
}

impl RoleConfig {
    /// Reads `Role.config`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for another message type or a damaged message.
    pub fn parse(any: &prost_types::Any) -> Result<Self, EntityError> {
        let type_name = any.type_url.rsplit('/').next().unwrap_or_default();
        if type_name != CONFIG_TYPE {
            return Err(EntityError::invalid(format!(
                "role configs of type {:?} are not understood, only {CONFIG_TYPE}",
                any.type_url
            )));
        }
        if any.value.len() > MAX_CONFIG_LEN {
            return Err(EntityError::invalid("the role config is too long"));
        }
        let wire = WireConfig::decode(any.value.as_slice())
            .map_err(|error| EntityError::invalid(format!("role config: {error}")))?;
        Ok(Self {
            wire,
            original: any.clone(),
        })
    }

    /// The message as the client sent it.
    pub fn to_wire(&self) -> prost_types::Any {
        self.original.clone()
    }

    fn owns(&self, id: u32) -> bool {
        self.wire.exclusive_p4_ids.contains(&id) || self.wire.shared_p4_ids.contains(&id)
    }

    /// Whether the role may see an entity.
    pub fn may_read(&self, entity: &Kind) -> bool {
        p4_id(entity).is_some_and(|id| self.owns(id))
    }

    /// Whether the role may write an entity.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` naming the object.
    pub fn check_write(&self, entity: &Kind) -> Result<(), EntityError> {
        match p4_id(entity) {
            Some(id) if self.owns(id) => Ok(()),
            Some(id) => Err(no_access(id)),
            None => Err(EntityError::denied(
                "the role has no access to the packet replication engine",
            )),
        }
    }

    /// Whether the role's primary may write entries of this table.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` naming the table.
    pub fn check_table(&self, id: u32) -> Result<(), EntityError> {
        match self.owns(id) {
            true => Ok(()),
            false => Err(no_access(id)),
        }
    }

    /// Whether the role's primary may receive notifications about an object.
    pub fn may_observe(&self, id: u32) -> bool {
        self.owns(id)
    }

    /// Whether the role may set the pipeline.
    pub fn can_push_pipeline(&self) -> bool {
        self.wire.can_push_pipeline
    }

    /// Whether the role receives packets at all; one that does may also send them.
    pub fn has_packet_io(&self) -> bool {
        self.wire.receives_packet_ins
    }

    /// Whether this packet-in is for the role.
    pub fn receives(&self, packet: &v1::PacketIn) -> bool {
        let Some(filter) = &self.wire.packet_in_filter else {
            return self.wire.receives_packet_ins;
        };
        let wanted = bytestring::canonical(&filter.value);
        let mut metadata = packet.metadata.iter();
        self.wire.receives_packet_ins
            && metadata.any(|m| m.metadata_id == filter.metadata_id && bytestring::canonical(&m.value) == wanted)
    }
}

fn no_access(id: u32) -> EntityError {
    EntityError::denied(format!("the role has no access to object {id:#x}"))
}

/// The P4 object that an entity belongs to.
fn p4_id(entity: &Kind) -> Option<u32> {
    match entity {
        Kind::ExternEntry(entry) => Some(entry.extern_id),
        Kind::TableEntry(entry) => Some(entry.table_id),
        Kind::ActionProfileMember(member) => Some(member.action_profile_id),
        Kind::ActionProfileGroup(group) => Some(group.action_profile_id),
        Kind::MeterEntry(meter) => Some(meter.meter_id),
        Kind::DirectMeterEntry(meter) => meter.table_entry.as_ref().map(|entry| entry.table_id),
        Kind::CounterEntry(counter) => Some(counter.counter_id),
        Kind::DirectCounterEntry(counter) => counter.table_entry.as_ref().map(|entry| entry.table_id),
        Kind::PacketReplicationEngineEntry(_) => None,
        Kind::ValueSetEntry(set) => Some(set.value_set_id),
        Kind::RegisterEntry(register) => Some(register.register_id),
        Kind::DigestEntry(digest) => Some(digest.digest_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(wire: &WireConfig) -> prost_types::Any {
        prost_types::Any {
            type_url: format!("type.googleapis.com/{CONFIG_TYPE}"),
            value: wire.encode_to_vec(),
        }
    }

    fn table(table_id: u32) -> Kind {
        Kind::TableEntry(v1::TableEntry {
            table_id,
            ..Default::default()
        })
    }

    #[test]
    fn a_role_sees_and_writes_what_it_lists() {
        let wire = WireConfig {
            exclusive_p4_ids: vec![1],
            shared_p4_ids: vec![2],
            ..Default::default()
        };
        let role = RoleConfig::parse(&any(&wire)).unwrap();
        assert!(role.check_write(&table(1)).is_ok());
        assert!(role.may_read(&table(2)));
        assert_eq!(
            role.check_write(&table(3)).unwrap_err().code,
            tonic::Code::PermissionDenied
        );
        assert!(!role.can_push_pipeline());
    }

    #[test]
    fn packets_are_filtered_by_metadata() {
        let filter = Some(WireFilter {
            metadata_id: 1,
            value: vec![0, 5],
        });
        let wire = WireConfig {
            receives_packet_ins: true,
            packet_in_filter: filter,
            ..Default::default()
        };
        let role = RoleConfig::parse(&any(&wire)).unwrap();
        let packet = |value: u8| v1::PacketIn {
            payload: Vec::new(),
            metadata: vec![v1::PacketMetadata {
                metadata_id: 1,
                value: vec![value],
            }],
        };
        assert!(role.receives(&packet(5)));
        assert!(!role.receives(&packet(6)));
    }

    #[test]
    fn other_configs_are_refused() {
        let mut other = any(&WireConfig::default());
        other.type_url = "type.googleapis.com/google.rpc.Status".into();
        assert_eq!(
            RoleConfig::parse(&other).unwrap_err().code,
            tonic::Code::InvalidArgument
        );
        let mut damaged = any(&WireConfig::default());
        damaged.value = vec![0xff];
        assert!(RoleConfig::parse(&damaged).is_err());
    }
}
