//! The task that keeps an interface supplied with an address: sockets, timers and a lease file around [`Machine`].

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::error::DhcpError;
use crate::frame::{self, SERVER_PORT};
use crate::interface::{Frames, Interface};
use crate::machine::{Action, Listen, Machine};
use crate::memory::{remember, remembered, since_1970};
use crate::message::{Identity, Lease};

/// Largest datagram that is read: a whole Ethernet frame.
const DATAGRAM: usize = 1500;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the interface.
    pub interface: String,
    /// Model of the machine.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The file that keeps the lease across restarts.
    pub memory: PathBuf,
}

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
            ear: Ear::Nowhere,
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

enum Ear {
    Nowhere,
    Frames(Frames),
    Datagrams(UdpSocket, Ipv4Addr),
}

impl Ear {
    fn fits(&self, listen: Listen) -> bool {
        match (self, listen) {
            (Self::Nowhere, Listen::Nowhere) | (Self::Frames(_), Listen::Frames) => true,
            (Self::Datagrams(_, here), Listen::Datagrams(there)) => *here == there,
            _ => false,
        }
    }

    fn open(listen: Listen, interface: &Interface) -> io::Result<Self> {
        Ok(match listen {
            Listen::Nowhere => Self::Nowhere,
            Listen::Frames => Self::Frames(interface.frames()?),
            Listen::Datagrams(own) => Self::Datagrams(interface.datagrams(own)?, own),
        })
    }

    async fn hear(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Nowhere => std::future::pending().await,
            Self::Frames(frames) => frames.receive().await,
            Self::Datagrams(socket, _) => {
                let mut octets = vec![0; DATAGRAM];
                let (length, _) = socket.recv_from(&mut octets).await?;
                octets.truncate(length);
                Ok(octets)
            }
        }
    }
}

struct Task {
    interface: Interface,
    machine: Machine,
    began: Instant,
    ear: Ear,
    /// Whether its socket failed: it is opened again when the next message is due.
    is_deaf: bool,
    memory: PathBuf,
    publish: watch::Sender<Option<Lease>>,
    again: Arc<Notify>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let due = self.began + self.machine.due();
            let actions = tokio::select! {
                heard = self.ear.hear() => match heard {
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
            self.listen();
            for action in actions {
                self.act(action).await;
            }
        }
    }

    fn deaf(&mut self, error: &io::Error) {
        if !self.is_deaf {
            tracing::warn!(%error, "DHCP cannot use its interface; trying again");
        }
        (self.ear, self.is_deaf) = (Ear::Nowhere, true);
    }

    /// Opens the socket that the machine's state needs, and closes others.
    fn listen(&mut self) {
        let listen = self.machine.listen();
        if self.is_deaf || self.ear.fits(listen) {
            return;
        }
        match Ear::open(listen, &self.interface) {
            Ok(ear) => self.ear = ear,
            Err(error) => self.deaf(&error),
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Broadcast(from, request) => {
                let Ear::Frames(frames) = &self.ear else { return };
                let sent = frames
                    .send(&frame::broadcast(self.interface.mac(), from, &request))
                    .await;
                // The state machine sends the request again later.
                sent.unwrap_or_else(|error| tracing::debug!(%error, "a DHCP request cannot be sent"));
            }
            Action::Send(server, request) => {
                let Ear::Datagrams(socket, _) = &self.ear else { return };
                let sent = socket.send_to(&request, SocketAddrV4::new(server, SERVER_PORT)).await;
                sent.map_or_else(|error| tracing::debug!(%error, "a DHCP request cannot be sent"), |_| ());
            }
            Action::Use(lease, left) => self.take(lease, left).await,
            Action::Lose(address) => {
                tracing::warn!(%address, "the lease of the address has ended");
                if let Err(error) = self.interface.lose(address.into()).await {
                    tracing::warn!(%error, source = std::error::Error::source(&error), "DHCP");
                }
                // An address that is not there needs no removal.
                let _ = std::fs::remove_file(&self.memory);
                self.publish.send_replace(None);
            }
        }
    }

    async fn take(&mut self, lease: Lease, left: Duration) {
        if let Err(error) = self.interface.take(&lease, left).await {
            // It is tried again with the next acknowledgement.
            tracing::error!(%error, source = std::error::Error::source(&error), address = %lease.address, "DHCP");
            return;
        }
        if let Err(error) = remember(&self.memory, &lease, lease.seconds, left) {
            tracing::warn!(path = %self.memory.display(), %error, "the lease is not kept over a restart");
        }
        let before = self.publish.send_replace(Some(lease.clone()));
        if before.is_none_or(|before| before != lease) {
            let bootz = lease.bootz.join(" ");
            tracing::info!(address = %lease.address, prefix = lease.prefix, server = %lease.server, seconds = left.as_secs(), bootz,
                "leased");
        }
    }
}
