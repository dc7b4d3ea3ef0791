//! The fabric's own P4_16 programs, compiled at build time, with typed table bindings.
//!
//! **Problem.** Controller and switches must agree on every table, field and action of the
//! pipelines. A program that changed without the controller must not compile.
//!
//! **Model.** `leaf.p4` and `spine.p4` are two profiles over one source set (`include/`, `control/`; `docs/pipeline.md`
//! shows a packet's path). The build script compiles both and embeds BMv2 JSON and P4Info ([`Pipeline`]). [`tables`]
//! has one module per table, generated from the leaf's P4Info; the spine's tables are a subset with the same ids, so
//! the same bindings serve both (tested). [`binding`] has the parts that these modules are made of.
//!
//! **Invariants.** Ids of tables, actions, profiles and counters are fixed in the source.
//! [`DropReason`] is the program's list (tested).
//!
//! **Cost.** Both programs are compiled whenever the crate is built. At run time the documents are embedded octets, and
//! a typed key and action become an entry without a look-up by name.
//!
//! **Build.** With `FABRIC_PIPELINE_DIR` set, the pipelines are taken from that directory
//! (`leaf.json`, `leaf.p4info.bin`, `spine.json`, `spine.p4info.bin`) instead of being
//! compiled: for pipelines made by another compiler.
//!
//! # Example
//! ```
//! use std::net::Ipv4Addr;
//!
//! use fabric_pipeline::{Bits, tables};
//!
//! let key = tables::ipv4_host::Key {
//!     vrf: Bits::masked(10_000),
//!     dst: Ipv4Addr::new(10, 0, 0, 2).into(),
//! };
//! let action = tables::ipv4_host::Action::RouteToVtep {
//!     vni: Bits::masked(10_001),
//!     vtep_id: 5.into(),
//!     dmac: [2, 0, 0, 0, 0, 1].into(),
//!     mtu: 1500.into(),
//! };
//! let entry = key.entry(action);
//! assert_eq!(tables::describe(&entry).unwrap().key, "vrf 10000, dst 10.0.0.2");
//! ```

pub mod binding;
mod bits;
mod drop_reason;
mod pipeline;

pub use bits::Bits;
pub use drop_reason::DropReason;
pub use pipeline::{Pipeline, PipelineError};

/// One module per table of the leaf, generated from its P4Info.
#[rustfmt::skip]
pub mod tables {
    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}

/// The port on which packets for the controller leave, and packets from the controller arrive: the `--cpu-port` of
/// every switch.
pub const CPU_PORT: u16 = 510;

/// Added to an access id to make a replica number; VTEP numbers are below it.
pub const REPLICA_ACCESS: u16 = 0x8000;
