//! Accepts a limited number of connections, each with its handshake on a separate task.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::certificate::validity;
use crate::config::{self, ClientCertificates};
use crate::connection::{Claim, Connection, Io, Liveness, Peer, until_untrusted};
use crate::credentials::Credentials;
use crate::notice::Notices;
use crate::verify::{End, member};
use crate::words::explain;

/// Pause of the accept loop while the process has no descriptor or memory to spare.
const NO_ROOM: Duration = Duration::from_millis(100);
/// One listener takes at most this part of the process's descriptors, so that enough are left for files and for its
/// own connections.
const PART_OF_DESCRIPTORS: u64 = 4;
/// Connections that have passed their handshake and wait for the server.
const READY: usize = 16;
/// Silence after which the kernel begins to check whether a peer has vanished.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Time between two of these checks.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Failed checks after which the kernel ends the connection.
const KEEPALIVE_TRIES: u32 = 3;
/// An IPv6 host can choose any address of a /64 (RFC 7421), so peers are counted by /64.
const IPV6_PREFIX: u128 = !0 << 64;

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all, those in their handshake included. A process with few descriptors accepts fewer.
    pub connections: usize,
    /// Connections of one address (one /64 of IPv6).
    pub per_peer: usize,
    /// Longest time for the TLS handshake.
    pub handshake: Duration,
    /// Longest time from the handshake to the first octets of a request.
    pub first_octets: Duration,
    /// Longest silence of a peer. If pings keep connections alive, this must be longer than a ping and its reply.
    pub idle: Duration,
}

impl Limits {
    /// For gRPC servers whose peers answer HTTP/2 pings every ten seconds.
    pub const GRPC: Self = Self {
        connections: 4096,
        per_peer: 64,
        handshake: Duration::from_secs(10),
        first_octets: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    fn connections(&self) -> usize {
        let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
        let part = usize::try_from(descriptors / PART_OF_DESCRIPTORS).unwrap_or(usize::MAX);
        self.connections.min(part.max(1))
    }
}

/// Counts connections, in all and by peer.
#[derive(Default)]
struct Places {
    by_peer: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
    most_per_peer: usize,
}

/// A connection's place; free again when it is dropped.
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & IPV6_PREFIX).into()),
        v4 => v4,
    }
}

impl Places {
    /// Takes a place for a connection from this address.
    ///
    /// # Errors
    /// There is no place; the text says why.
    fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, &'static str> {
        let peer = counted_as(address);
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        // The map has at most one entry per peer. Adding up some thousands is quick, so there is no second count that
        // could differ.
        let all: usize = by_peer.values().sum();
        if all >= self.most {
            return Err("too many connections are open");
        }
        let count = by_peer.entry(peer).or_default();
        if *count >= self.most_per_peer {
            return Err("too many connections of this peer are open");
        }
        *count += 1;
        Ok(Place {
            places: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_peer = self.places.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&self.peer);
            }
        }
    }
}

/// A listening socket with its limits.
pub struct Listener {
    tcp: TcpListener,
    name: &'static str,
    limits: Limits,
    tls: Option<(TlsAcceptor, Arc<Credentials>)>,
    clients: ClientCertificates,
}

impl Listener {
    /// Without TLS: peers are not identified. `name` is what logs call the server.
    pub fn plain(tcp: TcpListener, name: &'static str, limits: Limits) -> Self {
        Self {
            tcp,
            name,
            limits,
            tls: None,
            clients: ClientCertificates::NotAsked,
        }
    }

    /// With TLS.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn tls(
        tcp: TcpListener,
        name: &'static str,
        limits: Limits,
        credentials: &Arc<Credentials>,
        clients: ClientCertificates,
    ) -> Result<Self, rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(config::server(credentials, clients)?));
        Ok(Self {
            tls: Some((acceptor, Arc::clone(credentials))),
            clients,
            ..Self::plain(tcp, name, limits)
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system refuses to say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Begins to accept; ends when the returned stream is dropped. Connections live on.
    pub fn incoming(self) -> Incoming {
        let (ready, incoming) = mpsc::channel(READY);
        tokio::spawn(self.accept(ready));
        Incoming(incoming)
    }

    async fn accept(self, ready: mpsc::Sender<Connection>) {
        let places = Arc::new(Places {
            most: self.limits.connections(),
            most_per_peer: self.limits.per_peer,
            ..Places::default()
        });
        let door = Arc::new(Door {
            name: self.name,
            limits: self.limits,
            tls: self.tls,
            clients: self.clients,
            notices: Notices::default(),
        });
        let mut handshakes = JoinSet::new();
        let mut no_room = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                Some(_) = handshakes.join_next() => continue,
                () = ready.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    if std::mem::take(&mut no_room) {
                        tracing::info!(server = door.name, "connections are accepted again");
                    }
                    match places.take(address.ip()) {
                        Ok(place) => {
                            let (door, ready) = (Arc::clone(&door), ready.clone());
                            handshakes.spawn(async move {
                                if let Some(connection) = door.open(stream, address, place).await {
                                    let _ = ready.send(connection).await;
                                }
                            });
                        }
                        Err(why) => door.refuse(address, why),
                    }
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut no_room, true) {
                        tracing::error!(server = door.name, %error, "no connection can be accepted; trying again");
                    }
                    tokio::time::sleep(NO_ROOM).await;
                }
            }
        }
    }
}

/// Errors of accept(2) that say nothing about the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// The handshake of a connection, before the server gets it.
struct Door {
    name: &'static str,
    limits: Limits,
    tls: Option<(TlsAcceptor, Arc<Credentials>)>,
    clients: ClientCertificates,
    notices: Notices,
}

impl Door {
    fn refuse(&self, address: SocketAddr, why: &str) {
        if let Some(left_out) = self.notices.due(address.ip(), why) {
            tracing::warn!(server = self.name, peer = %address, why, left_out, "connection refused");
        }
    }

    async fn open(&self, stream: TcpStream, address: SocketAddr, place: Place) -> Option<Connection> {
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_EVERY);
        let keepalive = keepalive.with_retries(KEEPALIVE_TRIES);
        // A connection also works without these options.
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = stream.set_nodelay(true);
        let times = (self.limits.first_octets, self.limits.idle);
        let Some((acceptor, credentials)) = &self.tls else {
            let peer = Peer {
                address,
                claim: Claim::PlainText,
                validity: None,
                liveness: Liveness::default(),
            };
            let never: Option<std::future::Pending<String>> = None;
            return Some(Connection::new(Io::Plain(stream), peer, never, times, place));
        };
        let stream = match timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.refuse(address, &explain(&error));
                return None;
            }
            Err(_) => {
                self.refuse(address, "the TLS handshake took too long");
                return None;
            }
        };
        let chain: Option<Vec<_>> = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
        let is_shown = self.clients == ClientCertificates::Shown;
        let claim = match chain.as_deref().and_then(|chain| chain.first()) {
            None => Claim::NoCertificate,
            Some(_) if is_shown => Claim::Shown(chain.as_deref().unwrap_or_default().into()),
            Some(certificate) => match member(credentials, certificate) {
                Ok(identity) => Claim::Member(identity),
                Err(why) => Claim::Nobody(why),
            },
        };
        let validity = chain.as_deref().and_then(|chain| validity(chain.first()?).ok());
        // A chain of `ClientCertificates::Shown` is checked with each call.
        let end = chain
            .filter(|_| !is_shown)
            .map(|chain| until_untrusted(Arc::clone(credentials), End::Client, chain));
        let io = Io::Tls(Box::new(stream));
        let peer = Peer {
            address,
            claim,
            validity,
            liveness: Liveness::default(),
        };
        Some(Connection::new(io, peer, end, times, place))
    }
}

/// Connections that are ready for a server.
pub struct Incoming(mpsc::Receiver<Connection>);

impl Incoming {
    /// The next connection; `None` only when the runtime is ending. Cancel safe.
    pub async fn next(&mut self) -> Option<Connection> {
        self.0.recv().await
    }
}

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Arc::new(Places {
            most: 5,
            most_per_peer: 2,
            ..Places::default()
        })
    }

    #[test]
    fn places_are_counted_by_peer_and_come_back() {
        let places = places();
        let held: Vec<_> = (0..3).map(|_| places.take([10, 0, 0, 1].into())).collect();
        assert!(held[0].is_ok() && held[1].is_ok() && held[2].is_err());
        assert!(
            places.take("::ffff:10.0.0.1".parse().unwrap()).is_err(),
            "the same peer"
        );
        assert!(places.take([10, 0, 0, 2].into()).is_ok());
        drop(held);
        assert!(places.take([10, 0, 0, 1].into()).is_ok());
        assert!(places.by_peer.lock().unwrap().is_empty());
    }

    #[test]
    fn one_ipv6_prefix_is_one_peer_and_all_together_are_bounded() {
        let places = places();
        let take = |text: &str| places.take(text.parse().unwrap());
        let held: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(take).into();
        assert!(take("2001:db8::3").is_err());
        let more: Vec<_> = ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1"].map(take).into();
        assert!(held.iter().chain(&more).all(Result::is_ok));
        assert!(take("2001:db8:4::1").is_err());
    }
}
