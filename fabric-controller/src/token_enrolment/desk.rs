//! Decides which machine gets a certificate, and for which member of the inventory.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fabric_bootz::BootzError;
use fabric_bootz::authority::Authority;
use fabric_bootz::data::SwitchConfig;
use fabric_identity::{Credentials, Fingerprint, Identity, Subject};
use vfabric_api::enrolment::EnrolmentTokenSpec;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::tokens::{Claim, TokenError, Tokens};
use crate::events::News;

/// A member of the inventory that can enrol with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A host.
    Host(Name),
    /// A switch.
    Switch(Name),
}

impl Member {
    /// The name in the inventory.
    pub fn name(&self) -> &Name {
        match self {
            Self::Host(name) | Self::Switch(name) => name,
        }
    }

    /// Its name in a token's subject and in a SPIFFE id, such as `host/h1`.
    fn subject(&self) -> String {
        match self {
            Self::Host(name) => format!("host/{name}"),
            Self::Switch(name) => format!("switch/{name}"),
        }
    }

    /// The member that a token's subject names.
    fn of(subject: &str) -> Option<Self> {
        match subject.split_once('/')? {
            ("host", name) => Some(Self::Host(name.parse().ok()?)),
            ("switch", name) => Some(Self::Switch(name.parse().ok()?)),
            _ => None,
        }
    }

    fn identity(&self) -> Subject {
        match self {
            Self::Host(name) => Subject::Host(name.to_string()),
            Self::Switch(name) => Subject::Switch(name.to_string()),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host `{name}`"),
            Self::Switch(name) => write!(f, "switch `{name}`"),
        }
    }
}

/// What the inventory says about a member, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its identity, which is never reused.
    pub uid: u64,
    /// Whether it left the fabric, or is leaving it.
    pub is_retired: bool,
    /// What its machine needs.
    pub place: Place,
}

/// What a machine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host: its VTEP addresses.
    Host(Ipv4Addr, Ipv6Addr),
    /// A switch.
    Switch {
        /// Its settings.
        config: SwitchConfig,
        /// The serial number that its machine must have.
        serial: Option<String>,
        /// The model that its machine must have, if the inventory names one.
        model: Option<String>,
    },
}

/// What a switch's machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its serial number.
    pub serial: String,
    /// Its model.
    pub model: String,
}

/// The part of the inventory that matters here.
pub trait Inventory: Send + Sync + 'static {
    /// The member, if the inventory has it.
    fn find(&self, member: &Member) -> Option<Found>;

    /// Takes note of an event.
    fn note(&self, news: News);

    /// Takes note that the machine of a member got a certificate.
    fn enrolled(&self, member: &Member, words: &str) {
        let _ = (member, words);
    }
}

/// Signs certificates.
pub struct Signer {
    /// The authority.
    pub authority: Authority,
    /// How long certificates are valid.
    pub valid: Duration,
}

/// The signer for each kind of member; without a signer, no member of that kind can
/// enrol.
#[derive(Default)]
pub struct Signers {
    /// For hosts.
    pub hosts: Option<Signer>,
    /// For switches.
    pub switches: Option<Signer>,
}

/// Why a machine gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The member is not in the inventory, or another one has its name now.
    #[error("{0} is not in the inventory, or is another one than the token was made for")]
    NotThere(Member),
    /// The member is leaving the fabric, or has left it.
    #[error("{0} was retired")]
    Retired(Member),
    /// The token is for another machine. The message does not say for which one, because knowing that is part of the
    /// proof.
    #[error("the token is for another machine: its {what} is not {said:?}")]
    OtherMachine {
        /// Whose token.
        member: Member,
        /// What differs.
        what: &'static str,
        /// The machine's own value.
        said: String,
    },
    /// The token is for a host and the caller is a switch, or the reverse.
    #[error("the token is for {0}")]
    OtherKind(Member),
    /// The key is not the one that enrolled.
    #[error("the key is not the one that enrolled as {0}: the host needs a token")]
    NotHolder(Member),
    /// The request cannot be used.
    #[error("the request for a certificate cannot be used: {0}")]
    Request(String),
    /// Nobody signs for this kind of member.
    #[error("the controller was started without an authority for {0}")]
    NoSigner(&'static str),
    /// The authority cannot sign.
    #[error("no certificate can be signed")]
    Authority(#[source] BootzError),
}

impl Refusal {
    /// The member that the refusal is about, as far as that is proven.
    pub fn member(&self) -> Option<Member> {
        match self {
            Self::Token(error) => error.subject().and_then(Member::of),
            Self::NotThere(member) | Self::Retired(member) | Self::NotHolder(member) | Self::OtherKind(member) => {
                Some(member.clone())
            }
            Self::OtherMachine { member, .. } => Some(member.clone()),
            Self::Request(_) | Self::Authority(_) | Self::NoSigner(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Token(TokenError::Disk(_) | TokenError::NoRandom) | Self::Authority(_) | Self::NoSigner(_)
        )
    }
}

/// What a machine receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Who it is.
    pub member: Member,
    /// As the inventory has it.
    pub found: Found,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Last second of the certificate, in seconds since 1970.
    pub not_after: u64,
}

/// A token for an operator.
pub struct Invited {
    /// The token.
    pub token: String,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Fingerprint of the authority that vouches for the controller.
    pub authority: String,
}

/// Decides about machines.
pub struct Desk {
    inventory: Arc<dyn Inventory>,
    tokens: Tokens,
    signers: Signers,
    credentials: Arc<Credentials>,
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
    /// A desk with the inventory, the file of tokens, authorities, and the controller's credentials.
    pub fn new(inventory: Arc<dyn Inventory>, tokens: Tokens, signers: Signers, credentials: Arc<Credentials>) -> Self {
        Self {
            inventory,
            tokens,
            signers,
            credentials,
        }
    }

    /// The inventory.
    pub fn inventory(&self) -> &dyn Inventory {
        self.inventory.as_ref()
    }

    /// The authorities that members trust (PEM).
    pub fn authorities(&self) -> Vec<u8> {
        self.credentials.authorities()
    }

    fn signer(&self, member: &Member) -> Result<&Signer, Refusal> {
        let (signer, kind) = match member {
            Member::Host(_) => (&self.signers.hosts, "hosts"),
            Member::Switch(_) => (&self.signers.switches, "switches"),
        };
        signer.as_ref().ok_or(Refusal::NoSigner(kind))
    }

    /// Makes a token for a member. Waits for the disk.
    ///
    /// # Errors
    /// The member is not in the inventory or cannot enrol, a field is wrong, or the token cannot be stored.
    pub fn make_token(&self, member: &Member, spec: EnrolmentTokenSpec) -> Result<Invited, ApiError> {
        let lifetime_s = spec.lifetime_s()?;
        let refused = |detail: String| ApiError::new(ErrorCode::PreconditionFailed, detail);
        self.signer(member).map_err(|error| refused(error.to_string()))?;
        let found = self.inventory.find(member).filter(|found| !found.is_retired);
        let found = found.ok_or_else(|| ApiError::not_found(member))?;
        if matches!(found.place, Place::Switch { serial: None, .. }) {
            let detail = format!("{member} has no serial number in the inventory, to which its token would be bound");
            return Err(refused(detail));
        }
        let claim = Claim {
            subject: member.subject(),
            uid: found.uid,
        };
        let made = self.tokens.make(&claim, lifetime_s * 1000, ms(SystemTime::now()));
        let made = made.map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
        let authority = self.credentials.own_authority().ok_or_else(|| {
            let detail =
                "no trusted authority vouches for the controller's certificate, so machines could not recognise it";
            ApiError::new(ErrorCode::Unavailable, detail)
        })?;
        tracing::info!(target: "audit", %member, lifetime_s, "an enrolment token was made");
        Ok(Invited {
            token: made.text,
            expires_ms: made.expires_ms,
            authority: Fingerprint::of(&authority).to_string(),
        })
    }

    /// A certificate for the member that a token is for. `machine` is what a switch says of itself; a host says nothing. Waits
    /// for the disk.
    ///
    /// # Errors
    /// Why the machine gets none. In that case the token is as it was.
    pub fn enrol(
        &self,
        token: &str,
        machine: Option<&Machine>,
        request: &[u8],
        now: SystemTime,
    ) -> Result<Granted, Refusal> {
        // The token is checked first, because signing costs more: a caller without a
        // token cannot cause it.
        let claim = self.tokens.find(token, ms(now))?;
        let member = Member::of(&claim.subject).ok_or(TokenError::Unknown)?;
        let found = self.inventory.find(&member).filter(|found| found.uid == claim.uid);
        let found = found.ok_or_else(|| Refusal::NotThere(member.clone()))?;
        check_machine(&member, &found.place, machine)?;
        let key = key_of(request)?;
        let granted = self.grant(member, found, request, now)?;
        self.tokens.take(token, &key, ms(now))?;
        Ok(granted)
    }

    /// A newer certificate for a host, for the key that it enrolled with.
    ///
    /// # Errors
    /// Why the host gets none.
    pub fn renew(&self, host: &Name, request: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
        let member = Member::Host(host.clone());
        let found = self.inventory.find(&member);
        let found = found.ok_or_else(|| Refusal::NotThere(member.clone()))?;
        let claim = Claim {
            subject: member.subject(),
            uid: found.uid,
        };
        if !self.tokens.is_holder(&claim, &key_of(request)?)? {
            return Err(Refusal::NotHolder(member));
        }
        self.grant(member, found, request, now)
    }

    fn grant(&self, member: Member, found: Found, request: &[u8], now: SystemTime) -> Result<Granted, Refusal> {
        if found.is_retired {
            return Err(Refusal::Retired(member));
        }
        let identity = Identity {
            fabric: self.credentials.fabric(),
            subject: member.identity(),
        };
        let names = match &found.place {
            Place::Host(..) => Vec::new(),
            Place::Switch { config, .. } => config.names(),
        };
        let Signer { authority, valid } = self.signer(&member)?;
        let issued = authority.issue(&identity, names, Some(request), *valid, now);
        let issued = issued.map_err(|error| match error {
            // The authority can always sign, so an error here means that the request
            // cannot be read.
            BootzError::Certificate { problem, .. } => Refusal::Request(problem),
            other => Refusal::Authority(other),
        })?;
        Ok(Granted {
            member,
            found,
            certificate: issued.certificate,
            not_after: issued.not_after,
        })
    }
}

/// Whether the caller may be the machine that a token is for.
fn check_machine(member: &Member, place: &Place, machine: Option<&Machine>) -> Result<(), Refusal> {
    let (serial, model, machine) = match (place, machine) {
        (Place::Host(..), None) => return Ok(()),
        (Place::Switch { serial, model, .. }, Some(machine)) => (serial, model, machine),
        _ => return Err(Refusal::OtherKind(member.clone())),
    };
    let other = |what: &'static str, said: &str| Refusal::OtherMachine {
        member: member.clone(),
        what,
        said: said.chars().take(100).collect(),
    };
    if !serial.as_ref().is_some_and(|s| s.eq_ignore_ascii_case(&machine.serial)) {
        return Err(other("serial number", &machine.serial));
    }
    match model {
        Some(model) if *model != machine.model => Err(other("model", &machine.model)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
