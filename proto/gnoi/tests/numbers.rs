//! The wire format: every message, field, enum value and RPC that this crate has against `published.txt`, a list of the names and
//! numbers of the published descriptors.
//!
//! The list itself is checked where the published files are at hand: with `VFABRIC_GNOI_PUBLISHED` naming a folder that holds
//! `github.com/openconfig/{gnoi,gnsi}`, the test compiles them and compares them with the list.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const PACKAGES: [&str; 5] = ["gnoi.types", "gnoi.system", "gnoi.healthz", "gnoi.os", "gnsi.certz.v1"];
const PUBLISHED: &str = include_str!("published.txt");

type Flat = BTreeMap<String, String>;

fn add_message(flat: &mut Flat, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    flat.insert(name.clone(), "message".into());
    for field in &message.field {
        let oneof = field
            .oneof_index
            .and_then(|i| message.oneof_decl.get(usize::try_from(i).ok()?));
        let kind = match field.type_name() {
            "" => format!("{:?}", field.r#type()),
            other => other.trim_start_matches('.').to_owned(),
        };
        let text = format!(
            "{} {:?} {kind} {}",
            field.number(),
            field.label(),
            oneof.map_or("-", |o| o.name())
        );
        flat.insert(format!("{name}.{}", field.name()), text);
    }
    for nested in &message.nested_type {
        add_message(flat, &name, nested);
    }
    for declared in &message.enum_type {
        add_enum(flat, &name, declared);
    }
}

fn add_enum(flat: &mut Flat, scope: &str, declared: &EnumDescriptorProto) {
    let name = format!("{scope}.{}", declared.name());
    flat.insert(name.clone(), "enum".into());
    for value in &declared.value {
        flat.insert(format!("{name}.{}", value.name()), value.number().to_string());
    }
}

fn flat(descriptors: &FileDescriptorSet) -> Flat {
    let mut flat = Flat::new();
    for file in descriptors.file.iter().filter(|f| PACKAGES.contains(&f.package())) {
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|m| add_message(&mut flat, package, m));
        file.enum_type.iter().for_each(|e| add_enum(&mut flat, package, e));
        for service in &file.service {
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                let text = format!(
                    "{}{} -> {}{}",
                    stream(method.client_streaming()),
                    method.input_type().trim_start_matches('.'),
                    stream(method.server_streaming()),
                    method.output_type().trim_start_matches('.')
                );
                flat.insert(format!("{package}.{}.{}", service.name(), method.name()), text);
            }
        }
    }
    flat
}

fn listed() -> Flat {
    let lines = PUBLISHED.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

#[test]
fn names_and_numbers_are_the_published_ones() {
    let ours = flat(&FileDescriptorSet::decode(gnoi_proto::FILE_DESCRIPTOR_SET).unwrap());
    let listed = listed();
    assert!(ours.len() > 150, "{}", ours.len());
    let differ: Vec<String> = ours
        .iter()
        .filter(|(name, text)| listed.get(*name) != Some(text))
        .map(|(name, text)| format!("ours {name}: {text}; published: {:?}", listed.get(name)))
        .collect();
    assert!(differ.is_empty(), "\n{}", differ.join("\n"));
    // All enumeration values that a peer may send must be there.
    let all_values = listed.iter().filter(|(name, text)| {
        let is_value = text.parse::<i32>().is_ok();
        let of_ours = name.rsplit_once('.').is_some_and(|(of, _)| ours.contains_key(of));
        is_value && of_ours
    });
    let missing: Vec<_> = all_values.filter(|(name, _)| !ours.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_list_is_what_is_published() {
    let Some(folder) = std::env::var_os("VFABRIC_GNOI_PUBLISHED") else {
        return;
    };
    let files = [
        "gnoi/system/system.proto",
        "gnoi/healthz/healthz.proto",
        "gnoi/os/os.proto",
        "gnsi/certz/certz.proto",
    ];
    let files = files.map(|file| format!("github.com/openconfig/{file}"));
    let published = flat(&protox::compile(files, [Path::new(&folder)]).unwrap());
    if std::env::var_os("VFABRIC_BLESS").is_some() {
        let lines: String = published
            .iter()
            .map(|(name, text)| format!("{name}: {text}\n"))
            .collect();
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published.txt"), lines).unwrap();
        return;
    }
    assert_eq!(published, listed());
}
