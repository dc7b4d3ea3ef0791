//! The wire format: compares our descriptors with those in packages of other projects.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use serde::Deserialize;

/// One field of a message.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Field {
    number: i32,
    label: i32,
    #[serde(rename = "type")]
    kind: i32,
    type_name: String,
    oneof: Option<String>,
}

/// One RPC.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Method {
    input: String,
    output: String,
    client_streaming: bool,
    server_streaming: bool,
}

/// Declarations by full name.
#[derive(Debug, Default, Deserialize)]
struct Schema {
    messages: BTreeMap<String, BTreeMap<String, Field>>,
    enums: BTreeMap<String, BTreeMap<String, i32>>,
    services: BTreeMap<String, BTreeMap<String, Method>>,
}

impl Schema {
    /// Declarations of the packages named by `packages`.
    fn ours(descriptors: &[u8], packages: &[&str]) -> Result<Self> {
        let mut schema = Self::default();
        for file in FileDescriptorSet::decode(descriptors)?.file {
            if !packages.contains(&file.package()) {
                continue;
            }
            let package = file.package().to_owned();
            for message in file.message_type {
                schema.add_message(&package, &message);
            }
            for declared in file.enum_type {
                schema.add_enum(&package, &declared);
            }
            for service in file.service {
                schema.add_service(&package, &service);
            }
        }
        Ok(schema)
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let fields = message.field.iter().map(|field| {
            let oneof = field
                .oneof_index
                .and_then(|i| message.oneof_decl.get(usize::try_from(i).ok()?))
                .map(|oneof| oneof.name().to_owned());
            let ours = Field {
                number: field.number(),
                label: field.label() as i32,
                kind: field.r#type() as i32,
                type_name: field.type_name().trim_start_matches('.').to_owned(),
                oneof,
            };
            (field.name().to_owned(), ours)
        });
        self.messages.insert(name.clone(), fields.collect());
        for nested in &message.nested_type {
            self.add_message(&name, nested);
        }
        for declared in &message.enum_type {
            self.add_enum(&name, declared);
        }
    }

    fn add_enum(&mut self, scope: &str, declared: &EnumDescriptorProto) {
        let values = declared.value.iter();
        self.enums.insert(
            format!("{scope}.{}", declared.name()),
            values.map(|v| (v.name().to_owned(), v.number())).collect(),
        );
    }

    fn add_service(&mut self, package: &str, service: &ServiceDescriptorProto) {
        let methods = service.method.iter().map(|method| {
            let ours = Method {
                input: method.input_type().trim_start_matches('.').to_owned(),
                output: method.output_type().trim_start_matches('.').to_owned(),
                client_streaming: method.client_streaming(),
                server_streaming: method.server_streaming(),
            };
            (method.name().to_owned(), ours)
        });
        self.services
            .insert(format!("{package}.{}", service.name()), methods.collect());
    }

    /// The declarations in the Python modules of a peer environment.
    fn theirs(venv: &str, modules: &[&str]) -> Result<Self> {
        let output = Command::new(bmv2_tests::venv::python(venv)?)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/dump_descriptors.py"))
            .args(modules)
            .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
            .output()
            .context("cannot start Python")?;
        ensure!(
            output.status.success(),
            "dump_descriptors.py {modules:?} in venv {venv}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Every declaration as (path, text), so that two schemas compare as sets.
    fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        for (name, fields) in &self.messages {
            flat.insert(name.clone(), "message".to_owned());
            for (field, value) in fields {
                flat.insert(format!("{name}.{field}"), format!("{value:?}"));
            }
        }
        for (name, values) in &self.enums {
            flat.insert(name.clone(), "enum".to_owned());
            for (value, number) in values {
                flat.insert(format!("{name}.{value}"), number.to_string());
            }
        }
        for (name, methods) in &self.services {
            flat.insert(name.clone(), "service".to_owned());
            for (method, value) in methods {
                flat.insert(format!("{name}.{method}"), format!("{value:?}"));
            }
        }
        flat
    }
}

/// Fails with every difference, except that `only_ours` and `only_theirs` may
/// exist on that one side (and must, so that the lists stay true).
fn compare(ours: &Schema, theirs: &Schema, only_ours: &[&str], only_theirs: &[&str]) -> Result<()> {
    let (ours, theirs) = (ours.flat(), theirs.flat());
    let mut differences = Vec::new();
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        match (ours.get(name), theirs.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => differences.push(format!("{name}: ours {a}, theirs {b}")),
            (Some(_), None) if covered(name, only_ours) => {}
            (None, Some(_)) if covered(name, only_theirs) => {}
            (Some(a), None) => differences.push(format!("{name}: only ours: {a}")),
            (None, Some(b)) => differences.push(format!("{name}: only theirs: {b}")),
            (None, None) => {}
        }
    }
    for allowed in only_ours {
        ensure!(ours.contains_key(*allowed), "{allowed} is not ours");
        ensure!(!theirs.contains_key(*allowed), "{allowed} is theirs too");
    }
    for allowed in only_theirs {
        ensure!(theirs.contains_key(*allowed), "{allowed} is not theirs");
        ensure!(!ours.contains_key(*allowed), "{allowed} is ours too");
    }
    ensure!(differences.is_empty(), "\n{}", differences.join("\n"));
    Ok(())
}

/// True when `name` or a declaration around it is in `allowed`.
fn covered(name: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|a| {
        name.strip_prefix(a)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[test]
fn p4runtime_matches_the_published_package() -> Result<()> {
    let ours = Schema::ours(
        p4runtime_proto::FILE_DESCRIPTOR_SET,
        &["p4.v1", "p4.config.v1", "google.rpc"],
    )?;
    let theirs = Schema::theirs(
        "p4runtime",
        &[
            "p4.v1.p4runtime_pb2",
            "p4.v1.p4data_pb2",
            "p4.config.v1.p4info_pb2",
            "p4.config.v1.p4types_pb2",
            "google.rpc.status_pb2",
            "google.rpc.code_pb2",
        ],
    )?;
    ensure!(theirs.services["p4.v1.P4Runtime"].len() == 6);
    compare(&ours, &theirs, &[], &[])
}

const GNMI_PACKAGES: &[&str] = &["gnmi", "gnmi_ext"];

#[test]
fn gnmi_matches_a_client_of_the_same_version() -> Result<()> {
    let ours = Schema::ours(gnmi_proto::FILE_DESCRIPTOR_SET, GNMI_PACKAGES)?;
    let theirs = Schema::theirs(
        "finsy",
        &["finsy.proto.gnmi1.gnmi_ext_pb2", "finsy.proto.gnmi1.gnmi_pb2"],
    )?;
    ensure!(theirs.services["gnmi.gNMI"].len() == 4);
    compare(&ours, &theirs, &[], &[])
}

#[test]
fn gnmi_is_compatible_with_a_client_of_an_older_version() -> Result<()> {
    let ours = Schema::ours(gnmi_proto::FILE_DESCRIPTOR_SET, GNMI_PACKAGES)?;
    let theirs = Schema::theirs(
        "pygnmi",
        &["pygnmi.spec.v080.gnmi_ext_pb2", "pygnmi.spec.v080.gnmi_pb2"],
    )?;
    // Declarations that gNMI added and withdrew between 0.8 and 0.10.
    let added = [
        "gnmi.SetRequest.union_replace",
        "gnmi.UpdateResult.Operation.UNION_REPLACE",
        "gnmi_ext.Commit",
        "gnmi_ext.CommitCancel",
        "gnmi_ext.CommitConfirm",
        "gnmi_ext.CommitRequest",
        "gnmi_ext.CommitSetRollbackDuration",
        "gnmi_ext.ConfigSubscription",
        "gnmi_ext.ConfigSubscriptionStart",
        "gnmi_ext.ConfigSubscriptionSyncDone",
        "gnmi_ext.Depth",
        "gnmi_ext.Extension.commit",
        "gnmi_ext.Extension.config_subscription",
        "gnmi_ext.Extension.depth",
    ];
    let withdrawn = [
        "gnmi.Alias",
        "gnmi.AliasList",
        "gnmi.Notification.alias",
        "gnmi.SubscribeRequest.aliases",
        "gnmi.SubscriptionList.use_aliases",
    ];
    compare(&ours, &theirs, &added, &withdrawn)
}
