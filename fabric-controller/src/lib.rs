//! The fabric controller: store, model, render, reconcile, drivers.
//!
//! **Problem.** Tenants ask for networks, routers and attachments. Switches and hosts must
//! hold exactly the entities that follow from that: after every change, after every failure on
//! either side, for millions of networks, at a cost that does not grow with their number.
//!
//! **Model.** Intent ([`model`]) is the only truth, kept in a [`store`]. What a device should hold is the sum of
//! *contributions* ([`ident::Source`]), each a pure function ([`render`]) of one object or one pair of objects. A
//! device ([`device`]) is two maps, desired and applied, and the set of keys where they may differ. The engine changes
//! the desired entities, the device's actor learns the applied ones; [`reconcile`] turns differences into ordered
//! batches for a [`driver`]. Read-back, repair, restart and change are the same step: compare, and write the
//! differences. [`topology`] keeps the shortest paths link by link.
//!
//! ```text
//! request -> writer: model, render -> store -> published -> acknowledged
//!                                                  \-> desired |          | actor -> driver -> device
//!                                                              | differs? |
//!                                                      applied <----------- results, read-back
//! ```
//!
//! **Invariants.**
//! - A change is in the store before it is acknowledged, and nobody sees a change that is not in the store.
//! - A transaction happens as a whole or not at all, even if the caller hangs up.
//! - After any history, what devices should hold equals a rendering from scratch (tested as
//!   a property).
//! - No entity refers to a missing one: creation goes up the ranks, then removal goes down.
//! - A VNI is used again only when every device that held it has confirmed that it is gone.
//! - Where nothing differs, nothing is written.
//!
//! **Cost.** A change costs the contributions it touches: this depends on the devices that hold the network or
//! router, not on the number of networks ([`mod@bench`] measures it). A link event costs the pairs of
//! switches whose paths change. A read-back costs what the device holds. Memory is linear in
//! objects and entities. No queue is unbounded: work that a device still has to do is a set of keys.
//!
//! **Enrolment.** [`bootz`] binds devices to switches of the inventory and signs their certificates.
//! [`token_enrolment`] does the same for hosts, and for switches without an IDevID.
//!
//! **What it does not do.** It does not forward packets; devices keep forwarding without it. It is one
//! process: there is no election between controllers. It does not allocate addresses of the
//! underlay: they come with the topology. It does not configure the switches beyond their
//! pipelines and tables.

pub mod access;
pub mod bench;
pub mod bootz;
pub mod controller;
pub mod device;
pub mod driver;
pub mod engine;
pub mod entity;
pub mod events;
pub mod ident;
pub mod images;
pub mod metrics;
pub mod model;
pub mod reconcile;
pub mod render;
pub mod secrets;
pub mod store;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod timings;
pub mod token_enrolment;
pub mod topology;
pub mod view;
