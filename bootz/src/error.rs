//! Reasons for which a device and a server refuse each other.

/// Errors of both sides. None holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum BootzError {
    /// A certificate cannot be read or used.
    #[error("{what}: {problem}")]
    Certificate {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No authority that is trusted vouches for a certificate.
    #[error("no authority that is trusted for it vouches for {what}: {problem}")]
    Untrusted {
        /// Which one.
        what: &'static str,
        /// In the words of the check.
        problem: String,
    },
    /// A signature was not made with the expected key.
    #[error("the signature of {0} is wrong")]
    Signature(&'static str),
    /// A message does not have the expected form.
    #[error("{what}: {problem}")]
    Message {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A nonce is not the one that was asked for: an old message, or one for somebody else.
    #[error("{0} has another nonce than was asked for")]
    Nonce(&'static str),
    /// A key cannot be used.
    #[error("{what}: {problem}")]
    Key {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A voucher is for another device, or has expired.
    #[error("the ownership voucher {0}")]
    Voucher(String),
    /// Encryption or decryption failed.
    #[error("the bootstrap data cannot be {0}")]
    Seal(&'static str),
    /// A file cannot be used.
    #[error("{path}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The server cannot be reached.
    #[error("cannot connect to the Bootz server at {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// The server refused, or the call broke off.
    #[error("the Bootz server: {0}")]
    Refused(Box<tonic::Status>),
}

impl From<tonic::Status> for BootzError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

pub(crate) fn message(what: &'static str, problem: impl ToString) -> BootzError {
    let problem = problem.to_string();
    BootzError::Message { what, problem }
}
