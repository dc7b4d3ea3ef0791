//! The project's own STF corpus: every program of `corpus/` compiles, and does what its script says, at both
//! levels of optimisation, on the reference evaluator and on the packet engine.

use std::path::{Path, PathBuf};

use bmv2_tests::program::{Core, compile, run_script};
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
