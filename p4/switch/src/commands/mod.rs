//! The commands of bmv2's `simple_switch_CLI`, which scripts send to a switch on its Thrift port.
//!
//! # Model
//! The switch takes lines of text on that port, on the loopback address only, and runs each as P4Runtime would
//! ([`run`]): names are looked up in the P4Info, and the server checks every update. The program under the name
//! `simple_switch_CLI` is [`client`]. The protocol on the port is our own, not Thrift (ADR switch-5): each line gets
//! one reply, which is a line with a number of octets, followed by these octets.
//!
//! # Invariants
//! - Anyone who reaches the port may change the switch, as on bmv2; unlike on bmv2, only this host can reach it. Clients
//!   go to the audit log, since no certificate says who they are.
//! - Lines, connections and what is remembered between commands are bounded.

mod arrays;
pub mod client;
mod pre;
mod run;
mod value;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fabric_identity::Notices;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::device::Dataplane;
use crate::p4runtime::server::Server;

/// Octets of one command: the longest have a few hundred.
const MAX_LINE: u64 = 64 << 10;
/// Connections at a time. Scripts use one.
const MAX_CONNECTIONS: usize = 16;
/// A client that is silent for this long is disconnected. People type slowly.
const IDLE: Duration = Duration::from_secs(3600);

/// The port for commands, and the objects besides P4Runtime's state that they change.
pub struct Commands {
    /// The port.
    pub listener: TcpListener,
    /// Queues and ports.
    pub plane: Arc<Dataplane>,
}

impl Commands {
    /// Serves for ever.
    pub async fn serve(self, server: Arc<Server>) {
        let session = Arc::new(Mutex::new(run::Session::new(server, self.plane)));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let notices = Notices::default();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let what = "a program on this host uses the commands' port, and may change the switch";
                    if let Some(left_out) = notices.due(peer.ip(), what) {
                        tracing::warn!(target: "audit", %peer, left_out, "{what}");
                    }
                    let session = Arc::clone(&session);
                    tokio::spawn(async move {
                        if let Err(error) = connection(stream, session).await {
                            tracing::debug!(%error, "a client of the commands is gone");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the commands cannot connect");
                    // Usually, the process has no descriptors left.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(mut stream: TcpStream, session: Arc<Mutex<run::Session>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(MAX_LINE);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        if read?? == 0 {
            return Ok(());
        }
        // Thrift starts with the length of a frame, or a version; neither is text.
        let text = match std::str::from_utf8(&line) {
            Ok(text) if line.ends_with(b"\n") && !text.contains('\0') => text.trim().to_owned(),
            _ => {
                tracing::warn!("the Thrift port takes the commands of simple_switch_CLI as text, not Thrift");
                return Ok(());
            }
        };
        let session = Arc::clone(&session);
        let ran = tokio::task::spawn_blocking(move || {
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.run(&text)
        });
        let reply = ran.await.map_err(std::io::Error::other)?;
        writer.write_all(format!("{}\n", reply.len()).as_bytes()).await?;
        writer.write_all(reply.as_bytes()).await?;
    }
}
