//! Compiles the `.proto` files in pure Rust: no system `protoc` is needed.
use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: &[&str] = &[
    "gnoi/types.proto",
    "gnoi/system.proto",
    "gnoi/healthz.proto",
    "gnoi/os.proto",
    "gnsi/certz_rotate.proto",
];
/// The second folder has the parts of a TLS profile, which Bootz has too.
const FOLDERS: &[&str] = &["proto", "../bootz/proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for folder in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
    }
    let descriptors = protox::compile(FILES, FOLDERS)?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
