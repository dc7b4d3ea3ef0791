//! A device proves that it has the key of its IDevID certificate, by signing the transport key and the server's nonce.

use bootz_proto::bootz::TransportKey;
use bootz_proto::request::{Proof, SigningRequest};
use prost::Message as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::UnixTime;

use crate::error::{BootzError, message};
use crate::idevid::Idevid;
use crate::x509::Anchors;

/// Name of the signed octets in errors.
pub(crate) const WHAT: &str = "the challenge response";
/// Octets of a nonce: 256 bits, so that no nonce occurs twice.
const NONCE: usize = 32;
/// Longest transport key with a request for a certificate, in octets.
const LONGEST: usize = 16 * 1024;

/// A nonce that nobody can foresee.
///
/// # Errors
/// The system has no random numbers.
pub fn nonce() -> Result<Vec<u8>, BootzError> {
    let mut nonce = vec![0; NONCE];
    SystemRandom::new().fill(&mut nonce).map_err(|_| BootzError::Key {
        what: "the nonce",
        problem: "the system has no random numbers".into(),
    })?;
    Ok(nonce)
}

/// A device that has proven who it is.
#[derive(Debug)]
pub struct Proven {
    /// Its identity.
    pub idevid: Idevid,
    /// The key to which replies are encrypted.
    pub key: TransportKey,
    /// Its request for a certificate (DER), if it made a key of its own.
    pub request: Option<Vec<u8>>,
}

/// Checks a proof: a trusted manufacturer made the device, the device signed, and it signed the nonce.
///
/// # Errors
/// The first check that failed.
pub fn check(proof: &Proof, manufacturers: &Anchors, now: UnixTime) -> Result<Proven, BootzError> {
    let idevid = Idevid::read(&proof.idevid_cert)?;
    idevid.check(manufacturers, now)?;
    let octets = proof.serialized_transport_key.as_slice();
    if octets.len() > LONGEST {
        return Err(message(WHAT, "it is too long"));
    }
    // The octets are parsed only after the signature has been verified.
    idevid.check_signature(WHAT, octets, &proof.signature)?;
    let key = TransportKey::decode(octets).map_err(|error| message(WHAT, error))?;
    if proof.nonce.len() != NONCE || key.nonce != proof.nonce {
        return Err(BootzError::Nonce(WHAT));
    }
    let request = SigningRequest::decode(octets).map_err(|error| message(WHAT, error))?;
    let request = request.certificate_signing_request;
    Ok(Proven {
        idevid,
        key,
        request: (!request.is_empty()).then_some(request),
    })
}
