//! Runs other CNI plugins (CNI 1.1 section 2, "Execution Protocol", and section 4, "Plugin Delegation").

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{self, Error};

/// Longest time for one plugin: kubelet gives up on a sandbox after four minutes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most octets of a plugin's output; longer output is not accepted as a result.
const MAX_OUTPUT: u64 = 1 << 20;
/// Most octets of a plugin's error output that go into an error.
const MAX_COMPLAINT: usize = 500;

/// The container and interface for which plugins are run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The runtime's id of the container.
    pub container: String,
    /// Path of the network namespace; empty when it is gone.
    pub netns: String,
    /// Name of the interface.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`: folders of plugins, with colons between.
    pub path: String,
}

/// The program of a plugin.
fn find(kind: &str, path: &str) -> Result<PathBuf, Error> {
    let folders = path.split(':').filter(|f| !f.is_empty());
    let found = folders.map(|f| Path::new(f).join(kind)).find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::new(
            error::DELEGATE,
            format!("plugin `{kind}` is not in any folder of CNI_PATH ({path})"),
        )
    })
}

/// Output of a child process, read on a separate thread.
struct Output(mpsc::Receiver<Vec<u8>>);

impl Output {
    fn of(from: Option<impl Read + Send + 'static>) -> Self {
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut octets = Vec::new();
            if let Some(from) = from {
                let _ = from.take(MAX_OUTPUT).read_to_end(&mut octets);
            }
            let _ = send.send(octets);
        });
        Self(output)
    }
}

/// Runs a plugin; returns what it printed.
///
/// # Errors
/// When it cannot be run, takes too long, or reports an error. Codes 11, 50 and 51 are kept, others become `DELEGATE`:
/// they mean something else in each plugin.
pub fn run(kind: &str, command: &str, config: &str, environment: &Environment) -> Result<String, Error> {
    run_within(PATIENCE, kind, command, config, environment)
}

fn run_within(
    patience: Duration,
    kind: &str,
    command: &str,
    config: &str,
    environment: &Environment,
) -> Result<String, Error> {
    let program = find(kind, &environment.path)?;
    let failed = |what: &str| Error::new(error::DELEGATE, format!("plugin `{kind}`: {command}: {what}"));
    let started = Command::new(program)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &environment.container)
        .env("CNI_NETNS", &environment.netns)
        .env("CNI_IFNAME", &environment.interface)
        .env("CNI_ARGS", &environment.args)
        .env("CNI_PATH", &environment.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|e| failed(&e.to_string()))?;
    let end = Instant::now() + patience;
    let (stdout, stderr) = (Output::of(child.stdout.take()), Output::of(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        let config = config.to_owned();
        // A plugin that does not read must not block us; if it has ended, its status shows why.
        thread::spawn(move || stdin.write_all(config.as_bytes()));
    }
    let late = |child: &mut Child| {
        let _ = child.kill();
        let _ = child.wait();
        failed(&format!("it has not ended in {} s", patience.as_secs()))
    };
    let left = || end.saturating_duration_since(Instant::now());
    let printed = stdout.0.recv_timeout(left()).map_err(|_| late(&mut child))?;
    // It has closed its output, so it is about to end.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if left().is_zero() => return Err(late(&mut child)),
            Ok(None) => thread::sleep(Duration::from_millis(1)),
            Err(e) => return Err(failed(&e.to_string())),
        }
    };
    let printed = String::from_utf8_lossy(&printed).into_owned();
    if status.success() {
        return Ok(printed);
    }
    let document: Option<Value> = serde_json::from_str(&printed).ok();
    if let Some(document) = document.filter(|d| d.get("code").is_some()) {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (message, details, code) = (text("msg"), text("details"), document["code"].as_u64());
        let details = if details.is_empty() {
            details
        } else {
            format!(" ({details})")
        };
        let kept = [error::TRY_AGAIN, error::NOT_AVAILABLE, error::LIMITED];
        let known = kept.into_iter().find(|k| Some(u64::from(*k)) == code);
        let shown = format!("plugin `{kind}`: {command}: {message}{details}");
        return Err(Error::new(known.unwrap_or(error::DELEGATE), shown));
    }
    let said = stderr.0.recv_timeout(Duration::from_millis(100)).unwrap_or_default();
    let said: String = String::from_utf8_lossy(&said)
        .trim()
        .chars()
        .take(MAX_COMPLAINT)
        .collect();
    Err(failed(&format!(
        "{status}, without an error document; it said: `{said}`"
    )))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder with a plugin `p` that is a script.
    pub(crate) fn plugin(script: &str) -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = Environment {
            container: "c".into(),
            netns: "/n".into(),
            interface: "net1".into(),
            args: "A=1".into(),
            path: format!("/absent:{}", folder.path().display()),
        };
        (folder, environment)
    }

    #[test]
    fn errors_of_plugins_say_what_they_said() {
        for (script, code, said) in [
            (
                r#"echo '{"code":100,"msg":"pool full","details":"net a"}'; exit 1"#,
                error::DELEGATE,
                "pool full (net a)",
            ),
            (r#"echo '{"code":11,"msg":"later"}'; exit 1"#, error::TRY_AGAIN, "later"),
            ("echo broken >&2; exit 3", error::DELEGATE, "broken"),
        ] {
            let (_folder, environment) = plugin(script);
            let error = run("p", "ADD", "{}", &environment).unwrap_err();
            assert!(error.code == code && error.message.contains(said), "{script}: {error}");
        }
        let (_folder, environment) = plugin("");
        let error = run("q", "ADD", "{}", &environment).unwrap_err();
        assert!(
            error.message.contains("plugin `q`") && error.message.contains("/absent"),
            "{error}"
        );
    }

    #[test]
    fn a_plugin_that_hangs_or_does_not_read_is_ended() {
        let (_folder, environment) = plugin("exec sleep 1000");
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20));
        let error = run_within(Duration::from_millis(50), "p", "ADD", &large, &environment).unwrap_err();
        assert!(error.message.contains("has not ended"), "{error}");
    }
}
