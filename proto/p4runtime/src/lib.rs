//! P4Runtime's messages as Rust types. The service stubs are `p4runtime-grpc`.
//!
//! The wire format is that of P4Runtime 1.4 with the additions up to 1.5
//! (`google.rpc`, `p4.config.v1`, `p4.v1`). The `.proto` files under `proto/`
//! were written for this project; they share only names and numbers, which are the wire
//! format, with the originals. `bmv2-tests` compares every message, field,
//! enum value and RPC with the descriptors of an independent package.
//!
//! - `p4::v1`: entities, requests, stream messages
//! - `p4::config::v1`: P4Info and types
//! - `google::rpc`: status and codes
//! - [`FILE_DESCRIPTOR_SET`]: for gRPC reflection and for the comparison
//!
//! Maps are `BTreeMap`, so that equal messages have equal encodings. Bytes are
//! `Vec<u8>`. Nothing here validates: client and server do that; they
//! share only these types.
//!
//! **Cost.** Reading and writing a message is linear in its size; each message and each field of bytes inside it is an
//! allocation. Where that is too much, as for table entries in the switch, a reader takes the octets of the request
//! instead.
//!
//! # Example
//! ```
//! use p4runtime_proto::p4::v1::{TableEntry, Update, update};
//! use prost::Message as _;
//!
//! let update = Update {
//!     r#type: update::Type::Insert.into(),
//!     ..Update::default()
//! };
//! let octets = update.encode_to_vec();
//! assert_eq!(Update::decode(octets.as_slice()).unwrap(), update);
//! assert_eq!(TableEntry::default().priority, 0);
//! ```

/// Encoded `google.protobuf.FileDescriptorSet` of all files of this crate and
/// of those they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Packages under `p4`.
pub mod p4 {
    /// Entities, requests and stream messages.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/p4.v1.rs"));
    }

    /// Packages under `p4.config`.
    pub mod config {
        /// P4Info and types.
        #[allow(missing_docs, clippy::all)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/p4.config.v1.rs"));
        }
    }
}

/// Packages under `google`.
pub mod google {
    /// gRPC status messages and codes.
    #[allow(missing_docs, clippy::all)]
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}
