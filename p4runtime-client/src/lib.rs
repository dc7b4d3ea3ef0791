//! A P4Runtime client: sessions, arbitration, names and ids, batching, read-back.

pub mod canonical;
pub mod entity;
pub mod error;

pub use error::{Error, Result};
