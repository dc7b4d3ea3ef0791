//! Compiles the `.proto` files in pure Rust: no system `protoc` is needed.
use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: &[&str] = &[
    "google/rpc/code.proto",
    "google/rpc/status.proto",
    "p4/config/v1/p4info.proto",
    "p4/v1/p4runtime.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Ordered maps: a P4Info has one encoding, which its hash relies on.
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
