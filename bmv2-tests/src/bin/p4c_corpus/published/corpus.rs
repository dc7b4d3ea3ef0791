//! The contents of a checkout of p4c's test data: programs, scripts, and p4c's output for them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A program of the corpus.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Path below its folder, without `.p4`.
    pub(crate) name: String,
    /// The source.
    pub(crate) path: PathBuf,
    /// Its script, if it has one.
    pub(crate) script: Option<PathBuf>,
    /// Whether p4c compiles it, according to p4c's published output.
    pub(crate) by_p4c: bool,
    /// p4c's published P4Info for it, if there is one.
    pub(crate) p4info: Option<PathBuf>,
    /// p4c's published entries for it, if there are any.
    pub(crate) entries: Option<PathBuf>,
    /// Whether it instantiates `main`; a program that does not can only be type-checked.
    pub(crate) has_main: bool,
}

/// All programs of a run.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// Programs for v1model that are meant to compile.
    pub(crate) samples: Vec<Sample>,
    /// Programs that p4c rejects for reasons of the language.
    pub(crate) errors: Vec<Sample>,
}

/// The folder of test data: `dir` itself or its subfolder `testdata`. `None` if neither has `p4_16_samples`.
pub(crate) fn testdata(dir: &Path) -> Option<PathBuf> {
    let below = [dir.to_owned(), dir.join("testdata")];
    below.into_iter().find(|d| d.join("p4_16_samples").is_dir())
}

/// Reads a folder of p4c's test data.
///
/// A sample is a `.p4` file below `p4_16_samples` that instantiates `main` and includes `v1model.p4`, directly or
/// through files of its own. p4c compiles it if p4c's published output has a P4Info and no message with `error`. An
/// error is a `.p4` file below `p4_16_errors` that includes no architecture except v1model, and for which p4c's
/// published output has a message with `error`.
pub(crate) fn read(dir: &Path, only: Option<&str>) -> Result<Corpus> {
    let wanted = |s: &Sample| only.is_none_or(|o| s.name.contains(o));
    let samples = samples(&dir.join("p4_16_samples"), &dir.join("p4_16_samples_outputs"))?;
    let errors = errors(&dir.join("p4_16_errors"), &dir.join("p4_16_errors_outputs"))?;
    Ok(Corpus {
        samples: samples.into_iter().filter(wanted).collect(),
        errors: errors.into_iter().filter(wanted).collect(),
    })
}

fn samples(dir: &Path, outputs: &Path) -> Result<Vec<Sample>> {
    let mut found = Vec::new();
    for path in programs(dir)? {
        let text = Text::read(&path)?;
        if !text.includes.contains("v1model.p4") || !text.has_main {
            continue;
        }
        let name = name(dir, &path);
        let script = path.with_extension("stf");
        let published = outputs.join(&name);
        let output = |end| Some(with_end(&published, end)).filter(|p| p.is_file());
        found.push(Sample {
            script: script.is_file().then_some(script),
            by_p4c: with_end(&published, ".p4.p4info.txtpb").is_file() && !has_error(&published),
            p4info: output(".p4.p4info.txtpb"),
            entries: output(".p4.entries.txtpb"),
            has_main: text.has_main,
            name,
            path,
        });
    }
    Ok(found)
}

fn errors(dir: &Path, outputs: &Path) -> Result<Vec<Sample>> {
    let mut found = Vec::new();
    for path in programs(dir)? {
        let text = Text::read(&path)?;
        let ours = ["core.p4", "v1model.p4"];
        let name = name(dir, &path);
        if text.foreign || text.includes.iter().any(|i| !ours.contains(&i.as_str())) || !has_error(&outputs.join(&name))
        {
            continue;
        }
        found.push(Sample {
            script: None,
            by_p4c: false,
            p4info: None,
            entries: None,
            has_main: text.has_main,
            name,
            path,
        });
    }
    Ok(found)
}

/// Whether the published messages of a program have an error.
fn has_error(published: &Path) -> bool {
    let messages = std::fs::read(with_end(published, ".p4-stderr")).unwrap_or_default();
    String::from_utf8_lossy(&messages).contains("error:")
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn name(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix(dir).unwrap_or(path).with_extension("");
    below.to_string_lossy().into_owned()
}

/// All `.p4` files below a folder, in order.
fn programs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "p4") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Facts about a source file and the files beside it that it includes.
#[derive(Default)]
struct Text {
    /// The compiler's own files that it includes: `core.p4`, `v1model.p4`.
    includes: HashSet<String>,
    has_main: bool,
    /// Includes a file that does not exist.
    foreign: bool,
}

impl Text {
    fn read(path: &Path) -> Result<Self> {
        let mut text = Self::default();
        let mut todo = vec![path.to_owned()];
        let mut seen = HashSet::new();
        while let Some(path) = todo.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
            let content = String::from_utf8_lossy(&content);
            for line in content.lines() {
                let Some(file) = included(line) else { continue };
                let beside = path.parent().unwrap_or(Path::new(".")).join(file);
                match file.rsplit('/').next() {
                    Some("core.p4" | "v1model.p4") => {
                        text.includes.insert(file.rsplit('/').next().unwrap_or(file).to_owned());
                    }
                    _ if beside.is_file() => todo.push(beside),
                    _ => text.foreign = true,
                }
            }
            let mut words = content.split(|c: char| c.is_whitespace() || c == ')').peekable();
            while let Some(word) = words.next() {
                text.has_main |= word == "main;" || word == "main" && words.peek() == Some(&";");
            }
        }
        Ok(text)
    }
}

/// The file that a line includes.
fn included(line: &str) -> Option<&str> {
    let rest = line
        .trim_start()
        .strip_prefix('#')?
        .trim_start()
        .strip_prefix("include")?
        .trim_start();
    let close = match rest.chars().next()? {
        '<' => '>',
        '"' => '"',
        _ => return None,
    };
    rest.get(1..)?.split(close).next()
}
