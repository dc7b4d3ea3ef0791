//! The project's own STF corpus: every program of `corpus/` compiles, and does what its script says, at both
//! levels of optimisation, on the reference evaluator and on the packet engine; and on simple_switch_grpc where that is
//! installed.

use std::path::{Path, PathBuf};

use bmv2_tests::on_path;
use bmv2_tests::program::{Core, compile, run_script, run_script_on};
use bmv2_tests::stf::run::Ports;
use p4_compiler::{OptLevel, Options};

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "p4"));
    found.sort();
    found
}

#[test]
fn every_program_does_what_its_script_says_at_each_level_on_each_switch() {
    let programs = programs();
    assert!(!programs.is_empty());
    let mut failures = Vec::new();
    for program in &programs {
        let script = program.with_extension("stf");
        let name = program.file_stem().unwrap_or_default().to_string_lossy();
        for level in [OptLevel::O0, OptLevel::O1] {
            let options = Options {
                level,
                ..Options::default()
            };
            let compiled = match compile(program, &options) {
                Ok(compiled) => compiled,
                Err(errors) => {
                    failures.extend(errors);
                    break;
                }
            };
            for core in Core::ALL {
                if let Err(reasons) = run_script(&compiled, &script, core, Ports::All) {
                    failures.push(format!("{name} -{level:?} on the {}:", core.name()));
                    failures.extend(reasons);
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} lines of failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Scripts that simple_switch_grpc 1.15.5 cannot pass, and why.
const NOT_ON_BMV2: &[(&str, &str)] = &[
    ("action_selector", "ports that are files have no link to lose"),
    ("arrays", "it has no registers over P4Runtime"),
    ("asserts", "an assertion that fails ends it"),
    (
        "digest",
        "frames of three ports come in after the script has asked for digests",
    ),
    ("idle", "it says of every entry that it was hit just now"),
    (
        "multicast",
        "frames of three ports come in after the script has changed groups",
    ),
    ("random", "it has no registers over P4Runtime"),
    ("value_set", "it has no value sets over P4Runtime"),
];

/// bmv2 accepts the compiler's output, and behaves as the scripts expect.
#[test]
fn the_reference_switch_agrees_where_it_is_installed() {
    const PEER: &str = "simple_switch_grpc";
    let Some(peer) = on_path(PEER) else {
        println!("not run: {PEER} is not installed");
        return;
    };
    let mut failures = Vec::new();
    for program in &programs() {
        let name = program.file_stem().unwrap_or_default().to_string_lossy();
        let compiled = compile(program, &Options::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let done = run_script_on(&peer, &compiled, &program.with_extension("stf"), Ports::Named);
        match (done, NOT_ON_BMV2.iter().find(|(n, _)| *n == name)) {
            (Ok(()), Some((_, why))) => failures.push(format!("{name} passes, although {why}")),
            (Err(reasons), None) => {
                failures.push(format!("{name}:"));
                failures.extend(reasons);
            }
            _ => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
