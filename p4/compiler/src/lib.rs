//! P4_16 on v1model to BMv2 JSON and P4Info.
#![allow(unreachable_pub)] // The modules are private; `pub` inside them means "for the crate".
mod ast;
pub mod diagnostics;
mod lex;
mod parse;
mod preprocess;
mod source;
pub mod backend;
