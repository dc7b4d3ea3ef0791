//! Warnings: `tests/warned/all.p4` says on each line which warning the line causes. All other lines cause none.

use p4_compiler::diagnostics::{Diagnostics, Lint};
use p4_compiler::{Options, compile_file};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/warned/all.p4")
}

fn warnings(silenced: &[&str]) -> Diagnostics {
    let options = Options {
        silenced: silenced.iter().map(|s| s.to_string()).collect(),
        ..Options::default()
    };
    compile_file(&path(), &options)
        .unwrap_or_else(|d| panic!("{}", d.short()))
        .warnings
}

/// Line and name of each warning.
fn found(d: &Diagnostics) -> BTreeSet<(u32, String)> {
    let named = d
        .list
        .iter()
        .filter_map(|w| Some((d.sources.line_col(w.span).0, w.lint?.name().to_string())));
    named.collect()
}

fn wanted() -> BTreeSet<(u32, String)> {
    let text = std::fs::read_to_string(path()).unwrap();
    let lines = text.lines().zip(1..);
    let marked = lines.filter_map(|(l, n)| Some((n, l.split_once("// warn: ")?.1.trim().to_string())));
    marked.collect()
}

#[test]
fn each_line_gets_the_warnings_it_names() {
    let d = warnings(&[]);
    assert_eq!(found(&d), wanted(), "{}", d.short());
}

#[test]
fn a_disabled_name_is_silent_and_the_others_are_not() {
    for lint in Lint::ALL {
        let kept: BTreeSet<_> = wanted().into_iter().filter(|w| w.1 != lint.name()).collect();
        assert_eq!(found(&warnings(&[lint.name()])), kept, "{}", lint.name());
    }
}
