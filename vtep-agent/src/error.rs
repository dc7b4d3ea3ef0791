//! What can go wrong in the agent.

use std::io;
use std::path::PathBuf;

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A flag or file of the configuration cannot be used.
    #[error("{what}: {message}")]
    Config {
        /// The flag or file.
        what: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The kernel refused a netlink request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A network namespace cannot be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A file cannot be used.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cache of the desired state cannot be used, not even a new one.
    #[error("cache of the desired state")]
    Cache(#[from] sled::Error),
    /// TLS or HTTP/2 to the controller.
    #[error("connection to the controller")]
    Transport(#[from] tonic::transport::Error),
    /// The controller ended the stream or refused it.
    #[error("controller: {}: {}", .0.code(), .0.message())]
    Stream(Box<tonic::Status>),
    /// The controller broke the protocol.
    #[error("controller broke the protocol: {0}")]
    Protocol(&'static str),
    /// A part of the agent has ended, so that it cannot go on.
    #[error("the agent's {0} has ended")]
    Ended(&'static str),
}

impl From<tonic::Status> for AgentError {
    fn from(status: tonic::Status) -> Self {
        Self::Stream(Box::new(status))
    }
}

/// A netlink request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}{}", io::Error::from_raw_os_error(*.errno), .hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct NetlinkError {
    /// What the kernel was asked to do.
    pub what: String,
    /// The kernel's error number, positive.
    pub errno: i32,
    /// The kernel's own text (extended acknowledgement), if there was one.
    pub hint: Option<String>,
}

impl NetlinkError {
    /// The failure of a system call.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let hint = error.raw_os_error().is_none().then(|| error.to_string());
        Self {
            what: what.into(),
            errno,
            hint,
        }
    }

    /// True when the kernel says that the object does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(
            self.errno,
            libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL
        )
    }
}

/// A network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no namespace of that name (yet).
    #[error("netns {path} not found")]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A plain file: `ip netns add` makes one first and mounts the namespace upon it.
    #[error("netns {path} is a plain file; no network namespace is mounted there (yet)")]
    NotMounted {
        /// The file.
        path: PathBuf,
    },
    /// The name belongs to something else.
    #[error("netns {name}: expected a network namespace, found {found}")]
    NotANamespace {
        /// Its name.
        name: String,
        /// What was found.
        found: &'static str,
    },
    /// The system refused.
    #[error("netns {name}")]
    Io {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
