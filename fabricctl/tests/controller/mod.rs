//! A real controller of the lab's fabric, without devices, and the command line that talks to it.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use fabric_identity::testing::Authority;
use tempfile::TempDir;

/// Needs the workspace's programs in the directory of the test's program.
pub(crate) struct Controller {
    pub(crate) dir: TempDir,
    pub(crate) server: String,
    pub(crate) authority: Authority,
    process: Child,
    log: Receiver<String>,
    /// The log until it served.
    pub(crate) begin: Vec<String>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lab(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)).unwrap()
}

impl Controller {
    /// Starts one, with a client's settings in `client.yaml` and the lab's intent in `intent.yaml`.
    pub(crate) fn start(log_level: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::new();
        let files = authority.issue("controller").write(&authority.pem, dir.path());
        let path = |name: &str| dir.path().join(name);
        // Use addresses at which nobody listens, because a lab may be running on this machine.
        let topology = lab("topology.yaml")
            .replace("name: lab", "name: test")
            .replace("172.31.254.", "127.31.254.");
        std::fs::write(path("topology.yaml"), topology).unwrap();
        std::fs::write(path("intent.yaml"), lab("intent.yaml")).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_fabricctl")).with_file_name("fabric-controller");
        let mut command = Command::new(&program);
        command
            .arg("--topology")
            .arg(path("topology.yaml"))
            .arg("--data-dir")
            .arg(path("data"));
        command.args(["--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"]);
        command
            .arg("--tls-ca")
            .arg(&files.ca)
            .arg("--tls-cert")
            .arg(&files.cert)
            .arg("--tls-key")
            .arg(&files.key);
        command
            .arg("--token-file")
            .arg(path("token"))
            .args(["--log-level", log_level]);
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}: `cargo build --workspace` comes first", program.display()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut controller = Self {
            dir,
            server: String::new(),
            authority,
            process,
            log,
            begin: Vec::new(),
        };
        controller.begin = controller.log_until(|line| line.contains("serving"));
        let serving = controller.begin.last().expect("the line that was waited for");
        let rest = serving.split_whitespace().find_map(|word| word.strip_prefix("rest="));
        let server = format!("https://{}", rest.expect("where it serves"));
        let settings = format!("{{ server: '{server}', ca: ca.pem, token: token }}");
        std::fs::write(controller.path("client.yaml"), settings).unwrap();
        controller.server = server;
        controller
    }

    /// The log from where it was last read, up to a line.
    pub(crate) fn log_until(&self, mut is_last: impl FnMut(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.log.recv().unwrap_or_else(|_| panic!("it ended: {lines:#?}"));
            let last = is_last(&line);
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command line, without the user's own settings.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fabricctl"));
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VFABRIC_"));
        ours.for_each(|(name, _)| {
            command.env_remove(name);
        });
        command
            .env("HOME", self.dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(self.dir.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs words with the settings in `client.yaml`; returns exit code, output and errors.
    pub(crate) fn run(&self, words: &str) -> (i32, String, String) {
        ended(
            &self
                .command()
                .args(["--config", "client.yaml"])
                .args(words.split_whitespace())
                .output()
                .unwrap(),
        )
    }

    /// Runs a command with a text on standard input.
    pub(crate) fn feed(&self, words: &str, input: &str) -> (i32, String, String) {
        let mut command = self.command();
        command.args(["--config", "client.yaml"]).args(words.split_whitespace());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ended(&child.wait_with_output().unwrap())
    }

    /// Runs words that must succeed; returns the output.
    pub(crate) fn ok(&self, words: &str) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!((code, err.as_str()), (0, ""), "{words}: {out}");
        out
    }

    /// Runs words that must fail; returns the errors.
    pub(crate) fn fails(&self, words: &str) -> String {
        let (code, out, err) = self.run(words);
        assert!(code != 0 && !err.is_empty(), "{words}: {out}");
        err
    }
}

pub(crate) fn ended(output: &Output) -> (i32, String, String) {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
