//! The wire format of the protobuf definitions: every number, type and RPC, one line each, compared with the files in
//! `golden/`.
//!
//! A line that changes or disappears breaks peers that run another version. For P4Runtime and gNMI, `wire_format.rs`
//! also compares the descriptors with those of other projects.

use std::fmt::Write as _;
use std::path::Path;

use golden::Golden;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

#[test]
fn protobuf_definitions_are_the_golden_ones() {
    let mut golden = Golden::folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"));
    for (name, set) in [
        ("p4runtime", p4runtime_proto::FILE_DESCRIPTOR_SET),
        ("gnmi", gnmi_proto::FILE_DESCRIPTOR_SET),
        ("vtep", vtep_proto::FILE_DESCRIPTOR_SET),
    ] {
        golden.check(&format!("{name}.proto.txt"), &listing(set));
    }
    golden.finish();
}

/// All declarations but those of Google's own well-known types.
fn listing(set: &[u8]) -> String {
    let mut text = String::new();
    for file in FileDescriptorSet::decode(set).unwrap().file {
        let package = file.package().to_owned();
        if package == "google.protobuf" {
            continue;
        }
        for service in &file.service {
            writeln!(text, "service {package}.{}", service.name()).unwrap();
            for rpc in &service.method {
                let side = |streams: bool, kind: &str| {
                    let stream = if streams { "stream " } else { "" };
                    format!("{stream}{}", kind.trim_start_matches('.'))
                };
                let input = side(rpc.client_streaming(), rpc.input_type());
                let output = side(rpc.server_streaming(), rpc.output_type());
                writeln!(text, "  {}({input}) returns ({output})", rpc.name()).unwrap();
            }
        }
        file.enum_type.iter().for_each(|e| enumeration(&mut text, &package, e));
        file.message_type.iter().for_each(|m| message(&mut text, &package, m));
    }
    text
}

fn enumeration(text: &mut String, scope: &str, declared: &EnumDescriptorProto) {
    writeln!(text, "enum {scope}.{}", declared.name()).unwrap();
    for value in &declared.value {
        writeln!(text, "  {} = {}", value.name(), value.number()).unwrap();
    }
}

fn message(text: &mut String, scope: &str, declared: &DescriptorProto) {
    let name = format!("{scope}.{}", declared.name());
    writeln!(text, "message {name}").unwrap();
    for field in &declared.field {
        writeln!(text, "  {}", self::field(declared, field)).unwrap();
    }
    for range in &declared.reserved_range {
        // The end is exclusive.
        writeln!(text, "  reserved {} to {}", range.start(), range.end() - 1).unwrap();
    }
    declared.enum_type.iter().for_each(|e| enumeration(text, &name, e));
    declared.nested_type.iter().for_each(|m| message(text, &name, m));
}

fn field(of: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let repeated = if field.label() == Label::Repeated {
        "repeated "
    } else {
        ""
    };
    let oneof = field.oneof_index.map_or_else(String::new, |i| {
        let name = of.oneof_decl[usize::try_from(i).unwrap()].name();
        format!(" in {name}")
    });
    format!("{} {}: {repeated}{kind}{oneof}", field.number(), field.name())
}
