//! `p4_device_config` of a pipeline: plain BMv2 JSON, or BMv2 JSON in the wrapper `p4.tmp.P4DeviceConfig`, which
//! controllers based on the P4 tutorials' library use.

use bmv2_json::Program;
use prost::Message as _;

use super::error::EntityError;

/// `p4.tmp.P4DeviceConfig`, without `extras` (field 2), which means nothing to a software switch.
#[derive(Clone, PartialEq, prost::Message)]
struct Wrapper {
    /// Whether to replace the running program. Ignored, because the action of the request decides that.
    #[prost(bool, tag = "1")]
    reassign: bool,
    /// The JSON.
    #[prost(bytes = "vec", tag = "3")]
    device_data: Vec<u8>,
}

/// Reads a device config in either form.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is neither, or the program cannot be read.
pub fn program(config: &[u8]) -> Result<Program, EntityError> {
    let parse = |json: &[u8]| {
        Program::from_slice(json).map_err(|error| EntityError::invalid(format!("device config: {error}")))
    };
    // JSON starts with a brace after white space, and none of these octets is a tag of the wrapper's fields.
    match config.iter().find(|octet| !octet.is_ascii_whitespace()) {
        None | Some(b'{') => parse(config),
        Some(_) => match Wrapper::decode(config) {
            Ok(wrapper) => parse(&wrapper.device_data),
            Err(_) => Err(EntityError::invalid(
                "device config: neither BMv2 JSON nor p4.tmp.P4DeviceConfig",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = include_bytes!("../../tests/data/crossover.json");

    #[test]
    fn both_forms_are_the_same_program() {
        let plain = program(JSON).unwrap();
        let wrapper = Wrapper {
            reassign: true,
            device_data: JSON.to_vec(),
        };
        assert_eq!(program(&wrapper.encode_to_vec()).unwrap(), plain);
        // `extras` with a map entry, between the other two.
        let extras = [
            &[0x08, 1, 0x12, 6, 0x0a, 4, 0x0a, 0, 0x12, 0][..],
            &Wrapper {
                reassign: false,
                device_data: JSON.to_vec(),
            }
            .encode_to_vec(),
        ]
        .concat();
        assert_eq!(program(&extras).unwrap(), plain);
        let indented = [b"\n\t ", JSON].concat();
        assert_eq!(program(&indented).unwrap(), plain);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (config, words) in [
            (&b""[..], "device config"),
            (b"{", "device config"),
            (b"\x7fELF", "neither"),
            (&[0x1a, 3, b'{'], "neither"),
            (&[0x1a, 1, b'{'], "device config"),
            (&[0x08, 1], "device config"),
        ] {
            let error = program(config).unwrap_err();
            assert!(error.message.contains(words), "{config:?}: {error}");
        }
    }
}
