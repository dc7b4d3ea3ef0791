//! Everything that the compiler writes for the programs in `programs/`, against the files in `golden/`.

use golden::Golden;
use p4_compiler::{Dump, Options, compile, dump};
use std::path::{Path, PathBuf};

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// File name and text of each output of a program.
fn outputs(stem: &str, text: &str) -> Vec<(String, String)> {
    // The bare file name, so that no output holds a path of this machine.
    let name = format!("{stem}.p4");
    let compiled = compile(&name, None, text, &Options::default()).unwrap_or_else(|d| panic!("{}", d.short()));
    let stage = |what| {
        dump(&name, None, text, &Options::default(), what)
            .unwrap_or_else(|d| panic!("{}", d.short()))
            .0
    };
    vec![
        (format!("{stem}.json"), compiled.json),
        (format!("{stem}.p4info.txtpb"), compiled.p4info_text),
        (format!("{stem}.entries.txtpb"), compiled.entries_text),
        (format!("{stem}.ast.p4"), stage(Dump::Ast)),
        (format!("{stem}.ir.txt"), stage(Dump::Ir)),
        (format!("{stem}.dot"), stage(Dump::Tables)),
    ]
}

fn programs() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir("programs"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "p4"))
        .collect();
    all.sort();
    all
}

#[test]
fn outputs_are_those_of_the_golden_files() {
    let mut golden = Golden::folder(dir("golden"));
    for path in programs() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        for (file, text) in outputs(&stem, &std::fs::read_to_string(&path).unwrap()) {
            golden.check(&file, &text);
        }
    }
    golden.finish();
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for path in programs() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(outputs("x", &text) == outputs("x", &text), "{}", path.display());
    }
}
