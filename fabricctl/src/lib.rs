//! The fabric's command line, and the lab it can build.
//!
//! [`cli`] talks to a controller over its REST API and knows nothing else of it. [`lab`]
//! builds a whole fabric out of network namespaces on one machine, starts the real
//! daemons in it, and checks with real packets that it does what it should; the
//! whole-system tests drive the same functions.

pub mod cli;
pub mod config;
pub mod lab;
