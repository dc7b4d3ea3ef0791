//! How a new host gets its certificate: once with a one-time token, and later, for renewals, with the certificate that
//! it has.
//!
//! | file in `enrolment/` of the state directory | what | when it is written |
//! | --- | --- | --- |
//! | `own.key` | key of the host | before the host asks for anything |
//! | `enrolled.json` | what the controller gave: name, certificate, authorities, addresses | when the reply has come |
//! | `ca.pem`, `key.pem`, `cert.pem` | the same, for TLS | at every start, and after a renewal |
//!
//! Each file exists whole or not at all. So the agent may be killed at any moment: after its next start it goes on with
//! the same key, and the controller gives that key its certificate again. To enrol the host from scratch,
//! remove the directory.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
pub use fabric_identity::Invitation;
use fabric_identity::{
    Credentials, Files, IdentityError, InvitationError, Newcomer, Subject, Trust, private_directory, write_private,
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use vtep_proto::v1;
use vtep_proto::v1::enrolment_client::EnrolmentClient;

use crate::error::AgentError;

/// Longest wait for a reply: the controller writes to its disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// Shortest and longest wait before another attempt; it doubles, and has jitter.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A certificate is renewed when this part of its life is left.
const RENEW_LAST_PART: u32 = 3;
/// Longest sleep until the certificate is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Why a host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file cannot be used.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or reply does not contain what was expected.
    #[error("{what}: {problem}")]
    Content {
        /// The file or the reply.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of the token cannot be used.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The authorities or the certificate cannot be used.
    #[error("the certificate or the authorities")]
    Identity(#[from] IdentityError),
    /// The controller cannot be reached, or it is not the one of this fabric.
    #[error("the controller at {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The controller refused.
    #[error("the controller refuses: {}", .0.message())]
    Refused(Box<Status>),
    /// The controller cannot do it now, or did not reply.
    #[error("the controller: {}: {}", .0.code(), .0.message())]
    Later(Box<Status>),
}

impl EnrolError {
    /// Whether the same attempt may succeed later without anybody's help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Later(_))
    }
}

impl From<Status> for EnrolError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => Self::Refused(Box::new(status)),
            _ => Self::Later(Box::new(status)),
        }
    }
}

fn content(what: impl Into<String>, problem: impl std::fmt::Display) -> EnrolError {
    EnrolError::Content {
        what: what.into(),
        problem: problem.to_string(),
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> EnrolError {
    let path = path.to_owned();
    move |source| EnrolError::File { path, source }
}

fn read_if_there(path: &Path) -> Result<Option<String>, EnrolError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// What the controller gave this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Name of the host in the inventory.
    pub host: String,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Authorities to trust (PEM).
    pub authorities: String,
    /// VTEP address.
    pub vtep_ipv4: Option<Ipv4Addr>,
    /// VTEP address.
    pub vtep_ipv6: Option<Ipv6Addr>,
}

impl Enrolled {
    /// The content of a reply.
    ///
    /// # Errors
    /// The reply cannot be used with this key.
    fn of(reply: v1::EnrolReply, key: &str) -> Result<Self, EnrolError> {
        const WHAT: &str = "the controller's reply";
        let authorities = String::from_utf8(reply.authorities).map_err(|error| content(WHAT, error))?;
        let credentials = Credentials::from_pem(authorities.as_bytes(), reply.certificate.as_bytes(), key.as_bytes())?;
        credentials.expect(&Subject::Host(reply.host.clone()))?;
        let v4 = <[u8; 4]>::try_from(reply.vtep_ipv4.as_slice()).ok().map(Ipv4Addr::from);
        let v6 = <[u8; 16]>::try_from(reply.vtep_ipv6.as_slice())
            .ok()
            .map(Ipv6Addr::from);
        if v4.is_none() && v6.is_none() {
            return Err(content(WHAT, "it has no VTEP address of 4 or 16 octets"));
        }
        Ok(Self {
            host: reply.host,
            certificate: reply.certificate,
            authorities,
            vtep_ipv4: v4,
            vtep_ipv6: v6,
        })
    }
}

/// The enrolment of this host, with its directory.
pub struct Enrolment {
    dir: PathBuf,
    /// `HOST:PORT` of the controller.
    address: String,
}

fn waits() -> impl Iterator<Item = Duration> {
    let waits = ExponentialBuilder::new()
        .with_min_delay(WAITS.0)
        .with_max_delay(WAITS.1);
    waits.with_jitter().without_max_times().build()
}

/// A reply, or that it took too long.
async fn reply<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, EnrolError> {
    let late = |_| Status::deadline_exceeded(format!("no reply in {} s", PATIENCE.as_secs()));
    Ok(timeout(PATIENCE, call).await.map_err(late)??.into_inner())
}

impl Enrolment {
    /// The enrolment of the host with this state directory, at the controller `https://HOST:PORT`.
    ///
    /// # Errors
    /// The directory cannot be made, or the address does not have this form.
    pub fn open(state_dir: &Path, controller: &str) -> Result<Self, EnrolError> {
        let dir = state_dir.join("enrolment");
        private_directory(&dir)?;
        let address = controller
            .strip_prefix("https://")
            .map(|rest| rest.trim_end_matches('/'));
        let address = address.ok_or_else(|| {
            let problem = format!("`{controller}`: expected an address that starts with https://");
            content("--controller", problem)
        })?;
        Ok(Self {
            dir,
            address: address.to_owned(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), EnrolError> {
        let path = self.path(name);
        write_private(&path, text.as_bytes()).map_err(at(&path))
    }

    /// The key of the host; it is made, and on the disk, if there was none.
    fn key(&self) -> Result<String, EnrolError> {
        if let Some(key) = read_if_there(&self.path("own.key"))? {
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(|error| content("the host's key", error))?;
        let key = key.serialize_pem();
        self.write("own.key", &key)?;
        Ok(key)
    }

    fn request(key: &str) -> Result<Vec<u8>, EnrolError> {
        let problem = |error: rcgen::Error| content("the host's key", error);
        let key = KeyPair::from_pem(key).map_err(problem)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(problem)?;
        Ok(request.der().to_vec())
    }

    /// What the controller gave this host; none if it is new.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn enrolled(&self) -> Result<Option<Enrolled>, EnrolError> {
        let path = self.path("enrolled.json");
        let text = read_if_there(&path)?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| content(path.display().to_string(), error))
    }

    /// Connects to the controller and checks that it belongs to the fabric.
    async fn recognise(&self, trust: &Trust) -> Result<Channel, EnrolError> {
        let connect = |source| EnrolError::Connect {
            address: self.address.clone(),
            source,
        };
        let authorities = match trust {
            Trust::Authorities(_) => None,
            Trust::Fingerprint(_) => {
                let channel = Newcomer::trusting_anybody()?.channel(&self.address).await;
                let mut client = EnrolmentClient::new(channel.map_err(connect)?);
                Some(reply(client.authorities(v1::AuthoritiesRequest {})).await?.authorities)
            }
        };
        let newcomer = trust.newcomer(authorities.as_deref(), Subject::Controller)?;
        newcomer.channel(&self.address).await.map_err(connect)
    }

    /// Exchanges a token for a certificate, once.
    ///
    /// # Errors
    /// The exchange failed; the error says why. Nothing has changed then, except that the
    /// host may have made its key.
    pub async fn attempt(&self, invitation: &Invitation) -> Result<Enrolled, EnrolError> {
        let key = self.key()?;
        let request = v1::EnrolRequest {
            token: invitation.token().to_owned(),
            certificate_signing_request: Self::request(&key)?,
        };
        let channel = self.recognise(invitation.trust()).await?;
        let reply = reply(EnrolmentClient::new(channel).enrol(request)).await?;
        self.keep_reply(reply, &key)
    }

    /// Stores a reply, if it can be used.
    fn keep_reply(&self, reply: v1::EnrolReply, key: &str) -> Result<Enrolled, EnrolError> {
        let enrolled = Enrolled::of(reply, key)?;
        let text = serde_json::to_string_pretty(&enrolled).map_err(|error| content("enrolled.json", error))?;
        self.write("enrolled.json", &text)?;
        Ok(enrolled)
    }

    /// Exchanges a token for a certificate. Tries until the controller decides.
    ///
    /// # Errors
    /// The controller refuses, it is of another fabric, or a file cannot be written.
    pub async fn enrol(&self, invitation: &Invitation) -> Result<Enrolled, EnrolError> {
        let mut waits = waits();
        loop {
            match self.attempt(invitation).await {
                Err(error) if error.is_passing() => {
                    let error = fabric_identity::explain(&error);
                    tracing::warn!(error, controller = self.address, "not enrolled yet");
                    tokio::time::sleep(waits.next().unwrap_or(WAITS.1)).await;
                }
                done => return done,
            }
        }
    }

    /// Writes certificate, key and authorities as files for TLS.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn install(&self, enrolled: &Enrolled) -> Result<Files, EnrolError> {
        self.write("ca.pem", &enrolled.authorities)?;
        self.write("key.pem", &self.key()?)?;
        self.write("cert.pem", &enrolled.certificate)?;
        Ok(Files {
            ca: self.path("ca.pem"),
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
        })
    }

    /// Renews the certificate, once, over an open connection to the controller.
    ///
    /// # Errors
    /// Why there is no newer certificate; the one in use stays.
    pub async fn renew(&self, connection: Channel) -> Result<Enrolled, EnrolError> {
        let key = self.key()?;
        let request = v1::RenewRequest {
            certificate_signing_request: Self::request(&key)?,
        };
        let reply = reply(EnrolmentClient::new(connection).renew(request)).await?;
        let enrolled = self.keep_reply(reply, &key)?;
        self.install(&enrolled)?;
        Ok(enrolled)
    }

    /// Renews the certificate each time before it expires; never returns. `credentials` read the files that
    /// [`Enrolment::install`] writes.
    pub async fn keep(&self, credentials: Arc<Credentials>, mut connection: watch::Receiver<Option<Channel>>) {
        let mut retry = waits();
        loop {
            let own = credentials.expiry().own;
            let whole = own.not_after.saturating_sub(own.not_before);
            let whole = Duration::from_secs(u64::try_from(whole).unwrap_or_default());
            let left = own.left(UnixTime::now());
            if let Some(early) = left
                .checked_sub(whole / RENEW_LAST_PART)
                .filter(|early| !early.is_zero())
            {
                tokio::time::sleep(early.min(LOOK_AGAIN)).await;
                continue;
            }
            // Without a connection there is nobody to ask.
            let connected = match connection.wait_for(Option::is_some).await {
                Ok(connected) => connected.clone(),
                Err(_) => return std::future::pending().await,
            };
            let Some(connected) = connected else { continue };
            let renewed = self.renew(connected).await;
            let used = renewed.and_then(|_| Ok(credentials.reload()?));
            match used {
                Ok(_) => {
                    tracing::info!(
                        not_after = credentials.expiry().own.not_after,
                        "the certificate was renewed"
                    );
                    retry = waits();
                }
                Err(error) => {
                    let error = fabric_identity::explain(&error);
                    tracing::warn!(error, "the certificate cannot be renewed yet");
                }
            }
            // Wait after a success, too: a certificate that is nearly over when it is issued must not cause a storm
            // of requests.
            tokio::time::sleep(retry.next().unwrap_or(WAITS.1)).await;
        }
    }
}

impl From<EnrolError> for AgentError {
    fn from(error: EnrolError) -> Self {
        Self::Config {
            what: "--enrol".into(),
            message: fabric_identity::explain(&error),
        }
    }
}

/// A host that is enrolled now or was before, with its files.
///
/// # Errors
/// It is new, or its certificate has expired, and there is no invitation, or the controller refuses it.
pub async fn identity(
    enrolment: &Enrolment,
    token_file: &Path,
    ca: Option<&Path>,
) -> Result<(Enrolled, Files), EnrolError> {
    let known = match enrolment.enrolled() {
        Ok(known) => known,
        Err(error @ EnrolError::Content { .. }) => {
            let error = fabric_identity::explain(&error);
            tracing::warn!(
                error,
                "what the controller gave this host before cannot be used; asking again"
            );
            None
        }
        Err(error) => return Err(error),
    };
    let is_over = |enrolled: &Enrolled| -> Result<bool, EnrolError> {
        let key = enrolment.key()?;
        let parts = [&enrolled.authorities, &enrolled.certificate, &key].map(|part| part.as_bytes());
        let [ca, cert, key] = parts;
        // A certificate that cannot be used counts as expired.
        let credentials = Credentials::from_pem(ca, cert, key);
        Ok(credentials.map_or(true, |c| c.expiry().own.left(UnixTime::now()).is_zero()))
    };
    if let Some(enrolled) = known
        && !is_over(&enrolled)?
    {
        let files = enrolment.install(&enrolled)?;
        return Ok((enrolled, files));
    }
    let invitation = Invitation::read(token_file, ca)?.ok_or_else(|| {
        let problem = "there is no such file, and this host has no certificate that is valid: make a token with `fabricctl host token`";
        content(token_file.display().to_string(), problem)
    })?;
    tracing::info!(controller = enrolment.address, "enrolling");
    let enrolled = enrolment.enrol(&invitation).await?;
    let files = enrolment.install(&enrolled)?;
    tracing::info!(host = enrolled.host, "enrolled");
    Ok((enrolled, files))
}
