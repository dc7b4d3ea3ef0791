//! The operator's program that knows what a package is.
//!
//! | called with | does | says |
//! | --- | --- | --- |
//! | `running` | finds the version that is installed | the version, on its standard output |
//! | `check FILE` | checks that a package is whole, signed and for this machine | its version |
//! | `activate FILE VERSION` | makes it the software of the next start | nothing |
//!
//! An exit status other than zero is a refusal; what it writes to its standard error says why.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Longest run: it may unpack a package.
const PATIENCE: Duration = Duration::from_secs(240);
/// Longest words that are passed on, in characters.
const WORDS: usize = 300;

/// The program.
#[derive(Debug, Clone)]
pub(super) struct Program(pub(super) PathBuf);

fn plain(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let text = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(WORDS).collect()
}

impl Program {
    async fn run(&self, arguments: &[&OsStr]) -> Result<String, String> {
        let name = self.0.display();
        let run = Command::new(&self.0)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, run)
            .await
            .map_err(|_| format!("{name} did not end in {} s", PATIENCE.as_secs()))?
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        if !output.status.success() {
            return Err(format!("{name}: {}: {}", output.status, plain(&output.stderr)));
        }
        Ok(plain(&output.stdout))
    }

    /// The version that is installed.
    pub(super) async fn running(&self) -> Result<String, String> {
        self.run(&["running".as_ref()]).await
    }

    /// The version of a package that is whole.
    pub(super) async fn check(&self, package: &Path) -> Result<String, String> {
        self.run(&["check".as_ref(), package.as_os_str()]).await
    }

    /// Makes a package the software of the next start.
    pub(super) async fn activate(&self, package: &Path, version: &str) -> Result<(), String> {
        let arguments = ["activate".as_ref(), package.as_os_str(), version.as_ref()];
        self.run(&arguments).await.map(drop)
    }
}
