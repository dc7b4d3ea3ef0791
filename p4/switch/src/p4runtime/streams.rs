//! Outgoing messages of open streams: bounded queues that no sender ever waits for.
//!
//! Packets, digests and other news go through one queue per stream; if the client does not read, messages that do not
//! fit are dropped and counted. Arbitration updates have a separate queue that goes first; a client that lets that one
//! fill up is disconnected, because it would act on outdated information about the primary.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use fabric_identity::Liveness;
use p4runtime_proto::p4::v1::StreamMessageResponse;
use p4runtime_proto::p4::v1::stream_message_response::Update;
use tokio::sync::mpsc;
use tonic::Status;

use super::session::StreamId;

/// Most packets and other news that wait per stream: some tens of milliseconds of packet-ins, or at most 10 MB of jumbo
/// frames.
pub const NEWS_QUEUE: usize = 1024;

/// Most arbitration updates that wait per stream; every change of primary is one.
pub const ARBITRATION_QUEUE: usize = 64;

type Message = Result<StreamMessageResponse, Status>;

struct Sender {
    arbitration: mpsc::Sender<Message>,
    news: mpsc::Sender<Message>,
    peer: Liveness,
}

/// Packets and digests on their way to controllers.
#[derive(Debug, Default)]
pub struct PuntCounters {
    /// Messages that the data plane sent.
    pub queued: AtomicU64,
    /// Messages that were lost because a queue was full (its reader was too slow) or there was no
    /// reader.
    pub lost: AtomicU64,
}

impl PuntCounters {
    /// Counts lost ones.
    pub fn lose(&self, lost: u64) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }
}

/// All open streams.
#[derive(Default)]
pub struct Streams {
    senders: Mutex<HashMap<StreamId, Sender>>,
    next: AtomicU64,
    punted: Arc<PuntCounters>,
}

/// The receiving side of one stream, as gRPC polls it.
pub struct Outgoing {
    arbitration: mpsc::Receiver<Message>,
    news: mpsc::Receiver<Message>,
    ended: bool,
}

/// Packets or digests in a message.
fn punts(message: &Message) -> u64 {
    let update = message.as_ref().ok().and_then(|m| m.update.as_ref());
    match update {
        Some(Update::Packet(_)) => 1,
        Some(Update::Digest(list)) => list.data.len() as u64,
        _ => 0,
    }
}

impl Streams {
    /// No open streams; losses are counted here.
    pub fn new(punted: Arc<PuntCounters>) -> Self {
        Self {
            punted,
            ..Self::default()
        }
    }

    /// Opens the queues of a new stream of a peer.
    pub fn open(&self, peer: Liveness) -> (StreamId, Outgoing) {
        let id = StreamId(self.next.fetch_add(1, Ordering::Relaxed));
        let (arbitration_tx, arbitration) = mpsc::channel(ARBITRATION_QUEUE);
        let (news_tx, news) = mpsc::channel(NEWS_QUEUE);
        self.lock().insert(
            id,
            Sender {
                arbitration: arbitration_tx,
                news: news_tx,
                peer,
            },
        );
        (
            id,
            Outgoing {
                arbitration,
                news,
                ended: false,
            },
        )
    }

    /// Open streams whose connections have ended, but whose tasks have not noticed yet.
    pub fn orphans(&self) -> Vec<StreamId> {
        let orphan = |(id, sender): (&StreamId, &Sender)| sender.peer.ended().then_some(*id);
        self.lock().iter().filter_map(orphan).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StreamId, Sender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an arbitration update; false if the stream must be closed because it does not read.
    pub fn arbitrate(&self, id: StreamId, update: Update) -> bool {
        let message = Ok(StreamMessageResponse { update: Some(update) });
        self.lock()
            .get(&id)
            .is_none_or(|sender| sender.arbitration.try_send(message).is_ok())
    }

    /// Queues a message, or drops and counts it if the queue is full.
    pub fn tell(&self, id: StreamId, update: Update) {
        let message = Ok(StreamMessageResponse { update: Some(update) });
        if let Some(sender) = self.lock().get(&id)
            && let Err(mpsc::error::TrySendError::Full(message)) = sender.news.try_send(message)
        {
            self.punted.lose(punts(&message));
        }
    }

    /// Ends a stream with a status, after the queued messages.
    pub fn end(&self, id: StreamId, status: Option<Status>) {
        if let (Some(sender), Some(status)) = (self.lock().remove(&id), status) {
            // If even this does not fit, the closed queues end the stream without a reason.
            let _ = sender.arbitration.try_send(Err(status));
        }
    }

    /// Counts packets or digests that no stream gets.
    pub fn lose(&self, punts: u64) {
        self.punted.lose(punts);
    }
}

impl tokio_stream::Stream for Outgoing {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let arbitration = self.arbitration.poll_recv(context);
        if let Poll::Ready(Some(message)) = arbitration {
            self.ended = message.is_err();
            return Poll::Ready(Some(message));
        }
        match (self.news.poll_recv(context), arbitration) {
            (Poll::Ready(Some(message)), _) => Poll::Ready(Some(message)),
            (Poll::Ready(None), Poll::Ready(None)) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p4runtime_proto::p4::v1::{MasterArbitrationUpdate, PacketIn};
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_a_bounded_queue() {
        let streams = Streams::default();
        let (id, mut outgoing) = streams.open(Liveness::default());
        for _ in 0..NEWS_QUEUE + 5 {
            streams.tell(id, Update::Packet(PacketIn::default()));
        }
        assert_eq!(streams.punted.lost.load(Ordering::Relaxed), 5);
        assert!(streams.arbitrate(id, Update::Arbitration(MasterArbitrationUpdate::default())));
        let first = outgoing.next().await.unwrap().unwrap();
        assert!(
            matches!(first.update, Some(Update::Arbitration(_))),
            "arbitration goes first"
        );
        for _ in 0..ARBITRATION_QUEUE {
            assert!(streams.arbitrate(id, Update::Arbitration(MasterArbitrationUpdate::default())));
        }
        assert!(!streams.arbitrate(id, Update::Arbitration(MasterArbitrationUpdate::default())));
    }

    #[tokio::test]
    async fn a_stream_without_its_connection_is_an_orphan_until_it_is_ended() {
        let streams = Streams::default();
        let (ending, staying) = (Liveness::default(), Liveness::default());
        let (orphan, _outgoing) = streams.open(ending.clone());
        let (_, _other) = streams.open(staying);
        assert_eq!(streams.orphans(), []);
        ending.end();
        assert_eq!(streams.orphans(), [orphan]);
        streams.end(orphan, None);
        assert_eq!(streams.orphans(), []);
    }

    #[tokio::test]
    async fn an_ended_stream_tells_why() {
        let streams = Streams::default();
        let (id, mut outgoing) = streams.open(Liveness::default());
        streams.end(id, Some(Status::not_found("x")));
        assert_eq!(
            outgoing.next().await.unwrap().unwrap_err().code(),
            tonic::Code::NotFound
        );
        assert!(outgoing.next().await.is_none());
    }
}
