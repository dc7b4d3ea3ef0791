//! P4Runtime server.

pub mod action;
pub mod array;
pub mod bytestring;
pub mod digest;
pub mod error;
pub mod info;
pub mod key;
pub mod packet;
pub mod pipeline;
mod pre;
mod profile;
pub mod read;
pub mod role;
pub mod server;
pub mod service;
pub mod session;
pub mod state;
pub mod streams;
pub mod table;
pub mod target;
pub mod translation;
mod value_set;
pub mod write;
