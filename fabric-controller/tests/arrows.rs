//! Dependencies inside the controller: a module uses only modules below it, and the pure ones use no transport.
//!
//! Dependencies are `use` lines and paths that start with `crate::`. Code for tests only (`tests.rs`, `*_tests.rs`,
//! everything after `#[cfg(test)]`) may use any module.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules from the bottom to the top. Each may use those before it.
const ROOMS: &[&str] = &[
    "ident",
    "entity",
    "tables",
    "view",
    "events",
    "timeline",
    "timings",
    "topology",
    "model",
    "render",
    "reconcile",
    "device",
    "engine",
    "driver",
    "store",
    "access",
    "metrics",
    "secrets",
    "bootz",
    "token_enrolment",
    "images",
    "controller",
    "bench",
    "testing",
];

/// Pure modules: no I/O, no transport.
const PURE: &[&str] = &[
    "ident",
    "entity",
    "view",
    "timeline",
    "topology",
    "model",
    "render",
    "reconcile",
];
/// Crates of transport and of I/O.
const TRANSPORT: &[&str] = &[
    "tonic",
    "axum",
    "hyper",
    "tokio",
    "reqwest",
    "redb",
    "rustls",
    "std::net::TcpStream",
];

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        let Some(height) = ROOMS.iter().position(|r| *r == room) else {
            wrong.push(format!("{}: module `{room}` is not in the list", file.display()));
            continue;
        };
        for used in words_after(&text, "crate::") {
            match ROOMS.iter().position(|r| *r == used) {
                Some(at) if at <= height => {}
                Some(_) => wrong.push(format!("{}: `{room}` uses `{used}`, which is above it", file.display())),
                // Items of the crate's root.
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_decides_carries_no_transport() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources().into_iter().filter(|(room, ..)| PURE.contains(&room.as_str())) {
        for name in TRANSPORT {
            if text.contains(&format!("use {name}::")) || text.contains(&format!(" {name}::")) {
                wrong.push(format!("{}: `{room}` uses `{name}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Each source file that is built outside of tests: its module, its path, and its text without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut all = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        // The root declares and connects the modules.
        if room == "lib" || room == "main" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        all.push((room, file, product(&text)));
    }
    assert!(all.len() > 40, "the sources were not found");
    all
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_test = name == "tests" || name == "isolation" || name.ends_with("_tests");
        if path.is_dir() && !is_test {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
            files.push(path);
        }
    }
}

/// Text without comments and without the module of unit tests at its end.
fn product(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The identifiers that follow a prefix, those in braces included.
fn words_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let word = |s: &str| -> String { s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut words = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split_once('}').map_or(list, |(l, _)| l);
                words.extend(list.split(',').map(|item| word(item.trim())));
            }
            None => {
                words.insert(word(rest));
            }
        }
    }
    words
}
