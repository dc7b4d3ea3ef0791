//! Generates the service stubs from the descriptors of `p4runtime-proto`, over its messages.
use std::error::Error;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = prost_types::FileDescriptorSet::decode(p4runtime_proto::FILE_DESCRIPTOR_SET)?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc", "::p4runtime_proto::google::rpc")
        .extern_path(".p4.config.v1", "::p4runtime_proto::p4::config::v1")
        .extern_path(".p4.v1", "::p4runtime_proto::p4::v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
