//! P4Runtime's service as client and server stubs, over the messages of `p4runtime-proto`.
//!
//! Client and server share these crates and nothing else. What only reads or writes messages, such as the compiler, does
//! without this crate and so without gRPC.

pub use generated::{p4_runtime_client, p4_runtime_server};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("p4.v1");
}
