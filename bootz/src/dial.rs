//! How a device calls the Bootz server.
//!
//! The first call goes to the server that DHCP or an operator named. Its TLS certificate proves nothing to a device
//! that trusts nobody yet. The device trusts only the owner's signature inside the reply (Bootz, "BootstrapStream
//! v1.0"). Later calls trust the authority that the bootstrap data named.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bootz_proto::bootz::bootstrap_client::BootstrapClient;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::error::BootzError;
use crate::x509::Anchors;

/// Longest time for connecting, and again for the handshake: three lost SYNs.
const PATIENCE: Duration = Duration::from_secs(7);
/// Interval and timeout of keep-alives: together, the time until a server that vanished is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Scheme of the addresses that DHCP hands out.
const SCHEME: &str = "bootz://";

/// `HOST:PORT` of a `bootz://` address.
///
/// # Errors
/// The text is not a `bootz://` address.
pub fn address(uri: &str) -> Result<&str, BootzError> {
    let rest = uri.strip_prefix(SCHEME).map(|rest| rest.trim_end_matches('/'));
    let is_address = |rest: &&str| {
        let port = rest
            .rsplit_once(':')
            .map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        port.unwrap_or(false) && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
    };
    rest.filter(is_address).ok_or_else(|| {
        let shown: String = uri.chars().take(100).collect();
        crate::error::message(
            "the address of the Bootz server",
            format!("`{shown}`: expected bootz://HOST:PORT"),
        )
    })
}

#[derive(Debug)]
struct Verifier {
    /// Authorities of which one must vouch for the server; if there are none, any server is accepted.
    trusted: Option<Anchors>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            trusted
                .check("the Bootz server", certificate, intermediates, now)
                .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

struct Connector {
    config: Arc<ClientConfig>,
    address: Arc<str>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (config, address) = (Arc::clone(&self.config), Arc::clone(&self.address));
        Box::pin(async move {
            let late = |_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer in {} s", PATIENCE.as_secs()),
                )
            };
            let tcp = timeout(PATIENCE, TcpStream::connect(&*address)).await.map_err(late)??;
            tcp.set_nodelay(true)?;
            let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
            let handshake = TlsConnector::from(config).connect(name, tcp);
            Ok(TokioIo::new(timeout(PATIENCE, handshake).await.map_err(late)??))
        })
    }
}

/// Connects to `HOST:PORT`. With `trusted`, one of these authorities must vouch for the server.
///
/// # Errors
/// It cannot be reached, or nobody vouches for it.
pub async fn connect(address: &str, trusted: Option<Anchors>) -> Result<BootstrapClient<Channel>, BootzError> {
    connect_as(address, trusted, None).await
}

/// A certificate chain, the own certificate first, and its key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// As [`connect`], and shows a certificate in the TLS handshake: the IDevID for unary calls.
///
/// # Errors
/// As [`connect`], or the key is not that of the certificate.
pub async fn connect_as(
    address: &str,
    trusted: Option<Anchors>,
    shown: Option<Shown>,
) -> Result<BootstrapClient<Channel>, BootzError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        trusted,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| crate::error::message("TLS", error))?;
    let config = config
        .dangerous() // rustls' word for every verifier of one's own
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(|error| crate::error::message("the identity key", error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    let failed = |source| BootzError::Connect {
        address: address.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    // Requests must name the scheme https, although TLS is set up by this connector and not by tonic.
    let origin = format!("https://{address}").parse::<Uri>();
    let origin = origin.map_err(|error| crate::error::message("the address of the Bootz server", error))?;
    let endpoint = endpoint
        .origin(origin)
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true);
    let connector = Connector {
        config: Arc::new(config),
        address: address.into(),
    };
    let channel = endpoint.connect_with_connector(connector).await.map_err(failed)?;
    Ok(BootstrapClient::new(channel))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_of_bootz_servers() {
        assert_eq!(address("bootz://192.0.2.5:15006").unwrap(), "192.0.2.5:15006");
        assert_eq!(address("bootz://[fd00::1]:15006/").unwrap(), "[fd00::1]:15006");
        for bad in [
            "",
            "bootz://",
            "bootz://h",
            "bootz://:1",
            "bootz://h:x",
            "http://h:1",
            "bootz://h:1/x",
            "bootz://h h:1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
