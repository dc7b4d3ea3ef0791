//! The grammar of P4_16, alternative by alternative: each form compiles at every place where the grammar allows it.
//! Where p4c is installed, it must accept and refuse the same forms, and write the same P4Info and entries.
//!
//! The checklist is data: `grammar/cases.txt` lists every production of the specification's appendix "P4 grammar"
//! (1.2.5). Under each are its alternatives, and under each alternative the texts that use it, with their places in
//! `grammar/frame.p4`. `grammar/groups.txt` names sets of places: a statement stands in functions, actions, bodies of
//! controls, blocks, branches, cases and loops; an expression at each place that takes one.
//!
//! A text after `refused:` is allowed by the grammar, but excluded at that place by the language's other rules.
//!
//! What the forms mean is tested elsewhere: `p4/compiler/tests/behaviour` sends packets through statements and declarations,
//! `p4/compiler/tests/annotations.rs` checks the effect of each annotation argument and each constant expression.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bmv2_tests::{on_path, p4info_diff};
use p4_compiler::{Compiled, Options, compile};

/// Groups of places that cannot share a program with those of another group.
const ALONE: [&str; 4] = ["value", "constant", "lvalue", "type"];

/// One line of the cases.
#[derive(Clone)]
struct Line {
    place: String,
    text: String,
    refused: bool,
}

/// An alternative of a production, with the lines that use it.
struct Alternative {
    production: String,
    form: String,
    lines: Vec<Line>,
}

/// A program for one alternative.
struct Case {
    /// Production and alternative.
    name: String,
    text: String,
    refused: bool,
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("grammar").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn alternatives() -> Vec<Alternative> {
    let mut all: Vec<Alternative> = Vec::new();
    let mut production = String::new();
    for line in read("cases.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
        } else if let Some(case) = line.strip_prefix("    ") {
            let (refused, case) = match case.strip_prefix("refused: ") {
                Some(rest) => (true, rest),
                None => (false, case),
            };
            let (place, text) = case.split_once(':').unwrap_or_else(|| panic!("no place: {line}"));
            let of = all.last_mut().unwrap_or_else(|| panic!("no alternative: {line}"));
            of.lines.push(Line {
                place: place.to_owned(),
                text: text.trim().replace("\\n", "\n"),
                refused,
            });
        } else if let Some(form) = line.strip_prefix("  | ") {
            all.push(Alternative {
                production: production.clone(),
                form: form.to_owned(),
                lines: Vec::new(),
            });
        } else {
            line.clone_into(&mut production);
        }
    }
    all
}

/// Places of each group, each with the text that stands there.
fn groups() -> BTreeMap<String, Vec<(String, String)>> {
    let mut all: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in read("groups.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let parts: Vec<&str> = line.splitn(3, ": ").collect();
        let [group, place, text] = parts[..] else {
            panic!("{line}");
        };
        let places = all.entry(group.to_owned()).or_default();
        places.push((place.to_owned(), text.to_owned()));
    }
    all
}

/// The frame with texts at its places; panics if the frame lacks one of the places.
fn program(frame: &str, texts: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut known = BTreeSet::new();
    for (i, part) in frame.split('$').enumerate() {
        if i.is_multiple_of(2) {
            out.push_str(part);
            continue;
        }
        let (place, otherwise) = part.split_once('|').unwrap_or((part, ""));
        known.insert(place);
        out.push_str(texts.get(place).map_or(otherwise, String::as_str));
    }
    let unknown: Vec<_> = texts.keys().filter(|place| !known.contains(place.as_str())).collect();
    assert!(unknown.is_empty(), "the frame has no places {unknown:?}");
    out
}

/// Programs for all alternatives.
fn cases() -> Vec<Case> {
    let (frame, groups) = (read("frame.p4"), groups());
    // The comment at the head describes the places with an example of one.
    let frame = frame.split_once('\n').expect("a comment at the head of the frame").1;
    let mut cases = Vec::new();
    for alternative in alternatives() {
        let (alone, together): (Vec<Line>, Vec<Line>) = alternative
            .lines
            .iter()
            .cloned()
            .partition(|line| line.refused || ALONE.contains(&line.place.as_str()));
        let declared: Vec<Line> = together.iter().filter(|line| line.place == "top").cloned().collect();
        let mut programs: Vec<Vec<Line>> = Vec::new();
        for line in alone {
            let mut lines = declared.clone();
            lines.push(line);
            programs.push(lines);
        }
        if programs.is_empty() || together.len() > declared.len() {
            programs.push(together);
        }
        for lines in programs {
            let mut texts: BTreeMap<String, String> = BTreeMap::new();
            let mut put = |place: &str, text: &str| {
                let at = texts.entry(place.to_owned()).or_default();
                at.push_str(if at.is_empty() { "" } else { "\n" });
                at.push_str(text);
            };
            for line in &lines {
                match groups.get(&line.place) {
                    Some(places) => places
                        .iter()
                        .for_each(|(place, text)| put(place, &text.replace('%', &line.text))),
                    None => put(&line.place, &line.text),
                }
            }
            cases.push(Case {
                name: format!("{}: {}", alternative.production, alternative.form),
                refused: lines.iter().any(|line| line.refused),
                text: program(frame, &texts),
            });
        }
    }
    cases
}

/// Results of `check` for all cases, those that fail.
fn failures(check: impl Fn(usize, &Case) -> Result<(), String> + Sync) -> Vec<String> {
    let cases = cases();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let (n, Some(case)) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    (n, cases.get(n))
                } {
                    if let Err(why) = check(n, case) {
                        failed.lock().unwrap().push((n, format!("{}: {why}", case.name)));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed.into_iter().map(|(_, why)| why).collect()
}

fn ours(case: &Case) -> Result<Compiled, String> {
    compile("case.p4", None, &case.text, &Options::default()).map_err(|d| d.short())
}

/// Compares our verdict with what the case says.
fn as_expected(case: &Case) -> Result<Option<Compiled>, String> {
    match (ours(case), case.refused) {
        (Ok(_), true) => Err("it is accepted".to_owned()),
        (Err(_), true) => Ok(None),
        (Ok(compiled), false) => Ok(Some(compiled)),
        (Err(why), false) => Err(why),
    }
}

/// If a symbol of an alternative is itself a production, its alternatives are listed too, and each alternative
/// has a text.
#[test]
fn no_production_is_missing() {
    let all = alternatives();
    let productions: BTreeSet<&str> = all.iter().map(|a| a.production.as_str()).collect();
    let is_symbol = |word: &&str| {
        word.len() > 1 && word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(char::is_alphanumeric)
    };
    let mut used: BTreeSet<&str> = all.iter().flat_map(|a| a.form.split(' ')).filter(is_symbol).collect();
    used.insert("p4program");
    assert_eq!(productions, used);
    let empty = all.iter().filter(|a| a.lines.is_empty());
    let empty: Vec<String> = empty.map(|a| format!("{}: {}", a.production, a.form)).collect();
    assert!(empty.is_empty(), "without a text: {empty:#?}");
}

#[test]
fn every_form_compiles_at_every_place() {
    let failed = failures(|_, case| as_expected(case).map(drop));
    assert!(failed.is_empty(), "{} forms:\n{}", failed.len(), failed.join("\n"));
}

/// The verdict, P4Info and entries of p4c for a case.
fn by_p4c(p4c: &Path, dir: &Path, n: usize, case: &Case) -> Result<(String, String), String> {
    let file = |end: &str| -> PathBuf { dir.join(format!("{n}.{end}")) };
    std::fs::write(file("p4"), &case.text).map_err(|e| e.to_string())?;
    let output = Command::new(p4c)
        .args(["--std", "p4-16", "--emit-externs", "-o"])
        .arg(file("json"))
        .arg("--p4runtime-files")
        .arg(file("p4info.txtpb"))
        .arg("--p4runtime-entries-files")
        .arg(file("entries.txtpb"))
        .arg(file("p4"))
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let read = |end| std::fs::read_to_string(file(end)).map_err(|e| e.to_string());
    // p4c writes no entries for a program without any.
    Ok((read("p4info.txtpb")?, read("entries.txtpb").unwrap_or_default()))
}

#[test]
#[ignore = "needs p4c-bm2-ss"]
fn p4c_says_the_same() {
    let p4c = on_path("p4c-bm2-ss").expect("p4c-bm2-ss is not on PATH");
    let dir = tempfile::tempdir().unwrap();
    let failed = failures(
        |n, case| match (as_expected(case)?, by_p4c(&p4c, dir.path(), n, case)) {
            (None, Err(_)) => Ok(()),
            (None, Ok(_)) => Err("p4c accepts it".to_owned()),
            (Some(_), Err(why)) => Err(format!("p4c refuses it: {why}")),
            (Some(compiled), Ok((p4info, entries))) => {
                let mut differ = p4info_diff::p4info(&compiled.p4info, &p4info).map_err(|e| e.to_string())?;
                differ.extend(p4info_diff::entries(&compiled.entries, &entries).map_err(|e| e.to_string())?);
                match differ.is_empty() {
                    true => Ok(()),
                    false => Err(differ.iter().map(|d| format!("\n  {d}")).collect()),
                }
            }
        },
    );
    assert!(failed.is_empty(), "{} forms:\n{}", failed.len(), failed.join("\n"));
}
