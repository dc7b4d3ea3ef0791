//! The stream between controller and VTEP agents.
//!
//! **Problem.** The controller decides which tenant networks, stations and workload
//! interfaces a host holds; the host's agent makes kernel objects from them. Both must agree
//! on what an object is, what its key is, and when two objects are the same.
//!
//! **Model.** [`v1`] is the wire format (`proto/vfabric/vtep/v1/vtep.proto`, whose comments
//! describe the protocol). [`HostEntity`] is the validated, canonical form of a `HostObject`
//! (lists sorted, no duplicates), [`HostKey`] names one. Controller and agent keep maps from
//! key to entity and compare with `==`; [`changes`] returns the difference of two such maps in
//! the order in which it can be applied.
//!
//! **Invariants.** A [`HostEntity`] that exists is well formed: VNIs are in range, MAC
//! addresses are unicast, interface names are usable. Converting to the wire and back gives
//! the same value. [`HostKey`]'s order is the order of creation (networks, then forwarding
//! and neighbour entries, then attachments), so that a new workload finds its
//! network complete; removal goes the other way.
//!
//! **Cost.** Conversions are linear in the object, [`changes`] in both maps. It is used for the comparison after a
//! reconnect, not for single changes.
//!
//! This crate does no I/O beyond the generated gRPC stubs and knows nothing about the kernel.
//!
//! # Example
//! ```
//! use vtep_proto::{HostEntity, v1};
//!
//! let network = v1::Network {
//!     vni: 5000,
//!     mtu: 1500,
//!     ..v1::Network::default()
//! };
//! let object = v1::HostObject {
//!     object: Some(v1::host_object::Object::Network(network)),
//! };
//! let error = HostEntity::try_from(&object).unwrap_err();
//! assert!(error.to_string().starts_with("network.underlay: "), "{error}");
//! ```

mod convert;
mod diff;
mod entity;
mod error;
mod ident;

pub use convert::{invalid_key, object_error};
pub use diff::{Change, changes};
pub use entity::{
    AllowedAddress, Attachment, FdbEntry, Gateway, HostEntity, HostKey, Mode, Neighbour, Network, Route, UnderlayFamily,
};
pub use error::DecodeError;
pub use ident::{MacAddress, Vni};

/// Encoded `google.protobuf.FileDescriptorSet` of the stream's `.proto` file and of the files that it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages and service stubs of `vfabric.vtep.v1`, as generated; documented in the
/// `.proto` file.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("vfabric.vtep.v1");
}

/// The largest number of objects in one `Update` or `ReadReply`. An object takes some 100
/// octets on the wire (an attachment with many addresses perhaps 1000), so that a message
/// stays well below gRPC's default limit of 4 MiB.
pub const MAX_OBJECTS_PER_MESSAGE: usize = 1000;

/// The largest number of entries in a `LossReply`: each takes some 100 octets.
pub const MAX_LOSSES: usize = 10_000;

/// Prefix of the names in `/run/netns` under which agents keep the namespaces of pods. A host may ask for attachments,
/// and remove them, only in such a namespace.
pub const POD_NETNS: &str = "vfpod-";
