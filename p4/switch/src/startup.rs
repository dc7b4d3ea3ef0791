//! The program that a switch is started with: BMv2 JSON and P4Info from files.

use std::path::Path;

use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::ForwardingPipelineConfig;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::p4runtime::derive;

/// Reads a program and its P4Info, in protobuf's text or binary format; without a file, P4Info is derived from the
/// program.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read(json: &Path, p4info: Option<&Path>) -> Result<ForwardingPipelineConfig, String> {
    let slurp = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let device_config = slurp(json)?;
    let info = match p4info {
        Some(path) => decode(&slurp(path)?).map_err(|error| format!("{}: {error}", path.display()))?,
        None => {
            let program = bmv2_json::Program::from_slice(&device_config);
            derive::p4info(&program.map_err(|error| format!("{}: {error}", json.display()))?)
        }
    };
    Ok(ForwardingPipelineConfig {
        p4info: Some(info),
        p4_device_config: device_config,
        cookie: None,
    })
}

fn decode(octets: &[u8]) -> Result<P4Info, String> {
    // Text never starts like a message: field 1 of P4Info has tag 0x0a, a line feed, but then a length.
    if let Ok(info) = P4Info::decode(octets)
        && !info.tables.iter().any(|t| t.preamble.is_none())
        && info.encoded_len() > 0
    {
        return Ok(info);
    }
    let text =
        std::str::from_utf8(octets).map_err(|_| "neither P4Info in protobuf's text format nor in its binary one")?;
    let pool = DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET).map_err(|e| e.to_string())?;
    let kind = pool
        .get_message_by_name("p4.config.v1.P4Info")
        .ok_or("P4Info is not described")?;
    let message = DynamicMessage::parse_text_format(kind, text)
        .map_err(|error| format!("P4Info in protobuf's text or binary format is expected: {error}"))?;
    message.transcode_to().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    #[test]
    fn text_and_binary_say_the_same() {
        let json = data("entities.json");
        let text = read(&json, Some(&data("entities.p4info.txtpb"))).unwrap();
        let binary = read(&json, Some(&data("entities.p4info.bin"))).unwrap();
        assert_eq!(text, binary);
        assert!(text.p4info.is_some_and(|i| i.tables.len() == 7));
    }

    #[test]
    fn errors_name_the_file() {
        let json = data("entities.json");
        let error = read(&json, Some(&json)).unwrap_err();
        assert!(error.contains("entities.json") && error.contains("P4Info"), "{error}");
        let error = read(&data("nowhere.json"), None).unwrap_err();
        assert!(error.contains("nowhere.json"), "{error}");
        let error = read(&data("entities.p4"), None).unwrap_err();
        assert!(error.contains("entities.p4"), "{error}");
    }
}
