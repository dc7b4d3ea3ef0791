//! Unary Bootz with a client that shares no code with the server: Python's gRPC and protobuf, from the descriptors alone.

use anyhow::{Context, Result, ensure};
use bmv2_tests::venv;
use fabric_bootz::testing::signer;
use fabric_provision::testing::Fabric;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_enrols_and_wrong_certificates_are_refused() -> Result<()> {
    let fabric = Fabric::new().await;
    let maker = &fabric.world.maker;
    let right = maker.device("AF40");
    fabric.deliver(&right, "AF40", "right");
    fabric.deliver(&maker.device("ZZ99"), "ZZ99", "stranger");
    fabric.deliver(&maker.device("AF40"), "AF40", "clone");
    fabric
        .world
        .deliver(&signer("maker").device("AF40"), &fabric.path("foreign"));
    let expired = maker.device_with("AF40", |params| params.not_after = params.not_before);
    fabric.world.deliver(&expired, &fabric.path("expired"));
    std::fs::write(fabric.path("bootz.fds"), bootz_proto::FILE_DESCRIPTOR_SET)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/bootz_unary.py");
    let output = Command::new(venv::python("pygnmi")?)
        .arg(script)
        .arg(&fabric.unary)
        .arg(fabric.path("."))
        .output()
        .await
        .context("cannot start Python")?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "bootz_unary.py failed:\n{text}");
    ensure!(text.contains("all checks held"), "bootz_unary.py ended early:\n{text}");
    Ok(())
}
