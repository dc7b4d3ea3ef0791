//! The task that keeps an IPv6 address on an interface: socket, timers and a lease file around [`Machine`].

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::machine::{Action, Machine};
use super::message::Lease;
use crate::client::Settings;
use crate::error::DhcpError;
use crate::interface::Interface;
use crate::memory::{remember, remembered, since_1970};
use crate::message::Identity;

/// Largest datagram that is read: a whole Ethernet frame.
const DATAGRAM: usize = 1500;
/// All servers and relays of the link (RFC 8415, section 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// UDP ports of clients and of servers (RFC 8415, section 7.2).
pub(crate) const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// A running client. It stops when it is dropped; the address stays on the interface until its lease ends.
pub struct Client {
    leases: watch::Receiver<Option<Lease>>,
    again: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such interface, or this process may not change it.
    pub async fn start(settings: Settings) -> Result<Self, DhcpError> {
        let interface = Interface::open(&settings.interface).await?;
        let remembered = remembered(&settings.memory, since_1970());
        let who = Identity {
            mac: interface.mac(),
            model: settings.model,
            serial: settings.serial,
        };
        let (publish, leases) = watch::channel(None);
        let again = Arc::new(Notify::new());
        let task = Task {
            interface,
            machine: Machine::new(who, remembered, Duration::ZERO),
            began: Instant::now(),
            socket: None,
            is_deaf: false,
            memory: settings.memory,
            publish,
            again: Arc::clone(&again),
        };
        let task = tokio::spawn(task.run());
        Ok(Self { leases, again, task })
    }

    /// The lease that is in force, as soon as there is one.
    pub async fn lease(&mut self) -> Lease {
        loop {
            if let Some(lease) = self.leases.borrow_and_update().clone() {
                return lease;
            }
            // The task ends only when this value is dropped.
            if self.leases.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The lease that is in force now; none while there is none.
    pub fn current(&self) -> Option<Lease> {
        self.leases.borrow().clone()
    }

    /// Asks the server for fresh options.
    pub fn ask_again(&self) {
        self.again.notify_one();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    interface: Interface,
    machine: Machine,
    began: Instant,
    socket: Option<UdpSocket>,
    /// Whether the socket failed: it is opened again when the next message is due.
    is_deaf: bool,
    memory: PathBuf,
    publish: watch::Sender<Option<Lease>>,
    again: Arc<Notify>,
}

/// The next datagram. Without a socket, this never returns.
async fn hear(socket: Option<&UdpSocket>) -> io::Result<Vec<u8>> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    let mut octets = vec![0; DATAGRAM];
    let (length, _) = socket.recv_from(&mut octets).await?;
    octets.truncate(length);
    Ok(octets)
}

impl Task {
    async fn run(mut self) {
        loop {
            let due = self.began + self.machine.due();
            let actions = tokio::select! {
                heard = hear(self.socket.as_ref()) => match heard {
                    Ok(octets) => self.machine.received(&octets, self.began.elapsed(), &mut rand::random),
                    Err(error) => {
                        self.deaf(&error);
                        continue;
                    }
                },
                () = self.again.notified() => {
                    self.machine.ask_again(self.began.elapsed());
                    continue;
                }
                // A machine with an endless lease has a timer in the far future.
                () = sleep_until(due) => {
                    self.is_deaf = false;
                    self.machine.timer(self.began.elapsed(), &mut rand::random)
                }
            };
            for action in actions {
                self.act(action).await;
            }
        }
    }

    fn deaf(&mut self, error: &io::Error) {
        if !self.is_deaf {
            tracing::warn!(%error, "DHCPv6 cannot use its interface; trying again");
        }
        (self.socket, self.is_deaf) = (None, true);
    }

    /// Sends to all servers of the link. Until the link-local address is ready, the kernel refuses; the message is sent again later.
    async fn send(&mut self, request: &[u8]) {
        if self.socket.is_none() {
            match self.interface.datagrams6(CLIENT_PORT) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => return self.deaf(&error),
            }
        }
        let Some(socket) = &self.socket else { return };
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.interface.index());
        let sent = socket.send_to(request, to).await;
        sent.map_or_else(
            |error| tracing::debug!(%error, "a DHCPv6 request cannot be sent"),
            |_| (),
        );
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Send(request) => self.send(&request).await,
            Action::Use(lease, left) => self.take(lease, left).await,
            Action::Lose(address) => {
                tracing::warn!(%address, "the lease of the address has ended");
                if let Err(error) = self.interface.lose(address.into()).await {
                    tracing::warn!(%error, source = std::error::Error::source(&error), "DHCPv6");
                }
                // An address that is not there needs no removal.
                let _ = std::fs::remove_file(&self.memory);
                self.publish.send_replace(None);
            }
        }
    }

    async fn take(&mut self, lease: Lease, left: Duration) {
        if let Err(error) = self.interface.take6(lease.address, left).await {
            // It is tried again with the next reply.
            tracing::error!(%error, source = std::error::Error::source(&error), address = %lease.address, "DHCPv6");
            return;
        }
        if let Err(error) = remember(&self.memory, &lease, lease.seconds, left) {
            tracing::warn!(path = %self.memory.display(), %error, "the lease is not kept over a restart");
        }
        let before = self.publish.send_replace(Some(lease.clone()));
        if before.is_none_or(|before| before != lease) {
            let bootz = lease.bootz.join(" ");
            tracing::info!(address = %lease.address, seconds = left.as_secs(), bootz, "leased");
        }
    }
}
