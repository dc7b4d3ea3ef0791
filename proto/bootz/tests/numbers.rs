//! The wire format: every message, field, enum value and RPC against `published.txt`, a list of the names and numbers of the
//! published descriptors.
//!
//! The list itself is checked where the published files are at hand: with `VFABRIC_BOOTZ_PUBLISHED` naming a folder that holds
//! `github.com/openconfig/{bootz,gnsi,attestz,gnmi}`, the test compiles them and compares them with the list.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// Packages in the list. Of all but the first, the list has only what Bootz refers to.
const PACKAGES: [&str; 6] = [
    "bootz",
    "gnsi.authz.v1",
    "gnsi.certz.v1",
    "gnsi.credentialz.v1",
    "gnsi.pathz.v1",
    "openconfig.attestz",
];
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
        for message in &file.message_type {
            add_message(&mut flat, file.package(), message);
        }
        for declared in &file.enum_type {
            add_enum(&mut flat, file.package(), declared);
        }
        for service in file.service.iter().filter(|_| file.package() == "bootz") {
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                let text = format!(
                    "{}{} -> {}{}",
                    stream(method.client_streaming()),
                    method.input_type().trim_start_matches('.'),
                    stream(method.server_streaming()),
                    method.output_type().trim_start_matches('.')
                );
                flat.insert(format!("bootz.{}.{}", service.name(), method.name()), text);
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
    let ours = flat(&FileDescriptorSet::decode(bootz_proto::FILE_DESCRIPTOR_SET).unwrap());
    let listed = listed();
    assert!(listed.len() > 200, "{}", listed.len());
    let differ = |a: &Flat, b: &Flat, what: &str| -> Vec<String> {
        let left = a.iter().filter(|(name, text)| b.get(*name) != Some(text));
        left.map(|(name, text)| format!("{what} {name}: {text}")).collect()
    };
    let mut differences = differ(&ours, &listed, "ours");
    differences.extend(differ(&listed, &ours, "published"));
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn the_list_is_what_is_published() {
    let Some(folder) = std::env::var_os("VFABRIC_BOOTZ_PUBLISHED") else {
        return;
    };
    let file = "github.com/openconfig/bootz/proto/bootz.proto";
    let published = protox::compile([file], [Path::new(&folder)]).unwrap();
    let mut published = flat(&published);
    let listed = listed();
    // Of gNSI and attestz the list has what Bootz refers to; every name in it must be published as it says.
    published.retain(|name, _| name.starts_with("bootz.") || listed.contains_key(name));
    assert_eq!(published, listed);
}
