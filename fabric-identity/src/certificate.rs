//! What a certificate says: who, and from when until when.

use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::error::SpiffeError;
use crate::spiffe::Identity;

/// When a certificate is valid, in seconds since 1970 (RFC 5280, section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Validity {
    /// Time left at `now`; zero once it has expired.
    pub fn left(&self, now: UnixTime) -> Duration {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(now)).unwrap_or(0))
    }

    /// The whole time from first to last second.
    pub(crate) fn whole(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0))
    }
}

/// A moment as text, in UTC.
pub(crate) fn moment(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, SpiffeError> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|error| SpiffeError::Certificate(error.to_string()))
}

/// The identity that a certificate is for. Its chain is not checked here.
///
/// # Errors
/// It has no SPIFFE id of a fabric, or more than one URI (X509-SVID, section 2).
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, SpiffeError> {
    let certificate = parse(certificate)?;
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    let uris: Vec<&str> = names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [] => Err(SpiffeError::Missing),
        [uri] => uri.parse(),
        several => Err(SpiffeError::Several(several.len())),
    }
}

/// When a certificate is valid.
///
/// # Errors
/// It cannot be read.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, SpiffeError> {
    let certificate = parse(certificate)?;
    let validity = certificate.validity();
    Ok(Validity {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}
