//! What can be wrong with identities and credentials.

use std::path::PathBuf;

use crate::spiffe::{Identity, Subject};

/// Why a text or a certificate does not name a member of a fabric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The name of the fabric has characters that a trust domain may not have.
    #[error("`{0}` is not the name of a fabric (lower-case letters, digits, `.`, `-`, `_`)")]
    Fabric(String),
    /// Not a SPIFFE id.
    #[error("`{0}` is not a SPIFFE id (spiffe://<fabric>/<subject>)")]
    Malformed(String),
    /// A SPIFFE id, but not of a member that a fabric can have.
    #[error("`{0}` names nobody: expected /controller, /switch/<name>, /host/<name> or /operator/<name>[/admin]")]
    UnknownSubject(String),
    /// A certificate without a URI name.
    #[error("the certificate has no SPIFFE id (a URI in its subject alternative names)")]
    Missing,
    /// A certificate with several URI names, which X509-SVID (section 2) forbids.
    #[error("the certificate has {0} URIs in its subject alternative names, and exactly one is expected")]
    Several(usize),
    /// An identity of another fabric.
    #[error("`{0}` belongs to another fabric")]
    OtherFabric(Identity),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
}

/// The server is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{expected}`, but {found}")]
pub struct WrongPeer {
    /// The expected subject.
    pub expected: Identity,
    /// The subject that was found, in words.
    pub found: String,
}

impl WrongPeer {
    pub(crate) fn new(expected: Identity, found: &Result<Identity, SpiffeError>) -> Self {
        let found = match found {
            Ok(identity) => format!("its certificate says `{identity}`"),
            Err(error) => error.to_string(),
        };
        Self { expected, found }
    }
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not PEM, or holds nothing of the kind that is expected.
    #[error("{what}: {problem}")]
    Pem {
        /// Which file or setting.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate and the key do not belong together, or rustls cannot use them.
    #[error("{what} cannot be used")]
    Key {
        /// Which file or setting.
        what: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The certificate names no member of a fabric.
    #[error("{what}")]
    Spiffe {
        /// Which file or setting.
        what: String,
        /// Why.
        #[source]
        source: SpiffeError,
    },
    /// The certificate is not for this process.
    #[error("{what} is for `{found}`, but this is `{expected}`")]
    NotOurs {
        /// Which file or setting.
        what: String,
        /// The subject of the certificate.
        found: Identity,
        /// The subject of this process.
        expected: Subject,
    },
    /// Other credentials are on trial.
    #[error("other credentials are on trial")]
    OnTrial,
    /// A directory or file cannot be made private.
    #[error("cannot make {path} private")]
    Private {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
