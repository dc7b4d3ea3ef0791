//! Identifies the other end of a connection, and bounds the life of the connection.
//!
//! **Problem.** Every part of a fabric has a certificate from the same authority. A valid certificate alone does not say
//! what its holder may do: an attacker on a host has the host's key, and this must not open a switch.
//!
//! **Model.** A certificate says *who* its holder is: a SPIFFE id in its only URI name ([`Identity`]). The server decides for
//! each call what the caller may do. [`Credentials`] are this process's own certificate, key and the authorities
//! that it trusts; they are reloaded while the process runs. [`Listener`] accepts connections and returns each with its
//! verified [`Peer`]; [`Dialer`] connects to one subject and to nobody else.
//!
//! **Invariants.**
//! - A process takes the fabric's name from its own certificate; a peer of another fabric has no rights, even if a trusted
//!   authority signed its certificate.
//! - A connection ends when its peer's certificate expires, or when no trusted authority vouches for it any more.
//!   TLS sessions are never resumed: every connection is checked in full.
//! - A listener holds a bounded number of connections, in all and per address, and closes a connection whose peer is silent
//!   for too long, or does not take the responses that it asked for. It never loops without a pause, and when it cannot
//!   accept, it tries again.
//! - Nothing secret is logged. A refused peer is logged with its address and the reason, each pair at most once a minute.
//!
//! **Cost.** A handshake parses the peer's certificate once. After that a read costs two polls and a look at the clock; no
//! allocation, no lock. A read that finds nothing, and each part of a response, take a lock that only this connection uses.
//!
//! Sources: SPIFFE-ID and X509-SVID specifications (spiffe.io), RFC 5280, RFC 8446.
//!
//! # Example
//! ```
//! use fabric_identity::{Identity, Subject};
//!
//! let id: Identity = "spiffe://prod/switch/leaf1".parse().unwrap();
//! assert_eq!(id.subject, Subject::Switch("leaf1".into()));
//! assert!("spiffe://prod/somebody".parse::<Identity>().is_err());
//! ```

mod certificate;
mod config;
mod connection;
mod credentials;
mod dial;
mod error;
mod files;
mod invitation;
mod listen;
mod newcomer;
mod notice;
mod spiffe;
mod taken;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
mod words;

pub use certificate::Validity;
pub use config::ClientCertificates;
pub use connection::{Claim, Connection, Liveness, Peer};
pub use credentials::{Credentials, Expiry, FOLLOW_EVERY, Files, Trial};
pub use dial::{ClientStream, Dialer};
pub use error::{IdentityError, SpiffeError, WrongPeer};
pub use files::{is_private, private_directory, private_files, write_private};
pub use invitation::{Invitation, InvitationError, Trust};
pub use listen::{Incoming, Limits, Listener};
pub use newcomer::{Fingerprint, Newcomer};
pub use notice::Notices;
pub use spiffe::{FabricName, Identity, Subject};
pub use taken::{InTime, Taken, TakenLayer};
pub use words::explain;
