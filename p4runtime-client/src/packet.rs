//! Packet-in and packet-out headers by field name.

use p4runtime_proto::p4::{
    config::v1::{ControllerPacketMetadata, P4Info},
    v1::{PacketIn, PacketMetadata, PacketOut},
};

use crate::{
    canonical::{fits, from_u128, to_u128},
    error::{Error, Result},
};

/// One field of a packet header.
#[derive(Debug, Clone)]
struct Field {
    id: u32,
    name: String,
    bitwidth: u32,
}

/// Codec of the `packet_in` and `packet_out` headers of one pipeline.
#[derive(Debug, Clone)]
pub struct PacketCodec {
    packet_in: Vec<Field>,
    packet_out: Vec<Field>,
}

impl PacketCodec {
    /// Takes the headers from a P4Info; a missing header has no fields.
    #[must_use]
    pub fn new(p4info: &P4Info) -> Self {
        let fields = |name: &str| {
            let named = |header: &&ControllerPacketMetadata| header.preamble.as_ref().is_some_and(|p| p.name == name);
            let header = p4info.controller_packet_metadata.iter().find(named);
            let metadata = header.map(|h| h.metadata.as_slice()).unwrap_or_default();
            let field = |m: &p4runtime_proto::p4::config::v1::controller_packet_metadata::Metadata| Field {
                id: m.id,
                name: m.name.clone(),
                bitwidth: u32::try_from(m.bitwidth).unwrap_or(0),
            };
            metadata.iter().map(field).collect()
        };
        Self {
            packet_in: fields("packet_in"),
            packet_out: fields("packet_out"),
        }
    }

    /// The value of one field of a packet-in's header; `None` when the pipeline
    /// or the packet does not have it.
    #[must_use]
    pub fn field(&self, packet: &PacketIn, name: &str) -> Option<u128> {
        let id = self.packet_in.iter().find(|f| f.name == name)?.id;
        let metadata = packet.metadata.iter().find(|m| m.metadata_id == id)?;
        to_u128(&metadata.value)
    }

    /// A packet-out. Fields that are not named (padding) are zero.
    ///
    /// # Errors
    /// [`Error::Schema`] for a field that the pipeline does not have or a value
    /// that does not fit: bmv2 drops such packets in silence.
    pub fn packet_out(&self, fields: &[(&str, u128)], payload: Vec<u8>) -> Result<PacketOut> {
        for (name, _) in fields {
            if !self.packet_out.iter().any(|f| f.name == *name) {
                return Err(Error::Schema(format!("packet_out has no field '{name}'")));
            }
        }
        let metadata = self.packet_out.iter().map(|field| {
            let given = fields.iter().find(|(name, _)| *name == field.name);
            let value = from_u128(given.map_or(0, |(_, value)| *value));
            if !fits(&value, field.bitwidth) {
                return Err(Error::Schema(format!(
                    "packet_out field '{}' has more than {} bits",
                    field.name, field.bitwidth
                )));
            }
            Ok(PacketMetadata {
                metadata_id: field.id,
                value,
            })
        });
        Ok(PacketOut {
            payload,
            metadata: metadata.collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p4runtime_proto::p4::config::v1::{Preamble, controller_packet_metadata::Metadata};

    fn codec() -> PacketCodec {
        let header = |name: &str, fields: &[(&str, i32)]| ControllerPacketMetadata {
            preamble: Some(Preamble {
                name: name.into(),
                ..Default::default()
            }),
            metadata: (1..)
                .zip(fields)
                .map(|(id, (name, bitwidth))| Metadata {
                    id,
                    name: (*name).into(),
                    bitwidth: *bitwidth,
                    ..Default::default()
                })
                .collect(),
        };
        PacketCodec::new(&P4Info {
            controller_packet_metadata: vec![
                header("packet_in", &[("ingress_port", 9), ("reason", 7)]),
                header("packet_out", &[("egress_port", 9), ("pad", 7)]),
            ],
            ..Default::default()
        })
    }

    #[test]
    fn every_field_is_sent() {
        let out = codec().packet_out(&[("egress_port", 300)], vec![1]).unwrap();
        let values: Vec<_> = out.metadata.iter().map(|m| (m.metadata_id, m.value.clone())).collect();
        assert_eq!(values, [(1, vec![1, 44]), (2, vec![0])]);
    }

    #[test]
    fn wrong_fields_are_refused() {
        assert!(codec().packet_out(&[("egress_port", 512)], vec![]).is_err());
        assert!(codec().packet_out(&[("port", 1)], vec![]).is_err());
    }

    #[test]
    fn fields_are_found_by_name() {
        let packet = PacketIn {
            payload: vec![],
            metadata: vec![PacketMetadata {
                metadata_id: 1,
                value: vec![0, 1, 44],
            }],
        };
        assert_eq!(codec().field(&packet, "ingress_port"), Some(300));
        assert_eq!(codec().field(&packet, "reason"), None);
    }
}
