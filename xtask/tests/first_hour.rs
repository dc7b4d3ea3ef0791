//! Runs the commands of `CONTRIBUTING.md` that take no more than minutes, exactly as they are written there.

use std::path::Path;
use std::process::Command;

#[test]
fn the_commands_of_the_first_hour_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let mut run = 0;
    for block in page.split("\n```sh\n").skip(1) {
        let script = block.split("\n```").next().unwrap();
        let mut shell = Command::new("sh");
        // The variables that Cargo sets for a test would make it build everything again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_")
                && !["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"].contains(&name.as_str())
            {
                shell.env_remove(name);
            }
        }
        let output = shell.args(["-eu", "-c", script]).current_dir(&root).output().unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{script}\n{said}");
        // A filter that matches no test passes, too.
        assert!(
            !script.contains("cargo test") || said.contains("1 passed"),
            "{script}\n{said}"
        );
        run += 1;
    }
    assert_eq!(run, 2);
}
