//! Compiles the `.proto` files in pure Rust: no system `protoc` is needed.
use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: &[&str] = &["bootz/bootz.proto", "bootz/request.proto", "bootz/token.proto"];
/// The second folder has gNMI's paths, which gNSI Pathz refers to.
const FOLDERS: &[&str] = &["proto", "../gnmi/proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for folder in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
    }
    let descriptors = protox::compile(FILES, FOLDERS)?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".gnmi", "::gnmi_proto::gnmi")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
