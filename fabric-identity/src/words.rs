//! TLS errors as texts for operators.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::certificate::moment;
use crate::error::WrongPeer;

fn seconds(time: rustls_pki_types::UnixTime) -> String {
    moment(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the peer's certificate expired at {}; the clock here says {}",
            seconds(*not_after),
            seconds(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the peer's certificate is valid from {}, but the clock here says {}: compare the clocks of both",
            seconds(*not_before),
            seconds(*time)
        ),
        CertificateError::UnknownIssuer => {
            "the peer's certificate was signed by an authority that is not trusted here (unknown CA)".into()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<WrongPeer>() {
            Some(wrong) => format!("wrong peer: {wrong}"),
            None => format!("the peer's certificate cannot be used: {}", other.0),
        },
        other => format!("the peer's certificate cannot be used: {other}"),
    }
}

fn alert(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::CertificateExpired => {
            "the peer reports that our certificate has expired or is not valid yet; compare its dates and both clocks"
        }
        AlertDescription::UnknownCA => "the peer does not trust the authority that signed our certificate (unknown CA)",
        AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
            "the peer does not accept our certificate: it is for another name"
        }
        AlertDescription::CertificateRequired => "the peer requires a certificate and got none",
        AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
            "the peer cannot read our certificate"
        }
        AlertDescription::CertificateRevoked => "the peer reports that our certificate is revoked",
        other => return format!("the peer ended TLS: {other:?}"),
    };
    why.into()
}

/// One TLS error in words.
pub(crate) fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::AlertReceived(description) => alert(*description),
        rustls::Error::NoCertificatesPresented => "the peer presented no certificate".into(),
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".into(),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "the peer does not speak TLS".into()
        }
        other => other.to_string(),
    }
}

/// The TLS error in an error: the error itself, or what an `io::Error` wraps (its `source()` skips that).
fn as_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || {
        error
            .downcast_ref::<std::io::Error>()?
            .get_ref()?
            .downcast_ref::<rustls::Error>()
    };
    error.downcast_ref::<rustls::Error>().or_else(wrapped)
}

/// Why a connection failed or credentials cannot be used, in words: the error with its causes, down to what TLS says.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let found = as_tls(error);
        let line = found.map_or_else(|| error.to_string(), tls);
        if !lines.iter().any(|said| said.contains(&line)) {
            lines.push(line);
        }
        next = error.source().filter(|_| found.is_none());
    }
    lines.join(": ")
}
