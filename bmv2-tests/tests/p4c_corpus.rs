//! `cargo xtask p4c-corpus` on a small tree of programs: what is compiled with which flags, and that each comparison with p4c and with a
//! second switch can fail. p4c is a script here: it takes p4c-bm2-ss's flags, compiles with our compiler under that name, and then
//! changes what it writes, as the program's name asks for. The second switch is p4-switch, as it is or with two ports exchanged.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A program with one table; `%INGRESS%` stands in the ingress control.
const PROGRAM: &str = r"
#include <core.p4>
#include <v1model.p4>
#include PARTS
header x_t { bit<8> kind; bit<8> value; }
struct H { x_t x; }
struct M { }
parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {
    state start { b.extract(h.x); transition select(h.x.kind) { 7: accept; default: accept; } }
}
control V(inout H h, inout M m) { apply { } }
control I(inout H h, inout M m, inout standard_metadata_t s) {
    action set(bit<8> to) { h.x.value = to; }
    table t {
        key = { h.x.kind: exact; }
        actions = { set; NoAction; }
        const entries = { 7 : set(0x70); }
        size = 77;
    }
    apply { s.egress_spec = 2; t.apply(); %INGRESS% }
}
control E(inout H h, inout M m, inout standard_metadata_t s) { apply { } }
control U(inout H h, inout M m) { apply { } }
control D(packet_out b, in H h) { apply { b.emit(h); } }
V1Switch(P(), V(), I(), E(), U(), D()) main;
";

/// A tree in a temporary folder.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A program below `src`.
    fn program(&self, name: &str, ingress: &str) {
        let text = PROGRAM.replace("#include PARTS\n", "").replace("%INGRESS%", ingress);
        self.write(&format!("src/{name}.p4"), &text);
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        self.write(name, text);
        let path = self.path(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Runs the command on `src`, without tools on PATH.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p4c-corpus"));
        command.current_dir(self.0.path()).arg("src").args(args);
        command.args(["--json", "out.json"]);
        command.env("PATH", "/usr/bin:/bin").output().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path("out.json")).unwrap()).unwrap()
    }

    /// The differences of a program, in short.
    fn differences(&self, name: &str) -> Vec<String> {
        let json = self.json();
        let programs = json["programs"].as_array().unwrap();
        let found = programs.iter().find(|p| p["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no program {name} in {json:#}"));
        let what = found["differences"].as_array().unwrap().iter();
        what.map(|d| d["what"].as_str().unwrap().to_owned()).collect()
    }
}

fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_p4c-corpus")).with_file_name(name);
    assert!(path.is_file(), "{}: build the whole workspace", path.display());
    path
}

fn text(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{}{err}", String::from_utf8_lossy(&output.stdout))
}

#[test]
fn programs_compile_with_the_flags_of_command_line_makefile_and_manifest() {
    let tree = Tree::new();
    let needs = |condition: &str| {
        let check = format!("#if !({condition})\n#error flags are missing\n#endif\n");
        PROGRAM
            .replace("#include PARTS", &format!("#include \"parts.p4\"\n{check}"))
            .replace("%INGRESS%", "")
    };
    tree.write("src/include/parts.p4", "const bit<8> PART = 1;\n");
    tree.write("src/a/Makefile", "all:\n\tp4c-bm2-ss -DMADE=3 -o x.json a.p4\n");
    tree.write("src/a/a.p4", &needs("GIVEN == 1 && MADE == 3 && ALL == 2"));
    tree.write("src/b.p4", &needs("GIVEN == 1 && (defined(ONE) || defined(TWO))"));
    tree.write("src/c.p4", &needs("0"));
    tree.write("src/d.p4", &needs("0"));
    tree.write("src/psa.p4", "#include <psa.p4>\nS() main;\n");
    tree.write(
        "tree.yaml",
        "include: [src/include]\ndefine: [ALL=2]\nprograms:\n- path: b.p4\n  variant: one\n  define: [ONE]\n\
         - path: b.p4\n  variant: two\n  define: [TWO]\n- path: c.p4\n  expect: refused\n- path: d.p4\n  skip: not ours\n\
         - path: gone/**\n  define: [X]\n",
    );
    let output = tree.run(&["-D", "GIVEN", "--manifest", "tree.yaml"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let json = tree.json();
    let programs = json["programs"].as_array().unwrap();
    let names: Vec<&str> = programs.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a/a", "b [one]", "b [two]", "c"]);
    for line in [
        "programs: 4, 3 compile here",
        "packets on our switches: 3 of 3 the same",
        "verdict, P4Info and entries with p4c's: p4c-bm2-ss is not on PATH",
        "packets with bmv2's: simple_switch_grpc is not on PATH",
        "left out by the manifest: not ours: d",
        "1 include psa.p4",
        "files without a main: 1",
        "fits no program: gone/**",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    // Without the flags nothing is left that compiles, and that is a failure.
    let output = tree.run(&["--manifest", "tree.yaml", "--only", "a/a"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(tree.differences("a/a"), ["refused here"]);
}

#[test]
fn every_difference_from_p4c_is_found() {
    let tree = Tree::new();
    std::os::unix::fs::symlink(tool("p4-compiler"), tree.path("p4c-bm2-ss")).unwrap();
    for name in ["same", "refused", "info", "entries", "output", "crash", "slow", "known"] {
        tree.program(name, "h.x.value = h.x.value ^ 0x5a;");
    }
    tree.program("only_there", "h.x.value = not_declared;");
    tree.program("neither", "h.x.value = not_declared;");
    let p4c = tree.script(
        "stand-in",
        r#"#!/bin/sh
here=$(dirname "$0")
for last; do :; done
name=$(basename "$last" .p4)
while [ $# -gt 0 ]; do
    case $1 in
    -o) json=$2 ;;
    --p4runtime-files) info=$2 ;;
    --p4runtime-entries-files) entries=$2 ;;
    esac
    shift
done
source=$last
case $name in
refused) echo "refused.p4(1): error: it does not like it" >&2; exit 1 ;;
crash) kill -SEGV $$ ;;
slow) sleep 600 ;;
only_there) source=$here/src/same.p4 ;;
esac
"$here/p4c-bm2-ss" --std p4-16 --emit-externs -o "$json" --p4runtime-files "$info" --p4runtime-entries-files "$entries" "$source" || exit 1
case $name in
info | known) sed -i 's/size: 77/size: 78/' "$info" ;;
entries) sed -i 's/value: "p"/value: "q"/' "$entries" ;;
output) sed -i 's/"0x5a"/"0x5b"/' "$json" ;;
esac
"#,
    );
    tree.write(
        "tree.yaml",
        "programs:\n- path: known.p4\n  known: p4c counts differently\n",
    );
    let args = [
        "--p4c",
        p4c.to_str().unwrap(),
        "--manifest",
        "tree.yaml",
        "--timeout",
        "30",
        "--junit",
        "out.xml",
    ];
    let output = tree.run(&args);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (name, what) in [
        ("same", vec![]),
        ("neither", vec![]),
        ("refused", vec!["accepted here, refused by p4c"]),
        ("only_there", vec!["refused here, accepted by p4c"]),
        ("info", vec!["P4Info"]),
        ("known", vec!["P4Info"]),
        ("entries", vec!["entries"]),
        ("output", vec!["packets with p4c's output"]),
        ("crash", vec![]),
        ("slow", vec![]),
    ] {
        assert_eq!(tree.differences(name), what, "{name}: {said}");
    }
    for line in [
        "verdict as p4c's: 6 of 8",
        "programs with differences: 5, and 1 known",
        "tables[I.t].size: 77, expected 78",
        "it does not like it",
        "p4c's verdict: p4c was ended by signal 11: crash",
        "p4c's verdict: it did not end within 30 s: slow",
        "known: p4c counts differently",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let junit = std::fs::read_to_string(tree.path("out.xml")).unwrap();
    assert!(junit.contains(r#"tests="10" failures="5""#), "{junit}");
    assert!(
        junit.contains(r#"<skipped message="known: p4c counts differently: P4Info"/>"#),
        "{junit}"
    );
    // A run that has only known differences succeeds.
    let output = tree.run(&[
        "--p4c",
        p4c.to_str().unwrap(),
        "--manifest",
        "tree.yaml",
        "--only",
        "known",
    ]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn packets_that_another_switch_forwards_differently_are_found() {
    let tree = Tree::new();
    tree.program("two", "");
    tree.program("three", "s.egress_spec = 3;");
    tree.program("clock", "h.x.value = (bit<8>)s.ingress_global_timestamp;");
    let switch = tool("p4-switch");
    let switch = switch.to_str().unwrap();
    let output = tree.run(&["--peer", switch, "--packets", "24", "--timeout", "600"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("packets on simple_switch_grpc: 2 of 2 the same"),
        "{said}"
    );
    assert!(said.contains("it uses time stamps or queue depths: clock"), "{said}");
    // What leaves by port 3 comes out at port 4.
    let other = r#"#!/bin/bash
args=()
for arg; do
    case $arg in
    3@port3) arg=3@port4 ;;
    4@port4) arg=4@port3 ;;
    esac
    args+=("$arg")
done
exec SWITCH "${args[@]}"
"#;
    let other = tree.script("other", &other.replace("SWITCH", switch));
    let output = tree.run(&["--peer", other.to_str().unwrap(), "--packets", "24", "--timeout", "600"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(tree.differences("three"), ["packets on simple_switch_grpc"]);
    assert_eq!(tree.differences("two"), Vec::<String>::new());
}

#[test]
fn a_run_goes_on_where_an_earlier_one_ended() {
    let tree = Tree::new();
    tree.program("a", "");
    tree.program("b", "h.x.value = not_declared;");
    tree.write(
        "src/c.p4",
        &PROGRAM.replace("PARTS", "\"parts/c.p4\"").replace("%INGRESS%", ""),
    );
    tree.write("src/parts/c.p4", "");
    let run = || text(&tree.run(&["--resume", "results"]));
    let first = run();
    assert!(
        first.contains("programs: 3, 2 compile here") && !first.contains("earlier run"),
        "{first}"
    );
    // Add an unfinished last line, as a killed run leaves it.
    let mut kept = std::fs::read_to_string(tree.path("results")).unwrap();
    kept.push_str(r#"{"key":"12"#);
    tree.write("results", &kept);
    let second = run();
    assert!(second.contains("3 of them from an earlier run"), "{second}");
    assert!(second.contains("b: refused here"), "{second}");
    tree.write("src/parts/c.p4", "const bit<8> NEW = 1;\n");
    let third = run();
    assert!(third.contains("2 of them from an earlier run"), "{third}");
}
