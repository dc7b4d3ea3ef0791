//! The wire format: every message, field, enum value and RPC that this crate has against `published.txt`, a list of the names and
//! numbers of the published descriptors.
//!
//! The list itself is checked where the published files are at hand: with `VFABRIC_GNOI_PUBLISHED` naming a folder that holds
//! `github.com/openconfig/{gnoi,gnsi}`, the test compiles them and compares them with the list.

use std::path::Path;

use prost::Message as _;
use prost_types::FileDescriptorSet;

const PACKAGES: [&str; 5] = ["gnoi.types", "gnoi.system", "gnoi.healthz", "gnoi.os", "gnsi.certz.v1"];
const PUBLISHED: &str = include_str!("published.txt");

#[path = "../../flat.rs"]
mod flat;

use flat::{Flat, listed};

fn flat(descriptors: &FileDescriptorSet) -> Flat {
    flat::flat(descriptors, &PACKAGES, &PACKAGES)
}

#[test]
fn names_and_numbers_are_the_published_ones() {
    let ours = flat(&FileDescriptorSet::decode(gnoi_proto::FILE_DESCRIPTOR_SET).unwrap());
    let listed = listed(PUBLISHED);
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
    assert_eq!(published, listed(PUBLISHED));
}
