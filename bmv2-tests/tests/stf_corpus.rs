//! The project's own STF corpus: every program of `corpus/` compiles, and does what its script says.

use std::path::{Path, PathBuf};

use bmv2_tests::program::{Core, compile, run_script};
use bmv2_tests::stf::run::Ports;
use p4_compiler::Options;

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "p4"));
    found.sort();
    found
}

#[test]
fn every_program_does_what_its_script_says() {
    let programs = programs();
    assert!(!programs.is_empty());
    let mut failures = Vec::new();
    for program in &programs {
        let script = program.with_extension("stf");
        match compile(program, &Options::default()) {
            Err(errors) => failures.extend(errors),
            Ok(compiled) => {
                if let Err(reasons) = run_script(&compiled, &script, Core::Reference, Ports::All) {
                    failures.extend(reasons);
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
