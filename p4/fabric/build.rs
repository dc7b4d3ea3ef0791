//! Compiles the pipelines and generates the table bindings.
//!
//! With `FABRIC_PIPELINE_DIR` set, the compiled pipelines are taken from there.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use p4_compiler::backend::bindings;
use p4runtime_proto::p4::config::v1::P4Info;
use prost::Message as _;

const OVERRIDE: &str = "FABRIC_PIPELINE_DIR";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    for path in ["build.rs", "leaf.p4", "spine.p4", "include", "control"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let leaf = match env::var_os(OVERRIDE) {
        Some(dir) => {
            copy(Path::new(&dir), &out, "spine")?;
            copy(Path::new(&dir), &out, "leaf")?
        }
        None => {
            compile(&out, "spine")?;
            compile(&out, "leaf")?
        }
    };
    fs::write(out.join("tables.rs"), bindings::generate(&leaf, "crate::binding")?)?;
    Ok(())
}

/// Copies a pipeline that another compiler made.
fn copy(dir: &Path, out: &Path, name: &str) -> Result<P4Info, Box<dyn Error>> {
    for file in [format!("{name}.json"), format!("{name}.p4info.bin")] {
        let from = dir.join(&file);
        println!("cargo::rerun-if-changed={}", from.display());
        fs::copy(&from, out.join(&file)).map_err(|e| format!("{OVERRIDE}: {}: {e}", from.display()))?;
    }
    Ok(P4Info::decode(
        fs::read(out.join(format!("{name}.p4info.bin")))?.as_slice(),
    )?)
}

/// Compiles a profile; a program that does not compile is shown with its source lines.
fn compile(out: &Path, name: &str) -> Result<P4Info, Box<dyn Error>> {
    let source = format!("{name}.p4");
    let compiled =
        p4_compiler::compile_file(Path::new(&source), &p4_compiler::Options::default()).map_err(|diagnostics| {
            eprintln!("{diagnostics}");
            format!("{source} does not compile")
        })?;
    fs::write(out.join(format!("{name}.json")), &compiled.json)?;
    fs::write(out.join(format!("{name}.p4info.bin")), &compiled.p4info_binary)?;
    Ok(compiled.p4info)
}
