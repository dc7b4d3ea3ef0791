//! A program at three stages of its compilation, for people: readable, and the same for the same input.
//!
//! - [`Dump::Ast`]: the syntax tree as P4 source in one layout, with macros expanded, and without the files that ship
//!   with the compiler. Parsing it (after `#include <v1model.p4>`) gives the same tree again.
//! - [`Dump::Ir`]: the flat program that back ends read: storage, block graphs, tables, objects; after the
//!   optimisation passes of the chosen level.
//! - [`Dump::Tables`]: the tables and conditions of the pipelines and which follows which, as a DOT graph.

pub(crate) mod ast;
pub(crate) mod flat;
mod tables;

pub use tables::dot;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// The syntax tree as P4 source.
    Ast,
    /// The flat program after optimisation.
    Ir,
    /// The graph of tables in DOT.
    Tables,
}
