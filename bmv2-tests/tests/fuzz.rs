//! Every fuzz target for a few seconds on a fixed sequence of inputs; with `FUZZ_SECONDS` set, that long on each.

use bmv2_tests::fuzz::{Target, differential, regressions, run, target, targets};
use p4_compiler::{OptLevel, Options};
use std::path::Path;
use std::time::Duration;

/// Inputs of each target: the slowest, whole compilations in a debug build, take some ten seconds.
const INPUTS: usize = 300;
/// Generated programs that are compared.
const PROGRAMS: u64 = 40;
/// Sets of entries and packets for each program of our own.
const SEEDS: u64 = 4;

fn seconds() -> Option<u64> {
    std::env::var("FUZZ_SECONDS").ok()?.parse().ok()
}

fn fuzz(name: &str) {
    let target = target(name).expect("a target of that name");
    let (inputs, time) = match seconds() {
        Some(s) => (usize::MAX, Duration::from_secs(s)),
        None => (INPUTS, Duration::from_secs(60)),
    };
    let ran = run(target, 1, inputs, time).unwrap_or_else(|why| panic!("{why}"));
    assert!(ran > 0);
}

#[test]
fn the_parser_stands_any_text() {
    fuzz("parser");
}

#[test]
fn the_compiler_stands_any_text() {
    fuzz("compiler");
}

#[test]
fn the_loader_stands_any_document() {
    fuzz("bmv2_json");
}

#[test]
fn the_leaf_stands_any_packet() {
    fuzz("packet");
}

#[test]
fn rest_bodies_are_read_or_refused() {
    fuzz("rest");
}

#[test]
fn yaml_documents_are_read_or_refused() {
    fuzz("yaml");
}

#[test]
fn objects_of_the_vtep_stream_are_read_or_refused() {
    fuzz("vtep");
}

#[test]
fn gnmi_requests_are_carried_out_or_change_nothing() {
    fuzz("gnmi");
}

#[test]
fn no_frame_is_taken_for_a_probe() {
    fuzz("lldp");
}

#[test]
fn netlink_datagrams_are_read_whatever_they_are() {
    fuzz("netlink");
}

#[test]
fn dhcpv6_datagrams_are_answered_whole_or_not_at_all() {
    fuzz("dhcp6");
}

/// Each target has a test here and a libFuzzer target in `fuzz/`, and each folder of regression inputs is a target's.
#[test]
fn every_target_is_run_everywhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = std::fs::read_to_string(root.join("tests/fuzz.rs")).unwrap();
    let manifest = std::fs::read_to_string(root.join("../fuzz/Cargo.toml")).unwrap();
    for Target { name, .. } in targets() {
        assert!(tests.contains(&format!("fuzz(\"{name}\");")), "no test runs {name}");
        let file = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&file), "fuzz/Cargo.toml lacks {file}");
        let text = std::fs::read_to_string(root.join("../fuzz").join(&file)).unwrap_or_default();
        assert!(
            text.contains(&format!("body(\"{name}\", data)")),
            "{file} does not call {name}"
        );
    }
    for folder in std::fs::read_dir(regressions("")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "README.md" || target(&name).is_some(),
            "regressions/{name} is of no target"
        );
    }
}

#[test]
fn generated_programs_do_the_same_at_both_levels() {
    let end = seconds().map(|s| std::time::Instant::now() + Duration::from_secs(s));
    let mut seed = 0;
    while end.map_or(seed < PROGRAMS, |end| std::time::Instant::now() < end) {
        differential::generated(seed).unwrap_or_else(|why| panic!("{why}"));
        seed += 1;
    }
}

/// Programs that are not compared, and why.
const NOT_COMPARED: [(&str, &str); 2] = [
    ("own_extern.p4", "its externs are in no switch of ours"),
    ("random.p4", "each switch draws its own numbers"),
];

#[test]
fn own_programs_do_the_same_at_both_levels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut programs = vec![root.join("../p4/fabric/leaf.p4"), root.join("../p4/fabric/spine.p4")];
    for folder in ["corpus", "../p4/compiler/tests/programs"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
        programs.extend(entries.map(|e| e.unwrap().path()));
    }
    let compared = |p: &Path| !NOT_COMPARED.iter().any(|(name, _)| p.ends_with(name));
    programs.retain(|p| p.extension().is_some_and(|e| e == "p4") && compared(p));
    programs.sort();
    for path in programs {
        let at = |level| {
            let options = Options {
                level,
                ..Options::default()
            };
            p4_compiler::compile_file(&path, &options).unwrap_or_else(|d| panic!("{}", d.short()))
        };
        let (plain, short) = (at(OptLevel::O0), at(OptLevel::O1));
        for seed in 0..SEEDS {
            if let Err(why) = differential::same(&plain, &short, seed) {
                panic!("{} with seed {seed}: {why}", path.display());
            }
        }
    }
}
