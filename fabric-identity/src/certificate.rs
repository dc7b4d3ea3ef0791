//! The content of a certificate: its identity and validity.

use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::error::SpiffeError;
use crate::spiffe::Identity;

/// A warning is logged when this part of a certificate's lifetime is left, ...
const WARN_LAST_PART: u32 = 5;
/// ... but not earlier than this before its end.
const WARN_WITHIN: Duration = Duration::from_secs(30 * 24 * 3600);

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

    /// The last second as text, in UTC.
    pub fn until(&self) -> String {
        moment(self.not_after)
    }

    /// A warning in words, once the certificate expires soon or has expired. `what` is its name in the text.
    pub fn warning(&self, what: &str) -> Option<String> {
        self.warning_at(what, UnixTime::now())
    }

    fn warning_at(&self, what: &str, now: UnixTime) -> Option<String> {
        let (left, until) = (self.left(now), moment(self.not_after));
        if left.is_zero() {
            return Some(format!("{what} expired at {until}: new connections are refused"));
        }
        let soon = (self.whole() / WARN_LAST_PART).min(WARN_WITHIN);
        (left < soon).then(|| format!("{what} expires in {}, at {until}", in_words(left)))
    }

    /// The whole time from first to last second.
    pub fn whole(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0))
    }
}

/// A duration for people, rounded down.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (days @ 2.., ..) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} hours"),
        (.., minutes @ 2..) => format!("{minutes} minutes"),
        _ => format!("{seconds} s"),
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
/// The certificate cannot be read.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, SpiffeError> {
    let certificate = parse(certificate)?;
    let validity = certificate.validity();
    Ok(Validity {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_warned_of_before_it_comes() {
        const DAY: i64 = 86_400;
        let says = |validity: Validity, now: i64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
            validity.warning_at("the certificate", now)
        };
        // A fifth of its life, at most 30 days.
        let short = Validity {
            not_before: 0,
            not_after: 10 * DAY,
        };
        assert_eq!(says(short, 8 * DAY - 1), None);
        let soon = says(short, 8 * DAY + 1).unwrap();
        assert!(soon.starts_with("the certificate expires in 47 hours, at "), "{soon}");
        let over = says(short, 10 * DAY).unwrap();
        assert!(over.starts_with("the certificate expired at "), "{over}");
        let long = Validity {
            not_before: 0,
            not_after: 3650 * DAY,
        };
        assert_eq!(says(long, 3619 * DAY), None);
        assert!(says(long, 3621 * DAY).unwrap().contains("29 days"));
    }
}
