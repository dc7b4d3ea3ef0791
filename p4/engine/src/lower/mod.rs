//! From BMv2 JSON to a [`Program`]: every name becomes an index, once.
//!
//! The demands of a program are bounded here, so that no document makes the switch use
//! unlimited memory or stack.

mod action;
mod expr;
mod layout;
mod parser;
mod pipeline;
mod stack;

use std::collections::HashMap;

use bmv2_json as json;

use crate::program::Program;
use crate::term::Place;

/// Why a program cannot be run: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(pub(super) String);

type Lower<T> = Result<T, LowerError>;

fn wrong<T>(what: impl std::fmt::Display) -> Lower<T> {
    Err(LowerError(what.to_string()))
}

/// Bits of the widest field: wider than any header that fits a frame.
const MAX_WIDTH: u32 = 1 << 16;
/// Words of the largest arena (8 MiB a packet), against documents that ask for more.
const MAX_WORDS: u32 = 1 << 20;
/// Cells of the largest array of counters, meters or registers (some hundred megabytes).
const MAX_CELLS: usize = 1 << 24;
/// Deepest nesting of an expression, so that every frame fits the stack.
const MAX_DEPTH: usize = 200;

/// Names of the objects that were lowered so far.
struct Names<'a> {
    source: &'a json::Program,
    program: Program,
    headers: HashMap<&'a str, u32>,
    stacks: HashMap<&'a str, u32>,
    fields: HashMap<(&'a str, &'a str), Place>,
    /// Variable-length fields.
    variable: HashMap<(&'a str, &'a str), Place>,
    unions: HashMap<&'a str, Vec<u32>>,
    actions: HashMap<u32, u32>,
    calculations: HashMap<&'a str, u32>,
    /// Parameters of the action that is being lowered: first word, bits.
    parameters: Vec<(u32, u32)>,
}

/// Lowers a program.
pub(super) fn lower(source: &json::Program) -> Lower<Program> {
    let mut names = Names {
        source,
        program: Program::default(),
        headers: HashMap::new(),
        stacks: HashMap::new(),
        fields: HashMap::new(),
        variable: HashMap::new(),
        unions: HashMap::new(),
        actions: HashMap::new(),
        calculations: HashMap::new(),
        parameters: Vec::new(),
    };
    names.layout()?;
    names.arrays()?;
    names.calculations()?;
    names.actions()?;
    names.parser()?;
    names.pipelines()?;
    names.rest()?;
    Ok(names.program)
}

/// The index of what has that name.
fn index<T>(kind: &str, all: &[T], name: impl Fn(&T) -> &str, wanted: &str) -> Lower<u32> {
    match all.iter().position(|x| name(x) == wanted) {
        Some(at) => Ok(at as u32),
        None => wrong(format_args!("{kind} {wanted} is unknown")),
    }
}
