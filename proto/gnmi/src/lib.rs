//! gNMI as Rust types: messages, client and server stubs.
//!
//! The wire format is that of gNMI 0.10 with its extensions (`gnmi`,
//! `gnmi_ext`). The `.proto` files under `proto/` were written for this project;
//! they share only names and numbers, which are the wire format, with the originals.
//! `bmv2-tests` compares every message, field, enum value and RPC with the
//! descriptors of an independent client.
//!
//! Maps are `BTreeMap`, so that the keys of a path have a fixed order. Nothing here
//! validates or interprets: client and server do that with paths and
//! values.
//!
//! **Cost.** Reading and writing a message is linear in its size. Messages and stubs are one crate, because all its
//! users speak gRPC: each of them is built with tonic and hyper.
//!
//! # Example
//! ```
//! use gnmi_proto::gnmi::{Path, PathElem};
//! use prost::Message as _;
//!
//! let elem = PathElem {
//!     name: "interface".into(),
//!     key: [("name".to_owned(), "p1".to_owned())].into(),
//! };
//! let path = Path {
//!     elem: vec![elem],
//!     ..Path::default()
//! };
//! assert_eq!(Path::decode(path.encode_to_vec().as_slice()).unwrap(), path);
//! ```

/// Encoded `google.protobuf.FileDescriptorSet` of all files of this crate and
/// of those they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Service and messages.
#[allow(missing_docs, deprecated, clippy::all)]
pub mod gnmi {
    tonic::include_proto!("gnmi");
}

/// Extensions.
#[allow(missing_docs, clippy::all)]
pub mod gnmi_ext {
    tonic::include_proto!("gnmi_ext");
}
