//! The compiled pipelines.

use p4runtime_proto::p4::config::v1::P4Info;
use prost::Message as _;

/// Why an embedded pipeline cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// The P4Info does not decode.
    #[error("pipeline `{name}`: P4Info does not decode: {reason}")]
    P4Info {
        /// The pipeline.
        name: &'static str,
        /// The decoder's message.
        reason: String,
    },
}

/// A compiled P4 program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline {
    /// Name of the profile: `leaf` or `spine`.
    pub name: &'static str,
    /// BMv2 JSON, the device configuration.
    pub json: &'static [u8],
    /// P4Info, binary protobuf.
    pub p4info: &'static [u8],
}

impl Pipeline {
    /// Connects hosts and bare-metal machines, ends and starts tunnels, routes for tenants.
    pub const LEAF: Self = Self {
        name: "leaf",
        json: include_bytes!(concat!(env!("OUT_DIR"), "/leaf.json")),
        p4info: include_bytes!(concat!(env!("OUT_DIR"), "/leaf.p4info.bin")),
    };

    /// Connects leaves; routes the underlay only.
    pub const SPINE: Self = Self {
        name: "spine",
        json: include_bytes!(concat!(env!("OUT_DIR"), "/spine.json")),
        p4info: include_bytes!(concat!(env!("OUT_DIR"), "/spine.p4info.bin")),
    };

    /// The P4Info, decoded.
    ///
    /// # Errors
    /// [`PipelineError::P4Info`] if the embedded bytes are not a P4Info.
    pub fn decode_p4info(&self) -> Result<P4Info, PipelineError> {
        P4Info::decode(self.p4info).map_err(|e| PipelineError::P4Info {
            name: self.name,
            reason: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The shape of a program's tables and actions by id, under names without the names of their controls.
    fn shape(info: &P4Info) -> BTreeMap<u32, String> {
        let mut shape = BTreeMap::new();
        for t in &info.tables {
            let mut t = t.clone();
            let id = t.preamble.take().map_or(0, |p| p.id);
            shape.insert(id, format!("{t:?}"));
        }
        let used: Vec<u32> = info.tables.iter().flat_map(|t| &t.action_refs).map(|r| r.id).collect();
        for a in &info.actions {
            let id = a.preamble.as_ref().map_or(0, |p| p.id);
            if used.contains(&id) {
                shape.insert(id, format!("{:?}", a.params));
            }
        }
        shape
    }

    #[test]
    fn the_spines_tables_are_the_leafs() {
        let leaf = shape(&Pipeline::LEAF.decode_p4info().unwrap());
        let spine = shape(&Pipeline::SPINE.decode_p4info().unwrap());
        for (id, what) in spine {
            assert_eq!(leaf.get(&id), Some(&what), "{id:#010x}");
        }
    }
}
