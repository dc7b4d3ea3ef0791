//! The command under the names `p4c` and `p4c-bm2-ss`: the flags that users of those compilers pass.
//!
//! `p4c-bm2-ss` writes the files that flags name: `-o FILE.json`, `--p4runtime-files`. `p4c` is the driver around it: it
//! takes a directory (`-o DIR`, the current one without it), and writes NAME.json and the preprocessed NAME.p4i there.
//! There is a fixed list of flags without effect, each with a reason that is printed once when the flag is used. All
//! other flags are refused.

mod flags;
mod output;

use flags::{Act, Flag, Takes};
use p4_compiler::diagnostics::{Diagnostics, Lint, Severity};
use p4_compiler::{Options, compile, preprocess};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Which command is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The driver.
    P4c,
    /// The compiler for simple_switch.
    Bm2Ss,
}

impl Name {
    /// The command that a program's name stands for; `None` for the name of this compiler.
    pub fn of(argv0: &str) -> Option<Name> {
        match std::path::Path::new(argv0).file_stem()?.to_str()? {
            "p4c" => Some(Name::P4c),
            "p4c-bm2-ss" => Some(Name::Bm2Ss),
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Name::P4c => "p4c",
            Name::Bm2Ss => "p4c-bm2-ss",
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Request {
    source: Option<PathBuf>,
    output: Option<PathBuf>,
    /// P4Info files, and the entries' files.
    p4info: Vec<PathBuf>,
    entries: Vec<PathBuf>,
    /// Format of files whose name does not say it.
    format: output::Format,
    include: Vec<PathBuf>,
    defines: Vec<(String, String)>,
    preprocess_only: bool,
    no_preprocessor: bool,
    /// `--Wdisable` without a name.
    silence_all: bool,
    silenced: Vec<String>,
    /// Annotations to ignore.
    disabled: Vec<String>,
    /// `--Werror` without a name.
    all_errors: bool,
    errors: Vec<String>,
    notes: BTreeSet<String>,
}

/// Runs the command with its arguments (without its own name).
pub fn run(name: Name, args: impl Iterator<Item = String>) -> ExitCode {
    let request = match Request::parse(name, args.collect()) {
        Ok(Some(request)) => request,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}: {message}", name.text());
            return ExitCode::from(1);
        }
    };
    for note in &request.notes {
        eprintln!("{}: {note}", name.text());
    }
    match request.execute(name) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{}: {message}", name.text());
            ExitCode::FAILURE
        }
    }
}

impl Request {
    fn parse(name: Name, args: Vec<String>) -> Result<Option<Request>, String> {
        let mut r = Request::default();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            if arg == "-" || !arg.starts_with('-') {
                if let Some(old) = r.source.replace(PathBuf::from(&arg)) {
                    return Err(format!("one program at a time: {} and {arg}", old.display()));
                }
                continue;
            }
            let (flag, attached) = flags::find(&arg).ok_or_else(|| format!("unknown option {arg}; see --help"))?;
            let value = match flag.takes {
                Takes::Nothing if attached.is_some() => return Err(format!("{arg}: this option takes no value")),
                Takes::Nothing => None,
                Takes::Optional => attached,
                Takes::Value => match attached.or_else(|| args.next()) {
                    Some(v) => Some(v),
                    None => return Err(format!("{arg} needs a value")),
                },
            };
            if !r.act(name, flag, &arg, value)? {
                return Ok(None);
            }
        }
        Ok(Some(r))
    }

    /// Applies one flag; false if nothing is left to do.
    fn act(&mut self, name: Name, flag: &Flag, arg: &str, value: Option<String>) -> Result<bool, String> {
        let text = value.clone().unwrap_or_default();
        let paths = |text: &str| {
            text.split(',')
                .filter(|p| !p.is_empty())
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        };
        match flag.act {
            Act::Help => {
                print!("{}", flags::help(name.text()));
                return Ok(false);
            }
            Act::Version => {
                println!("{} {} (vfabric)", name.text(), env!("CARGO_PKG_VERSION"));
                return Ok(false);
            }
            Act::Targets => {
                println!("Supported targets: bmv2-v1model (--target bmv2 --arch v1model)");
                return Ok(false);
            }
            Act::Include => self.include.push(text.into()),
            Act::Define => {
                let (n, v) = text.split_once('=').unwrap_or((&text, "1"));
                self.defines.push((n.to_string(), v.to_string()));
            }
            Act::Undefine => self.defines.retain(|(n, _)| n.split('(').next() != Some(text.as_str())),
            Act::Preprocess => self.preprocess_only = true,
            Act::NoPreprocessor => self.no_preprocessor = true,
            Act::Output => self.output = Some(text.into()),
            Act::P4Info => self.p4info.extend(paths(&text)),
            Act::Entries => self.entries.extend(paths(&text)),
            Act::Format => self.format = output::Format::named(&text)?,
            Act::Target if matches!(text.as_str(), "bmv2" | "bmv2-v1model" | "bmv2-ss-p4org") => {}
            Act::Target => return Err(format!("target {text} is not known: this compiler is for bmv2")),
            Act::Arch if text == "v1model" => {}
            Act::Arch => {
                return Err(format!(
                    "architecture {text} is not known: this compiler is for v1model"
                ));
            }
            Act::Language if matches!(text.as_str(), "16" | "p4-16" | "p4_16" | "P4-16") => {}
            Act::Language => return Err(format!("language {text} is not known: this compiler is for P4_16")),
            Act::Silence if value.is_none() => self.silence_all = true,
            Act::Silence => self.silenced.extend(text.split(',').map(str::to_string)),
            Act::Fail if value.is_none() => self.all_errors = true,
            Act::Fail => self.errors.extend(text.split(',').map(str::to_string)),
            Act::DisableAnnotations => self.disabled.extend(text.split(',').map(str::to_string)),
            Act::Ignored(reason) => {
                self.notes.insert(format!("{arg} has no effect: {reason}"));
            }
        }
        Ok(true)
    }

    fn execute(self, name: Name) -> Result<ExitCode, String> {
        let source = self.source.clone().ok_or("no input file; see --help")?;
        let text = if source.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin()).map_err(|e| format!("cannot read standard input: {e}"))?
        } else {
            let bytes = std::fs::read(&source).map_err(|e| format!("cannot read {}: {e}", source.display()))?;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let options = self.options();
        let shown = source.to_string_lossy();
        if self.preprocess_only {
            return Ok(match preprocess(&shown, source.parent(), &text, &options) {
                Ok((text, warnings, _)) => {
                    self.report(&warnings);
                    print!("{text}");
                    ExitCode::SUCCESS
                }
                Err(d) => {
                    self.report(&d);
                    ExitCode::FAILURE
                }
            });
        }
        let compiled = match compile(&shown, source.parent(), &text, &options) {
            Ok(compiled) => compiled,
            Err(d) => {
                self.report(&d);
                return Ok(ExitCode::FAILURE);
            }
        };
        if self.report(&compiled.warnings) {
            return Ok(ExitCode::FAILURE);
        }
        for path in &self.p4info {
            let format = output::Format::of(path, self.format);
            output::write(path, &output::p4info(&compiled, format))?;
        }
        for path in &self.entries {
            let format = output::Format::of(path, self.format);
            output::write(path, &output::entries(&compiled, format))?;
        }
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match (name, &self.output) {
            (Name::Bm2Ss, None) => {}
            (Name::Bm2Ss, Some(file)) => output::write(file, compiled.json.as_bytes())?,
            // A name with a document's ending names a document, unless it is a directory. Scripts use both.
            (Name::P4c, Some(file)) if file.extension().is_some_and(|e| e == "json") && !file.is_dir() => {
                output::write(file, compiled.json.as_bytes())?;
            }
            (Name::P4c, dir) => {
                let dir = dir.clone().unwrap_or_else(|| PathBuf::from("."));
                std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
                output::write(&dir.join(format!("{stem}.json")), compiled.json.as_bytes())?;
                if let Ok((text, ..)) = preprocess(&shown, source.parent(), &text, &options) {
                    output::write(&dir.join(format!("{stem}.p4i")), text.as_bytes())?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> Options {
        // A preprocessed program has no directives left, so `-e` only means that no directory is searched.
        let silenced = if self.silence_all {
            Lint::ALL.iter().map(|l| l.name().to_string()).collect()
        } else {
            self.silenced.clone()
        };
        Options {
            include_paths: if self.no_preprocessor {
                Vec::new()
            } else {
                self.include.clone()
            },
            defines: if self.no_preprocessor {
                Vec::new()
            } else {
                self.defines.clone()
            },
            silenced,
            disabled_annotations: self.disabled.clone(),
            ..Options::default()
        }
    }

    /// Shows diagnostics; whether one of them counts as an error.
    fn report(&self, diagnostics: &Diagnostics) -> bool {
        let mut shown = diagnostics.clone();
        for d in &mut shown.list {
            let named = d.lint.is_some_and(|l| self.errors.iter().any(|e| e == l.name()));
            if d.severity == Severity::Warning && (self.all_errors || named) {
                d.severity = Severity::Error;
            }
        }
        if !shown.list.is_empty() {
            eprint!("{}", shown.render(std::io::stderr().is_terminal()));
        }
        shown.has_errors()
    }
}
