//! The commands of `docs/testing-your-fabric.md`, run exactly as written. Needs root, or a kernel that lets users make
//! namespaces.

#[allow(dead_code, reason = "only its reader")]
mod page;

use std::path::Path;
use std::process::Command;

use page::blocks;

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing-your-fabric.md");
    let page = std::fs::read_to_string(page).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_fabricctl")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut run = 0;
    for (language, text) in blocks(&page) {
        match language {
            // Its first line names the file.
            "yaml" => {
                let name = text.lines().next().and_then(|l| l.strip_prefix("# "));
                if let Some(name) = name {
                    std::fs::write(dir.path().join(name), text).unwrap();
                }
            }
            "sh" => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-eu", "-c", text])
                    .env("PATH", &path)
                    .current_dir(dir.path());
                let output = shell.output().unwrap();
                let said = [output.stdout.as_slice(), &output.stderr].concat();
                assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&said));
                run += 1;
            }
            other => panic!("what to do with `{other}`?"),
        }
    }
    assert_eq!(run, 3);
}
