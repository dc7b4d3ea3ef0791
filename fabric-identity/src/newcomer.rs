//! Connects to the controller from a machine that has no certificate of the fabric yet.
//!
//! The operator gives such a machine the authority of the fabric, as a file or by its fingerprint. With a fingerprint
//! ([`Fingerprint`]), the machine first asks the server for the authorities over a connection that proves nothing
//! ([`Newcomer::trusting_anybody`]), and keeps only the one that has the fingerprint. Everything else goes over a second
//! connection, whose server that authority must vouch for ([`Newcomer::trusting`]).

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::identity;
use crate::config::H2;
use crate::credentials::certificates;
use crate::error::IdentityError;
use crate::spiffe::Subject;
use crate::words::explain;

/// Longest time for connecting, and the same again for the handshake: enough for three lost SYNs.
const PATIENCE: Duration = Duration::from_secs(7);
/// What a fingerprint begins with.
const SHA_256: &str = "sha256:";

/// SHA-256 of a certificate (DER), as text `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut octets = [0; 32];
        octets
            .iter_mut()
            .zip(digest.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self(octets)
    }

    /// The certificate with this fingerprint among these (PEM).
    ///
    /// # Errors
    /// The certificates cannot be read, or none has the fingerprint.
    pub fn pick(&self, pem: &[u8]) -> Result<CertificateDer<'static>, IdentityError> {
        const WHAT: &str = "the server's authorities";
        let found = certificates(WHAT, pem)?.into_iter().find(|c| Self::of(c) == *self);
        found.ok_or_else(|| IdentityError::Pem {
            what: WHAT.into(),
            problem: format!("none has the fingerprint {self}: this is not the expected fabric"),
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHA_256)?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Why a text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{SHA_256}` and 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Also reads what `openssl x509 -fingerprint -sha256` prints, with colons between the octets.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digits: String = text.strip_prefix(SHA_256).unwrap_or(text).split(':').collect();
        let mut octets = [0; 32];
        if digits.len() != 2 * octets.len() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoFingerprint);
        }
        for (octet, i) in octets.iter_mut().zip((0..digits.len()).step_by(2)) {
            let pair = digits.get(i..i + 2).ok_or(NoFingerprint)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| NoFingerprint)?;
        }
        Ok(Self(octets))
    }
}

/// Opens connections without a certificate of its own.
#[derive(Clone)]
pub struct Newcomer {
    config: Arc<ClientConfig>,
}

/// Judges the server.
#[derive(Debug)]
struct Verifier {
    /// The authorities that must vouch for it, and who it must be; `None` accepts any server.
    expected: Option<(Vec<TrustAnchor<'static>>, Subject)>,
    provider: Arc<CryptoProvider>,
}

impl Newcomer {
    /// For connections that prove nothing about the server. Nothing secret may be sent over them, and everything
    /// received must be checked by other means.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn trusting_anybody() -> Result<Self, IdentityError> {
        Self::new(None)
    }

    /// For connections to `subject` of the fabric that these authorities (PEM) vouch for.
    ///
    /// # Errors
    /// The authorities cannot be used, or TLS cannot be set up.
    pub fn trusting(authorities: &[u8], subject: Subject) -> Result<Self, IdentityError> {
        Self::trusting_these(&certificates("the authorities", authorities)?, subject)
    }

    /// As [`Newcomer::trusting`], with the authorities as parsed certificates.
    ///
    /// # Errors
    /// As [`Newcomer::trusting`].
    pub fn trusting_these(authorities: &[CertificateDer<'static>], subject: Subject) -> Result<Self, IdentityError> {
        let anchor = |authority: &CertificateDer<'static>| {
            let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|error| IdentityError::Pem {
                what: "the authorities".into(),
                problem: error.to_string(),
            })?;
            Ok(anchor.to_owned())
        };
        let anchors = authorities.iter().map(anchor).collect::<Result<_, IdentityError>>()?;
        Self::new(Some((anchors, subject)))
    }

    fn new(expected: Option<(Vec<TrustAnchor<'static>>, Subject)>) -> Result<Self, IdentityError> {
        let unusable = |source| IdentityError::Key {
            what: "TLS".into(),
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier {
            expected,
            provider: Arc::clone(&provider),
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder
            .map_err(unusable)?
            .dangerous() // rustls calls every custom verifier dangerous
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![H2.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// The server cannot be reached or is not the expected one; the error says which.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let late = |_| {
            let words = format!("no answer in {} s", PATIENCE.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, words)
        };
        let tcp = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(late)??;
        tcp.set_nodelay(true)?;
        // The certificate is checked for a SPIFFE id, not for this name.
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp);
        let done = timeout(PATIENCE, handshake).await.map_err(late)?;
        done.map_err(|error| io::Error::new(error.kind(), explain(&error)))
    }

    /// A gRPC channel to `HOST:PORT`.
    ///
    /// # Errors
    /// The address cannot be used, or as [`Newcomer::connect`].
    pub async fn channel(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        // Requests must name the scheme https, although TLS is set up by this connector and not
        // by tonic.
        if let Ok(origin) = format!("https://{address}").parse::<Uri>() {
            endpoint = endpoint.origin(origin);
        }
        let (newcomer, address): (Self, Arc<str>) = (self.clone(), address.into());
        let connector = tower::service_fn(move |_: Uri| {
            let (newcomer, address) = (newcomer.clone(), Arc::clone(&address));
            async move { newcomer.connect(&address).await.map(hyper_util::rt::TokioIo::new) }
        });
        endpoint.connect_with_connector(connector).await
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
        let Some((anchors, subject)) = &self.expected else {
            return Ok(ServerCertVerified::assertion());
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let checked = EndEntityCert::try_from(certificate).and_then(|c| {
            let usage = KeyUsage::server_auth();
            c.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None)
                .map(drop)
        });
        checked.map_err(|error| Error::InvalidCertificate(crate::verify::reason(error)))?;
        match identity(certificate) {
            Ok(found) if found.subject == *subject => Ok(ServerCertVerified::assertion()),
            found => {
                let found = found.map_or_else(|error| error.to_string(), |found| format!("it is `{found}`"));
                let wrong = io::Error::other(format!("expected the fabric's {subject}, but {found}"));
                let wrong = OtherError(Arc::new(wrong));
                Err(Error::InvalidCertificate(CertificateError::Other(wrong)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;
    use crate::{ClientCertificates, Limits, Listener};

    #[test]
    fn a_fingerprint_is_read_as_it_is_printed_here_and_by_openssl() {
        let authority = Authority::new();
        let certificate = certificates("", authority.pem.as_bytes()).unwrap().remove(0);
        let fingerprint = Fingerprint::of(&certificate);
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        let digits = text.strip_prefix("sha256:").unwrap();
        let pairs: Vec<&str> = (0..64).step_by(2).map(|i| &digits[i..i + 2]).collect();
        assert_eq!(pairs.join(":").to_uppercase().parse(), Ok(fingerprint));
        for wrong in [
            "",
            "sha256:",
            &text[..70],
            &format!("{text}0"),
            &text.replace('a', "g").replace('0', "x"),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
        let both = format!("{}{}", Authority::new().pem, authority.pem);
        assert_eq!(fingerprint.pick(both.as_bytes()).unwrap(), certificate);
        let other = fingerprint.pick(Authority::new().pem.as_bytes()).unwrap_err();
        assert!(other.to_string().contains(&text), "{other}");
    }

    #[tokio::test]
    async fn a_newcomer_speaks_only_to_a_server_that_its_authority_vouches_for() {
        let authority = Authority::new();
        let serve = async |subject: &str| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let credentials = authority.credentials(subject);
            let clients = ClientCertificates::Welcome;
            let listener = Listener::tls(listener, "test", Limits::GRPC, &credentials, clients).unwrap();
            let accepted = listener.incoming();
            (address, accepted)
        };
        let (controller, _accepts) = serve("controller").await;
        let (host, _accepts_too) = serve("host/h1").await;
        let trusting = |pem: &str| Newcomer::trusting(pem.as_bytes(), Subject::Controller).unwrap();
        trusting(&authority.pem).connect(&controller).await.unwrap();
        Newcomer::trusting_anybody().unwrap().connect(&host).await.unwrap();
        let refused =
            async |newcomer: Newcomer, address: &str| newcomer.connect(address).await.unwrap_err().to_string();
        let words = refused(trusting(&authority.pem), &host).await;
        assert!(words.contains("host/h1") && words.contains("controller"), "{words}");
        let words = refused(trusting(&Authority::new().pem), &controller).await;
        assert!(!words.is_empty());
    }
}
