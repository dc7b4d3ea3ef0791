//! Certificates for devices. The name comes from the inventory; only the key comes from the device's request.

use std::time::{Duration, SystemTime};

use fabric_identity::Identity;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::error::BootzError;

/// Certificates are valid from this long before they are made, because clocks differ a little.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// An authority that devices of the fabric trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for a device.
pub struct Issued {
    /// The certificate (PEM).
    pub certificate: String,
    /// Its private key (PEM), if it was not made by the device.
    pub key: Option<String>,
    /// Last second of its validity, in seconds since 1970.
    pub not_after: u64,
}

impl Authority {
    /// An authority from its certificate and key (PEM).
    ///
    /// # Errors
    /// Certificate or key cannot be used.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, BootzError> {
        let key = KeyPair::from_pem(key).map_err(|error| BootzError::Key {
            what: "the authority's key",
            problem: error.to_string(),
        })?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(|error| BootzError::Certificate {
            what: "the authority's certificate",
            problem: error.to_string(),
        })?;
        Ok(Self { issuer })
    }

    /// A certificate for `identity`. Without a request it makes a key.
    ///
    /// # Errors
    /// The request cannot be read, or is not signed with its own key.
    pub fn issue(
        &self,
        identity: &Identity,
        names: Vec<String>,
        request: Option<&[u8]>,
        valid: Duration,
        now: SystemTime,
    ) -> Result<Issued, BootzError> {
        let problem = |error: rcgen::Error| BootzError::Certificate {
            what: "the device's certificate",
            problem: error.to_string(),
        };
        let mut params = CertificateParams::new(names).map_err(problem)?;
        let name = identity.subject.to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = identity.to_string().try_into().map_err(problem)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + valid).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let not_after = u64::try_from(params.not_after.unix_timestamp()).unwrap_or_default();
        let (certificate, key) = match request {
            Some(der) => {
                let read = CertificateSigningRequestParams::from_der(&der.into());
                let public_key = read
                    .map_err(|error| BootzError::Certificate {
                        what: "the request for a certificate",
                        problem: error.to_string(),
                    })?
                    .public_key;
                let request = CertificateSigningRequestParams { params, public_key };
                (request.signed_by(&self.issuer).map_err(problem)?.pem(), None)
            }
            None => {
                let key = KeyPair::generate().map_err(problem)?;
                let certificate = params.signed_by(&key, &self.issuer).map_err(problem)?;
                (certificate.pem(), Some(key.serialize_pem()))
            }
        };
        Ok(Issued {
            certificate,
            key,
            not_after,
        })
    }
}
