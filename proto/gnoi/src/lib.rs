//! gNOI and gNSI Certz as Rust types: messages, client and server stubs.
//!
//! It has gNOI System, Healthz and OS, and gNSI Certz, as far as this workspace calls or serves them. The `.proto` files under `proto/`
//! were written for this project and share only names and numbers, which are the wire format, with the originals;
//! `tests/numbers.rs` compares every message, field, enum value and RPC with a list. A server here replies with
//! UNIMPLEMENTED to a call that only the published services have.
//!
//! The parts of a TLS profile ([`gnsi::certz::v1::UploadRequest`]) are generated from the same file as in `bootz-proto`; on the
//! wire they are the same. Maps are `BTreeMap`, so that the keys of a path have a fixed order.
//!
//! **Cost.** Reading and writing a message is linear in its size. Messages and stubs are one crate, because all its
//! users speak gRPC: each of them is built with tonic and hyper.
//!
//! # Example
//! ```
//! use gnoi_proto::gnoi::system::{RebootMethod, RebootRequest};
//! use prost::Message as _;
//!
//! let request = RebootRequest {
//!     method: RebootMethod::Cold.into(),
//!     ..RebootRequest::default()
//! };
//! let octets = request.encode_to_vec();
//! assert_eq!(RebootRequest::decode(octets.as_slice()).unwrap(), request);
//! ```

/// Encoded `google.protobuf.FileDescriptorSet` of all files of this crate and of those they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// gNOI.
pub mod gnoi {
    /// Paths of components.
    #[allow(missing_docs, clippy::all)]
    pub mod types {
        tonic::include_proto!("gnoi.types");
    }
    /// Time and restarts.
    #[allow(missing_docs, clippy::all)]
    pub mod system {
        tonic::include_proto!("gnoi.system");
    }
    /// Health of components.
    #[allow(missing_docs, deprecated, clippy::all)]
    pub mod healthz {
        tonic::include_proto!("gnoi.healthz");
    }
    /// Software.
    #[allow(missing_docs, clippy::all)]
    pub mod os {
        tonic::include_proto!("gnoi.os");
    }
}

/// gNSI.
pub mod gnsi {
    /// Certificates and trust.
    pub mod certz {
        /// Version 1.
        #[allow(missing_docs, deprecated, clippy::all)]
        pub mod v1 {
            tonic::include_proto!("gnsi.certz.v1");
        }
    }
}
