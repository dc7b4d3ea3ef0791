//! The device's P4Runtime state shared by all RPCs: sessions, streams, pipelines.
//!
//! Lock order: `gate`, then `slot`, then one pipeline, then `sessions`, then `learner`; stream queues have a lock of
//! their own that is taken last and held for one push. Nothing waits for a client while it holds a lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use p4runtime_proto::google::rpc;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use p4runtime_proto::p4::v1::stream_message_response::Update as News;
use tonic::Code;

use super::digest::{Learner, List, message_to_wire};
use super::error::EntityError;
use super::info::Object;
use super::packet;
use super::pipeline::Pipeline;
use super::request::WriteRequest;
use super::role::RoleConfig;
use super::session::{Arbitration, Authority, ElectionId, Notification, Outcome, Sessions, Standing, StreamId};
use super::streams::Streams;
use super::target::{Device, Event};
use super::write::{Updates, Writer};

/// A pipeline that may be in use by reads while another one replaces it.
pub type Shared = Arc<RwLock<Pipeline>>;

#[derive(Default)]
struct Slot {
    /// The running pipeline.
    committed: Option<Shared>,
    /// Verified and written to, but not running yet (`VERIFY_AND_SAVE`).
    saved: Option<Shared>,
}

/// The P4Runtime server of one device, without gRPC.
pub struct Server {
    device: Arc<dyn Device>,
    gate: RwLock<()>,
    slot: Mutex<Slot>,
    sessions: Mutex<Sessions<RoleConfig>>,
    learner: Mutex<Learner>,
    /// Outgoing queues.
    pub streams: Streams,
    started: Instant,
}

/// Locks that survive a panic of another holder. Each step keeps the data consistent, so that is safe.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared access; see [`lock`].
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Exclusive access; see [`lock`].
pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn election_id(wire: Option<&v1::Uint128>) -> Option<ElectionId> {
    wire.map(|id| ElectionId::new(id.high, id.low))
}

impl Server {
    /// No pipeline, no session.
    pub fn new(device_id: u64, device: Arc<dyn Device>) -> Self {
        Self {
            streams: Streams::new(device.punted()),
            device,
            gate: RwLock::default(),
            slot: Mutex::default(),
            sessions: Mutex::new(Sessions::new(device_id)),
            learner: Mutex::default(),
            started: Instant::now(),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// # Errors
    /// `NOT_FOUND` for another device.
    pub fn check_device(&self, device_id: u64) -> Result<(), EntityError> {
        let own = lock(&self.sessions).device_id();
        match device_id == own {
            true => Ok(()),
            false => Err(EntityError::not_found(format!("unknown device id {device_id}"))),
        }
    }

    /// The pipeline that reads and writes refer to: the saved one if there is one (section 14).
    fn current(&self) -> Result<Shared, EntityError> {
        let slot = lock(&self.slot);
        let current = slot.saved.clone().or_else(|| slot.committed.clone());
        current.ok_or_else(|| EntityError::precondition("no forwarding pipeline is set"))
    }

    fn authorise(&self, role: &str, election: Option<&v1::Uint128>) -> Result<Option<RoleConfig>, EntityError> {
        Ok(lock(&self.sessions).authorise(role, election_id(election))?.cloned())
    }

    /// `Write`: one result per update, or the reason why none was tried.
    pub fn write(&self, request: &v1::WriteRequest) -> Result<Vec<Result<(), EntityError>>, EntityError> {
        self.write_updates(request, request.updates.as_slice().into())
    }

    /// `Write` of an encoded request.
    pub fn write_octets(&self, octets: &[u8]) -> Result<Vec<Result<(), EntityError>>, EntityError> {
        let decoded = WriteRequest::decode(octets);
        match decoded.map_err(|error| EntityError::internal(format!("the request cannot be decoded: {error}")))? {
            WriteRequest::Octets { header, updates } => self.write_updates(&header, Updates::Octets(&updates)),
            WriteRequest::Messages(request) => self.write(&request),
        }
    }

    /// Carries out updates on behalf of the client in `request`.
    fn write_updates(
        &self,
        request: &v1::WriteRequest,
        updates: Updates<'_>,
    ) -> Result<Vec<Result<(), EntityError>>, EntityError> {
        self.check_device(request.device_id)?;
        let _gate = read(&self.gate);
        let role = self.authorise(&request.role, request.election_id.as_ref())?;
        let atomicity = v1::write_request::Atomicity::try_from(request.atomicity)
            .map_err(|_| EntityError::invalid(format!("atomicity {} is not valid", request.atomicity)))?;
        self.apply(Writer::Client(role.as_ref()), updates, atomicity)
    }

    fn apply(
        &self,
        writer: Writer<'_>,
        updates: Updates<'_>,
        atomicity: v1::write_request::Atomicity,
    ) -> Result<Vec<Result<(), EntityError>>, EntityError> {
        let shared = self.current()?;
        let mut pipeline = write(&shared);
        let digests = pipeline.state.digest_changes;
        let results = pipeline.write_updates(&*self.device, writer, updates, atomicity);
        let is_learning = pipeline.state.digest_changes != digests;
        drop(pipeline);
        if is_learning {
            let slot = lock(&self.slot);
            let is_it = |committed: &&Shared| Arc::ptr_eq(committed, &shared);
            if let Some(committed) = slot.committed.as_ref().filter(is_it) {
                self.learn(&read(committed));
            }
        }
        Ok(results)
    }

    /// Carries out updates of this host's operator, who needs no session. Rates of meters are fine ([`fine_rate`](super::array::fine_rate)).
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` without a pipeline.
    pub fn write_locally(&self, updates: &[v1::Update]) -> Result<Vec<Result<(), EntityError>>, EntityError> {
        let _gate = read(&self.gate);
        let atomicity = v1::write_request::Atomicity::ContinueOnError;
        self.apply(Writer::Host, updates.into(), atomicity)
    }

    /// Reads all that matches an entity, for this host's operator, with rates of meters in the same form.
    ///
    /// # Errors
    /// As `Read`: the first object that cannot be read.
    pub fn read_locally(&self, entity: v1::entity::Entity) -> Result<Vec<v1::entity::Entity>, EntityError> {
        let shared = self.current()?;
        let mut pipeline = write(&shared);
        let Pipeline { state, target, .. } = &mut *pipeline;
        let request = [v1::Entity { entity: Some(entity) }];
        let mut plan = super::read::plan(state, &**target, None, &request).with_fine_rates();
        if let Some(error) = std::mem::take(&mut plan.results).into_iter().find_map(Result::err) {
            return Err(error);
        }
        let pages = std::iter::from_fn(|| plan.next_page(state, &**target));
        Ok(pages.flat_map(|page| page.entities).filter_map(|e| e.entity).collect())
    }

    /// The P4Info in use.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` without a pipeline.
    pub fn p4info(&self) -> Result<p4runtime_proto::p4::config::v1::P4Info, EntityError> {
        let shared = self.current()?;
        Ok(read(&shared).config.p4info.clone().unwrap_or_default())
    }

    /// Puts the digest entries of a pipeline into force.
    fn learn(&self, pipeline: &Pipeline) {
        let digests = &pipeline.state.digests;
        lock(&self.learner).configure(digests);
        self.device.learn(digests.keys().copied().collect());
    }

    /// `Read`: what will be sent, and the pipeline that it is sent from.
    pub fn read(&self, request: &v1::ReadRequest) -> Result<(Shared, super::read::Plan), EntityError> {
        self.check_device(request.device_id)?;
        let role = lock(&self.sessions).role_config(&request.role)?.cloned();
        let shared = self.current()?;
        let plan = {
            let mut pipeline = write(&shared);
            let Pipeline { state, target, .. } = &mut *pipeline;
            super::read::plan(state, &**target, role.as_ref(), &request.entities)
        };
        Ok((shared, plan))
    }

    /// `SetForwardingPipelineConfig` (section 14).
    pub fn set_pipeline(&self, request: v1::SetForwardingPipelineConfigRequest) -> Result<(), EntityError> {
        self.check_device(request.device_id)?;
        let _gate = read(&self.gate);
        let role = self.authorise(&request.role, request.election_id.as_ref())?;
        if role.is_some_and(|role| !role.can_push_pipeline()) {
            return Err(EntityError::denied("the role may not set the pipeline"));
        }
        let action = Action::try_from(request.action).unwrap_or(Action::Unspecified);
        let config = request.config;
        let needed = || EntityError::invalid("the config is missing");
        let load = |config: Option<_>| Pipeline::load(&*self.device, config.ok_or_else(needed)?);
        match action {
            Action::Unspecified => {
                return Err(EntityError::invalid(format!("action {} is not valid", request.action)));
            }
            Action::Verify => {
                load(config)?;
            }
            Action::VerifyAndSave => {
                let saved = Arc::new(RwLock::new(load(config)?));
                lock(&self.slot).saved = Some(saved);
            }
            Action::VerifyAndCommit => {
                let loaded = Arc::new(RwLock::new(load(config)?));
                self.commit(&mut lock(&self.slot), loaded);
            }
            Action::Commit if config.is_some() => {
                return Err(EntityError::invalid("COMMIT takes no config"));
            }
            Action::Commit => {
                let mut slot = lock(&self.slot);
                let saved = slot
                    .saved
                    .take()
                    .ok_or_else(|| EntityError::not_found("no config is saved"))?;
                self.commit(&mut slot, saved);
            }
            Action::ReconcileAndCommit => {
                let mut loaded = load(config)?;
                let mut slot = lock(&self.slot);
                if let Some(running) = &slot.committed {
                    loaded.inherit(&mut write(running), &*self.device)?;
                }
                self.commit(&mut slot, Arc::new(RwLock::new(loaded)));
            }
        }
        Ok(())
    }

    /// Runs the pipeline that the device was started with. Nobody need be primary.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub fn start_with(&self, config: v1::ForwardingPipelineConfig) -> Result<(), EntityError> {
        let loaded = Arc::new(RwLock::new(Pipeline::load(&*self.device, config)?));
        self.commit(&mut lock(&self.slot), loaded);
        Ok(())
    }

    fn commit(&self, slot: &mut Slot, loaded: Shared) {
        let mut pipeline = write(&loaded);
        // Do this before packets run through it, so that no digest of a client is missed.
        self.learn(&pipeline);
        pipeline.target.activate();
        drop(pipeline);
        slot.committed = Some(loaded);
        slot.saved = None;
    }

    /// `GetForwardingPipelineConfig` (section 15).
    pub fn get_pipeline(
        &self,
        request: &v1::GetForwardingPipelineConfigRequest,
    ) -> Result<v1::GetForwardingPipelineConfigResponse, EntityError> {
        use v1::get_forwarding_pipeline_config_request::ResponseType;
        self.check_device(request.device_id)?;
        let wanted = ResponseType::try_from(request.response_type)
            .map_err(|_| EntityError::invalid(format!("response type {} is not valid", request.response_type)))?;
        let Ok(current) = self.current() else {
            return Ok(v1::GetForwardingPipelineConfigResponse::default());
        };
        let pipeline = read(&current);
        let config = &pipeline.config;
        let info = matches!(wanted, ResponseType::All | ResponseType::P4infoAndCookie);
        let device = matches!(wanted, ResponseType::All | ResponseType::DeviceConfigAndCookie);
        Ok(v1::GetForwardingPipelineConfigResponse {
            config: Some(v1::ForwardingPipelineConfig {
                p4info: config.p4info.clone().filter(|_| info),
                p4_device_config: if device {
                    config.p4_device_config.clone()
                } else {
                    Vec::new()
                },
                cookie: config.cookie,
            }),
        })
    }

    /// One message from a stream.
    ///
    /// # Errors
    /// The stream must be ended with the error.
    pub fn receive(
        &self,
        stream: StreamId,
        authority: Authority,
        message: v1::StreamMessageRequest,
    ) -> Result<(), EntityError> {
        use v1::stream_message_request::Update;
        let result = match message.update {
            Some(Update::Arbitration(update)) => return self.arbitrate(stream, authority, update),
            Some(Update::Packet(packet)) => self.packet_out(stream, &packet).map_err(|error| {
                let details = v1::PacketOutError {
                    packet_out: Some(packet),
                };
                (error, v1::stream_error::Details::PacketOut(details))
            }),
            Some(Update::DigestAck(ack)) => self.acknowledge(stream, &ack).map_err(|error| {
                let details = v1::DigestListAckError {
                    digest_list_ack: Some(ack),
                };
                (error, v1::stream_error::Details::DigestListAck(details))
            }),
            Some(Update::Other(other)) => {
                let details = v1::StreamOtherError { other: Some(other) };
                let error = EntityError::unimplemented("no further stream messages are known");
                Err((error, v1::stream_error::Details::Other(details)))
            }
            None => {
                let error = EntityError::invalid("the stream message is empty");
                Err((error, v1::stream_error::Details::Other(v1::StreamOtherError::default())))
            }
        };
        if let Err((error, details)) = result {
            let wire = error.to_wire();
            self.streams.tell(
                stream,
                News::Error(v1::StreamError {
                    canonical_code: wire.canonical_code,
                    message: wire.message,
                    space: wire.space,
                    code: wire.code,
                    details: Some(details),
                }),
            );
        }
        Ok(())
    }

    fn arbitrate(
        &self,
        stream: StreamId,
        authority: Authority,
        update: v1::MasterArbitrationUpdate,
    ) -> Result<(), EntityError> {
        let role = update.role.unwrap_or_default();
        #[allow(deprecated)] // Role ids were replaced by names; guessing what a client means by one would be worse.
        if role.id != 0 {
            return Err(EntityError::invalid(
                "roles are named, the deprecated role id is not supported",
            ));
        }
        let config = role.config.as_ref().map(RoleConfig::parse).transpose()?;
        if role.name.is_empty() && config.is_some() {
            return Err(EntityError::invalid(
                "the default role has full access and takes no config",
            ));
        }
        let request = Arbitration {
            authority,
            device_id: update.device_id,
            role: role.name,
            config,
            election_id: election_id(update.election_id.as_ref()),
        };
        // Their election ids are free, even if their own tasks have not run yet.
        for orphan in self.streams.orphans() {
            self.close(orphan, None);
        }
        let (outcome, changed) = {
            let mut sessions = lock(&self.sessions);
            let was_primary = sessions.primary_config(stream).is_some();
            let outcome = sessions.arbitrate(stream, request)?;
            (outcome, was_primary != sessions.primary_config(stream).is_some())
        };
        self.carry_out(outcome);
        if changed {
            lock(&self.learner).forget();
        }
        Ok(())
    }

    fn carry_out(&self, outcome: Outcome<RoleConfig>) {
        let mut stuck = Vec::new();
        for notification in outcome.notify_now {
            self.notify(notification, &mut stuck);
        }
        if let Some(notification) = outcome.notify_after_writes {
            // Every write that was accepted before the change of primary holds the gate until it is done.
            drop(write(&self.gate));
            self.notify(notification, &mut stuck);
        }
        for stream in stuck {
            tracing::warn!(
                stream = stream.0,
                "closing a stream whose client does not read arbitration updates"
            );
            self.close(stream, None);
        }
    }

    fn notify(&self, notification: Notification<RoleConfig>, stuck: &mut Vec<StreamId>) {
        let (code, message) = match notification.standing {
            Standing::Primary => (Code::Ok, "you are primary"),
            Standing::Backup => (Code::AlreadyExists, "you are backup; another client is primary"),
            Standing::NoPrimary => (Code::NotFound, "you are backup; no client is primary"),
        };
        let is_default = notification.role.is_empty();
        let role = v1::Role {
            name: notification.role,
            config: notification.config.as_ref().map(RoleConfig::to_wire),
            ..v1::Role::default()
        };
        let update = v1::MasterArbitrationUpdate {
            device_id: lock(&self.sessions).device_id(),
            role: (!is_default).then_some(role),
            election_id: notification.election_id.map(|id| v1::Uint128 {
                high: id.high(),
                low: id.low(),
            }),
            status: Some(rpc::Status {
                code: code as i32,
                message: message.to_owned(),
                details: Vec::new(),
            }),
        };
        if !self.streams.arbitrate(notification.stream, News::Arbitration(update)) {
            stuck.push(notification.stream);
        }
    }

    /// A stream has ended, or must end with `error`.
    pub fn close(&self, stream: StreamId, error: Option<EntityError>) {
        self.streams.end(stream, error.map(Into::into));
        let outcome = lock(&self.sessions).close(stream);
        self.carry_out(outcome);
    }

    fn packet_out(&self, stream: StreamId, packet: &v1::PacketOut) -> Result<(), EntityError> {
        match lock(&self.sessions).primary_config(stream) {
            None => return Err(EntityError::denied("only the primary may send packets")),
            Some(Some(role)) if !role.has_packet_io() => {
                return Err(EntityError::denied("the role may not send packets"));
            }
            Some(_) => {}
        }
        let committed = lock(&self.slot).committed.clone();
        let shared = committed.ok_or_else(|| EntityError::precondition("no forwarding pipeline is running"))?;
        let frame = {
            let mut pipeline = write(&shared);
            let state = &mut pipeline.state;
            packet::to_frame(state.info.packet_out.as_deref(), packet, &mut state.translator)?
        };
        self.device.packet_out(frame)
    }

    fn acknowledge(&self, stream: StreamId, ack: &v1::DigestListAck) -> Result<(), EntityError> {
        if lock(&self.sessions).primary_config(stream).is_none() {
            return Err(EntityError::denied("only the primary may acknowledge digests"));
        }
        let shared = self.current()?;
        super::digest::digest_index(&read(&shared).state.info, ack.digest_id)?;
        lock(&self.learner).acknowledge(ack.digest_id, ack.list_id);
        Ok(())
    }

    fn primaries(&self, wanted: impl Fn(Option<&RoleConfig>) -> bool) -> Vec<StreamId> {
        let sessions = lock(&self.sessions);
        sessions
            .primaries()
            .filter(|(_, role)| wanted(*role))
            .map(|(stream, _)| stream)
            .collect()
    }

    /// An event of the running program.
    pub fn dataplane_event(&self, event: Event) {
        let Some(shared) = lock(&self.slot).committed.clone() else {
            return;
        };
        match event {
            Event::PacketIn(frame) => {
                let pipeline = read(&shared);
                let header = pipeline.state.info.packet_in.as_deref();
                let Some(packet) = packet::from_frame(header, &frame, &pipeline.state.translator) else {
                    return;
                };
                drop(pipeline);
                let receivers = self.primaries(|role| role.is_none_or(|role| role.receives(&packet)));
                if receivers.is_empty() {
                    self.streams.lose(1);
                }
                for stream in receivers {
                    self.streams.tell(stream, News::Packet(packet.clone()));
                }
            }
            Event::Digest { digest_id, message } => {
                let mut learner = lock(&self.learner);
                let list = learner.learn(digest_id, message, self.now_ns());
                let lost = std::mem::take(&mut learner.dropped);
                drop(learner);
                self.streams.lose(lost);
                if let Some(list) = list {
                    self.send_list(&shared, list);
                }
            }
        }
    }

    fn send_list(&self, shared: &Shared, list: List) {
        let pipeline = read(shared);
        let info = &pipeline.state.info;
        let Some(Object::Digest(index)) = info.object(list.digest_id) else {
            return;
        };
        let data = list
            .messages
            .iter()
            .map(|message| message_to_wire(info, &info.digests[index], message));
        let wire = v1::DigestList {
            digest_id: list.digest_id,
            list_id: list.list_id,
            data: data.collect(),
            timestamp: unix_ns(),
        };
        drop(pipeline);
        let receivers = self.primaries(|role| role.is_none_or(|role| role.may_observe(list.digest_id)));
        if receivers.is_empty() {
            self.streams.lose(wire.data.len() as u64);
        }
        for stream in receivers {
            self.streams.tell(stream, News::Digest(wire.clone()));
        }
    }

    /// Sends digest lists and idle notifications that are due. Called every few milliseconds.
    pub fn tick(&self) {
        let Some(shared) = lock(&self.slot).committed.clone() else {
            return;
        };
        let now_ns = self.now_ns();
        let lists = lock(&self.learner).tick(now_ns);
        for list in lists {
            self.send_list(&shared, list);
        }
        let expired = write(&shared).expired(now_ns);
        if expired.is_empty() {
            return;
        }
        for entries in expired.chunks(super::read::PAGE_SIZE) {
            let sessions = lock(&self.sessions);
            let receivers: Vec<_> = sessions
                .primaries()
                .map(|(stream, role)| (stream, role.cloned()))
                .collect();
            drop(sessions);
            for (stream, role) in receivers {
                let seen = entries
                    .iter()
                    .filter(|entry| role.as_ref().is_none_or(|role| role.may_observe(entry.table_id)));
                let table_entry: Vec<_> = seen.cloned().collect();
                if !table_entry.is_empty() {
                    let news = v1::IdleTimeoutNotification {
                        table_entry,
                        timestamp: unix_ns(),
                    };
                    self.streams.tell(stream, News::IdleTimeoutNotification(news));
                }
            }
        }
    }
}

fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
