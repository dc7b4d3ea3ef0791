//! Every dependency in a manifest is used.
//!
//! A dependency is used if its name is a word in the sources that may use it. For an ordinary dependency these are in
//! `src/`, for one of tests and benches all sources of the crate, for one of the build script `build.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Used by the code that build scripts generate from `.proto` files, although no source names it.
const OF_GENERATED_CODE: [&str; 5] = ["gnmi_proto", "prost", "prost_types", "tonic_prost", "p4runtime_proto"];
/// Dependencies that are named only so that other crates get this version.
const FOR_OTHERS: [&str; 1] = ["idna_adapter"];

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All Rust sources below a folder, without those of crates inside it.
fn sources(folder: &Path, text: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() {
                sources(&path, text);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Whether a name is a word of a text.
fn has_word(text: &str, name: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("use prost::Message;", "prost"));
    assert!(!has_word("use prost_types::Any;", "prost"));
    assert!(!has_word("// compost", "prost"));
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let mut unused = Vec::new();
    for package in packages {
        let folder = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let folder = folder.parent().unwrap();
        let (mut of_src, mut of_all) = (String::new(), String::new());
        sources(&folder.join("src"), &mut of_src);
        sources(folder, &mut of_all);
        let of_build = std::fs::read_to_string(folder.join("build.rs")).unwrap_or_default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["rename"].as_str().or(dependency["name"].as_str()).unwrap();
            let name = name.replace('-', "_");
            let text = match dependency["kind"].as_str() {
                None if FOR_OTHERS.contains(&name.as_str()) => continue,
                None if of_build.contains("compile_fds") && OF_GENERATED_CODE.contains(&name.as_str()) => continue,
                None => &of_src,
                Some("build") => &of_build,
                Some(_) => &of_all,
            };
            if !has_word(text, &name) {
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                unused.push(format!("{}: {name} ({kind})", package["name"].as_str().unwrap()));
            }
        }
    }
    assert!(packages.len() > 10);
    assert!(unused.is_empty(), "unused dependencies:\n{}", unused.join("\n"));
}
