//! The measured switches, each a separate process.

use super::super::process::Process;
use super::bed::Bed;
use super::{Error, PortsOptions};
use std::path::{Path, PathBuf};

/// Which switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bench) enum Kind {
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

/// Starts a switch. It may not forward yet.
///
/// # Errors
/// It cannot be started, or has no program.
pub(super) fn start(kind: Kind, bed: &Bed, programs: &Programs, options: &PortsOptions) -> Result<Process, Error> {
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
    Ok(Process::spawn(command)?)
}
