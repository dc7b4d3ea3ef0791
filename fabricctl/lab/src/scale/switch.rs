//! A switch in memory behind its real protocols: P4Runtime 1.4 and gNMI, over TLS.
//!
//! It accepts every update, holds the entities by key, and returns them when they are read. It forwards nothing,
//! except packets between the controller and its cables, if it has any. Its gNMI server has only the operational
//! state of its ports. It has no configuration of ports, as bmv2 has none.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use fabric_identity::{ClientCertificates, Credentials, Limits, Listener};
use futures::{Stream, StreamExt as _};
use gnmi_proto::gnmi::{
    self, Notification, Path, PathElem, TypedValue, g_nmi_server::GNmi, g_nmi_server::GNmiServer, subscribe_request,
    subscribe_response, typed_value,
};
use p4runtime_grpc::p4_runtime_server::{P4Runtime, P4RuntimeServer};
use p4runtime_proto::google::rpc;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::{
    self as p4, action_profile_group::member::WatchKind, entity::Entity as Kind, packet_replication_engine_entry::Type,
    set_forwarding_pipeline_config_request::Action, stream_message_request::Update as Up,
    stream_message_response::Update as Down,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Largest message taken: what the controller accepts itself.
const MAX_MESSAGE: usize = 256 << 20;
/// Messages that wait to be sent on one stream.
const OUTGOING: usize = 256;
/// Entities of one part of an answer to a Read: some 100 octets each, below gRPC's usual limit.
const PART: usize = 5_000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// Kind of an entity, number of its table, profile or meter, and whether it is a default action.
type Class = (u8, u32, bool);

/// The switch; clones are handles to the same one.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    cookie: Option<u64>,
    /// By class, then by encoded key. They are encoded because all switches together may hold
    /// a million of them.
    entities: HashMap<Class, HashMap<Vec<u8>, Vec<u8>>>,
    /// Updates that were carried out, without those of the revision that it remembers.
    writes: u64,
    /// Operational state of each port.
    ports: BTreeMap<u16, bool>,
    subscribers: Vec<mpsc::Sender<Result<gnmi::SubscribeResponse, Status>>>,
    session: Option<mpsc::Sender<Result<p4::StreamMessageResponse, Status>>>,
    /// What its ports are connected to; nothing where there is none.
    cables: Option<Cables>,
    /// Ids of the ports in packet-outs and packet-ins, by the pipeline.
    port_ids: (u32, u32),
}

/// Carries a frame that leaves by a port.
pub(crate) type Cables = Arc<dyn Fn(u16, Vec<u8>) + Send + Sync>;

/// The id of a field in the headers of packet-ins and packet-outs (P4Runtime specification,
/// section 6.4.6).
fn field_id(info: Option<&P4Info>, header: &str, field: &str) -> u32 {
    let headers = info
        .map(|info| info.controller_packet_metadata.as_slice())
        .unwrap_or_default();
    let named = headers
        .iter()
        .find(|h| h.preamble.as_ref().is_some_and(|p| p.name == header));
    let fields = named.map(|header| header.metadata.as_slice()).unwrap_or_default();
    fields.iter().find(|f| f.name == field).map_or(0, |f| f.id)
}

/// A port as a canonical bytestring (P4Runtime specification, section 8.4).
fn bytes_of(port: u16) -> Vec<u8> {
    let octets = port.to_be_bytes();
    octets.into_iter().skip_while(|b| *b == 0).collect()
}

fn class(entity: &p4::Entity) -> Option<Class> {
    Some(match entity.entity.as_ref()? {
        Kind::TableEntry(e) => (1, e.table_id, e.is_default_action),
        Kind::ActionProfileMember(e) => (2, e.action_profile_id, false),
        Kind::ActionProfileGroup(e) => (3, e.action_profile_id, false),
        Kind::PacketReplicationEngineEntry(e) => match e.r#type {
            Some(Type::MulticastGroupEntry(_)) => (4, 0, false),
            _ => (5, 0, false),
        },
        Kind::MeterEntry(e) => (6, e.meter_id, false),
        Kind::CounterEntry(e) => (7, e.counter_id, false),
        Kind::DigestEntry(e) => (8, e.digest_id, false),
        Kind::ValueSetEntry(e) => (9, e.value_set_id, false),
        _ => return None,
    })
}

/// Whether it is the multicast group in which the controller lets a switch remember a revision. The controller writes
/// it after a restart that closely follows a change; no packet uses it.
fn is_mark(entity: &p4::Entity) -> bool {
    const MARK: u32 = 0xffff;
    match &entity.entity {
        Some(Kind::PacketReplicationEngineEntry(e)) => {
            matches!(&e.r#type, Some(Type::MulticastGroupEntry(group)) if group.multicast_group_id == MARK)
        }
        _ => false,
    }
}

/// The entity without its value.
fn key(entity: &p4::Entity) -> Vec<u8> {
    let mut key = entity.clone();
    match key.entity.as_mut() {
        Some(Kind::TableEntry(e)) => {
            *e = p4::TableEntry {
                table_id: e.table_id,
                r#match: std::mem::take(&mut e.r#match),
                priority: e.priority,
                is_default_action: e.is_default_action,
                ..Default::default()
            }
        }
        Some(Kind::ActionProfileMember(e)) => e.action = None,
        Some(Kind::ActionProfileGroup(e)) => {
            e.members.clear();
            e.max_size = 0;
        }
        Some(Kind::PacketReplicationEngineEntry(e)) => match &mut e.r#type {
            Some(Type::MulticastGroupEntry(group)) => {
                *group = p4::MulticastGroupEntry {
                    multicast_group_id: group.multicast_group_id,
                    ..Default::default()
                }
            }
            Some(Type::CloneSessionEntry(session)) => {
                *session = p4::CloneSessionEntry {
                    session_id: session.session_id,
                    ..Default::default()
                }
            }
            None => {}
        },
        Some(Kind::MeterEntry(e)) => (e.config, e.counter_data) = (None, None),
        Some(Kind::CounterEntry(e)) => e.data = None,
        Some(Kind::DigestEntry(e)) => e.config = None,
        Some(Kind::ValueSetEntry(e)) => e.members.clear(),
        _ => {}
    }
    key.encode_to_vec()
}

impl State {
    fn carry_out(&mut self, update: &p4::Update) -> rpc::Code {
        use p4::update::Type::{Delete, Insert, Modify};
        let Some((entity, class)) = update.entity.as_ref().and_then(|e| Some((e, class(e)?))) else {
            return rpc::Code::Unimplemented;
        };
        let (key, of_class) = (key(entity), self.entities.entry(class).or_default());
        // Meters and default actions are there from the start.
        let stands = of_class.contains_key(&key) || class.0 == 6 || class.2;
        match (update.r#type(), stands) {
            (Insert, true) => return rpc::Code::AlreadyExists,
            (Modify | Delete, false) => return rpc::Code::NotFound,
            (Delete, true) => drop(of_class.remove(&key)),
            _ => drop(of_class.insert(key, entity.encode_to_vec())),
        }
        self.writes += u64::from(!is_mark(entity));
        rpc::Code::Ok
    }

    fn matching(&self, pattern: &p4::Entity) -> Vec<p4::Entity> {
        let Some((kind, id, is_default)) = class(pattern) else {
            return Vec::new();
        };
        let wanted = |(class, _): &(&Class, _)| class.0 == kind && class.2 == is_default && (id == 0 || class.1 == id);
        let found = self.entities.iter().filter(wanted);
        let found = found.flat_map(|(_, entities)| entities.values());
        found
            .filter_map(|stored| p4::Entity::decode(stored.as_slice()).ok())
            .collect()
    }

    /// Whether the groups let packets leave by a port.
    fn uses(&self, port: u16) -> bool {
        let groups = self.entities.iter().filter(|((kind, ..), _)| *kind == 3);
        let members = groups.flat_map(|(_, groups)| groups.values()).flat_map(|stored| {
            match p4::Entity::decode(stored.as_slice()).ok().and_then(|e| e.entity) {
                Some(Kind::ActionProfileGroup(group)) => group.members,
                _ => Vec::new(),
            }
        });
        let port = u64::from(port);
        members.into_iter().any(|member| match member.watch_kind {
            Some(WatchKind::WatchPort(octets)) => octets.iter().fold(0, |n, b| n << 8 | u64::from(*b)) == port,
            _ => false,
        })
    }
}

impl Switch {
    /// A switch with these ports, all of them up, that listens on a port of its own of the loopback address until the
    /// runtime ends.
    pub(crate) async fn serve(
        credentials: &Arc<Credentials>,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<(Self, SocketAddr)> {
        let switch = Self::default();
        switch.lock().ports = ports.into_iter().map(|port| (port, true)).collect();
        let tcp = TcpListener::bind("127.0.0.1:0").await.context("a switch's port")?;
        let address = tcp.local_addr()?;
        switch.serve_at(tcp, credentials)?;
        Ok((switch, address))
    }

    /// A switch with these ports, which are connected to something.
    pub(crate) fn with_cables(ports: impl IntoIterator<Item = u16>, cables: Cables) -> Self {
        let switch = Self::default();
        let mut state = switch.lock();
        state.ports = ports.into_iter().map(|port| (port, true)).collect();
        state.cables = Some(cables);
        drop(state);
        switch
    }

    /// A frame arrived at a port: it is for the controller, as the fabric's probes are.
    pub(crate) fn deliver(&self, port: u16, payload: Vec<u8>) {
        let (session, id) = {
            let state = self.lock();
            if state.ports.get(&port) != Some(&true) {
                return;
            }
            (state.session.clone(), state.port_ids.1)
        };
        let ingress = p4::PacketMetadata {
            metadata_id: id,
            value: bytes_of(port),
        };
        let packet = p4::PacketIn {
            payload,
            metadata: vec![ingress],
        };
        let update = Some(Down::Packet(packet));
        if let Some(session) = session {
            // If the queue is full, the frame is lost, as on a wire.
            let _ = session.try_send(Ok(p4::StreamMessageResponse { update }));
        }
    }

    /// A packet-out: the port, and the frame.
    fn send(&self, packet: p4::PacketOut) {
        let (cables, id) = {
            let state = self.lock();
            (state.cables.clone(), state.port_ids.0)
        };
        let port = packet.metadata.iter().find(|m| m.metadata_id == id);
        let port = port.map(|m| m.value.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)));
        let port = port.and_then(|port| u16::try_from(port).ok());
        let Some((cables, port)) = cables.zip(port) else { return };
        if self.lock().ports.get(&port) == Some(&true) {
            cables(port, packet.payload.to_vec());
        }
    }

    /// Serves with these credentials until the runtime ends.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn serve_at(&self, tcp: TcpListener, credentials: &Arc<Credentials>) -> Result<()> {
        let listener = Listener::tls(
            tcp,
            "switch in memory",
            Limits::GRPC,
            credentials,
            ClientCertificates::Required,
        )?;
        let p4runtime = P4RuntimeServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let serving = Server::builder()
            .add_service(p4runtime)
            .add_service(GNmiServer::new(self.clone()))
            .serve_with_incoming(listener.incoming());
        tokio::spawn(serving);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates that it has carried out.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Entities that it holds.
    pub(crate) fn held(&self) -> usize {
        self.lock().entities.values().map(HashMap::len).sum()
    }

    /// Forgets everything, its program too, and ends the controller's session, as a restart does.
    pub(crate) fn restart_empty(&self) {
        let mut state = self.lock();
        state.entities.clear();
        state.cookie = None;
        if let Some(session) = state.session.take() {
            // A full queue ends when the controller's heartbeat gets no answer.
            let _ = session.try_send(Err(Status::unavailable("the switch restarts")));
        }
    }

    /// Sets the operational state of a port, and reports it.
    pub(crate) fn set_port(&self, port: u16, up: bool) {
        let mut state = self.lock();
        state.ports.insert(port, up);
        let notification = port_states([(port, up)]);
        state
            .subscribers
            .retain(|to| to.try_send(Ok(notification.clone())).is_ok());
    }

    /// Waits until groups use a port, or until none does.
    pub(crate) async fn uses(&self, port: u16, wanted: bool) {
        self.until(|state| state.uses(port) == wanted).await;
    }

    /// Waits until it holds this many entities.
    pub(crate) async fn holds(&self, count: usize) {
        self.until(|state| state.entities.values().map(HashMap::len).sum::<usize>() >= count)
            .await;
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on, no change is missed.
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

#[tonic::async_trait]
impl P4Runtime for Switch {
    async fn write(&self, request: Request<p4::WriteRequest>) -> Result<Response<p4::WriteResponse>, Status> {
        let updates = request.into_inner().updates;
        let codes: Vec<rpc::Code> = {
            let mut state = self.lock();
            updates.iter().map(|update| state.carry_out(update)).collect()
        };
        self.0.changed.notify_waiters();
        if codes.iter().all(|code| *code == rpc::Code::Ok) {
            return Ok(Response::new(p4::WriteResponse {}));
        }
        let details = codes.into_iter().map(|code| prost_types::Any {
            type_url: "type.googleapis.com/p4.v1.Error".into(),
            value: p4::Error {
                canonical_code: code.into(),
                ..Default::default()
            }
            .encode_to_vec(),
        });
        let status = rpc::Status {
            code: rpc::Code::Unknown.into(),
            message: String::new(),
            details: details.collect(),
        };
        Err(Status::with_details(
            tonic::Code::Unknown,
            "",
            status.encode_to_vec().into(),
        ))
    }

    type ReadStream = Answers<p4::ReadResponse>;

    async fn read(&self, request: Request<p4::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let patterns = request.into_inner().entities;
        let found: Vec<p4::Entity> = {
            let state = self.lock();
            patterns.iter().flat_map(|pattern| state.matching(pattern)).collect()
        };
        let parts: Vec<_> = found
            .chunks(PART)
            .map(|part| {
                Ok(p4::ReadResponse {
                    entities: part.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(futures::stream::iter(parts).boxed()))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<p4::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<p4::SetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        if request.action() == Action::VerifyAndCommit {
            state.entities.clear();
        }
        if let Some(config) = &request.config {
            state.cookie = config.cookie.as_ref().map(|c| c.cookie);
            let info = config.p4info.as_ref();
            state.port_ids = (
                field_id(info, "packet_out", "egress_port"),
                field_id(info, "packet_in", "ingress_port"),
            );
        }
        Ok(Response::new(p4::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        _: Request<p4::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<p4::GetForwardingPipelineConfigResponse>, Status> {
        let cookie = self
            .lock()
            .cookie
            .ok_or_else(|| Status::failed_precondition("no pipeline"))?;
        let config = p4::ForwardingPipelineConfig {
            cookie: Some(p4::forwarding_pipeline_config::Cookie { cookie }),
            ..Default::default()
        };
        Ok(Response::new(p4::GetForwardingPipelineConfigResponse {
            config: Some(config),
        }))
    }

    type StreamChannelStream = Answers<p4::StreamMessageResponse>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<p4::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let mut requests = request.into_inner();
        self.lock().session = Some(sender.clone());
        let switch = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                let bid = match message.update {
                    Some(Up::Arbitration(bid)) => bid,
                    Some(Up::Packet(packet)) => {
                        switch.send(packet);
                        continue;
                    }
                    _ => continue,
                };
                let update = p4::MasterArbitrationUpdate {
                    status: Some(rpc::Status::default()),
                    ..bid
                };
                let update = Some(Down::Arbitration(update));
                if sender.send(Ok(p4::StreamMessageResponse { update })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn capabilities(
        &self,
        _: Request<p4::CapabilitiesRequest>,
    ) -> Result<Response<p4::CapabilitiesResponse>, Status> {
        Ok(Response::new(p4::CapabilitiesResponse {
            p4runtime_api_version: "1.4.0".into(),
            experimental: None,
        }))
    }
}

/// The gNMI notification about ports. An interface whose name is a number is that port.
fn port_states(ports: impl IntoIterator<Item = (u16, bool)>) -> gnmi::SubscribeResponse {
    let elem = |name: &str| PathElem {
        name: name.into(),
        ..Default::default()
    };
    let update = |(port, up): (u16, bool)| {
        let mut interface = elem("interface");
        interface.key.insert("name".into(), port.to_string());
        let path = Path {
            elem: vec![elem("interfaces"), interface, elem("state"), elem("oper-status")],
            ..Default::default()
        };
        let text = if up { "UP" } else { "DOWN" };
        gnmi::Update {
            path: Some(path),
            val: Some(TypedValue {
                value: Some(typed_value::Value::StringVal(text.into())),
            }),
            ..Default::default()
        }
    };
    let notification = Notification {
        update: ports.into_iter().map(update).collect(),
        ..Default::default()
    };
    gnmi::SubscribeResponse {
        response: Some(subscribe_response::Response::Update(notification)),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl GNmi for Switch {
    async fn capabilities(
        &self,
        _: Request<gnmi::CapabilityRequest>,
    ) -> Result<Response<gnmi::CapabilityResponse>, Status> {
        Err(Status::unimplemented("capabilities"))
    }

    async fn get(&self, _: Request<gnmi::GetRequest>) -> Result<Response<gnmi::GetResponse>, Status> {
        Err(Status::unimplemented("get"))
    }

    async fn set(&self, _: Request<gnmi::SetRequest>) -> Result<Response<gnmi::SetResponse>, Status> {
        Err(Status::unimplemented("set"))
    }

    type SubscribeStream = Answers<gnmi::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<gnmi::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(subscribe_request::Request::Subscribe(list)) = first else {
            return Err(Status::invalid_argument("the first message is not a subscription"));
        };
        let mut elements = list
            .subscription
            .iter()
            .flat_map(|s| &s.path)
            .flat_map(|path| &path.elem);
        if elements.any(|elem| elem.name == "config") {
            return Err(Status::unimplemented("only the state of ports"));
        }
        let (sender, receiver) = mpsc::channel(OUTGOING);
        {
            let mut state = self.lock();
            let ports = port_states(state.ports.iter().map(|(port, up)| (*port, *up)));
            let synced = gnmi::SubscribeResponse {
                response: Some(subscribe_response::Response::SyncResponse(true)),
                ..Default::default()
            };
            // There is room for both.
            let _ = sender.try_send(Ok(ports));
            let _ = sender.try_send(Ok(synced));
            state.subscribers.push(sender);
        }
        // The subscription ends with the request stream, which is kept for that.
        let stream = ReceiverStream::new(receiver).map(move |message| {
            let _ = &requests;
            message
        });
        Ok(Response::new(stream.boxed()))
    }
}
