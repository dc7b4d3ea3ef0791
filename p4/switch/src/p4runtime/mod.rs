//! P4Runtime server.

pub mod action;
pub mod array;
pub mod bytestring;
pub mod digest;
pub mod error;
pub mod info;
pub mod key;
pub mod packet;
mod pre;
mod profile;
pub mod read;
pub mod role;
pub mod session;
pub mod state;
pub mod table;
pub mod target;
pub mod translation;
mod value_set;
pub mod write;
