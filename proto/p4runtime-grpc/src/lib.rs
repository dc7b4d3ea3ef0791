//! P4Runtime's service as client and server stubs, over the messages of `p4runtime-proto`.
//!
//! Client and server share only these two crates. Code that only reads or writes messages, such as the compiler, does not need
//! this crate, and so does not need gRPC.
//!
//! **Cost.** A crate that depends on this one is built with tonic and hyper. The stubs encode and decode messages,
//! nothing else.
//!
//! # Example
//! ```
//! use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
//! use p4runtime_proto::p4::v1::CapabilitiesRequest;
//! use tonic::transport::Endpoint;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = Endpoint::from_static("http://127.0.0.1:9559").connect_lazy();
//! let reply = P4RuntimeClient::new(channel).capabilities(CapabilitiesRequest::default()).await?;
//! println!("P4Runtime {}", reply.into_inner().p4runtime_api_version);
//! # Ok(())
//! # }
//! // Both stubs are those of one service.
//! assert_eq!(p4runtime_grpc::p4_runtime_server::SERVICE_NAME, "p4.v1.P4Runtime");
//! ```

pub use generated::{p4_runtime_client, p4_runtime_server};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("p4.v1");
}
