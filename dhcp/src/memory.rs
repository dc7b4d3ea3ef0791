//! The file that keeps a lease across restarts.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A lease in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Memory<L> {
    lease: L,
    /// When it began, in seconds since 1970.
    since: u64,
}

pub(crate) fn since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The lease of an earlier run, with its age. If the clock was set back, the lease counts as new; the server is asked
/// about it before it is used.
pub(crate) fn remembered<L: DeserializeOwned>(path: &Path, now: u64) -> Option<(L, Duration)> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the stored lease cannot be read");
            return None;
        }
    };
    match serde_json::from_slice::<Memory<L>>(&text) {
        Ok(memory) => Some((memory.lease, Duration::from_secs(now.saturating_sub(memory.since)))),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the stored lease makes no sense");
            None
        }
    }
}

/// Writes the lease to a temporary file and renames it. The file may be missing after a power failure; then the client
/// asks for an address from the beginning. `seconds` is the whole duration of the lease.
pub(crate) fn remember<L: Serialize>(path: &Path, lease: &L, seconds: u32, left: Duration) -> io::Result<()> {
    let gone = u64::from(seconds).saturating_sub(left.as_secs());
    let memory = Memory {
        lease,
        since: since_1970().saturating_sub(gone),
    };
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&memory)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Lease;

    #[test]
    fn a_lease_is_kept_over_a_restart_and_junk_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease.json");
        assert!(remembered::<Lease>(&path, 0).is_none());
        let lease = Lease {
            address: [192, 0, 2, 11].into(),
            prefix: 24,
            router: None,
            server: [192, 0, 2, 1].into(),
            seconds: 80,
            renew_seconds: 40,
            rebind_seconds: 70,
            bootz: vec!["bootz://192.0.2.1:15006".into()],
        };
        remember(&path, &lease, lease.seconds, Duration::from_secs(50)).unwrap();
        let (found, age) = remembered::<Lease>(&path, since_1970()).unwrap();
        assert_eq!(found, lease);
        assert!((30..60).contains(&age.as_secs()), "{age:?}");
        // The clock was set back.
        assert_eq!(remembered::<Lease>(&path, 0).unwrap().1, Duration::ZERO);
        std::fs::write(&path, "{").unwrap();
        assert!(remembered::<Lease>(&path, 0).is_none());
    }
}
