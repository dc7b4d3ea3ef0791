//! Compiles the `.proto` files in pure Rust: no system `protoc` is needed.
use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: &[&str] = &["gnmi_ext/gnmi_ext.proto", "gnmi/gnmi.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Ordered maps: a path's keys have one order in texts and hashes.
    tonic_prost_build::configure()
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
