//! P4_16 on v1model to BMv2 JSON and P4Info.
//!
//! # Problem
//! No package registry has a P4 compiler. So without this crate nobody could change a pipeline on a fresh machine. This
//! crate compiles pipelines with nothing else installed, from a `build.rs` ([`compile_file`]) or from the command line.
//!
//! # Model
//! The phases run from left to right; each is a folder and knows only the ones before it:
//!
//! ```text
//! preprocess, lex -> parse -> ast -> types -> ir -> passes -> lir -> backend/{bmv2, p4info}
//! ```
//! - `preprocess` expands `#include` and macros. It works on tokens, which keep their place in the source.
//! - `parse` builds the syntax tree (`ast`) and recovers after errors.
//! - `types` resolves names, infers types, makes implicit casts explicit, folds constants, specialises generic
//!   functions; the result is `ir`, still structured as the source is.
//! - `passes::lower` evaluates `main` and inlines controls, parsers, actions and functions with copy-in/copy-out;
//!   effects keep the order of the source, and `return`, `exit`, loops and short circuit become edges of a block
//!   graph. The result is `lir`: storage (fields, headers, stacks), graphs, tables, objects. `passes::optimise`
//!   shortens it.
//! - `backend::bmv2` and `backend::p4info` read `lir`. Another back end would start there. `lir` has P4's arithmetic;
//!   the back end for bmv2 cuts results to their width.
//!
//! # Invariants
//! - No input panics: widths, nesting, macro and include depth, constant sizes and inlining are bounded, each by a
//!   named constant where it is checked. Compilation runs on a thread with a stack sized for those bounds.
//! - Phases report into [`diagnostics::Sink`] and go on, so one run shows several errors.
//!
//! # Cost
//! The fabric's leaf compiles in some 20 ms (`p4-compiler bench`). If an analysis would exceed its bound,
//! that part of the program is left unoptimised.
//!
//! # What it does not do
//! Architectures other than v1model, P4_14, instances with abstract methods. Externs that v1model does not declare
//! are named in the document as bmv2 looks them up; the switch must have them built in.
#![allow(unreachable_pub)] // The modules are private; `pub` inside them means "for the crate".

#[allow(
    dead_code,
    reason = "the tree keeps all that the source says, including what no phase needs yet"
)]
mod ast;
pub mod backend;
pub mod diagnostics;
mod dump;
#[allow(
    dead_code,
    reason = "types and declarations are complete, even where no back end needs them"
)]
mod ir;
mod known;
mod lex;
#[allow(dead_code, reason = "a second back end may ask for more than bmv2 does")]
mod lir;
mod parse;
mod passes;
mod preprocess;
pub mod source;
mod text;
mod types;

pub use dump::{Dump, dot};

use diagnostics::{Diagnostics, Sink};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::WriteRequest;
use prost::Message;
use source::SourceMap;
use std::path::{Path, PathBuf};

/// What to compile with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Directories searched for `#include`, in order, before the embedded `core.p4` and `v1model.p4`.
    pub include_paths: Vec<PathBuf>,
    /// Macros: name and text.
    pub defines: Vec<(String, String)>,
    /// Names of warnings that are not reported.
    pub silenced: Vec<String>,
    /// Names of annotations that are ignored.
    pub disabled_annotations: Vec<String>,
    /// Stop after type checking.
    pub check_only: bool,
    /// How much the program is rewritten.
    pub level: OptLevel,
}

/// How much a program is rewritten before a back end gets it. Packets cannot tell the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptLevel {
    /// As in the source.
    O0,
    /// Constants and copies propagated, decided branches and dead stores removed, code joined.
    #[default]
    O1,
}

/// The results of a compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The BMv2 JSON document, typed.
    pub program: bmv2_json::Program,
    /// The document as text.
    pub json: String,
    /// P4Info.
    pub p4info: P4Info,
    /// P4Info in protobuf's text format.
    pub p4info_text: String,
    /// P4Info as binary protobuf.
    pub p4info_binary: Vec<u8>,
    /// The program's own table entries as inserts; device id, role and election id are left to the sender.
    pub entries: WriteRequest,
    /// These entries in protobuf's text format.
    pub entries_text: String,
    /// Warnings, with the sources they point into.
    pub warnings: Diagnostics,
    /// Files that were read, for `cargo:rerun-if-changed`.
    pub dependencies: Vec<PathBuf>,
}

impl Compiled {
    /// P4Info in protobuf's JSON format.
    pub fn p4info_json(&self) -> String {
        text::json("p4.config.v1.P4Info", &self.p4info)
    }

    /// The entries in protobuf's JSON format.
    pub fn entries_json(&self) -> String {
        text::json("p4.v1.WriteRequest", &self.entries)
    }

    /// The entries as binary protobuf.
    pub fn entries_binary(&self) -> Vec<u8> {
        self.entries.encode_to_vec()
    }
}

const CORE: &str = include_str!("../include/core.p4");
const V1MODEL: &str = include_str!("../include/v1model.p4");

/// Stack of the compiling thread: the bounds on nesting were chosen to fit into it in debug builds.
const STACK_BYTES: usize = 512 << 20;

/// Compiles a file.
///
/// # Errors
/// As [`compile`], or the file cannot be read.
pub fn compile_file(path: &Path, options: &Options) -> Result<Compiled, Diagnostics> {
    match std::fs::read(path) {
        Ok(bytes) => compile(
            &path.to_string_lossy(),
            path.parent(),
            &String::from_utf8_lossy(&bytes),
            options,
        ),
        Err(e) => {
            let mut sink = Sink::default();
            sink.error(source::Span::default(), format!("cannot read {}: {e}", path.display()));
            Err(sink.finish(SourceMap::default()))
        }
    }
}

/// Compiles a text; `name` is shown in messages, `dir` is where `#include "..."` looks first.
///
/// # Errors
/// All errors and warnings of the program, in the order in which they were found.
pub fn compile(name: &str, dir: Option<&Path>, text: &str, options: &Options) -> Result<Compiled, Diagnostics> {
    on_own_thread(|| {
        whole(name, dir, text, options)
            .map_err(Portable::pack)
            .map(Portable::pack_ok)
    })
    .map(PortableOk::unpack)
}

/// Compiles a text like [`compile`], and returns one of the stages as text instead of the results.
///
/// # Errors
/// The same as for [`compile`]. For a dump of the syntax tree, it is enough that the text can be parsed.
pub fn dump(
    name: &str,
    dir: Option<&Path>,
    text: &str,
    options: &Options,
    what: Dump,
) -> Result<(String, Diagnostics), Diagnostics> {
    on_own_thread(|| {
        let stage = || {
            let parsed = parse_text(name, dir, text, options)?;
            match what {
                Dump::Ast => Ok((dump::ast::print(&parsed.decls, &parsed.map), parsed.finish())),
                Dump::Ir => {
                    let mut flat = lowered(parsed)?;
                    passes::optimise(&mut flat.program, options.level);
                    Ok((dump::flat::print(&flat.program), flat.parsed.finish()))
                }
                Dump::Tables => emitted(lowered(parsed)?, name, options.level).map(|c| (dot(&c.program), c.warnings)),
            }
        };
        stage()
            .map_err(Portable::pack)
            .map(|(text, warnings)| (text, Portable::pack(warnings)))
    })
    .map(|(text, warnings)| (text, warnings.unpack()))
}

/// Preprocesses a text: what the compiler would parse, as text, with the warnings and the files that were read.
///
/// # Errors
/// Errors of the preprocessor.
pub fn preprocess(
    name: &str,
    dir: Option<&Path>,
    text: &str,
    options: &Options,
) -> Result<(String, Diagnostics, Vec<PathBuf>), Diagnostics> {
    on_own_thread(|| {
        let (map, sink, tokens, dependencies) = tokens_of(name, dir, text, options).map_err(Portable::pack)?;
        let mut out = String::new();
        let mut last = "";
        for t in &tokens {
            let text = map.text(t.text);
            if t.after_newline && !out.is_empty() {
                out.push('\n');
            } else if !out.is_empty() && (t.after_space || lex::would_join(last, text)) {
                out.push(' ');
            }
            out.push_str(text);
            last = text;
        }
        out.push('\n');
        let failed = sink.errors() > 0;
        let messages = Portable::pack(sink.finish(map));
        if failed {
            Err(messages)
        } else {
            Ok((out, messages, dependencies))
        }
    })
    .map(|(text, warnings, dependencies)| (text, warnings.unpack(), dependencies))
}

/// Runs a part of the compiler on a thread with enough stack. `Diagnostics` holds `Rc`s, which must not leave their
/// thread, so diagnostics cross as [`Portable`].
fn on_own_thread<T: Send>(run: impl FnOnce() -> Result<T, Portable> + Send) -> Result<T, Diagnostics> {
    let result = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, run)
            .ok()
            .and_then(|t| t.join().ok())
    });
    match result {
        Some(Ok(c)) => Ok(c),
        Some(Err(e)) => Err(e.unpack()),
        None => {
            let mut sink = Sink::default();
            sink.error(source::Span::default(), "the compiler failed internally");
            Err(sink.finish(SourceMap::default()))
        }
    }
}

/// Diagnostics and sources without shared pointers, to cross threads.
struct Portable {
    list: Vec<diagnostics::Diagnostic>,
    files: Vec<(String, Option<PathBuf>, String, bool)>,
}

struct PortableOk {
    program: bmv2_json::Program,
    p4info: P4Info,
    entries: WriteRequest,
    dependencies: Vec<PathBuf>,
    warnings: Portable,
}

impl Portable {
    fn pack(d: Diagnostics) -> Self {
        let files = d
            .sources
            .iter()
            .map(|f| (f.name.clone(), f.dir.clone(), f.text.to_string(), f.system))
            .collect();
        Portable { list: d.list, files }
    }

    fn unpack(self) -> Diagnostics {
        let mut sources = SourceMap::default();
        for (name, dir, text, system) in self.files {
            sources.add(&name, dir.as_deref(), &text, system);
        }
        Diagnostics {
            list: self.list,
            sources,
        }
    }

    fn pack_ok(c: Parts) -> PortableOk {
        PortableOk {
            program: c.program,
            p4info: c.p4info,
            entries: c.entries,
            dependencies: c.dependencies,
            warnings: Portable::pack(c.warnings),
        }
    }
}

impl PortableOk {
    fn unpack(self) -> Compiled {
        Compiled {
            json: self.program.to_string_pretty(),
            p4info_text: text::print("p4.config.v1.P4Info", &self.p4info),
            p4info_binary: self.p4info.encode_to_vec(),
            program: self.program,
            p4info: self.p4info,
            entries_text: text::print("p4.v1.WriteRequest", &self.entries),
            entries: self.entries,
            warnings: self.warnings.unpack(),
            dependencies: self.dependencies,
        }
    }
}

/// What the compiling thread returns.
#[derive(Default)]
struct Parts {
    program: bmv2_json::Program,
    p4info: P4Info,
    entries: WriteRequest,
    dependencies: Vec<PathBuf>,
    warnings: Diagnostics,
}

/// A parsed program, with what is needed to report messages about it.
struct Parsed {
    map: SourceMap,
    sink: Sink,
    decls: Vec<ast::Decl>,
    dependencies: Vec<PathBuf>,
}

impl Parsed {
    fn finish(self) -> Diagnostics {
        self.sink.finish(self.map)
    }

    /// Returns the program if it has no errors so far.
    fn checked(self) -> Result<Self, Diagnostics> {
        if self.sink.errors() > 0 {
            return Err(self.finish());
        }
        Ok(self)
    }
}

/// The flat program, and the typed program from which it was made.
struct Lowered {
    parsed: Parsed,
    typed: ir::Program,
    program: lir::Program,
}

type Tokens = (SourceMap, Sink, Vec<lex::Token>, Vec<PathBuf>);

/// The tokens of a text after preprocessing.
fn tokens_of(name: &str, dir: Option<&Path>, text: &str, options: &Options) -> Result<Tokens, Diagnostics> {
    let mut map = SourceMap::default();
    let mut sink = Sink::new(options.silenced.iter().cloned());
    let Some(file) = map.add(name, dir, text, false) else {
        sink.error(source::Span::default(), "the file is too large");
        return Err(sink.finish(map));
    };
    let embedded = [("core.p4", CORE), ("v1model.p4", V1MODEL)];
    let includes = preprocess::Includes {
        paths: &options.include_paths,
        embedded: &embedded,
    };
    let (tokens, dependencies) =
        preprocess::Preprocessor::new(&mut map, &mut sink, includes, &options.defines).run(file);
    Ok((map, sink, tokens, dependencies))
}

fn parse_text(name: &str, dir: Option<&Path>, text: &str, options: &Options) -> Result<Parsed, Diagnostics> {
    let (map, mut sink, tokens, dependencies) = tokens_of(name, dir, text, options)?;
    let decls = parse::parse(&map, &mut sink, &tokens, &options.disabled_annotations);
    Parsed {
        map,
        sink,
        decls,
        dependencies,
    }
    .checked()
}

fn lowered(mut parsed: Parsed) -> Result<Lowered, Diagnostics> {
    let typed = types::check(&parsed.decls, &parsed.map, &mut parsed.sink);
    let mut parsed = parsed.checked()?;
    let program = passes::lower::lower(&typed, &mut parsed.sink);
    Ok(Lowered {
        parsed: parsed.checked()?,
        typed,
        program,
    })
}

fn emitted(lowered: Lowered, name: &str, level: OptLevel) -> Result<Parts, Diagnostics> {
    let Lowered {
        mut parsed,
        typed,
        mut program,
    } = lowered;
    // P4Info is made before the program is optimised: it must not depend on the level.
    let p4info = backend::p4info::emit(&program, &typed, &mut parsed.sink);
    let entries = backend::entries::emit(&program, &p4info);
    passes::optimise(&mut program, level);
    let json = backend::bmv2::emit(&program, &typed, &parsed.map, &mut parsed.sink, name);
    let mut parsed = parsed.checked()?;
    Ok(Parts {
        program: json,
        p4info,
        entries,
        dependencies: std::mem::take(&mut parsed.dependencies),
        warnings: parsed.finish(),
    })
}

fn whole(name: &str, dir: Option<&Path>, text: &str, options: &Options) -> Result<Parts, Diagnostics> {
    let mut parsed = parse_text(name, dir, text, options)?;
    if options.check_only {
        types::check(&parsed.decls, &parsed.map, &mut parsed.sink);
        let mut parsed = parsed.checked()?;
        return Ok(Parts {
            dependencies: std::mem::take(&mut parsed.dependencies),
            warnings: parsed.finish(),
            ..Parts::default()
        });
    }
    emitted(lowered(parsed)?, name, options.level)
}
