//! Published types of the fabric: what users write, what the API returns.
//!
//! **Problem.** A topology file, an intent file, the REST API, the command line and
//! the controller must all mean the same thing by "network" or "attachment".
//!
//! **Model.** [`topology`] is the physical fabric (switches, links, hosts).
//! [`intent`] is what tenants ask for: virtual data centres, tenant networks, routers,
//! attachments, each a [`kind`] of object. [`ident`] has the small value types that both use; every value of
//! these types is valid.
//!
//! **Invariants.** Types parse only well-formed text ([`ident`]); [`topology::Topology::validate`]
//! and the intent checks add checks over several objects. Every error names
//! the field, the value and what was expected.
//!
//! **Cost.** Reading a document is linear in its size. Names are shared, so a copy of one costs a counter and no
//! allocation.
//!
//! **Parts.** The types alone need no HTTP. [`client`] comes with the feature `client`, the REST
//! router [`rest`] with the feature `server`; neither brings the other's dependencies.
//!
//! This is a leaf crate: it knows nothing about how the controller works.
//!
//! # Example
//! ```
//! use vfabric_api::intent::Intent;
//! use vfabric_api::yaml;
//!
//! let text = "vdcs: [{ name: blue, networks: [{ name: web, subnets: [{ cidr: 10.0.0.0/24 }] }] }]";
//! let intent: Intent = yaml::read(text).unwrap();
//! assert_eq!(intent.vdcs[0].networks[0].name.as_str(), "web");
//!
//! let error = yaml::read::<Intent>("vdcs: [{ name: Blue! }]").unwrap_err();
//! assert!(error.to_string().contains("vdcs[0].name"));
//! ```

pub mod access;
#[cfg(feature = "client")]
pub mod client;
pub mod enrolment;
pub mod error;
pub mod ethernet;
pub mod event;
pub mod history;
pub mod ident;
pub mod image;
pub mod intent;
pub mod inventory;
pub mod kind;
pub mod labels;
pub mod lifecycle;
pub mod machine;
pub mod plan;
pub mod provisioning;
mod refusal;
#[cfg(feature = "server")]
pub mod rest;
pub mod service;
pub mod status;
mod strict;
pub mod topology;
pub mod yaml;
