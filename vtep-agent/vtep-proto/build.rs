//! Compiles the `.proto` files in pure Rust: no system `protoc` is needed.
use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["vfabric/vtep/v1/vtep.proto", "vfabric/vtep/v1/enrol.proto"], ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
