//! What an operator gives a new machine: a one-time token, and a means to recognise the
//! controller.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::IdentityError;
use crate::newcomer::{Fingerprint, Newcomer};
use crate::spiffe::Subject;

/// Largest file of a token, in octets.
const LONGEST: u64 = 4096;

/// How the controller is recognised before the machine has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// One of these authorities (PEM) vouches for it.
    Authorities(Vec<u8>),
    /// The authority with this fingerprint does.
    Fingerprint(Fingerprint),
}

impl Trust {
    /// A dialer for the controller that this trust recognises. For a fingerprint it needs the authorities (PEM) that
    /// the server showed.
    ///
    /// # Errors
    /// No authority has the fingerprint, or TLS cannot be set up.
    pub fn newcomer(&self, shown: Option<&[u8]>, subject: Subject) -> Result<Newcomer, IdentityError> {
        match self {
            Self::Authorities(pem) => Newcomer::trusting(pem, subject),
            Self::Fingerprint(fingerprint) => {
                let authority = fingerprint.pick(shown.unwrap_or_default())?;
                Newcomer::trusting_these(&[authority], subject)
            }
        }
    }
}

/// A token, and how the controller is recognised.
#[derive(Clone)]
pub struct Invitation {
    token: String,
    trust: Trust,
}

/// Why a file is no invitation.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// A file cannot be read.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file has something else in it than was expected.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Invitation {
    /// Reads the file that the operator made: the token, then the fingerprint of the authority, as `fabricctl host token` and
    /// `fabricctl switch token` print them. The fingerprint may be missing if the authorities are given as a file. None if the
    /// file is not there.
    ///
    /// # Errors
    /// The file cannot be read, or has something else in it.
    pub fn read(path: &Path, authorities: Option<&Path>) -> Result<Option<Self>, InvitationError> {
        let expected = |problem: &str| InvitationError::Content {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| InvitationError::File { path, source }
        };
        if std::fs::metadata(path).is_ok_and(|m| m.len() > LONGEST) {
            return Err(expected("too long: expected a token and a fingerprint"));
        }
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(at(path))?,
        };
        let mut words = text.split_whitespace();
        let token = words.next().ok_or_else(|| expected("empty: expected a token"))?;
        let trust = match (authorities, words.next()) {
            (Some(file), _) => Trust::Authorities(std::fs::read(file).map_err(at(file))?),
            (None, Some(word)) => {
                let fingerprint: Result<Fingerprint, _> = word.parse();
                Trust::Fingerprint(fingerprint.map_err(|error| expected(&format!("`{word}`: {error}")))?)
            }
            (None, None) => {
                let problem = "no fingerprint of the fabric's authority after the token: add it, or give --tls-ca";
                return Err(expected(problem));
            }
        };
        Ok(Some(Self {
            token: token.to_owned(),
            trust,
        }))
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// How the controller is recognised.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}
