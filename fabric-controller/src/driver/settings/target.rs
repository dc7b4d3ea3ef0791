//! Where targets deviate from OpenConfig in the settings of a switch: one place for each target.
//!
//! A target is recognised by the models that its gNMI server names in `Capabilities`. A path that a target does not have at all needs no
//! entry here: that is found by asking.

use gnmi_proto::gnmi::CapabilityResponse;
use vfabric_api::ethernet::Fec;

/// How a target names settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Leaf of an interface's `ethernet/{config,state}` for forward error correction.
    pub fec_leaf: &'static str,
    /// Module of its values.
    fec_module: &'static str,
    /// Whether it has one value for all Reed-Solomon codes.
    one_rs: bool,
    /// Index of the group of a breakout, if the switch reports none yet.
    pub breakout_group: u8,
}

impl Dialect {
    /// As the models are published: `p4-switch`, and switches in the field that follow them.
    pub const OPENCONFIG: Self = Self {
        fec_leaf: "fec-mode",
        fec_module: "openconfig-if-ethernet",
        one_rs: false,
        breakout_group: 0,
    };

    /// SONiC's management framework: its own leaf for forward error correction (openconfig-if-ethernet-ext2), groups from 1.
    pub const SONIC: Self = Self {
        fec_leaf: "openconfig-if-ethernet-ext2:port-fec",
        fec_module: "openconfig-platform-ext",
        one_rs: true,
        breakout_group: 1,
    };

    /// The one of a server with these capabilities.
    pub fn of(capabilities: &CapabilityResponse) -> Self {
        let is_sonic = |name: &str| name == "openconfig-if-ethernet-ext2";
        match capabilities.supported_models.iter().any(|model| is_sonic(&model.name)) {
            true => Self::SONIC,
            false => Self::OPENCONFIG,
        }
    }

    /// The identity of a mode, without its module.
    pub fn fec_identity(self, fec: Fec) -> &'static str {
        match fec {
            Fec::Rs528 | Fec::Rs544 | Fec::Rs544Interleaved if self.one_rs => "FEC_RS",
            fec => fec.identity(),
        }
    }

    /// The identity with its module, as it is set.
    pub fn fec_value(self, fec: Fec) -> String {
        format!("{}:{}", self.fec_module, self.fec_identity(fec))
    }
}

#[cfg(test)]
mod tests {
    use gnmi_proto::gnmi::ModelData;

    use super::*;

    #[test]
    fn a_target_is_known_by_its_models() {
        let with = |name: &str| CapabilityResponse {
            supported_models: vec![ModelData {
                name: name.into(),
                ..ModelData::default()
            }],
            ..CapabilityResponse::default()
        };
        let sonic = Dialect::of(&with("openconfig-if-ethernet-ext2"));
        assert_eq!(sonic.fec_value(Fec::Rs544), "openconfig-platform-ext:FEC_RS");
        let plain = Dialect::of(&with("openconfig-if-ethernet"));
        assert_eq!(plain.fec_value(Fec::Rs544), "openconfig-if-ethernet:FEC_RS544");
    }
}
