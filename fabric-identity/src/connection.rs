//! An accepted connection: its peer, and when the server ends it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use crate::certificate::{Validity, validity};
use crate::credentials::Credentials;
use crate::error::SpiffeError;
use crate::spiffe::{Identity, Subject};
use crate::taken::Parts;
use crate::verify::{End, check_chain};

/// Octets that a client must send at first, or it is disconnected: an HTTP/2 connection preface (RFC 9113, section 3.4).
const FIRST_OCTETS: u64 = 24;
/// A certificate may be valid for months. Its expiry is checked at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The verified identity of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The connection is not encrypted, so the peer may be anybody.
    PlainText,
    /// TLS, but the client has no certificate.
    NoCertificate,
    /// A certificate from the fabric's authorities that names no member of the fabric, with the
    /// reason.
    Nobody(SpiffeError),
    /// A member of the fabric.
    Member(Identity),
    /// A certificate chain that nobody has judged yet, the client's own first; the client has its key
    /// ([`crate::ClientCertificates::Shown`]).
    Shown(Arc<[CertificateDer<'static>]>),
}

/// Whether a connection is still open, for servers that keep something for its peer.
///
/// The tasks of a server learn at different times that a connection has ended. This shows it before the peer can notice
/// it.
#[derive(Debug, Clone, Default)]
pub struct Liveness(Arc<Open>);

#[derive(Debug, Default)]
struct Open {
    ended: AtomicBool,
    /// Parts of responses that the client has not taken.
    parts: Parts,
}

impl Liveness {
    /// True from the moment at which nothing more is read from the peer.
    pub fn ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Marks the connection as ended; for code that accepts connections.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

/// The other end of a connection; an extension of every request on it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// The peer's identity.
    pub claim: Claim,
    /// Validity of its certificate; none if it presented none.
    pub validity: Option<Validity>,
    /// Whether the connection is still open.
    pub liveness: Liveness,
}

impl Peer {
    /// The subject, if it is a member of the fabric.
    pub fn subject(&self) -> Option<&Subject> {
        match &self.claim {
            Claim::Member(identity) => Some(&identity.subject),
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.claim {
            Claim::PlainText => write!(f, "{} (plain text)", self.address),
            Claim::NoCertificate | Claim::Shown(_) => self.address.fmt(f),
            Claim::Nobody(why) => write!(f, "{} ({why})", self.address),
            Claim::Member(identity) => write!(f, "{identity} at {}", self.address),
        }
    }
}

pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Resolves when a connection must end although its peer does nothing wrong. The text is the reason.
type Ending = Pin<Box<dyn Future<Output = String> + Send>>;

/// An accepted connection. Reading fails when the peer was silent for too long, did not take a response for that time,
/// or has a certificate that is no longer good. Writing fails when the peer has taken nothing for that time.
pub struct Connection {
    io: Io,
    peer: Peer,
    silence: Silence,
    stall: Stall,
    end: Option<Ending>,
    /// Frees the connection's place when it is dropped.
    _place: Box<dyn Send + Sync>,
}

/// How long a peer has been silent.
struct Silence {
    idle: Duration,
    opened_by: Instant,
    octets: u64,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(first: Duration, idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            idle,
            opened_by: now + first,
            octets: 0,
            last: now,
            timer: Box::pin(tokio::time::sleep_until(now + first)),
        }
    }

    fn heard(&mut self, octets: usize) {
        self.octets = self.octets.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        self.last = Instant::now();
    }

    /// Ready when the peer must go. The timer is moved only when it fires, not with every read.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let deadline = if self.octets < FIRST_OCTETS {
                self.opened_by
            } else {
                self.last + self.idle
            };
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Since when the peer has not taken what was written.
struct Stall {
    idle: Duration,
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Stall {
    fn new(idle: Duration) -> Self {
        Self {
            idle,
            since: None,
            timer: Box::pin(tokio::time::sleep(idle)),
        }
    }

    /// The result of a write, or an error when the peer must go.
    fn poll<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.since = None;
            return written;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            ready!(self.timer.as_mut().poll(context));
            let deadline = since + self.idle;
            if deadline <= Instant::now() {
                let why = "the peer took nothing for too long";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

/// Returns when the peer's certificate expires, or when no trusted authority vouches for it any more.
pub(crate) async fn until_untrusted(
    credentials: Arc<Credentials>,
    end: End,
    chain: Vec<CertificateDer<'static>>,
) -> String {
    let mut generation = credentials.generation();
    let Some((certificate, intermediates)) = chain.split_first() else {
        return std::future::pending().await;
    };
    loop {
        let now = UnixTime::now();
        if let Err(error) = check_chain(&credentials, end, certificate, intermediates, now) {
            return crate::words::tls(&error);
        }
        let left = validity(certificate).map_or(Duration::ZERO, |v| v.left(now));
        tokio::select! {
            changed = generation.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            // One more second, because a certificate is valid up to and including its last second.
            () = tokio::time::sleep((left + Duration::from_secs(1)).min(LOOK_AGAIN)) => {}
        }
    }
}

impl Connection {
    pub(crate) fn new(
        io: Io,
        peer: Peer,
        end: Option<impl Future<Output = String> + Send + 'static>,
        (first, idle): (Duration, Duration),
        place: impl Send + Sync + 'static,
    ) -> Self {
        Self {
            io,
            peer,
            silence: Silence::new(first, idle),
            stall: Stall::new(idle),
            end: end.map(|end| Box::pin(end) as Ending),
            _place: Box::new(place),
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Writes, unless the peer has taken nothing for too long.
    fn poll_io<T>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut (dyn Duplex + 'static)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let io: &mut (dyn Duplex + 'static) = match &mut this.io {
            Io::Plain(io) => io,
            Io::Tls(io) => io,
        };
        let written = write(Pin::new(io), context);
        let written = this.stall.poll(context, written);
        if let Poll::Ready(Err(_)) = &written {
            this.peer.liveness.end();
        }
        written
    }

    /// Whether a part of a response has waited for the client for too long.
    fn holds_a_response(&self) -> bool {
        let since = self.peer.liveness.parts().since();
        since.is_some_and(|since| since.elapsed() >= self.silence.idle)
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(end) = &mut self.end
            && let Poll::Ready(why) = end.as_mut().poll(context)
        {
            self.end = None;
            tracing::warn!(peer = %self.peer, why, "connection ended");
            return Poll::Ready(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(error) = this.poll_end(context) {
            this.peer.liveness.end();
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        };
        if read.is_ready() {
            let octets = buffer.filled().len().saturating_sub(before);
            if octets == 0 {
                this.peer.liveness.end();
            }
            this.silence.heard(octets);
            return read;
        }
        let why = match this.silence.poll(context) {
            Poll::Ready(()) => "the peer was silent for too long",
            // A peer that leaves no room for a response may still answer pings. Each answer is a read, so it gets here.
            Poll::Pending if this.holds_a_response() => "the peer did not take a response for too long",
            Poll::Pending => return Poll::Pending,
        };
        this.peer.liveness.end();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.liveness.end();
    }
}

/// The common part of both kinds of connections.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_io(context, |io, context| io.poll_write(context, octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(context, |io, context| io.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context, |io, context| io.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_io(context, |io, context| io.poll_shutdown(context))
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
