//! A P4Runtime server in memory that misbehaves on request. It knows nothing about pipelines and shares no code with
//! `p4-switch`.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use p4runtime_grpc::p4_runtime_server::{P4Runtime, P4RuntimeServer};
use p4runtime_proto::{
    google::rpc,
    p4::v1::{self as p4, stream_message_request::Update as Up, stream_message_response::Update as Down},
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

type Key = Vec<u8>;
type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the switch is and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) version: String,
    pub(crate) cookie: Option<u64>,
    pub(crate) entities: HashMap<Key, p4::Entity>,
    /// Election id of another controller, which is primary.
    pub(crate) rival: Option<u64>,
    /// Sizes of the Writes that were received.
    pub(crate) writes: Vec<usize>,
    /// Actions of the pipeline requests that were received.
    pub(crate) pipelines: Vec<i32>,
    /// Refuses a Write as a whole if it has more updates than this.
    pub(crate) largest: Option<usize>,
    /// Refuses inserts of this table.
    pub(crate) full_table: Option<u32>,
    /// Does not reply to Writes.
    pub(crate) hangs: bool,
    /// Refuses to reconcile.
    pub(crate) no_reconcile: bool,
    /// Forgets the pipelines it accepted.
    pub(crate) forgets: bool,
    /// Election ids that are taken.
    pub(crate) taken: Vec<u64>,
    /// The stream of the last session.
    pub(crate) stream: Option<mpsc::Sender<Result<p4::StreamMessageResponse, Status>>>,
    /// Messages received on streams, except arbitration.
    pub(crate) received: Vec<p4::StreamMessageRequest>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<State>>);

impl Fake {
    /// Serves on a port of its own until the test's runtime ends.
    pub(crate) async fn serve(version: &str) -> (Self, String) {
        let fake = Self::default();
        fake.0.lock().unwrap().version = version.into();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = P4RuntimeServer::new(fake.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        (fake, address)
    }

    pub(crate) fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    pub(crate) async fn send(&self, update: Down) {
        let stream = self.state(|s| s.stream.clone()).unwrap();
        let message = p4::StreamMessageResponse { update: Some(update) };
        stream.send(Ok(message)).await.unwrap();
    }
}

/// The key of an entity: the entity without its value.
fn key(entity: &p4::Entity) -> Key {
    let key = p4runtime_client::entity::Entity::from_proto(entity);
    match key {
        Ok(entity) => entity.key().to_proto().encode_to_vec(),
        Err(_) => entity.encode_to_vec(),
    }
}

fn update(state: &mut State, update: &p4::Update) -> rpc::Code {
    use p4::update::Type;
    let entity = update.entity.clone().unwrap();
    let key = key(&entity);
    let held = state.entities.contains_key(&key);
    if let Some(p4::entity::Entity::TableEntry(entry)) = &entity.entity
        && update.r#type() == Type::Insert
        && Some(entry.table_id) == state.full_table
    {
        return rpc::Code::ResourceExhausted;
    }
    match (update.r#type(), held) {
        (Type::Insert, true) => return rpc::Code::AlreadyExists,
        (Type::Modify | Type::Delete, false) => return rpc::Code::NotFound,
        (Type::Delete, true) => drop(state.entities.remove(&key)),
        _ => drop(state.entities.insert(key, entity)),
    }
    rpc::Code::Ok
}

#[tonic::async_trait]
impl P4Runtime for Fake {
    async fn write(&self, request: Request<p4::WriteRequest>) -> Result<Response<p4::WriteResponse>, Status> {
        let request = request.into_inner();
        if self.state(|s| s.hangs) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let codes = self.state(|state| {
            state.writes.push(request.updates.len());
            if state.rival.is_some() {
                return Err(Status::permission_denied("not primary"));
            }
            if state.largest.is_some_and(|most| request.updates.len() > most) {
                return Err(Status::resource_exhausted("message too large"));
            }
            Ok(request.updates.iter().map(|u| update(state, u)).collect::<Vec<_>>())
        })?;
        if codes.iter().all(|code| *code == rpc::Code::Ok) {
            return Ok(Response::new(p4::WriteResponse {}));
        }
        let details = codes.into_iter().map(|code| prost_types::Any {
            type_url: "type.googleapis.com/p4.v1.Error".into(),
            value: p4::Error {
                canonical_code: code.into(),
                message: String::new(),
                ..Default::default()
            }
            .encode_to_vec(),
        });
        let status = rpc::Status {
            code: rpc::Code::Unknown.into(),
            message: String::new(),
            details: details.collect(),
        };
        let details = status.encode_to_vec().into();
        Err(Status::with_details(tonic::Code::Unknown, "", details))
    }

    type ReadStream = Responses<p4::ReadResponse>;

    /// Returns everything of the requested kind, in pages of one.
    async fn read(&self, request: Request<p4::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let kinds: Vec<_> = request.into_inner().entities;
        let kind = |e: &p4::Entity| e.entity.as_ref().map(std::mem::discriminant);
        let entities = self.state(|s| s.entities.values().cloned().collect::<Vec<_>>());
        let wanted = entities
            .into_iter()
            .filter(move |e| kinds.iter().any(|k| kind(k) == kind(e)))
            .map(|e| Ok(p4::ReadResponse { entities: vec![e] }));
        let pages: Vec<_> = wanted.collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<p4::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<p4::SetForwardingPipelineConfigResponse>, Status> {
        use p4::set_forwarding_pipeline_config_request::Action;
        let request = request.into_inner();
        self.state(|state| {
            state.pipelines.push(request.action);
            let config = request.config.clone().unwrap_or_default();
            if config.p4_device_config == b"broken" {
                return Err(Status::invalid_argument("does not parse"));
            }
            if request.action() == Action::ReconcileAndCommit && state.no_reconcile {
                return Err(Status::unimplemented("reconcile"));
            }
            if request.action() == Action::VerifyAndCommit {
                state.entities.clear();
            }
            if !state.forgets {
                state.cookie = config.cookie.map(|c| c.cookie);
            }
            Ok(Response::new(p4::SetForwardingPipelineConfigResponse {}))
        })
    }

    async fn get_forwarding_pipeline_config(
        &self,
        _: Request<p4::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<p4::GetForwardingPipelineConfigResponse>, Status> {
        let cookie = self.state(|s| s.cookie);
        let cookie = cookie.ok_or_else(|| Status::failed_precondition("no pipeline"))?;
        Ok(Response::new(p4::GetForwardingPipelineConfigResponse {
            config: Some(p4::ForwardingPipelineConfig {
                cookie: Some(p4::forwarding_pipeline_config::Cookie { cookie }),
                ..Default::default()
            }),
        }))
    }

    type StreamChannelStream = Responses<p4::StreamMessageResponse>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<p4::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (sender, receiver) = mpsc::channel(2048);
        let fake = self.clone();
        let mut requests = request.into_inner();
        self.state(|s| s.stream = Some(sender.clone()));
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                let Some(Up::Arbitration(bid)) = &message.update else {
                    fake.state(|s| s.received.push(message));
                    continue;
                };
                let id = bid.election_id.unwrap_or_default();
                if fake.state(|s| s.taken.contains(&id.low)) {
                    let _ = sender.send(Err(Status::invalid_argument("taken"))).await;
                    fake.state(|s| s.stream = None);
                    return;
                }
                let rival = fake.state(|s| s.rival);
                let code = rival.map_or(rpc::Code::Ok, |_| rpc::Code::AlreadyExists);
                let primary = rival.map_or(id, |low| p4::Uint128 { high: 0, low });
                let answer = p4::MasterArbitrationUpdate {
                    election_id: Some(primary),
                    status: Some(rpc::Status {
                        code: code.into(),
                        ..Default::default()
                    }),
                    ..bid.clone()
                };
                let update = Some(Down::Arbitration(answer));
                let _ = sender.send(Ok(p4::StreamMessageResponse { update })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn capabilities(
        &self,
        _: Request<p4::CapabilitiesRequest>,
    ) -> Result<Response<p4::CapabilitiesResponse>, Status> {
        Ok(Response::new(p4::CapabilitiesResponse {
            p4runtime_api_version: self.state(|s| s.version.clone()),
            experimental: None,
        }))
    }
}
