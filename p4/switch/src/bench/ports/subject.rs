//! Switches that are measured, each a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::report::process_time_of;
use super::bed::Bed;
use super::{Error, PortsOptions};

/// Which switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Bare,
    Router,
    Leaf,
    PeerRouter,
    PeerLeaf,
}

/// Files of the programs.
pub(super) struct Programs {
    pub(super) router: PathBuf,
    pub(super) leaf: Option<PathBuf>,
}

/// A running switch; it is killed when this is dropped.
pub(super) struct Subject {
    child: Child,
    /// When it was started.
    pub(super) started: Instant,
}

impl Subject {
    /// Starts it. It may not forward yet.
    pub(super) fn start(kind: Kind, bed: &Bed, programs: &Programs, options: &PortsOptions) -> Result<Self, Error> {
        let own = std::env::current_exe()?;
        let leaf = || programs.leaf.as_deref().ok_or("no program of the leaf was given");
        let peer = options.peer.as_deref().unwrap_or(Path::new("simple_switch_grpc"));
        let mut command = match kind {
            Kind::Bare => {
                let mut command = bed.command(&own);
                command.args(["bench", "bare"]);
                command
            }
            Kind::Router | Kind::Leaf => {
                let mut command = bed.command(&own);
                command.args(["-L", "error", "--grpc-server-addr", "127.0.0.1:9559"]);
                command.arg(if kind == Kind::Leaf { leaf()? } else { &programs.router });
                command
            }
            Kind::PeerRouter | Kind::PeerLeaf => bed.command(peer),
        };
        command.args(["-i", "1@p1", "-i", "2@p2"]);
        match kind {
            Kind::PeerRouter | Kind::PeerLeaf => {
                command.arg(if kind == Kind::PeerLeaf {
                    leaf()?
                } else {
                    &programs.router
                });
                command.args(["--", "--grpc-server-addr", "127.0.0.1:9559"]);
            }
            _ => {
                if let Some(threads) = options.threads {
                    command.args(["--threads", &threads.to_string()]);
                }
            }
        }
        if matches!(kind, Kind::Leaf | Kind::PeerLeaf) {
            command.args(["--cpu-port", "510"]);
        }
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self, Error> {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child, started })
    }

    /// Processor time that it used so far.
    pub(super) fn cpu(&self) -> Result<Duration, Error> {
        let time = process_time_of(&self.child.id().to_string());
        time.ok_or_else(|| "its processor time is not known".into())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
