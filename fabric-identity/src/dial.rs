//! Connects to one subject of the fabric and to nobody else.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::certificate::{Validity, validity};
use crate::config;
use crate::connection::until_untrusted;
use crate::credentials::Credentials;
use crate::spiffe::Subject;
use crate::verify::End;
use crate::words::explain;

/// Longest time for connecting, and again for the handshake: three lost SYNs.
const PATIENCE: Duration = Duration::from_secs(7);

/// Opens connections to one subject. Each connection uses the current credentials.
#[derive(Clone)]
pub struct Dialer {
    config: Arc<ClientConfig>,
    credentials: Arc<Credentials>,
    expected: Subject,
    /// Own address of connections; the system chooses one if there is none.
    local: Option<IpAddr>,
    /// Validity of the certificate that the peer presented last.
    shown: Arc<Mutex<Option<Validity>>>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

type Ending = Pin<Box<dyn Future<Output = String> + Send>>;

/// A connection to the expected subject. TLS errors are explained as text.
pub struct ClientStream {
    io: Box<TlsStream<TcpStream>>,
    end: Ending,
}

fn worded(error: io::Error) -> io::Error {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls {
        io::Error::new(error.kind(), explain(&error))
    } else {
        error
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} took longer than {} s", PATIENCE.as_secs()),
    )
}

impl Dialer {
    /// For connections to `expected`, which belongs to the same fabric as the credentials.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(credentials: Arc<Credentials>, expected: Subject) -> Result<Self, rustls::Error> {
        Ok(Self {
            config: Arc::new(config::client(&credentials, expected.clone())?),
            credentials,
            expected,
            local: None,
            shown: Arc::default(),
        })
    }

    /// Makes connections come from this address of the machine. Servers limit the connections from one address.
    #[must_use]
    pub fn from_address(mut self, local: IpAddr) -> Self {
        self.local = Some(local);
        self
    }

    async fn open(&self, address: &str) -> io::Result<TcpStream> {
        let Some(local) = self.local else {
            return TcpStream::connect(address).await;
        };
        let to = tokio::net::lookup_host(address)
            .await?
            .find(|to| to.is_ipv4() == local.is_ipv4());
        let unreachable = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{address} cannot be reached from {local}"),
            )
        };
        let to = to.ok_or_else(unreachable)?;
        let socket = if local.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(local, 0))?;
        socket.connect(to).await
    }

    /// Validity of the certificate that the peer presented on the last connection; none before the first.
    pub fn peer_validity(&self) -> Option<Validity> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// The peer cannot be reached, or is not the expected subject; in words.
    pub async fn connect(&self, address: &str) -> io::Result<ClientStream> {
        let tcp = timeout(PATIENCE, self.open(address))
            .await
            .map_err(|_| late("connecting"))??;
        tcp.set_nodelay(true)?;
        // The certificate is checked for a SPIFFE id, not for this name.
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp);
        let io = timeout(PATIENCE, handshake)
            .await
            .map_err(|_| late("the TLS handshake"))?
            .map_err(worded)?;
        let chain = io.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = chain.first().and_then(|c| validity(c).ok());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
        let end = until_untrusted(Arc::clone(&self.credentials), End::Server, chain);
        Ok(ClientStream {
            io: Box::new(io),
            end: Box::pin(end),
        })
    }

    /// A gRPC channel to `HOST:PORT` with the settings of `endpoint`, whose own address is not used.
    ///
    /// # Errors
    /// The first connection cannot be made; the causes are in words.
    pub async fn channel(&self, endpoint: &Endpoint, address: &str) -> Result<Channel, tonic::transport::Error> {
        let connector = Connector {
            dialer: self.clone(),
            address: address.into(),
        };
        // Requests say that they came over TLS, though this connector made it and not tonic's.
        let origin = Uri::builder()
            .scheme("https")
            .authority(address)
            .path_and_query("/")
            .build();
        let endpoint = match origin {
            Ok(origin) => endpoint.clone().origin(origin),
            Err(_) => endpoint.clone(),
        };
        endpoint.connect_with_connector(connector).await
    }
}

/// The dialer as gRPC channels use it.
struct Connector {
    dialer: Dialer,
    address: Arc<str>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ClientStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (dialer, address) = (self.dialer.clone(), Arc::clone(&self.address));
        Box::pin(async move { dialer.connect(&address).await.map(TokioIo::new) })
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(why) = this.end.as_mut().poll(context) {
            this.end = Box::pin(std::future::pending());
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, why)));
        }
        Pin::new(&mut this.io).poll_read(context, buffer).map_err(worded)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io)
            .poll_write(context, octets)
            .map_err(worded)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context).map_err(worded)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context).map_err(worded)
    }
}
