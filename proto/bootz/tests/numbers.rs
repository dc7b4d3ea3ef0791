//! The wire format: every message, field, enum value and RPC against `published.txt`, a list of the names and numbers of the
//! published descriptors.
//!
//! The list itself is checked where the published files are at hand: with `VFABRIC_BOOTZ_PUBLISHED` naming a folder that holds
//! `github.com/openconfig/{bootz,gnsi,attestz,gnmi}`, the test compiles them and compares them with the list.

use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;

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

#[path = "../../flat.rs"]
mod flat;

use flat::{Flat, listed};

fn flat(descriptors: &FileDescriptorSet) -> Flat {
    flat::flat(descriptors, &PACKAGES, &["bootz"])
}

#[test]
fn names_and_numbers_are_the_published_ones() {
    let ours = flat(&FileDescriptorSet::decode(bootz_proto::FILE_DESCRIPTOR_SET).unwrap());
    let listed = listed(PUBLISHED);
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
    let listed = listed(PUBLISHED);
    // Of gNSI and attestz the list has what Bootz refers to; every name in it must be published as it says.
    published.retain(|name, _| name.starts_with("bootz.") || listed.contains_key(name));
    assert_eq!(published, listed);
}
