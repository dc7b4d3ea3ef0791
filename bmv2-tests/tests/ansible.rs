//! The Ansible collection `vfabric.fabric`, with Ansible, against a controller and a lab. Needs root.
//!
//! The tests themselves are in `ansible/tests`, in Python; each of its files is one test here, so that they run side by
//! side.

use std::path::Path;
use std::process::Command;

/// Runs a file of tests; none of them may be left out.
fn run(name: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ansible/tests");
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    let output = Command::new(bmv2_tests::venv::python("ansible").unwrap())
        .args(["-m", "unittest", "-v", name])
        .current_dir(tests)
        .env("VFABRIC_BIN", programs)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.trim_end().ends_with("\nOK"), "{said}");
}

#[test]
fn the_client_sends_repeats_and_says_what_it_should() {
    run("test_client");
}

#[test]
fn modules_are_idempotent_and_check_mode_is_the_plan() {
    run("test_modules");
}

#[test]
fn the_inventory_plugin_lists_switches_and_hosts() {
    run("test_inventory");
}

#[test]
fn roles_install_what_their_units_start() {
    run("test_roles");
}

#[test]
fn what_modules_wait_for_works_in_a_lab() {
    run("test_lab");
}

#[test]
fn the_tools_of_the_field_have_nothing_to_say() {
    run("test_style");
}
