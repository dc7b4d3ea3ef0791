//! Who gets a certificate, and for which host.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fabric_bootz::BootzError;
use fabric_bootz::authority::Authority;
use fabric_identity::{Credentials, Fingerprint, Identity, Subject};
use vfabric_api::enrolment::{HostToken, HostTokenSpec};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::enrolment_token::{Claim, TokenError, Tokens};
use crate::events::News;

/// What the subject of a host begins with.
const HOST: &str = "host/";

/// A host of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its identity, which is never reused.
    pub uid: u64,
    /// VTEP address.
    pub vtep_ipv4: Ipv4Addr,
    /// VTEP address.
    pub vtep_ipv6: Ipv6Addr,
    /// Whether it left the fabric, or is leaving it.
    pub is_retired: bool,
}

/// The inventory as far as it matters here.
pub trait Hosts: Send + Sync + 'static {
    /// The host of a name.
    fn host(&self, name: &Name) -> Option<Found>;

    /// Takes note of an event.
    fn note(&self, news: News);
}

/// Signs certificates of hosts.
pub struct Signer {
    /// The authority.
    pub authority: Authority,
    /// How long certificates are valid.
    pub valid: Duration,
}

/// Why a host gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its token opens nothing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It is not in the inventory, or was replaced.
    #[error("host `{0}` is not in the inventory, or is another one than the token was made for")]
    NotThere(Name),
    /// It is leaving.
    #[error("host `{0}` was retired")]
    Retired(Name),
    /// The key is not the one that enrolled.
    #[error("the key is not the one that enrolled as host `{0}`: the host needs a token")]
    NotHolder(Name),
    /// The request cannot be used.
    #[error("the request for a certificate cannot be used: {0}")]
    Request(String),
    /// The authority cannot sign.
    #[error("no certificate can be signed")]
    Authority(#[source] BootzError),
}

impl Refusal {
    /// The host that it is about, as far as that is proven.
    pub fn host(&self) -> Option<Name> {
        match self {
            Self::Token(error) => error.subject().and_then(host_of),
            Self::NotThere(name) | Self::Retired(name) | Self::NotHolder(name) => Some(name.clone()),
            Self::Request(_) | Self::Authority(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Token(TokenError::Disk(_) | TokenError::NoRandom) | Self::Authority(_)
        )
    }
}

/// What a host gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Which host it is.
    pub host: Name,
    /// As the inventory has it.
    pub found: Found,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Last second of the certificate, in seconds since 1970.
    pub not_after: u64,
}

/// Decides about hosts.
pub struct Desk {
    hosts: Arc<dyn Hosts>,
    tokens: Tokens,
    signer: Signer,
    credentials: Arc<Credentials>,
}

fn host_of(subject: &str) -> Option<Name> {
    subject.strip_prefix(HOST)?.parse().ok()
}

fn ms(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// SHA-256 of the public key in a request, in hexadecimal.
fn key_of(request: &[u8]) -> Result<String, Refusal> {
    let (rest, parsed) =
        X509CertificationRequest::from_der(request).map_err(|error| Refusal::Request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(Refusal::Request("octets follow it".into()));
    }
    let key = parsed.certification_request_info.subject_pki.raw;
    let digest = ring::digest::digest(&ring::digest::SHA256, key);
    Ok(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

impl Desk {
    /// With the inventory, the file of tokens, an authority, and the credentials of the controller.
    pub fn new(hosts: Arc<dyn Hosts>, tokens: Tokens, signer: Signer, credentials: Arc<Credentials>) -> Self {
        Self {
            hosts,
            tokens,
            signer,
            credentials,
        }
    }

    /// The inventory.
    pub fn hosts(&self) -> &dyn Hosts {
        self.hosts.as_ref()
    }

    /// The authorities that hosts trust (PEM).
    pub fn authorities(&self) -> Vec<u8> {
        self.credentials.authorities()
    }

    /// Makes a token for a host. Waits for the disk.
    ///
    /// # Errors
    /// The host is not in the inventory, a field is wrong, or the token cannot be stored.
    pub fn make_token(&self, host: &Name, spec: HostTokenSpec) -> Result<HostToken, ApiError> {
        let lifetime_s = spec.lifetime_s()?;
        let found = self.hosts.host(host).filter(|found| !found.is_retired);
        let found = found.ok_or_else(|| ApiError::not_found(format_args!("host `{host}`")))?;
        let claim = Claim {
            subject: format!("{HOST}{host}"),
            uid: found.uid,
        };
        let made = self.tokens.make(&claim, lifetime_s * 1000, ms(SystemTime::now()));
        let made = made.map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
        let authority = self.credentials.own_authority().ok_or_else(|| {
            let detail =
                "no trusted authority vouches for the controller's certificate, so hosts could not recognise it";
            ApiError::new(ErrorCode::Unavailable, detail)
        })?;
        tracing::info!(target: "audit", %host, lifetime_s, "an enrolment token was made");
        Ok(HostToken {
            token: made.text,
            host: host.clone(),
            expires_ms: made.expires_ms,
            authority: Fingerprint::of(&authority).to_string(),
        })
    }

    /// A certificate for the host that a token is for. Waits for the disk.
    ///
    /// # Errors
    /// Why it gets none; the token is as it was then.
    pub fn enrol(&self, token: &str, request: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
        // Signing costs more than looking: a caller without a token cannot cause it.
        let claim = self.tokens.find(token, ms(now))?;
        let host = host_of(&claim.subject).ok_or(TokenError::Unknown)?;
        let found = self.hosts.host(&host).filter(|found| found.uid == claim.uid);
        let found = found.ok_or_else(|| Refusal::NotThere(host.clone()))?;
        let key = key_of(request)?;
        let granted = self.grant(host, found, request, now)?;
        self.tokens.take(token, &key, ms(now))?;
        Ok(granted)
    }

    /// A newer certificate for a host, for the key that it enrolled with.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn renew(&self, host: &Name, request: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
        let found = self.hosts.host(host).ok_or_else(|| Refusal::NotThere(host.clone()))?;
        let claim = Claim {
            subject: format!("{HOST}{host}"),
            uid: found.uid,
        };
        if !self.tokens.is_holder(&claim, &key_of(request)?)? {
            return Err(Refusal::NotHolder(host.clone()));
        }
        self.grant(host.clone(), found, request, now)
    }

    fn grant(&self, host: Name, found: Found, request: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
        if found.is_retired {
            return Err(Refusal::Retired(host));
        }
        let identity = Identity {
            fabric: self.credentials.fabric(),
            subject: Subject::Host(host.to_string()),
        };
        let Signer { authority, valid } = &self.signer;
        let issued = authority.issue(&identity, Vec::new(), Some(request), *valid, now);
        let issued = issued.map_err(|error| match error {
            // It has the key of the authority; what it cannot read is the request.
            BootzError::Certificate { problem, .. } => Refusal::Request(problem),
            other => Refusal::Authority(other),
        })?;
        Ok(Granted {
            host,
            found,
            certificate: issued.certificate,
            not_after: issued.not_after,
        })
    }
}
