//! One session with one switch: channel, arbitration, stream, heartbeat.
//!
//! A [`Session`] lives as long as its stream. It does not reconnect: when it reports [`Standing::Closed`], or a
//! call fails with a transient error, the owner drops it, waits and opens another. An election id is never changed
//! on an open stream (bmv2 crashes): a new session is a new stream.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fabric_identity::Dialer;
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::{
    google::rpc::Code,
    p4::v1::{self as p4, stream_message_request::Update as Request, stream_message_response::Update as Response},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint};

use crate::{
    error::{Error, Result, chain, code},
    target::Target,
};

/// Room for messages that wait to be sent; packet-outs come in small bursts.
const OUTGOING: usize = 256;
/// Room for messages that wait to be handled. When the queue is full, packets and digests are dropped and counted, as
/// on any other full queue.
const INCOMING: usize = 1024;
/// Largest message accepted: bmv2 replies to a Read with one unpaged message.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// Largest header block accepted: a failed Write brings an error per update,
/// about 100 bytes each, in base64.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// How often a quiet switch is asked for a sign of life. gRPC's own pings are
/// no alternative: C++ servers disconnect clients that ping more often than every
/// five minutes.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Kernel keepalive, for a peer that vanished while nothing is being sent.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// The client with the largest election id is primary (P4Runtime 1.4, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElectionId(pub u128);

impl ElectionId {
    fn to_proto(self) -> p4::Uint128 {
        p4::Uint128 {
            high: (self.0 >> 64) as u64,
            low: self.0 as u64,
        }
    }

    fn from_proto(id: &p4::Uint128) -> Self {
        Self(u128::from(id.high) << 64 | u128::from(id.low))
    }
}

impl fmt::Display for ElectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How to reach a switch, and with which identity.
#[derive(Debug, Clone)]
pub struct Options {
    /// `IP:PORT` or `NAME:PORT`.
    pub address: String,
    /// Mutual TLS with the expected switch; `None` is plaintext.
    pub tls: Option<Dialer>,
    /// The switch's device id.
    pub device_id: u64,
    /// Name of the role; empty is the full role.
    pub role: String,
    /// Our bid.
    pub election_id: ElectionId,
    /// For connecting, arbitration and small calls.
    pub timeout: Duration,
    /// For Reads, Writes and pipelines, which grow with the tables.
    pub bulk_timeout: Duration,
}

/// Default of [`Options::timeout`]: long enough for three lost SYNs.
pub const TIMEOUT: Duration = Duration::from_secs(7);
/// Default of [`Options::bulk_timeout`]: a full read-back of a slow target.
pub const BULK_TIMEOUT: Duration = Duration::from_secs(60);

impl Options {
    /// Plaintext, full role, default timeouts.
    #[must_use]
    pub fn new(address: impl Into<String>, device_id: u64, election_id: ElectionId) -> Self {
        Self {
            address: address.into(),
            tls: None,
            device_id,
            role: String::new(),
            election_id,
            timeout: TIMEOUT,
            bulk_timeout: BULK_TIMEOUT,
        }
    }
}

/// Opens the gRPC channel to a switch; P4Runtime and gNMI can share it.
///
/// # Errors
/// [`Error::Config`] for an unusable address, [`Error::Connect`] and [`Error::Timeout`] when nobody replies, the
/// handshake fails or another switch replies.
pub async fn open_channel(address: &str, tls: Option<&Dialer>, connect_timeout: Duration) -> Result<Channel> {
    let config = |what: &'static str| {
        move |error: tonic::transport::Error| Error::Config {
            what,
            problem: chain(&error),
        }
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(config("switch address"))?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .http2_max_header_list_size(MAX_HEADER_BYTES);
    let connect = async {
        match tls {
            Some(dialer) => dialer.channel(&endpoint, address).await,
            None => endpoint.connect().await,
        }
    };
    let connect = timeout(connect_timeout, connect).await;
    connect
        .map_err(|_| Error::Timeout {
            what: "connect",
            after: connect_timeout,
        })?
        .map_err(|error| Error::Connect {
            address: address.to_owned(),
            problem: chain(&error),
        })
}

/// Our position in the election, or the end of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// We may write.
    Primary,
    /// We may only read.
    Backup {
        /// Who may write, if the switch says so.
        primary: Option<ElectionId>,
    },
    /// Nobody may write: the primary is gone, and the switch still remembers its election id.
    Vacant {
        /// The election id that a bid must exceed, if the switch says so (specification, section 5.3).
        highest: Option<ElectionId>,
    },
    /// The stream ended, for this reason.
    Closed(String),
}

/// What a session reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Our standing changed.
    Standing(Standing),
    /// A packet from the pipeline.
    PacketIn(p4::PacketIn),
    /// Learnt messages; acknowledge with [`Session::ack_digest`].
    Digest(p4::DigestList),
    /// Entries that no packet has hit for their idle time. Some servers report an entry again.
    IdleTimeout(p4::IdleTimeoutNotification),
    /// A stream message of ours was refused.
    Refused(p4::StreamError),
}

/// An open session. Calls take `&self` and may run at the same time.
#[derive(Debug)]
pub struct Session {
    pub(crate) client: P4RuntimeClient<Channel>,
    pub(crate) options: Options,
    pub(crate) target: Target,
    channel: Channel,
    outgoing: mpsc::Sender<p4::StreamMessageRequest>,
    events: mpsc::Receiver<Event>,
    packets: mpsc::Receiver<p4::PacketIn>,
    standing: watch::Receiver<Standing>,
    dropped: Arc<AtomicU64>,
    tasks: [JoinHandle<()>; 2],
}

impl Session {
    /// Connects and takes part in the election. Returns once the switch has said
    /// which client is primary; it may be another one.
    ///
    /// # Errors
    /// As [`open_channel`], and [`Error::Rpc`] when the switch refuses the
    /// session (`INVALID_ARGUMENT`: the election id is in use).
    pub async fn open(options: Options) -> Result<Self> {
        let channel = open_channel(&options.address, options.tls.as_ref(), options.timeout).await?;
        let client = P4RuntimeClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let target = ask_version(&client, &options).await?;
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let (sender, events) = mpsc::channel(INCOMING);
        let (packet_sender, packets) = mpsc::channel(INCOMING);
        let (standing, watcher) = watch::channel(Standing::Backup { primary: None });
        let dropped = Arc::new(AtomicU64::new(0));
        // The bid must be under way before the call returns: servers answer the
        // call itself only together with the first message.
        let bid = p4::StreamMessageRequest {
            update: Some(Request::Arbitration(p4::MasterArbitrationUpdate {
                device_id: options.device_id,
                role: (!options.role.is_empty()).then(|| p4::Role {
                    name: options.role.clone(),
                    ..Default::default()
                }),
                election_id: Some(options.election_id.to_proto()),
                status: None,
            })),
        };
        outgoing.try_send(bid).map_err(|e| Error::Closed(e.to_string()))?;
        let opening = async {
            let mut stream = client
                .clone()
                .stream_channel(ReceiverStream::new(requests))
                .await?
                .into_inner();
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = limit("arbitration", options.timeout, opening).await?;
        let first = first.and_then(|m| m.update);
        let Some(Response::Arbitration(first)) = first else {
            let problem = format!("first message is {first:?}");
            return Err(Error::malformed("arbitration", problem));
        };
        standing.send_replace(judge(&first, options.election_id));
        let closer = standing.clone();
        let reader = Reader {
            events: sender,
            packets: packet_sender,
            standing,
            dropped: Arc::clone(&dropped),
            election_id: options.election_id,
        };
        let tasks = [
            tokio::spawn(reader.run(stream)),
            tokio::spawn(heartbeat(client.clone(), options.clone(), closer)),
        ];
        Ok(Self {
            client,
            options,
            target,
            channel,
            outgoing,
            events,
            packets,
            standing: watcher,
            dropped,
            tasks,
        })
    }

    /// Where we stand now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What the switch can do.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// The channel, for other services of the same switch.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Packets and digests dropped because events were not fetched in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The next event; a change of standing comes before waiting packets. Cancel safe.
    /// After [`Standing::Closed`] it never resolves again.
    pub async fn next_event(&mut self) -> Event {
        tokio::select! {
            biased;
            Ok(()) = self.standing.changed() => {
                Event::Standing(self.standing.borrow_and_update().clone())
            }
            Some(event) = self.events.recv() => event,
            Some(packet) = self.packets.recv() => Event::PacketIn(packet),
            else => std::future::pending().await,
        }
    }

    /// Packets from the pipeline, for a separate task; from then on [`Session::next_event`] does not return them.
    /// Closed when the session is over.
    pub fn take_packets(&mut self) -> mpsc::Receiver<p4::PacketIn> {
        // A queue without a sender: it stays empty.
        std::mem::replace(&mut self.packets, mpsc::channel(1).1)
    }

    /// Sends packets from another task.
    #[must_use]
    pub fn packet_sender(&self) -> PacketSender {
        PacketSender(self.outgoing.clone())
    }

    /// Sends a packet; [`crate::packet`] builds it. There is no confirmation:
    /// a refusal may come as [`Event::Refused`].
    ///
    /// # Errors
    /// [`Error::Closed`] when the session is over, [`Error::Timeout`] when the
    /// switch does not read its stream.
    pub async fn packet_out(&self, packet: p4::PacketOut) -> Result<()> {
        self.send(Request::Packet(packet)).await
    }

    /// Acknowledges a digest list.
    ///
    /// # Errors
    /// As [`Session::packet_out`].
    pub async fn ack_digest(&self, digest_id: u32, list_id: u64) -> Result<()> {
        let ack = p4::DigestListAck { digest_id, list_id };
        self.send(Request::DigestAck(ack)).await
    }

    async fn send(&self, update: Request) -> Result<()> {
        let message = p4::StreamMessageRequest { update: Some(update) };
        let after = self.options.timeout;
        match timeout(after, self.outgoing.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed("the stream has ended".into())),
            Err(_) => Err(Error::Timeout { what: "stream", after }),
        }
    }

    /// Election id as calls carry it.
    pub(crate) fn election_id(&self) -> Option<p4::Uint128> {
        Some(self.options.election_id.to_proto())
    }
}

/// Sends packets independently of the session's calls.
#[derive(Debug, Clone)]
pub struct PacketSender(mpsc::Sender<p4::StreamMessageRequest>);

impl PacketSender {
    /// Sends a packet; false when the session is over or does not keep up.
    #[must_use]
    pub fn send(&self, packet: p4::PacketOut) -> bool {
        let update = Some(Request::Packet(packet));
        self.0.try_send(p4::StreamMessageRequest { update }).is_ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Runs a call with a limit of time.
pub(crate) async fn limit<T>(
    what: &'static str,
    after: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T> {
    match timeout(after, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(Error::rpc(what, status)),
        Err(_) => Err(Error::Timeout { what, after }),
    }
}

async fn ask_version(client: &P4RuntimeClient<Channel>, options: &Options) -> Result<Target> {
    let mut client = client.clone();
    let request = p4::CapabilitiesRequest {
        device_id: options.device_id,
    };
    match limit("capabilities", options.timeout, client.capabilities(request)).await {
        Ok(answer) => Ok(Target::from_version(&answer.into_inner().p4runtime_api_version)),
        Err(error) if alive(&error) => Ok(Target::CAUTIOUS),
        Err(error) => Err(error),
    }
}

/// Whether an error proves that the switch is alive, because it is the switch's own refusal.
fn alive(error: &Error) -> bool {
    use tonic::Code::{FailedPrecondition, InvalidArgument, NotFound, Unimplemented};
    matches!(
        error.code(),
        Some(Unimplemented | FailedPrecondition | NotFound | InvalidArgument)
    )
}

/// Asks for signs of life until one fails to arrive.
async fn heartbeat(client: P4RuntimeClient<Channel>, options: Options, standing: watch::Sender<Standing>) {
    let mut clock = interval(HEARTBEAT);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    loop {
        clock.tick().await;
        if let Err(error) = ask_version(&client, &options).await {
            standing.send_replace(Standing::Closed(format!("no sign of life: {error}")));
            return;
        }
    }
}

/// Our standing according to an arbitration message.
fn judge(update: &p4::MasterArbitrationUpdate, ours: ElectionId) -> Standing {
    let highest = update.election_id.as_ref().map(ElectionId::from_proto);
    match update.status.as_ref().map_or(Code::Ok, |s| code(s.code)) {
        // Some servers leave the status out: then the ids decide.
        Code::Ok if highest.is_none_or(|id| id == ours) => Standing::Primary,
        Code::NotFound => Standing::Vacant { highest },
        _ => Standing::Backup { primary: highest },
    }
}

/// Reads the stream until it ends.
struct Reader {
    events: mpsc::Sender<Event>,
    packets: mpsc::Sender<p4::PacketIn>,
    standing: watch::Sender<Standing>,
    dropped: Arc<AtomicU64>,
    election_id: ElectionId,
}

impl Reader {
    async fn run(self, mut stream: tonic::Streaming<p4::StreamMessageResponse>) {
        let why = loop {
            match stream.next().await {
                Some(Ok(message)) => self.handle(message),
                Some(Err(status)) => break format!("{} ({:?})", status.message(), status.code()),
                None => break "the switch ended the stream".to_owned(),
            }
        };
        self.standing.send_replace(Standing::Closed(why));
    }

    fn handle(&self, message: p4::StreamMessageResponse) {
        let event = match message.update {
            Some(Response::Arbitration(update)) => {
                let now = judge(&update, self.election_id);
                self.standing.send_if_modified(|standing| {
                    let changed = *standing != now && !matches!(standing, Standing::Closed(_));
                    if changed {
                        *standing = now;
                    }
                    changed
                });
                return;
            }
            Some(Response::Packet(packet)) => {
                if self.packets.try_send(packet).is_err() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            Some(Response::Digest(list)) => Event::Digest(list),
            Some(Response::IdleTimeoutNotification(note)) => Event::IdleTimeout(note),
            Some(Response::Error(error)) => Event::Refused(error),
            Some(Response::Other(_)) | None => return,
        };
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
