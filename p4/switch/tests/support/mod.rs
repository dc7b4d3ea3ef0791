//! A P4Runtime controller for tests.
// Every test file uses a part of it.
#![allow(dead_code)]

pub(crate) mod switch;

use std::net::SocketAddr;

use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::stream_message_response::Update as News;
use p4runtime_proto::p4::v1::update::Type;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

pub(crate) type Client = P4RuntimeClient<Channel>;

pub(crate) async fn client(address: SocketAddr) -> Client {
    Client::connect(format!("http://{address}")).await.unwrap()
}

/// An open stream; dropping it disconnects the controller.
pub(crate) struct Controller {
    pub(crate) client: Client,
    pub(crate) requests: mpsc::Sender<v1::StreamMessageRequest>,
    pub(crate) responses: Streaming<v1::StreamMessageResponse>,
    pub(crate) election: v1::Uint128,
    pub(crate) address: SocketAddr,
}

impl Controller {
    pub(crate) async fn open(address: SocketAddr, low: u64) -> Self {
        let mut client = client(address).await;
        let (requests, receiver) = mpsc::channel(8);
        let responses = client
            .stream_channel(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let election = v1::Uint128 { high: 0, low };
        let controller = Self {
            client,
            requests,
            responses,
            election,
            address,
        };
        controller.arbitrate(low).await;
        controller
    }

    pub(crate) async fn arbitrate(&self, low: u64) {
        let update = v1::MasterArbitrationUpdate {
            device_id: 1,
            election_id: Some(v1::Uint128 { high: 0, low }),
            ..Default::default()
        };
        let update = Some(v1::stream_message_request::Update::Arbitration(update));
        self.requests.send(v1::StreamMessageRequest { update }).await.unwrap();
    }

    /// Code and highest election id of the next arbitration update.
    pub(crate) async fn standing(&mut self) -> (Code, u64) {
        match self.responses.message().await.unwrap().unwrap().update {
            Some(News::Arbitration(update)) => (
                Code::from(update.status.unwrap().code),
                update.election_id.map_or(0, |id| id.low),
            ),
            other => panic!("not an arbitration update: {other:?}"),
        }
    }

    /// Code of the next stream error.
    pub(crate) async fn error(&mut self) -> Code {
        match self.responses.message().await.unwrap().unwrap().update {
            Some(News::Error(error)) => Code::from(error.canonical_code),
            other => panic!("not a stream error: {other:?}"),
        }
    }

    pub(crate) async fn primary(address: SocketAddr) -> Self {
        let mut controller = Self::open(address, 10).await;
        assert_eq!(controller.standing().await, (Code::Ok, 10));
        controller
    }

    pub(crate) async fn set(
        &mut self,
        action: Set,
        config: Option<v1::ForwardingPipelineConfig>,
    ) -> Result<(), Status> {
        let request = v1::SetForwardingPipelineConfigRequest {
            device_id: 1,
            election_id: Some(self.election),
            action: action.into(),
            config,
            ..Default::default()
        };
        self.client.set_forwarding_pipeline_config(request).await.map(|_| ())
    }

    pub(crate) async fn write(&mut self, kind: Type, entities: Vec<Kind>) -> Result<(), Status> {
        let updates = entities.into_iter().map(|entity| v1::Update {
            r#type: kind.into(),
            entity: Some(v1::Entity { entity: Some(entity) }),
        });
        let request = v1::WriteRequest {
            device_id: 1,
            election_id: Some(self.election),
            updates: updates.collect(),
            ..Default::default()
        };
        self.client.write(request).await.map(|_| ())
    }

    pub(crate) async fn read(&mut self, entity: Kind) -> Result<Vec<Kind>, Status> {
        let entities = vec![v1::Entity { entity: Some(entity) }];
        let request = v1::ReadRequest {
            device_id: 1,
            entities,
            ..Default::default()
        };
        let mut pages = self.client.read(request).await?.into_inner();
        let mut found = Vec::new();
        while let Some(page) = pages.message().await? {
            found.extend(page.entities.into_iter().filter_map(|entity| entity.entity));
        }
        Ok(found)
    }
}

/// Codes of the updates of a `Write` that failed (section 10).
pub(crate) fn update_codes(written: Result<(), Status>) -> Vec<Code> {
    let status = written.unwrap_err();
    let details = p4runtime_proto::google::rpc::Status::decode(status.details()).unwrap();
    let errors = details
        .details
        .iter()
        .map(|any| v1::Error::decode(any.value.as_slice()));
    errors.map(|error| Code::from(error.unwrap().canonical_code)).collect()
}
