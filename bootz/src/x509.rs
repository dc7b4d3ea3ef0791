//! Certificates, chains and signatures, by rustls-webpki, with the kinds of keys that rustls supports.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::BootzError;

/// Most certificates of a chain or a bundle.
const MOST: usize = 16;
/// Schemes that a signature may have, in the order of preference. Each key fits one of them. Those with SHA-256 and SHA-384 are
/// what the Bootz specification and its reference implementation use.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ED25519,
];

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    default_provider().signature_verification_algorithms.all
}

/// Reads one or more certificates from PEM.
///
/// # Errors
/// It is not PEM, or has no certificate or too many.
pub fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BootzError> {
    let problem = |problem: String| BootzError::Certificate { what, problem };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MOST + 1).collect();
    let found = found.map_err(|error| problem(error.to_string()))?;
    match found.len() {
        0 => Err(problem("no certificate in it (PEM is expected)".into())),
        1..=MOST => Ok(found),
        _ => Err(problem(format!("more than {MOST} certificates"))),
    }
}

/// A certificate as PEM.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()))
}

/// Reads a private key from PEM.
///
/// # Errors
/// It is not a key, or is of a kind that cannot sign.
pub fn signing_key(what: &'static str, pem: &[u8]) -> Result<Arc<dyn SigningKey>, BootzError> {
    let problem = |problem: String| BootzError::Key { what, problem };
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| problem(error.to_string()))?;
    any_supported_type(&key).map_err(|error| problem(error.to_string()))
}

/// Signs with the scheme that fits the key.
///
/// # Errors
/// The key fits none, or signing fails.
pub fn sign(what: &'static str, key: &dyn SigningKey, octets: &[u8]) -> Result<Vec<u8>, BootzError> {
    let problem = |problem: String| BootzError::Key { what, problem };
    let signer = key.choose_scheme(&SCHEMES);
    let signer =
        signer.ok_or_else(|| problem("a key of this kind cannot sign: expected ECDSA, RSA or Ed25519".into()))?;
    signer.sign(octets).map_err(|error| problem(error.to_string()))
}

/// Checks that a signature was made with the key of a certificate. The hash function is the one that fits the key.
///
/// # Errors
/// [`BootzError::Signature`], or the certificate cannot be read.
pub fn check_signature(
    what: &'static str,
    certificate: &CertificateDer<'_>,
    octets: &[u8],
    signature: &[u8],
) -> Result<(), BootzError> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|error| BootzError::Certificate {
        what,
        problem: error.to_string(),
    })?;
    let is_good = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        parsed.verify_signature(*algorithm, octets, signature).is_ok()
    };
    let found = algorithms().iter().any(is_good);
    if found {
        Ok(())
    } else {
        Err(BootzError::Signature(what))
    }
}

/// Authorities that are trusted for one purpose.
#[derive(Debug, Clone)]
pub struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Anchors {
    /// Makes trust anchors of these certificates.
    ///
    /// # Errors
    /// A certificate cannot be used as an authority.
    pub fn new(what: &'static str, certificates: Vec<CertificateDer<'static>>) -> Result<Self, BootzError> {
        let anchor = |c: &CertificateDer<'static>| {
            let anchor = webpki::anchor_from_trusted_cert(c).map_err(|error| BootzError::Certificate {
                what,
                problem: error.to_string(),
            })?;
            Ok(anchor.to_owned())
        };
        let anchors = certificates.iter().map(anchor).collect::<Result<_, BootzError>>()?;
        Ok(Self { certificates, anchors })
    }

    /// From PEM.
    ///
    /// # Errors
    /// As [`certificates`] and [`Anchors::new`].
    pub fn from_pem(what: &'static str, pem: &[u8]) -> Result<Self, BootzError> {
        Self::new(what, certificates(what, pem)?)
    }

    /// Checks that one of them vouches for a certificate (RFC 5280, section 6), or is that certificate.
    ///
    /// # Errors
    /// [`BootzError::Untrusted`], or it cannot be read.
    pub fn check(
        &self,
        what: &'static str,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), BootzError> {
        if self.certificates.iter().any(|c| c.as_ref() == certificate.as_ref()) {
            return Ok(());
        }
        let usage = KeyUsage::client_auth();
        let checked = EndEntityCert::try_from(certificate).and_then(|c| {
            c.verify_for_usage(algorithms(), &self.anchors, intermediates, now, usage, None, None)
                .map(drop)
        });
        checked.map_err(|error| BootzError::Untrusted {
            what,
            problem: error.to_string(),
        })
    }
}

/// Reads a certificate.
///
/// # Errors
/// It cannot be read.
pub(crate) fn parse<'a>(
    what: &'static str,
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, BootzError> {
    let parsed = X509Certificate::from_der(certificate).map_err(|error| BootzError::Certificate {
        what,
        problem: error.to_string(),
    })?;
    Ok(parsed.1)
}
