//! The command under the names of the compilers that people's scripts call.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Called {
    dir: tempfile::TempDir,
    command: PathBuf,
}

impl Called {
    /// The compiler under another name, in a directory with a program.
    fn new(name: &str) -> Called {
        let dir = tempfile::tempdir().unwrap();
        let command = dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_p4-compiler"), &command).unwrap();
        let router = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/router.p4");
        std::fs::copy(router, dir.path().join("router.p4")).unwrap();
        Called { dir, command }
    }

    fn run(&self, args: &str) -> Output {
        Command::new(&self.command)
            .args(args.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    fn good(&self, args: &str) -> Output {
        let out = self.run(args);
        assert!(out.status.success(), "{args}: {}", String::from_utf8_lossy(&out.stderr));
        out
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    fn exists(&self, file: &str) -> bool {
        self.dir.path().join(file).exists()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn p4c_bm2_ss_writes_the_files_that_are_named() {
    let c = Called::new("p4c-bm2-ss");
    let info = "build/r.p4.p4info.txtpb,build/r.txt,build/r.json,build/r.bin";
    c.good(&format!(
        "--p4v 16 --emit-externs --p4runtime-files {info} --p4runtime-entries-files=build/e.txt -o build/doc.json router.p4"
    ));
    bmv2_json::Program::from_slice(&c.read("build/doc.json")).unwrap();
    assert_eq!(c.read("build/r.p4.p4info.txtpb"), c.read("build/r.txt"));
    assert!(text(&c.read("build/r.txt")).contains("name: \"I.route\""));
    let json: serde_json::Value = serde_json::from_slice(&c.read("build/r.json")).unwrap();
    assert_eq!(json["pkgInfo"]["arch"], "v1model");
    let binary = c.read("build/r.bin");
    let info: p4runtime_proto::p4::config::v1::P4Info = prost::Message::decode(binary.as_slice()).unwrap();
    assert_eq!(info.tables.len(), 3);
    assert!(text(&c.read("build/e.txt")).contains("table_entry"));
    let only_checked = Called::new("p4c-bm2-ss");
    only_checked.good("router.p4");
    assert!(!only_checked.exists("router.json"), "without -o nothing is written");
}

#[test]
fn p4c_writes_into_a_directory() {
    let c = Called::new("p4c");
    c.good("--target bmv2 --arch v1model --std p4-16 -DA=1 -UA router.p4");
    assert!(c.exists("router.json") && c.exists("router.p4i"));
    c.good("-b bmv2-v1model -o out/dir -Iinclude router.p4");
    assert_eq!(c.read("out/dir/router.json"), c.read("router.json"));
    c.good("--p4v 16 --target bmv2 --arch v1model --p4runtime-files r.txt -o here.json router.p4");
    assert_eq!(c.read("here.json"), c.read("router.json"));
    // What was preprocessed compiles to the same tables.
    std::fs::rename(c.dir.path().join("router.p4i"), c.dir.path().join("again.p4")).unwrap();
    c.good("-e --p4runtime-files again.txt -o again.json again.p4");
    assert_eq!(c.read("again.txt"), c.read("r.txt"));
}

#[test]
fn the_preprocessor_alone_and_the_version() {
    for name in ["p4c", "p4c-bm2-ss"] {
        let c = Called::new(name);
        std::fs::write(
            c.dir.path().join("small.p4"),
            "#if defined(A) && !defined(B)\nconst bit<8> x = A;\n#endif\n",
        )
        .unwrap();
        let out = c.good("-E -DA=5 -D B -UB small.p4");
        assert_eq!(text(&out.stdout).trim(), "const bit<8> x = 5;");
        assert!(text(&c.good("--version").stdout).starts_with(&format!("{name} ")));
        assert!(text(&c.good("--help").stdout).contains("--p4runtime-files"));
    }
}

#[test]
fn flags_without_effect_say_so_once() {
    let c = Called::new("p4c-bm2-ss");
    let out = c.good("--emit-externs --emit-externs -O2 -T pass:3 --parser-inline-opt router.p4 -o x.json");
    let err = text(&out.stderr);
    assert_eq!(
        err.matches("--emit-externs has no effect: externs are always emitted")
            .count(),
        1,
        "{err}"
    );
    assert_eq!(err.matches("has no effect").count(), 4, "{err}");
    for refused in [
        "--no-such-flag router.p4",
        "--std p4-14 router.p4",
        "--target tofino router.p4",
        "--arch psa router.p4",
        "--version=1",
        "-o",
        "",
        "router.p4 router.p4",
        "missing.p4",
    ] {
        let out = c.run(refused);
        assert_eq!(out.status.code(), Some(1), "{refused}");
        assert!(
            text(&out.stderr).starts_with("p4c-bm2-ss: "),
            "{refused}: {}",
            text(&out.stderr)
        );
    }
}

#[test]
fn warnings_are_silenced_or_made_errors() {
    let c = Called::new("p4c-bm2-ss");
    let program = text(&c.read("router.p4")) + "\ncontrol unused_one() { apply { } }\n";
    std::fs::write(c.dir.path().join("w.p4"), program).unwrap();
    let warned = |args: &str| text(&c.good(&format!("{args} w.p4 -o w.json")).stderr).contains("unused_one");
    assert!(warned(""));
    assert!(!warned("--Wdisable=unused") && !warned("--Wdisable"));
    assert!(!c.run("--Werror=unused w.p4").status.success() && !c.run("--Werror w.p4").status.success());
    assert!(warned("--Werror=shadow"));
}

#[test]
fn annotations_can_be_disabled() {
    let c = Called::new("p4c-bm2-ss");
    let program = text(&c.read("router.p4")).replace("table route", "@hidden table route");
    std::fs::write(c.dir.path().join("d.p4"), program).unwrap();
    let named = |args: &str| {
        c.good(&format!("{args} d.p4 -o d.json --p4runtime-files d.txt"));
        text(&c.read("d.txt")).contains("name: \"I.route\"")
    };
    assert!(!named(""));
    assert!(named("--disable-annotations=id,hidden"));
}
