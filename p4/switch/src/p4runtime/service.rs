//! gRPC in front of [`Server`]: nothing but translation of calls.

use std::pin::Pin;
use std::sync::Arc;

use fabric_identity::Peer;
use p4runtime_grpc::p4_runtime_server::P4Runtime;
use p4runtime_proto::p4::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::batch_status;
use super::server::{Server, read};
use super::streams::Outgoing;
use crate::access;

/// Version of P4Runtime that is served.
const API_VERSION: &str = "1.4.1";

/// Pages built ahead of a reading client.
const PAGES_AHEAD: usize = 2;

/// The P4Runtime service.
#[derive(Clone)]
pub struct Service(pub Arc<Server>);

#[tonic::async_trait]
impl P4Runtime for Service {
    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;
    type StreamChannelStream = Pin<Box<Outgoing>>;

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        // A batch takes about a millisecond; moving the worker's other tasks to another thread would cost more.
        let results = self.0.write(request.get_ref())?;
        batch_status(&results)?;
        Ok(Response::new(v1::WriteResponse {}))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (shared, mut plan) = self.0.read(request.get_ref())?;
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        tokio::spawn(async move {
            loop {
                let page = {
                    let pipeline = read(&shared);
                    plan.next_page(&pipeline.state, &*pipeline.target)
                };
                let Some(page) = page else { break };
                if pages.send(Ok(page)).await.is_err() {
                    return;
                }
            }
            if let Err(status) = batch_status(&plan.results) {
                let _ = pages.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        // Loading a program may take tens of milliseconds.
        tokio::task::block_in_place(|| self.0.set_pipeline(request.into_inner()))?;
        Ok(Response::new(v1::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        Ok(Response::new(self.0.get_pipeline(request.get_ref())?))
    }

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let peer: Option<&Peer> = request.extensions().get();
        let authority = access::authority(peer);
        let liveness = peer.map(|peer| peer.liveness.clone()).unwrap_or_default();
        let (stream, outgoing) = self.0.streams.open(liveness.clone());
        let server = self.0.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            let mut error = None;
            while let Some(Ok(message)) = incoming.next().await {
                if liveness.ended() {
                    break;
                }
                if let Err(fatal) = server.receive(stream, authority, message) {
                    error = Some(fatal);
                    break;
                }
            }
            server.close(stream, error);
        });
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn capabilities(
        &self,
        request: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        let device_id = request.get_ref().device_id;
        if device_id != 0 {
            self.0.check_device(device_id)?;
        }
        Ok(Response::new(v1::CapabilitiesResponse {
            p4runtime_api_version: API_VERSION.to_owned(),
            ..v1::CapabilitiesResponse::default()
        }))
    }
}
