//! One command works on a lab at a time.
//!
//! The lock is the name of an abstract Unix socket: it leaves no file, and is released when the
//! process that holds it ends, however it ends.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Name of the socket.
const NAME: &str = "vfabric-lab";
/// How long to wait for a command that is about to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to try.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Held while a command works on the lab.
pub(super) struct Lock(#[expect(dead_code, reason = "held for its end")] UnixListener);

/// Takes the lock.
///
/// # Errors
/// Another command holds it.
pub(super) fn take() -> Result<Lock> {
    take_named(NAME)
}

fn take_named(name: &str) -> Result<Lock> {
    let address = SocketAddr::from_abstract_name(name)?;
    let started = Instant::now();
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(Lock(listener)),
            Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(error.into()),
            Err(_) if started.elapsed() > PATIENCE => bail!("another command is working on the lab"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let take = || take_named(&format!("{NAME}-test-{}", std::process::id()));
        let first = take().expect("nobody holds it");
        assert!(take().is_err());
        drop(first);
        take().expect("it was released");
    }
}
