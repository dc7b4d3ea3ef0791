//! rustls settings over [`Credentials`].

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use crate::credentials::Credentials;
use crate::spiffe::Subject;
use crate::verify::{AnyCertificate, Verifier};

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301, section 6).
const HTTP_1_1: &[u8] = b"http/1.1";

/// How a server recognises its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// By a certificate. For gRPC between parts of the fabric, so only HTTP/2.
    Required,
    /// By a certificate if they have one, otherwise by their requests (such as a token); HTTP/2 and HTTP/1.1.
    Welcome,
    /// Peers identify themselves in their requests. Only HTTP/1.1 is offered, because boot loaders speak no
    /// other version.
    NotAsked,
    /// By a certificate of any authority ([`crate::Claim::Shown`]): the handshake proves that the client has its key, and the
    /// server judges the chain itself. For devices that only their manufacturer vouches for. A client without a certificate is
    /// let in, so that the server can say what is missing. HTTP/2 alone.
    Shown,
}

/// Presents the newest certificate.
#[derive(Debug)]
struct Newest(Arc<Credentials>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.keys().certified))
    }
}

impl ResolvesClientCert for Newest {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.keys().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// # Errors
/// The provider lacks what TLS 1.2 or 1.3 needs.
pub(crate) fn server(
    credentials: &Arc<Credentials>,
    clients: ClientCertificates,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&credentials.provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        ClientCertificates::Required => {
            builder.with_client_cert_verifier(Verifier::of_clients(Arc::clone(credentials)))
        }
        ClientCertificates::Welcome => {
            builder.with_client_cert_verifier(Verifier::of_any_clients(Arc::clone(credentials)))
        }
        ClientCertificates::NotAsked => builder.with_no_client_auth(),
        ClientCertificates::Shown => {
            builder.with_client_cert_verifier(Arc::new(AnyCertificate(Arc::clone(&credentials.provider))))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Newest(Arc::clone(credentials))));
    config.alpn_protocols = match clients {
        ClientCertificates::Required | ClientCertificates::Shown => vec![H2.to_vec()],
        ClientCertificates::Welcome => vec![H2.to_vec(), HTTP_1_1.to_vec()],
        ClientCertificates::NotAsked => vec![HTTP_1_1.to_vec()],
    };
    // A resumed session would be trusted on the basis of a certificate that was checked when it began.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// # Errors
/// As [`server`].
pub(crate) fn client(credentials: &Arc<Credentials>, expected: Subject) -> Result<ClientConfig, rustls::Error> {
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&credentials.provider)).with_safe_default_protocol_versions()?;
    let mut config = builder
        .dangerous() // rustls calls every custom verifier dangerous; this one checks the chain and the SPIFFE id.
        .with_custom_certificate_verifier(Verifier::of_server(Arc::clone(credentials), expected))
        .with_client_cert_resolver(Arc::new(Newest(Arc::clone(credentials))));
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}
