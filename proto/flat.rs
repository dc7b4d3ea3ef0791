//! Descriptors as a flat list of names and numbers, for the tests that compare ours with published ones.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// For each name, its kind and number as text.
pub(crate) type Flat = BTreeMap<String, String>;

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

/// Messages and enumerations of `packages`, and the calls of services of `services`.
pub(crate) fn flat(descriptors: &FileDescriptorSet, packages: &[&str], services: &[&str]) -> Flat {
    let mut flat = Flat::new();
    for file in descriptors.file.iter().filter(|f| packages.contains(&f.package())) {
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|m| add_message(&mut flat, package, m));
        file.enum_type.iter().for_each(|e| add_enum(&mut flat, package, e));
        for service in file.service.iter().filter(|_| services.contains(&package)) {
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

/// The list in a file, a line for each name.
pub(crate) fn listed(text: &str) -> Flat {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}
