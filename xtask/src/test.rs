//! Everything that must pass, in the order that shows a mistake soonest.

use std::time::Instant;

use anyhow::Result;

use crate::{LAB_PACKAGES, build_release, call, cargo, fabricctl, packages, target_dir, venv};

pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let step = |what: &str| eprintln!("── {what} ({:.0} s)", started.elapsed().as_secs_f64());
    step("packages");
    packages::install(LAB_PACKAGES)?;
    packages::install(&["python3", "python3-venv"])?;
    venv::create_all(&target_dir().join("venv"))?;
    step("format");
    call(cargo().args(["fmt", "--all", "--check"]))?;
    step("lints");
    call(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("release build");
    build_release()?;
    step("tests");
    call(cargo().args(["test", "--workspace", "--no-fail-fast"]))?;
    step("whole system: a lab with real packets");
    let lab = call(fabricctl().args(["lab", "up"]));
    step("lab down");
    call(fabricctl().args(["lab", "down"]))?;
    lab?;
    step("all passed");
    Ok(())
}
