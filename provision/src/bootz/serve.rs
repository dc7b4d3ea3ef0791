//! The conversation with a device.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootz_proto::bootz::bootstrap_server::{Bootstrap, BootstrapServer};
use bootz_proto::bootz::bootstrap_stream_request_v1::challenge_response::Type as Response;
use bootz_proto::bootz::bootstrap_stream_request_v1::{ChallengeResponse, Type as Said};
use bootz_proto::bootz::bootstrap_stream_response_v1::challenge_request::{
    ChallengeRequestTpm20iDevId, Type as Challenge,
};
use bootz_proto::bootz::bootstrap_stream_response_v1::{ChallengeRequest, Type as Answer};
use bootz_proto::bootz::identity::Type as IdentityType;
use bootz_proto::bootz::report_status_request::BootstrapStatus;
use bootz_proto::bootz::{
    BootstrapStreamRequest, BootstrapStreamRequestV1, BootstrapStreamResponse, BootstrapStreamResponseV1,
    ChassisDescriptor, EmptyResponse, GetBootstrapDataRequest, GetBootstrapDataResponse, Identity, ReportStatusRequest,
};
use bootz_proto::request::{BootstrapRequest, Proof, ReportRequest};
use fabric_bootz::idevid::Idevid;
use fabric_bootz::proof;
use fabric_identity::{Incoming, Limits, Peer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming, async_trait};
use vfabric_api::ident::{Label, Name};

use super::owner::Owner;
use crate::board::{Board, What, now};
use crate::dhcp::leases::Holder;
use crate::directory::Directory;

/// Longest wait for the next message of a device: a TPM signs within seconds, and between two reports it installs software.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest wait for a message that a device can send at once: its first one, and the answer to a challenge.
const PROMPT: Duration = Duration::from_secs(30);
/// Reports that one stream may have.
const REPORTS: usize = 1000;
/// Largest message of a device, in octets: a chain of certificates and a request.
const LONGEST: usize = 256 << 10;
/// Answers that may wait for a device; each one answers a message that the device has sent.
const ANSWERS: usize = 1;

/// Limits of the listener. Each device holds one connection; devices behind a relay have their own addresses.
pub const LIMITS: Limits = Limits {
    per_peer: 8,
    ..Limits::GRPC
};
/// Streams of one connection; a device needs one at a time.
const STREAMS: u32 = 4;
/// Interval and timeout of keep-alives: together, the time until a dead device is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));

/// What conversations need.
pub struct Desk {
    /// The inventory.
    pub directory: Arc<ArcSwap<Directory>>,
    /// Where steps and troubles are written.
    pub board: Arc<Board>,
    /// Decides about devices.
    pub owner: Arc<dyn Owner>,
}

/// Serves until it is stopped.
///
/// # Errors
/// The transport failed.
pub async fn serve(
    incoming: Incoming,
    desk: Arc<Desk>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = BootstrapServer::new(Server(desk)).max_decoding_message_size(LONGEST);
    let serving = tonic::transport::Server::builder()
        .layer(fabric_identity::TakenLayer)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(service)
        .serve_with_incoming(incoming);
    // Streams live long; they end with the server.
    tokio::select! {
        served = serving => served,
        () = stop.cancelled() => Ok(()),
    }
}

struct Server(Arc<Desk>);

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

const UNARY: &str = "this server speaks BootstrapStreamV1: a device proves its IDevID by a challenge. The controller itself \
     takes unary calls, with the IDevID in the TLS handshake (`unary` of its settings)";

#[async_trait]
impl Bootstrap for Server {
    type BootstrapStreamStream = Answers<BootstrapStreamResponse>;
    type BootstrapStreamV1Stream = Answers<BootstrapStreamResponseV1>;

    async fn get_bootstrap_data(
        &self,
        _: Request<GetBootstrapDataRequest>,
    ) -> Result<tonic::Response<GetBootstrapDataResponse>, Status> {
        Err(Status::unimplemented(UNARY))
    }

    async fn report_status(&self, _: Request<ReportStatusRequest>) -> Result<tonic::Response<EmptyResponse>, Status> {
        Err(Status::unimplemented(UNARY))
    }

    async fn bootstrap_stream(
        &self,
        _: Request<Streaming<BootstrapStreamRequest>>,
    ) -> Result<tonic::Response<Self::BootstrapStreamStream>, Status> {
        Err(Status::unimplemented("version 0.6 is withdrawn: use BootstrapStreamV1"))
    }

    async fn bootstrap_stream_v1(
        &self,
        request: Request<Streaming<BootstrapStreamRequestV1>>,
    ) -> Result<tonic::Response<Self::BootstrapStreamV1Stream>, Status> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let peer = peer.ok_or_else(|| Status::internal("the address of the device is not known"))?;
        let (out, answers) = mpsc::channel(ANSWERS);
        let talk = Talk {
            desk: Arc::clone(&self.0),
            peer,
            incoming: request.into_inner(),
            out,
        };
        tokio::spawn(talk.run());
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// One stream.
struct Talk {
    desk: Arc<Desk>,
    peer: SocketAddr,
    incoming: Streaming<BootstrapStreamRequestV1>,
    out: mpsc::Sender<Result<BootstrapStreamResponseV1, Status>>,
}

/// Why a conversation ends before its time.
enum End {
    /// The device is gone, or had nothing more to say.
    Gone,
    /// The device is refused. Contains the switch that it seems to be, if that is known.
    Refused(Option<Name>, Status),
}

/// A device that proved who it is, in this stream.
struct Known {
    switch: Name,
    proof: Proof,
}

impl Talk {
    async fn run(mut self) {
        let Err(End::Refused(switch, status)) = self.talk().await else {
            return;
        };
        let detail = format!("Bootz, from {}: {}", self.peer.ip(), status.message());
        match switch {
            Some(name) => self.desk.board.step(&name, now(), What::Refused, &detail),
            None => self.desk.board.refused(now(), &self.peer.ip().to_string(), &detail),
        }
        self.desk.board.count("bootz refused");
        let _ = self.out.send(Err(status)).await;
    }

    async fn talk(&mut self) -> Result<(), End> {
        let mut known = None;
        let mut patience = PROMPT;
        for _ in 0..REPORTS {
            match self.next(patience).await? {
                Said::BootstrapRequest(request) if known.is_none() => known = Some(self.bootstrap(request).await?),
                Said::ReportStatusRequest(report) => known = Some(self.report(report, known.take()).await?),
                Said::BootstrapRequest(_) => {
                    return Err(refused(known, "a second request for bootstrap data in one stream"));
                }
                Said::ChallengeResponse(_) => return Err(refused(known, "an answer to a challenge that was not made")),
            }
            patience = PATIENCE;
        }
        Err(refused(known, "too many reports in one stream"))
    }

    async fn next(&mut self, patience: Duration) -> Result<Said, End> {
        let next = tokio::time::timeout(patience, self.incoming.message()).await;
        let late = |_| End::Refused(None, Status::deadline_exceeded("the device said nothing for too long"));
        match next.map_err(late)? {
            Ok(Some(message)) => message
                .r#type
                .ok_or_else(|| End::Refused(None, Status::invalid_argument("an empty message"))),
            Ok(None) => Err(End::Gone),
            Err(status) => {
                // A device that loses power is not a trouble; a device that sends unreadable messages is.
                tracing::debug!(peer = %self.peer, %status, "a Bootz stream broke off");
                Err(End::Gone)
            }
        }
    }

    async fn send(&self, answer: Answer) -> Result<(), End> {
        let answer = BootstrapStreamResponseV1 { r#type: Some(answer) };
        self.out.send(Ok(answer)).await.map_err(|_| End::Gone)
    }

    async fn bootstrap(&mut self, request: GetBootstrapDataRequest) -> Result<Known, End> {
        let (switch, certificate) = self.meet(request.identity.as_ref(), request.chassis_descriptor.as_ref())?;
        let proof = self.challenge(&switch, certificate).await?;
        let ask = BootstrapRequest {
            proof: Some(proof.clone()),
            request: Some(request),
            peer: self.peer.to_string(),
        };
        let reply = self.desk.owner.bootstrap(ask).await;
        let reply = reply.map_err(|status| End::Refused(Some(switch.clone()), status))?;
        let response = reply
            .response
            .ok_or_else(|| refused_as(&switch, "the controller sent nothing"))?;
        self.send(Answer::BootstrapResponse(response)).await?;
        let detail = format!("proved its identity at {}; bootstrap data was sent", self.peer.ip());
        self.desk.board.step(&switch, now(), What::Enrolled, &detail);
        self.desk.board.count("bootz bootstrapped");
        Ok(Known { switch, proof })
    }

    async fn report(&mut self, report: ReportStatusRequest, known: Option<Known>) -> Result<Known, End> {
        let known = match known {
            Some(known) => known,
            // This is not the stream of the bootstrap data, so the device proves again who it is.
            None => {
                let (switch, certificate) = self.meet(report.identity.as_ref(), None)?;
                let proof = self.challenge(&switch, certificate).await?;
                Known { switch, proof }
            }
        };
        let what = match report.status() {
            BootstrapStatus::Success => What::Bootstrapped,
            BootstrapStatus::Initiated => What::Bootstrapping,
            BootstrapStatus::Failure => What::BootstrapFailed,
            BootstrapStatus::Unspecified => return Err(refused_as(&known.switch, "a report without a status")),
        };
        let words = report.status_message.clone();
        let ask = ReportRequest {
            proof: Some(known.proof.clone()),
            report: Some(report),
            peer: self.peer.to_string(),
        };
        let stored = self.desk.owner.report(ask).await;
        stored.map_err(|status| End::Refused(Some(known.switch.clone()), status))?;
        self.desk.board.step(&known.switch, now(), what, &words);
        self.send(Answer::ReportStatusResponse(EmptyResponse {})).await?;
        Ok(known)
    }

    /// Which switch a device claims to be, and its certificate. Nothing is proven yet.
    fn meet(&self, identity: Option<&Identity>, chassis: Option<&ChassisDescriptor>) -> Result<(Name, String), End> {
        let certificate = match identity.and_then(|i| i.r#type.as_ref()) {
            Some(IdentityType::IdevidCert(certificate)) => certificate.clone(),
            Some(_) => {
                let words = "only devices with an IDevID can be bootstrapped; this one has a TPM without";
                return Err(End::Refused(None, Status::unimplemented(words)));
            }
            None => return Err(refused(None, "no identity")),
        };
        let idevid = Idevid::read(&certificate).map_err(|error| refused(None, &error.to_string()))?;
        let serial = idevid.serial();
        let label: Option<Label> = serial.parse().ok();
        let directory = self.desk.directory.load();
        let found = label
            .as_ref()
            .and_then(|serial| directory.recognise(None, Some(serial)).ok());
        let Some(switch) = found else {
            let (maker, model) = chassis.map_or(("", ""), |c| (c.manufacturer.as_str(), c.part_number.as_str()));
            let words = format!(
                "serial number {serial} is not in the inventory (manufacturer {maker:?}, model {model:?}, key {})",
                idevid.fingerprint()
            );
            return Err(End::Refused(None, Status::permission_denied(words)));
        };
        let name = switch.name.clone();
        if let Err(words) = idevid.fits(chassis) {
            return Err(End::Refused(Some(name), Status::permission_denied(words)));
        }
        if let Some(Holder::Switch(leased)) = self.desk.board.holder(self.peer.ip().to_canonical(), now())
            && leased != name
        {
            let words = format!(
                "its address was leased to `{leased}`, but its certificate is of `{name}`: are two switches swapped?"
            );
            return Err(End::Refused(Some(name), Status::permission_denied(words)));
        }
        Ok((name, certificate))
    }

    async fn challenge(&mut self, switch: &Name, certificate: String) -> Result<Proof, End> {
        let internal = |error: fabric_bootz::BootzError| End::Refused(None, Status::internal(error.to_string()));
        let nonce = proof::nonce().map_err(internal)?;
        let challenge = ChallengeRequestTpm20iDevId { nonce: nonce.clone() };
        self.send(Answer::ChallengeRequest(ChallengeRequest {
            r#type: Some(Challenge::Tpm20Idevid(challenge)),
        }))
        .await?;
        let detail = format!("asked at {} to prove its identity", self.peer.ip());
        self.desk.board.step(switch, now(), What::Challenged, &detail);
        match self.next(PROMPT).await? {
            Said::ChallengeResponse(ChallengeResponse {
                r#type: Some(Response::Tpm20Idevid(response)),
            }) => Ok(Proof {
                idevid_cert: certificate,
                serialized_transport_key: response.serialized_transport_key,
                signature: response.signature,
                nonce,
            }),
            _ => Err(refused_as(switch, "expected the answer to the challenge")),
        }
    }
}

fn refused(known: Option<Known>, why: &str) -> End {
    End::Refused(known.map(|k| k.switch), Status::invalid_argument(why))
}

fn refused_as(switch: &Name, why: &str) -> End {
    End::Refused(Some(switch.clone()), Status::invalid_argument(why))
}
