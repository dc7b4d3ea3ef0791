//! Hosts: the server that VTEP agents dial into, and the driver of each host.
//!
//! [`VtepServer`] accepts streams over mutual TLS, checks the caller's identity and hands the stream to the host's
//! [`VtepDriver`], whose `connect` waits for it. A later stream of the same host replaces an earlier one (the agent
//! came back before the old connection timed out); the driver of the earlier one gets a disconnect.

mod below;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fabric_identity::{ClientCertificates, Credentials, Listener, Notices, Peer, Subject, Validity};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vtep_proto::v1::vtep_controller_server::{VtepController, VtepControllerServer};
use vtep_proto::v1::{self, agent_message, controller_message, report};
use vtep_proto::{HostEntity, HostKey, MAX_OBJECTS_PER_MESSAGE, Mode};

use super::ports::clocks_differ;
use crate::device::driver::{
    Batch, Driver, DriverError, EntityError, Event, Limits, Loss, Losses, Part, Warning, Write, WriteResult,
};
use crate::entity::{Entity, EntityKey};
pub use below::{Ask, Below, Spot};

/// Longest time for an agent to send its `Hello` after its stream has begun.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for an agent to reply: applying a full batch of attachments takes a few
/// seconds, deleting links in a busy kernel may take longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval and timeout of HTTP/2 pings: an agent that vanishes silently is noticed after both have passed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Streams of one connection. An agent has one, and one for each request of a pod: at most 256 of these are under way.
const MAX_STREAMS: u32 = 512;
/// An agent has one stream; a host behind an address that others share, some more.
const LIMITS: fabric_identity::Limits = fabric_identity::Limits {
    per_peer: 256,
    ..fabric_identity::Limits::GRPC
};
/// Messages that wait to be sent to an agent; one is under way at a time.
const OUTGOING: usize = 4;
/// Events that may wait for the actor. An agent that reports more while a batch is under way is
/// disconnected; the read-back after its reconnect shows everything.
const MAX_EVENTS: usize = 10_000;

/// The server that agents dial into.
#[derive(Clone, Default)]
pub struct VtepServer {
    hosts: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
    notices: Arc<Notices>,
    /// Carries out the requests of hosts.
    below: Arc<OnceLock<Arc<dyn Below>>>,
    /// Services for machines that may have no certificate yet.
    for_newcomers: Arc<OnceLock<Routes>>,
    /// Identity of this run of the controller.
    instance: [u8; 16],
}

/// The place in which a host's stream waits for its driver.
#[derive(Default)]
struct Slot {
    waiting: Mutex<Option<Session>>,
    arrived: Notify,
    /// Ends the stream that is being replaced.
    current: Mutex<CancellationToken>,
}

/// The stream of a host.
struct Session {
    hello: v1::Hello,
    incoming: Streaming<v1::AgentMessage>,
    out: mpsc::Sender<Result<v1::ControllerMessage, Status>>,
    replaced: CancellationToken,
    certificate: Option<Validity>,
    /// The difference between its clock and ours, if it is large enough for a warning.
    clock: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code that holds one of these locks can panic in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VtepServer {
    /// A server that no host may dial into yet.
    pub fn new() -> Self {
        Self {
            hosts: Arc::default(),
            notices: Arc::default(),
            below: Arc::default(),
            for_newcomers: Arc::default(),
            instance: rand::random(),
        }
    }

    /// The driver of a host, whose agent may connect from now on. Call it once for each host, until the host is removed.
    pub fn driver(&self, host: &str) -> VtepDriver {
        let slot = locked(&self.hosts).entry(host.to_owned()).or_default().clone();
        VtepDriver {
            host: host.to_owned(),
            slot,
            session: None,
            instance: self.instance,
            store: 0,
            number: 0,
            reading: None,
            events: VecDeque::new(),
        }
    }

    /// Sets the part that carries out the requests of hosts; until then such calls are refused as unavailable.
    pub fn serve_below(&self, below: Arc<dyn Below>) {
        // The first call counts; there is only one.
        let _ = self.below.set(below);
    }

    /// Sets further services, which also serve peers without a certificate. Later calls of [`VtepServer::serve`] use
    /// them.
    pub fn serve_newcomers(&self, services: Routes) {
        // The first call counts; there is only one.
        let _ = self.for_newcomers.set(services);
    }

    /// Forbids a host to dial in, and ends its stream.
    pub fn remove(&self, host: &str) {
        if let Some(slot) = locked(&self.hosts).remove(host) {
            locked(&slot.current).cancel();
        }
    }

    /// Serves until `shutdown` resolves.
    ///
    /// # Errors
    /// When TLS cannot be set up or the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        credentials: &Arc<Credentials>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let newcomers = self.for_newcomers.get().cloned();
        let clients = match newcomers {
            Some(_) => ClientCertificates::Welcome,
            None => ClientCertificates::Required,
        };
        let listener = Listener::tls(listener, "agents", LIMITS, credentials, clients)?;
        Server::builder()
            .layer(fabric_identity::TakenLayer)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .add_routes(
                newcomers
                    .unwrap_or_default()
                    .add_service(VtepControllerServer::new(self)),
            )
            .serve_with_incoming_shutdown(listener.incoming(), shutdown)
            .await?;
        Ok(())
    }
}

/// Why agents cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS cannot be set up.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// The transport failed.
    #[error("gRPC server")]
    Transport(#[from] tonic::transport::Error),
}

impl VtepServer {
    /// Logs a refusal and turns it into a status.
    fn refuse(&self, peer: Option<&Peer>, why: String) -> Status {
        if let Some(peer) = peer
            && let Some(left_out) = self.notices.due(peer.address.ip(), &why)
        {
            tracing::warn!(target: "audit", %peer, why, left_out, "agent refused");
        }
        Status::permission_denied(why)
    }

    /// The calling host. It must be in the inventory.
    fn calling_host<T>(&self, request: &Request<T>) -> Result<Name, Status> {
        let peer = request.extensions().get::<Peer>();
        let Some(Subject::Host(own)) = peer.and_then(Peer::subject) else {
            return Err(self.refuse(peer, "only hosts may ask for attachments".to_owned()));
        };
        let known = locked(&self.hosts).contains_key(own.as_str());
        let name = own.parse().ok().filter(|_| known);
        name.ok_or_else(|| Status::not_found(format!("host `{own}` is not in the inventory")))
    }

    /// The reply to a request. A forbidden one is logged.
    fn attached(
        &self,
        peer: Option<&Peer>,
        done: Result<String, ApiError>,
    ) -> Result<Response<v1::AttachReply>, Status> {
        match done {
            Ok(id) => Ok(Response::new(v1::AttachReply { id })),
            Err(e) if e.code == ErrorCode::Forbidden => Err(self.refuse(peer, e.to_string())),
            Err(e) => Err(below::status(&e)),
        }
    }

    fn below(&self) -> Result<Arc<dyn Below>, Status> {
        let below = self.below.get().cloned();
        below.ok_or_else(|| Status::unavailable("the controller is starting"))
    }
}

#[tonic::async_trait]
impl VtepController for VtepServer {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<v1::ControllerMessage, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        // Check this before reading anything: only hosts may use this service.
        let Some((peer, Subject::Host(own))) = peer.as_ref().and_then(|p| Some((p, p.subject()?))) else {
            return Err(self.refuse(peer.as_ref(), "only hosts may follow the controller".to_owned()));
        };
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        let Some(agent_message::Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message was not Hello"));
        };
        if hello.host != *own {
            return Err(self.refuse(
                Some(peer),
                format!("this is `{own}`, which cannot speak for another host"),
            ));
        }
        let host = own.clone();
        let slot = locked(&self.hosts).get(&host).cloned();
        let slot = slot.ok_or_else(|| Status::not_found(format!("host `{host}` is not in the inventory")))?;
        tracing::info!(%host, %peer, epoch = hello.epoch, version = %hello.version, "agent connected");

        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = clocks_differ(now, Duration::from_millis(hello.time_ms));
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let replaced = CancellationToken::new();
        std::mem::replace(&mut *locked(&slot.current), replaced.clone()).cancel();
        *locked(&slot.waiting) = Some(Session {
            hello,
            incoming,
            out,
            replaced,
            certificate: peer.validity,
            clock,
        });
        slot.arrived.notify_one();
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let (host, below) = (self.calling_host(&request)?, self.below()?);
        let done = below.attach(host, request.into_inner().try_into()?).await;
        self.attached(peer.as_ref(), done)
    }

    async fn swap(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let (host, below) = (self.calling_host(&request)?, self.below()?);
        let done = below.swap(host, request.into_inner().try_into()?).await;
        self.attached(peer.as_ref(), done)
    }

    async fn detach(&self, request: Request<v1::DetachRequest>) -> Result<Response<v1::DetachReply>, Status> {
        let host = self.calling_host(&request)?;
        let spot = Spot::try_from(request.into_inner())?;
        let done = self.below()?.detach(host, spot).await;
        done.map_err(|e| below::status(&e))?;
        Ok(Response::new(v1::DetachReply {}))
    }
}

/// The driver of one host.
pub struct VtepDriver {
    host: String,
    slot: Arc<Slot>,
    session: Option<Session>,
    instance: [u8; 16],
    /// The store that the agent should remember; 0 leaves it unchanged.
    store: u32,
    /// Number of the last update or read on this stream.
    number: u64,
    /// Number of the read-back under way, and when its next part must have come.
    reading: Option<(u64, Instant)>,
    events: VecDeque<Event>,
}

fn unreachable(why: impl Into<String>) -> DriverError {
    DriverError::Unreachable(why.into())
}

impl VtepDriver {
    /// The agent's report about itself, while it is connected.
    pub fn hello(&self) -> Option<&v1::Hello> {
        self.session.as_ref().map(|s| &s.hello)
    }

    async fn send(&mut self, message: controller_message::Message) -> Result<(), DriverError> {
        let session = self
            .session
            .as_ref()
            .ok_or_else(|| unreachable("the agent is not connected"))?;
        let message = v1::ControllerMessage { message: Some(message) };
        let sent = timeout(ANSWER_TIMEOUT, session.out.send(Ok(message))).await;
        sent.map_err(|_| DriverError::Timeout("the agent takes no messages".into()))?
            .map_err(|_| unreachable("the agent has closed the stream"))
    }

    /// The next message. Cancel safe.
    async fn receive(&mut self) -> Result<agent_message::Message, DriverError> {
        let session = self
            .session
            .as_mut()
            .ok_or_else(|| unreachable("the agent is not connected"))?;
        let message = tokio::select! {
            () = session.replaced.cancelled() => return Err(unreachable("the agent has reconnected")),
            message = session.incoming.message() => message,
        };
        let message = message
            .map_err(|s| unreachable(s.message()))?
            .ok_or_else(|| unreachable("the agent closed the stream"))?;
        message
            .message
            .ok_or_else(|| DriverError::Protocol("a message of an unknown kind".into()))
    }

    /// The next message. If it is late for the read-back under way, that has failed. Cancel safe.
    async fn receive_in_time(&mut self) -> Result<agent_message::Message, DriverError> {
        let Some((_, end)) = self.reading else {
            return self.receive().await;
        };
        let late = |_| DriverError::Timeout("the agent did not answer a read".into());
        timeout_at(end, self.receive()).await.map_err(late)?
    }

    /// Keeps a message that is not the reply to a call: a report, or a part of the read-back under way.
    fn keep_other(&mut self, message: agent_message::Message) -> Result<(), DriverError> {
        match (message, self.reading) {
            (agent_message::Message::Report(report), _) => self.keep(report),
            (agent_message::Message::ReadReply(reply), Some((id, _))) if reply.id == id => self.keep_part(reply),
            _ => Err(DriverError::Protocol("a reply without a request".into())),
        }
    }

    fn keep_part(&mut self, reply: v1::ReadReply) -> Result<(), DriverError> {
        self.reading = (!reply.last).then(|| (reply.id, Instant::now() + ANSWER_TIMEOUT));
        let mut part = Part {
            last: reply.last,
            ..Part::default()
        };
        for object in reply.objects {
            let wire = object.object.unwrap_or_default();
            let entity = HostEntity::try_from(&wire).map_err(|e| DriverError::Protocol(e.to_string()))?;
            // Held but not in place: the agent is working on it. It counts as held, so that it is not sent again.
            if let Some(error) = &object.error {
                part.failing.push((EntityKey::Host(entity.key()), entity_error(error)));
            }
            part.entities.push(Entity::Host(entity));
        }
        self.events.push_back(Event::Held(part));
        Ok(())
    }

    /// Waits for the reply that `pick` accepts; events and parts of a read-back that come meanwhile are kept.
    async fn answer<T>(
        &mut self,
        mut pick: impl FnMut(agent_message::Message) -> Result<Option<T>, agent_message::Message>,
    ) -> Result<T, DriverError> {
        let wait = async {
            loop {
                let message = self.receive().await?;
                match pick(message) {
                    Ok(Some(answer)) => return Ok(answer),
                    Ok(None) => {}
                    Err(other) => self.keep_other(other)?,
                }
            }
        };
        timeout(ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| DriverError::Timeout("the agent did not answer".into()))?
    }

    fn keep(&mut self, report: v1::Report) -> Result<(), DriverError> {
        match report.event {
            Some(report::Event::Link(link)) => {
                tracing::info!(host = %self.host, interface = %link.interface, up = link.up, "uplink");
            }
            Some(report::Event::Repair(repair)) => self.events.extend(repair.details.into_iter().map(Event::Repaired)),
            Some(report::Event::State(state)) => {
                let applied = state.applied.iter().filter_map(|k| HostKey::try_from(k).ok());
                self.events
                    .extend(applied.map(|k| Event::EntityState(EntityKey::Host(k), Ok(()))));
                let failed = state
                    .failed
                    .iter()
                    .filter_map(|e| Some((HostKey::try_from(e.key.as_ref()?).ok()?, e)));
                self.events
                    .extend(failed.map(|(k, e)| Event::EntityState(EntityKey::Host(k), Err(entity_error(e)))));
            }
            Some(report::Event::Announced(announced)) => self.events.push_back(Event::Announced {
                attachment: announced.attachment,
                by: announced.by,
            }),
            None => {}
        }
        if self.events.len() > MAX_EVENTS {
            return Err(DriverError::Protocol(
                "the agent reports more than the controller can queue".into(),
            ));
        }
        Ok(())
    }
}

fn entity_error(error: &v1::ObjectError) -> EntityError {
    // The agent itself tries again, but a malformed object stays malformed.
    let retryable = error.code() != v1::ErrorCode::Invalid;
    EntityError {
        message: error.message.clone(),
        retryable,
        device_retries: error.retrying,
    }
}

impl Driver for VtepDriver {
    fn limits(&self) -> Limits {
        Limits {
            batch: MAX_OBJECTS_PER_MESSAGE,
            ordered: true,
        }
    }

    async fn connect(&mut self) -> Result<(), DriverError> {
        let session = loop {
            let arrived = self.slot.arrived.notified();
            if let Some(session) = locked(&self.slot.waiting).take() {
                break session;
            }
            arrived.await;
        };
        self.events.clear();
        self.events
            .push_back(Event::Warning(Warning::Clock, session.clock.clone()));
        self.session = Some(session);
        self.number = 0;
        self.reading = None;
        let welcome = v1::Welcome {
            instance: self.instance.to_vec(),
        };
        self.send(controller_message::Message::Welcome(welcome)).await
    }

    fn certificate(&self) -> Option<Validity> {
        self.session.as_ref().and_then(|session| session.certificate)
    }

    fn kept_by(&self) -> Option<u32> {
        self.hello().map(|hello| hello.store).filter(|store| *store != 0)
    }

    fn brought_to(&self) -> Option<u64> {
        self.hello().map(|hello| hello.epoch)
    }

    async fn keep(&mut self, store: u32) -> Result<(), DriverError> {
        self.store = store;
        Ok(())
    }

    async fn begin_read_back(&mut self) -> Result<(), DriverError> {
        self.number += 1;
        let id = self.number;
        self.reading = Some((id, Instant::now() + ANSWER_TIMEOUT));
        self.send(controller_message::Message::ReadRequest(v1::ReadRequest { id }))
            .await
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Vec<WriteResult>, DriverError> {
        self.number += 1;
        let sequence = self.number;
        let migrates = self.hello().is_some_and(|hello| hello.migrates);
        let too_old =
            |entity: &HostEntity| !migrates && matches!(entity, HostEntity::Attachment(a) if a.mode != Mode::Serving);
        let mut update = v1::Update {
            sequence,
            epoch: batch.epoch,
            upserts: Vec::new(),
            removes: Vec::new(),
        };
        for write in &batch.writes {
            let Entity::Host(entity) = write.entity().as_ref() else {
                continue;
            };
            match write {
                // An agent that does not know the mode would open the port.
                Write::Insert(_) | Write::Modify(_) if too_old(entity) => {}
                Write::Insert(_) | Write::Modify(_) => update.upserts.push(entity.into()),
                Write::Delete(_) => update.removes.push((&entity.key()).into()),
            }
        }
        let of_host = |write: &Write| match write.entity().as_ref() {
            Entity::Host(entity) if !matches!(write, Write::Delete(_)) && too_old(entity) => Some(entity.key()),
            _ => None,
        };
        let refused: HashSet<HostKey> = batch.writes.iter().filter_map(of_host).collect();
        self.send(controller_message::Message::Update(update)).await?;
        let ack = self
            .answer(|message| match message {
                agent_message::Message::Ack(ack) if ack.sequence == sequence => Ok(Some(ack)),
                other => Err(other),
            })
            .await?;
        let failed: HashMap<HostKey, EntityError> = ack
            .errors
            .iter()
            .filter_map(|e| Some((HostKey::try_from(e.key.as_ref()?).ok()?, entity_error(e))))
            .collect();
        let result = |write: &Write| match write.entity().as_ref() {
            Entity::Host(entity) if refused.contains(&entity.key()) => Err(EntityError {
                message: "its agent is too old for attachments that migrate".to_owned(),
                retryable: false,
                device_retries: false,
            }),
            Entity::Host(entity) => failed.get(&entity.key()).map_or(Ok(()), |e| Err(e.clone())),
            Entity::Switch(_) => {
                let message = "an entity of a switch cannot be written to a host".to_owned();
                Err(EntityError {
                    message,
                    retryable: false,
                    device_retries: false,
                })
            }
        };
        Ok(batch.writes.iter().map(result).collect())
    }

    async fn read_losses(&mut self) -> Result<Losses, DriverError> {
        if self.hello().is_some_and(|hello| !hello.tells_losses) {
            return Ok(Err("its agent is too old to report losses".to_owned()));
        }
        self.number += 1;
        let id = self.number;
        self.send(controller_message::Message::LossRequest(v1::LossRequest { id }))
            .await?;
        let reply = self
            .answer(|message| match message {
                agent_message::Message::LossReply(reply) if reply.id == id => Ok(Some(reply)),
                other => Err(other),
            })
            .await?;
        if !reply.error.is_empty() {
            return Ok(Err(reply.error));
        }
        let losses = reply.losses.into_iter().map(|loss| Loss {
            place: loss.place,
            reason: loss.reason,
            frames: loss.frames,
        });
        Ok(Ok(losses.collect()))
    }

    async fn synced(&mut self, epoch: u64) -> Result<(), DriverError> {
        self.send(controller_message::Message::Synced(v1::Synced {
            epoch,
            store: self.store,
        }))
        .await
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let kept = self.receive_in_time().await;
            if let Err(error) = kept.and_then(|message| self.keep_other(message)) {
                self.session = None;
                return Event::Disconnected(error);
            }
        }
    }

    async fn disconnect(&mut self) {
        self.session = None;
        self.reading = None;
        self.events.clear();
    }
}

#[cfg(test)]
mod tests;
