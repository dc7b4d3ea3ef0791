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
        None => return without_pipelines(&out),
    };
    fs::write(out.join("tables.rs"), bindings::generate(&leaf, "crate::binding")?)?;
    Ok(())
}

/// Takes a pipeline that another compiler made.
fn copy(dir: &Path, out: &Path, name: &str) -> Result<P4Info, Box<dyn Error>> {
    for file in [format!("{name}.json"), format!("{name}.p4info.bin")] {
        let from = dir.join(&file);
        println!("cargo::rerun-if-changed={}", from.display());
        fs::copy(&from, out.join(&file)).map_err(|e| format!("{OVERRIDE}: {}: {e}", from.display()))?;
    }
    Ok(P4Info::decode(fs::read(out.join(format!("{name}.p4info.bin")))?.as_slice())?)
}

/// Until the compiler is complete: typed tables as they were last generated (`tables.rs`),
/// and no pipelines, so that everything builds and `--pipeline-dir` has to name them.
fn without_pipelines(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tables.rs");
    for name in ["leaf", "spine"] {
        fs::write(out.join(format!("{name}.json")), [])?;
        fs::write(out.join(format!("{name}.p4info.bin")), [])?;
    }
    fs::copy("tables.rs", out.join("tables.rs"))?;
    Ok(())
}
