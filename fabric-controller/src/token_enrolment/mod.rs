//! Hosts, and switches without an IDevID, get their certificates with a one-time token ([`tokens`]).
//!
//! **Model.** The operator makes a token for a member of the inventory. Its machine sends it with a request for a certificate over
//! TLS, to a server that it recognises by the fabric's authority ([`serve`]). The [`desk`] decides.
//!
//! **Invariants.**
//! - A certificate names the member that the inventory has for the token. Only the public key of the request is used.
//! - A switch's token works only for the serial number that the inventory has.
//! - The token is marked as taken, on the disk, before the certificate is sent.
//! - The same key may ask again with the same token, and gets another certificate. So either side may fail at any
//!   moment.
//! - A host's certificate is renewed only for the key that enrolled last as this host. So an old key gets nothing more
//!   once another key has enrolled with a new token, or the host has left the inventory. Switches do not ask for
//!   renewals: the controller renews their certificates (gNSI Certz).
//! - Every certificate that is sent, and every refusal, is in the audit log. A refusal is an event, too.
//!
//! **What it does not do.** A certificate that was issued stays valid until it expires, as in the whole fabric
//! (`docs/security.md`).

pub mod desk;
pub mod serve;
pub mod tokens;
