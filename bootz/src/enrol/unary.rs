//! The unary calls: the device proves its IDevID in the TLS handshake.
//!
//! A handshake proves something only to the other end of the connection. So devices make these calls to the owner
//! itself. The Bootz server has no key: if it passed the calls on, it could claim to speak for any device. The TLS
//! layer checks only that the device has the key of the certificate that it shows. Everything else is checked here for
//! each call, by the same code that checks a proof from a stream. That way a refusal carries a reason in words and
//! becomes an event.
//!
//! A unary request has no field for a certificate request. So the device gets a key with its certificate, over the
//! connection that its IDevID has authenticated.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bootz_proto::bootz::bootstrap_server::{Bootstrap, BootstrapServer};
use bootz_proto::bootz::identity::Type as IdentityType;
use bootz_proto::bootz::report_status_request::BootstrapStatus;
use bootz_proto::bootz::{
    BootstrapStreamRequest, BootstrapStreamRequestV1, BootstrapStreamResponse, BootstrapStreamResponseV1,
    ChassisDescriptor, EmptyResponse, GetBootstrapDataRequest, GetBootstrapDataResponse, Identity, ReportStatusRequest,
};
use fabric_identity::{Claim, ClientCertificates, Limits, Listener, Peer};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::serve::{Desk, KEEPALIVE, LONGEST, SeenStep, ServeError, now_ms, plain, refused};
use crate::idevid::Idevid;

/// Devices hold one connection each.
const LIMITS: Limits = Limits {
    per_peer: 8,
    ..Limits::GRPC
};
/// Calls of one connection at a time; a device makes one.
const CALLS: u32 = 4;
/// Most refusals in a minute that are logged and become events. More of them say nothing new, and would push out other
/// events.
const REFUSALS: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);

const STREAMS: &str = "this server takes unary calls only; the Bootz server that DHCP names takes streams";

/// Serves until `shutdown` resolves.
///
/// # Errors
/// TLS cannot be set up, or the transport failed.
pub async fn serve(
    desk: Arc<Desk>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let credentials = Arc::clone(&desk.credentials);
    let clients = ClientCertificates::Shown;
    let listener = Listener::tls(listener, "Bootz (unary)", LIMITS, &credentials, clients)?;
    let service = Door {
        desk,
        refusals: Mutex::new((Instant::now(), REFUSALS)),
    };
    tonic::transport::Server::builder()
        .layer(fabric_identity::TakenLayer)
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(BootstrapServer::new(service).max_decoding_message_size(LONGEST))
        .serve_with_incoming_shutdown(listener.incoming(), shutdown)
        .await?;
    Ok(())
}

struct Door {
    desk: Arc<Desk>,
    /// When the minute began, and how many refusals may still become events in it.
    refusals: Mutex<(Instant, u32)>,
}

/// A device that proved in the TLS handshake that it has the key of the certificate that it showed.
struct Caller {
    address: IpAddr,
    idevid: Idevid,
}

impl Caller {
    /// The device that makes a call.
    ///
    /// # Errors
    /// The device shows no certificate, or one that is not an IDevID.
    fn of<T>(request: &Request<T>) -> Result<Self, (Option<IpAddr>, Status)> {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.ok_or_else(|| (None, Status::internal("the address of the device is not known")))?;
        let address = peer.address.ip().to_canonical();
        let Claim::Shown(chain) = &peer.claim else {
            let words = "no client certificate: expected the IDevID certificate of the device in the TLS handshake";
            return Err((Some(address), Status::unauthenticated(words)));
        };
        let idevid = Idevid::of_chain(chain.to_vec());
        let idevid = idevid.map_err(|error| (Some(address), refused(&error)))?;
        Ok(Self { address, idevid })
    }

    /// What is known about the device, for people.
    fn words(&self, chassis: Option<&ChassisDescriptor>) -> String {
        let (maker, model) = chassis.map_or(("", ""), |c| (c.manufacturer.as_str(), c.part_number.as_str()));
        format!(
            "serial number {}, manufacturer {maker:?}, model {model:?}, key {}",
            self.idevid.serial(),
            self.idevid.fingerprint()
        )
    }

    /// A message that names an identity must name the one of the handshake.
    fn is_named(&self, identity: Option<&Identity>) -> Result<(), Status> {
        let named = match identity.and_then(|identity| identity.r#type.as_ref()) {
            None => return Ok(()),
            Some(IdentityType::IdevidCert(text)) => Idevid::read(text).map_err(|error| refused(&error))?,
            Some(_) => {
                return Err(Status::permission_denied(
                    "its message names an identity that is no IDevID",
                ));
            }
        };
        if named.fingerprint() == self.idevid.fingerprint() && named.serial() == self.idevid.serial() {
            return Ok(());
        }
        let words = format!(
            "its message names device {}, but the TLS handshake was signed by device {}: a clone?",
            named.serial(),
            self.idevid.serial()
        );
        Err(Status::permission_denied(words))
    }
}

impl Door {
    /// Decides on a thread that may wait for the disk. A refusal is logged, and is an event unless there were
    /// too many.
    async fn decide<Q: Send + 'static, A: Send + 'static>(
        &self,
        request: Request<Q>,
        chassis: Option<ChassisDescriptor>,
        decide: impl FnOnce(&Desk, &Caller, &Q) -> Result<A, Status> + Send + 'static,
    ) -> Result<A, Status> {
        let caller = match Caller::of(&request) {
            Ok(caller) => caller,
            Err((address, status)) => {
                self.note(address, None, status.message());
                return Err(status);
            }
        };
        let (desk, ask, address) = (Arc::clone(&self.desk), request.into_inner(), caller.address);
        let deciding = tokio::task::spawn_blocking(move || {
            // The certificate is checked first. Nothing that the device says is read
            // before that.
            let decided = desk.shown(&caller.idevid).and_then(|()| decide(&desk, &caller, &ask));
            decided.map_err(|status| {
                let words = format!("{} ({})", status.message(), caller.words(chassis.as_ref()));
                (status, desk.seems(&caller.idevid), words)
            })
        });
        let decided = deciding
            .await
            .map_err(|_| Status::internal("the answer was not finished"))?;
        decided.map_err(|(status, switch, words)| {
            self.note(Some(address), switch, &words);
            status
        })
    }

    fn note(&self, address: Option<IpAddr>, switch: Option<String>, why: &str) {
        if !self.has_room() {
            return;
        }
        let why = plain(why);
        tracing::warn!(target: "audit", peer = ?address, why, "an enrolment was refused");
        let from = address.map(|a| a.to_string()).unwrap_or_default();
        self.desk.note_seen(SeenStep {
            switch: switch.unwrap_or_default(),
            detail: format!("Bootz, from {from}: {why}"),
            who: from,
            what: "refused".to_owned(),
            at_ms: now_ms(),
        });
    }

    fn has_room(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.elapsed() >= MINUTE {
            *refusals = (Instant::now(), REFUSALS);
        }
        match refusals.1.checked_sub(1) {
            Some(left) => {
                refusals.1 = left;
                true
            }
            None => false,
        }
    }
}

/// A step of a switch that proved its identity.
fn step(desk: &Desk, switch: &str, address: IpAddr, what: &str, detail: String) {
    desk.note_seen(SeenStep {
        switch: switch.to_owned(),
        who: address.to_string(),
        what: what.to_owned(),
        at_ms: now_ms(),
        detail,
    });
}

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl Bootstrap for Door {
    type BootstrapStreamStream = Answers<BootstrapStreamResponse>;
    type BootstrapStreamV1Stream = Answers<BootstrapStreamResponseV1>;

    async fn get_bootstrap_data(
        &self,
        request: Request<GetBootstrapDataRequest>,
    ) -> Result<Response<GetBootstrapDataResponse>, Status> {
        let chassis = request.get_ref().chassis_descriptor.clone();
        let decide = |desk: &Desk, caller: &Caller, ask: &GetBootstrapDataRequest| {
            caller.is_named(ask.identity.as_ref())?;
            let peer = caller.address.to_string();
            let (response, switch) = desk.bootstrap_unary(&caller.idevid, ask, &peer)?;
            let words = format!("proved its identity at {peer} in the TLS handshake; bootstrap data was sent");
            step(desk, &switch, caller.address, "enrolled", words);
            Ok(response)
        };
        self.decide(request, chassis, decide).await.map(Response::new)
    }

    async fn report_status(&self, request: Request<ReportStatusRequest>) -> Result<Response<EmptyResponse>, Status> {
        let decide = |desk: &Desk, caller: &Caller, ask: &ReportStatusRequest| {
            let what = match ask.status() {
                BootstrapStatus::Success => "bootstrapped",
                BootstrapStatus::Initiated => "bootstrapping",
                BootstrapStatus::Failure => "bootstrap_failed",
                BootstrapStatus::Unspecified => return Err(Status::invalid_argument("a report without a status")),
            };
            caller.is_named(ask.identity.as_ref())?;
            let switch = desk.reported(&caller.idevid, ask)?;
            step(desk, &switch, caller.address, what, plain(&ask.status_message));
            Ok(EmptyResponse {})
        };
        self.decide(request, None, decide).await.map(Response::new)
    }

    async fn bootstrap_stream(
        &self,
        _: Request<Streaming<BootstrapStreamRequest>>,
    ) -> Result<Response<Self::BootstrapStreamStream>, Status> {
        Err(Status::unimplemented(STREAMS))
    }

    async fn bootstrap_stream_v1(
        &self,
        _: Request<Streaming<BootstrapStreamRequestV1>>,
    ) -> Result<Response<Self::BootstrapStreamV1Stream>, Status> {
        Err(Status::unimplemented(STREAMS))
    }
}
