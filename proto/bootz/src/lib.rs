//! OpenConfig Bootz as Rust types: messages, client and server stubs.
//!
//! The wire format is that of `bootz.proto` with streaming version 1.0. The `.proto` files under `proto/` were written for
//! this project and share only names and numbers, which are the wire format, with the originals. `tests/numbers.rs` compares
//! every message, field, enum value and RPC with a list.
//!
//! gNSI (Certz, Authz, Pathz, Credentialz) and attestz are included only as far as Bootz refers to them.
//! [`request`] is our own: a field that other servers and devices skip, the service through which a Bootz server asks the owner,
//! and the enrolment of switches with a token. Nothing here validates or interprets messages.
//!
//! **Cost.** Reading and writing a message is linear in its size. Messages and stubs are one crate, because all its
//! users speak gRPC: each of them is built with tonic and hyper.
//!
//! # Example
//! ```
//! use bootz_proto::bootz::GetBootstrapDataRequest;
//! use prost::Message as _;
//!
//! let request = GetBootstrapDataRequest {
//!     nonce: "a nonce".into(),
//!     ..GetBootstrapDataRequest::default()
//! };
//! let octets = request.encode_to_vec();
//! assert_eq!(GetBootstrapDataRequest::decode(octets.as_slice()).unwrap(), request);
//! ```

/// Encoded `google.protobuf.FileDescriptorSet` of all files of this crate and of those they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Service and messages.
#[allow(missing_docs, deprecated, clippy::all)]
pub mod bootz {
    tonic::include_proto!("bootz");
}

mod vfabric {
    #[allow(missing_docs, clippy::all)]
    pub mod bootz {
        tonic::include_proto!("vfabric.bootz");
    }
}

/// Our own additions.
pub use vfabric::bootz as request;

/// gNSI.
pub mod gnsi {
    /// Methods that callers may call.
    pub mod authz {
        /// Version 1.
        #[allow(missing_docs, clippy::all)]
        pub mod v1 {
            tonic::include_proto!("gnsi.authz.v1");
        }
    }
    /// Certificates and trust.
    pub mod certz {
        /// Version 1.
        #[allow(missing_docs, deprecated, clippy::all)]
        pub mod v1 {
            tonic::include_proto!("gnsi.certz.v1");
        }
    }
    /// Accounts.
    pub mod credentialz {
        /// Version 1.
        #[allow(missing_docs, clippy::all)]
        pub mod v1 {
            tonic::include_proto!("gnsi.credentialz.v1");
        }
    }
    /// gNMI paths that users may use.
    pub mod pathz {
        /// Version 1.
        #[allow(missing_docs, clippy::all)]
        pub mod v1 {
            tonic::include_proto!("gnsi.pathz.v1");
        }
    }
}

/// OpenConfig parts that are not gNSI.
pub mod openconfig {
    /// Proofs by TPMs.
    #[allow(missing_docs, clippy::all)]
    pub mod attestz {
        tonic::include_proto!("openconfig.attestz");
    }
}
