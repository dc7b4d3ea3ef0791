//! Typed schema of BMv2 JSON (format 2.23 and later), shared by the compiler and the switch.
//!
//! # Problem
//! A P4_16 program compiled for v1model becomes one JSON document. The compiler writes it, the
//! switch reads it, and both must agree exactly. With untyped JSON, every mistake would show only at
//! the first packet.
//!
//! # Model
//! [`Program`] is the document. Each of its arrays has a struct here; the order of fields is the
//! order in which the keys are written. [`Value`] is the `{"type", "value"}` pair for
//! operands, [`Expression`] the operator tree. Numbers that do not fit machine words stay
//! hexadecimal strings ([`HexStr`]).
//!
//! # Invariants
//! - Reading and then writing a document keeps every fact that the format defines; unknown keys are
//!   skipped, because later minor versions add some.
//! - Reading checks shape, not meaning: references between objects are resolved by the switch.
//! - A document of another major version is refused.
//!
//! # Cost
//! A document is read and written as a whole, in time and memory linear in its size. That happens when a program is
//! compiled or loaded, never for a packet.
//!
//! # Errors
//! [`Program::from_slice`] names the place as a path, e.g.
//! `pipelines[0].tables[3].key[0].match_type: unknown variant`.
//!
//! Source of the facts: `docs/JSON_format.md` of p4lang/behavioral-model and documents written by p4c. Each type names
//! the section of `JSON_format.md` that describes it; a type that names no section is a part of another type.
//! `field_lists`, `force_arith` and `source_info` are not in that file: they are as p4c writes them.

mod error;
mod header;
mod hexstr;
mod object;
mod parser;
mod pipeline;
mod program;
mod value;
mod widths;

pub use error::Error;
pub use header::*;
pub use hexstr::HexStr;
pub use object::*;
pub use parser::*;
pub use pipeline::*;
pub use program::*;
pub use value::{Expression, FieldRef, Operand, Operation, ParserParameter, Value};
pub use widths::FieldWidths;

#[cfg(test)]
mod tests;
