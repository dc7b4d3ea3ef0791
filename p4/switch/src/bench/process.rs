//! Switches that are measured as separate processes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::report::{process_time_of, resident_bytes_of};

/// A running switch; it is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    /// When it was started.
    pub(super) started: Instant,
}

impl Process {
    /// Starts it. It may not forward or answer yet.
    ///
    /// # Errors
    /// It cannot be started; the error names the command.
    pub(super) fn spawn(mut command: Command) -> Result<Self, String> {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child, started })
    }

    /// Processor time that it has used so far, if that is known.
    pub(super) fn cpu(&self) -> Option<Duration> {
        process_time_of(&self.child.id().to_string())
    }

    /// Its resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        resident_bytes_of(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
