//! Checks a peer's certificate, the same way on both sides: its chain, its time, and on the client's side its name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::identity;
use crate::credentials::Credentials;
use crate::error::{SpiffeError, WrongPeer};
use crate::spiffe::{Identity, Subject};

/// Which end presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// Checks that an authority that is trusted now vouches for a chain (RFC 5280, section 6).
///
/// # Errors
/// If time is the reason, the error contains the relevant times.
pub(crate) fn check_chain(
    credentials: &Credentials,
    end: End,
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let usage = match end {
        End::Client => KeyUsage::client_auth(),
        End::Server => KeyUsage::server_auth(),
    };
    let algorithms = credentials.provider.signature_verification_algorithms.all;
    let keys = credentials.keys();
    let checked = EndEntityCert::try_from(certificate).and_then(|c| {
        c.verify_for_usage(algorithms, &keys.anchors, intermediates, now, usage, None, None)
            .map(drop)
    });
    checked.map_err(|error| Error::InvalidCertificate(reason(error)))
}

/// The error in rustls' terms, which also decide the alert that the peer gets.
pub(crate) fn reason(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

/// The identity that a certificate claims, if it belongs to this fabric.
pub(crate) fn member(credentials: &Credentials, certificate: &CertificateDer<'_>) -> Result<Identity, SpiffeError> {
    let identity = identity(certificate)?;
    if identity.fabric == credentials.keys().identity.fabric {
        Ok(identity)
    } else {
        Err(SpiffeError::OtherFabric(identity))
    }
}

/// Judges the other end of a handshake with the current credentials.
#[derive(Debug)]
pub(crate) struct Verifier {
    credentials: Arc<Credentials>,
    /// The expected subject; only clients have one.
    expected: Option<Subject>,
    /// Whether a client may connect without a certificate.
    is_optional: bool,
}

impl Verifier {
    /// For a server: accepts any client with a certificate of the fabric's authorities. What the client may call is
    /// decided later.
    pub(crate) fn of_clients(credentials: Arc<Credentials>) -> Arc<Self> {
        Arc::new(Self {
            credentials,
            expected: None,
            is_optional: false,
        })
    }

    /// As [`Self::of_clients`], but also accepts a client without a certificate.
    pub(crate) fn of_any_clients(credentials: Arc<Credentials>) -> Arc<Self> {
        Arc::new(Self {
            credentials,
            expected: None,
            is_optional: true,
        })
    }

    /// For a client that expects one server.
    pub(crate) fn of_server(credentials: Arc<Credentials>, expected: Subject) -> Arc<Self> {
        Arc::new(Self {
            credentials,
            expected: Some(expected),
            is_optional: false,
        })
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.credentials.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.credentials.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.credentials.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(&self.credentials, End::Server, certificate, intermediates, now)?;
        if let Some(subject) = &self.expected {
            let expected = Identity {
                fabric: self.credentials.fabric(),
                subject: subject.clone(),
            };
            let found = identity(certificate);
            if found.as_ref() != Ok(&expected) {
                let wrong = OtherError(Arc::new(WrongPeer::new(expected, &found)));
                return Err(Error::InvalidCertificate(CertificateError::Other(wrong)));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: clients do not need them (RFC 8446, section 4.2.4), and the authorities change while this verifier
        // exists.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.is_optional
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_chain(&self.credentials, End::Client, certificate, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// Accepts any chain of a client, and checks only that the client has the key of its certificate.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
