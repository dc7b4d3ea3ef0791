//! The service that the Bootz server calls: enrolments and reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::{
    BootstrapDataSigned, GetBootstrapDataRequest, GetBootstrapDataResponse, ReportStatusRequest, SoftwareImage,
};
use bootz_proto::request::owner_server::{Owner, OwnerServer};
use bootz_proto::request::{
    BootStep, BootstrapReply, BootstrapRequest, Proof, ReportReply, ReportRequest, TellReply, TellRequest,
};
use fabric_identity::{ClientCertificates, Credentials, Identity, Limits, Listener, Notices, Peer, Subject};
use rustls_pki_types::UnixTime;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, async_trait};

use super::book::{Book, BookError, Report};
use crate::authority::{Authority, Issued};
use crate::data::{self, Profile, SwitchConfig};
use crate::error::BootzError;
use crate::idevid::Idevid;
use crate::owner::Owner as OwnerKeys;
use crate::proof::{self, Proven};
use crate::x509::{self, Anchors};

/// Most connections at a time: one Bootz server, or one for each part of a large fabric.
const LIMITS: Limits = Limits {
    connections: 64,
    ..Limits::GRPC
};
/// Streams of one connection: a Bootz server asks for each device that it talks to.
const MAX_STREAMS: u32 = 256;
/// Largest message, in octets: a chain of certificates and a report.
pub(super) const LONGEST: usize = 512 << 10;
/// Most steps that the provisioning server reports at once.
pub const STEPS: usize = 256;
/// Longest text of a report that is kept, in characters.
const WORDS: usize = 300;
/// HTTP/2 pings: interval and longest wait for the answer. A Bootz server that vanished is noticed after at most the
/// sum of both.
pub(super) const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// A switch of the inventory.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its identity, which is never reused.
    pub uid: u64,
    /// Its settings.
    pub config: SwitchConfig,
    /// Its model, if the inventory names one.
    pub model: Option<String>,
    /// Release of the software that it should run, if the inventory names one.
    pub software: Option<String>,
    /// Whether it has left the fabric or is leaving it.
    pub is_retired: bool,
}

/// The keys of the owner.
pub struct Keys {
    /// Manufacturers whose devices may enrol.
    pub manufacturers: Anchors,
    /// The owner.
    pub owner: OwnerKeys,
    /// Signs certificates.
    pub authority: Authority,
    /// The certificate of that authority (PEM).
    pub authority_pem: String,
    /// How long certificates are valid.
    pub valid: Duration,
}

/// A step of a machine, as the provisioning server saw it. None of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenStep {
    /// The switch that it seems to be; empty if it is not in the inventory.
    pub switch: String,
    /// The machine: its hardware address, or where it called from.
    pub who: String,
    /// Which step, as the API names it.
    pub what: String,
    /// When, in milliseconds since 1970 by our clock.
    pub at_ms: u64,
    /// Details for people.
    pub detail: String,
}

/// The parts of the inventory that matter here.
pub trait Roster: Send + Sync + 'static {
    /// The switch with a serial number; upper and lower case make no difference.
    fn by_serial(&self, serial: &str) -> Option<Found>;

    /// Takes note of what the provisioning server saw.
    fn note_seen(&self, seen: &[SeenStep]) {
        let _ = seen;
    }
}

/// Decides about devices.
pub struct Desk {
    roster: Arc<dyn Roster>,
    book: Book,
    keys: Keys,
    pub(super) credentials: Arc<Credentials>,
    /// The file of authorities that switches trust (PEM). It is read again for each device, so that a new authority is
    /// used at once.
    ca: PathBuf,
}

/// Why enrolment cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS cannot be set up.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// The transport failed.
    #[error("gRPC server")]
    Transport(#[from] tonic::transport::Error),
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn refused(error: &BootzError) -> Status {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    match error {
        BootzError::File { .. } | BootzError::Key { .. } => Status::internal(words),
        _ => Status::permission_denied(words),
    }
}

impl From<BookError> for Status {
    fn from(error: BookError) -> Self {
        let words = error.to_string();
        match error {
            BookError::Bound(_) => {
                Self::permission_denied(words + ": a clone? A replaced machine has a serial number of its own")
            }
            BookError::Unbound => Self::failed_precondition(words),
            BookError::Disk(_) => Self::internal(words),
        }
    }
}

impl Desk {
    /// A service with the inventory, the bindings, the keys, and the file of authorities that switches trust.
    pub fn new(
        roster: Arc<dyn Roster>,
        book: Book,
        keys: Keys,
        credentials: Arc<Credentials>,
        ca: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            roster,
            book,
            keys,
            credentials,
            ca,
        })
    }

    /// The switch of the inventory for a device whose identity is proven.
    fn place(&self, idevid: &Idevid) -> Result<Found, Status> {
        let serial = idevid.serial();
        let found = self.roster.by_serial(serial);
        let found = found
            .ok_or_else(|| Status::permission_denied(format!("serial number {serial} is not in the inventory")))?;
        if found.is_retired {
            let words = format!("switch `{}` was retired", found.config.hostname);
            return Err(Status::permission_denied(words));
        }
        Ok(found)
    }

    /// Checks a proof, and returns the device whose key signed the nonce.
    fn proven(&self, proof: Option<&Proof>) -> Result<Proven, Status> {
        let proof = proof.ok_or_else(|| Status::invalid_argument("no proof"))?;
        proof::check(proof, &self.keys.manufacturers, UnixTime::now()).map_err(|error| refused(&error))
    }

    /// Checks that a trusted manufacturer vouches for the device whose key signed the TLS handshake.
    pub(super) fn shown(&self, idevid: &Idevid) -> Result<(), Status> {
        let checked = idevid.check(&self.keys.manufacturers, UnixTime::now());
        checked.map_err(|error| refused(&error))
    }

    /// Name of the switch that a device seems to be.
    pub(super) fn seems(&self, idevid: &Idevid) -> Option<String> {
        self.roster
            .by_serial(idevid.serial())
            .map(|found| found.config.hostname)
    }

    /// Passes on a step that the server of unary calls saw.
    pub(super) fn note_seen(&self, seen: SeenStep) {
        self.roster.note_seen(&[seen]);
    }

    fn bootstrap(&self, ask: &BootstrapRequest) -> Result<BootstrapReply, Status> {
        let proven = self.proven(ask.proof.as_ref())?;
        let request = ask
            .request
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("no request"))?;
        let (idevid, key) = (&proven.idevid, proven.request.as_deref());
        let (response, switch) = self.enrol(idevid, key, request, &ask.peer, |data| {
            self.keys.owner.seal(&proven, data)
        })?;
        Ok(BootstrapReply {
            response: Some(response),
            switch,
        })
    }

    /// As [`Self::bootstrap`], for a device whose identity was proven in the TLS handshake.
    pub(super) fn bootstrap_unary(
        &self,
        idevid: &Idevid,
        request: &GetBootstrapDataRequest,
        peer: &str,
    ) -> Result<(GetBootstrapDataResponse, String), Status> {
        self.enrol(idevid, None, request, peer, |data| self.keys.owner.sign(idevid, data))
    }

    /// Decides about a device whose identity is proven: binds it, and makes its bootstrap data, which `pack` signs. If the
    /// device asks for a certificate for its own key, it keeps that key; otherwise it gets one.
    fn enrol<R>(
        &self,
        idevid: &Idevid,
        key: Option<&[u8]>,
        request: &GetBootstrapDataRequest,
        peer: &str,
        pack: impl FnOnce(&BootstrapDataSigned) -> Result<R, BootzError>,
    ) -> Result<(R, String), Status> {
        let found = self.place(idevid)?;
        if request.nonce.is_empty() {
            let words =
                "the device does not ask for a voucher, so anybody could own it: Bootz allows that for tests only";
            return Err(Status::permission_denied(words));
        }
        let chassis = request.chassis_descriptor.as_ref();
        idevid.fits(chassis).map_err(Status::permission_denied)?;
        let model = chassis.map_or("", |c| c.part_number.as_str());
        let name = found.config.hostname.clone();
        if let Some(expected) = &found.model
            && !model.is_empty()
            && model != expected
        {
            let words = format!("it is a {model:?}, but the inventory has model `{expected}` for `{name}`");
            return Err(Status::permission_denied(words));
        }
        let now = SystemTime::now();
        let authorities = std::fs::read_to_string(&self.ca);
        let authorities = authorities.map_err(|error| Status::internal(format!("{}: {error}", self.ca.display())))?;
        let identity = Identity {
            fabric: self.credentials.fabric(),
            subject: Subject::Switch(name.clone()),
        };
        let names = found.config.names();
        let keys = &self.keys;
        let issued = keys
            .authority
            .issue(&identity, names, key, keys.valid, now)
            .map_err(|error| refused(&error))?;
        let data = self.data(idevid, &found, request.nonce.clone(), &authorities, &issued, now);
        let response = data.and_then(|data| pack(&data)).map_err(|error| refused(&error))?;
        // This comes last, when nothing else can fail, so that a refused device leaves no
        // trace.
        let bound = self.book.bind(
            found.uid,
            &folded(idevid.serial()),
            idevid.fingerprint(),
            seconds(now),
            issued.not_after,
        )?;
        tracing::info!(target: "audit", switch = %name, serial = idevid.serial(), key = bound.fingerprint, peer,
            own_key = issued.key.is_none(), "a device proved to be this switch and got a certificate");
        Ok((response, name))
    }

    fn data(
        &self,
        idevid: &Idevid,
        found: &Found,
        nonce: String,
        authorities: &str,
        issued: &Issued,
        now: SystemTime,
    ) -> Result<BootstrapDataSigned, BootzError> {
        let trusted = x509::certificates("the fabric's authorities", authorities.as_bytes())?;
        let mut pems: Vec<String> = trusted.iter().map(|c| x509::pem(c)).collect();
        let own = x509::certificates("the authority", self.keys.authority_pem.as_bytes())?;
        pems.extend(own.iter().filter(|c| !trusted.contains(c)).map(|c| x509::pem(c)));
        let profile = Profile {
            certificate: issued.certificate.clone(),
            key: issued.key.clone(),
            authorities: pems,
        };
        let server = trusted.first().map(|c| BASE64_STANDARD.encode(c)).unwrap_or_default();
        let mut data = data::write(idevid.serial(), server, &found.config, &profile, seconds(now))?;
        data.intended_image = found.software.as_ref().map(|software| SoftwareImage {
            name: software.clone(),
            version: software.clone(),
            ..SoftwareImage::default()
        });
        Ok(BootstrapDataSigned {
            responses: vec![data],
            nonce,
        })
    }

    fn report(&self, ask: &ReportRequest) -> Result<ReportReply, Status> {
        let proven = self.proven(ask.proof.as_ref())?;
        let said = ask.report.as_ref();
        let said = said.ok_or_else(|| Status::invalid_argument("no report"))?;
        let switch = self.reported(&proven.idevid, said)?;
        Ok(ReportReply { switch })
    }

    /// Stores the report of a device whose identity is proven; returns the name of its switch.
    pub(super) fn reported(&self, idevid: &Idevid, said: &ReportStatusRequest) -> Result<String, Status> {
        let found = self.place(idevid)?;
        let report = Report {
            at: seconds(SystemTime::now()),
            status: said.status().as_str_name().to_owned(),
            words: plain(&said.status_message),
        };
        let name = found.config.hostname;
        tracing::info!(target: "audit", switch = %name, serial = idevid.serial(), status = report.status, words = report.words,
            "a device reports");
        self.book
            .report(found.uid, &folded(idevid.serial()), idevid.fingerprint(), report)?;
        Ok(name)
    }
}

impl Desk {
    fn tell(&self, ask: &TellRequest) -> Result<TellReply, Status> {
        if ask.steps.len() > STEPS {
            return Err(Status::invalid_argument(format!("steps: expected {STEPS} at the most")));
        }
        let now_ms = now_ms();
        let seen = |step: &BootStep| SeenStep {
            switch: step.switch.clone(),
            who: plain(&step.who),
            what: step.what.clone(),
            // Only the age of a step is used, because the two clocks may differ.
            at_ms: now_ms.saturating_sub(ask.now_ms.saturating_sub(step.at_ms)),
            detail: plain(&step.detail),
        };
        let all: Vec<SeenStep> = ask.steps.iter().map(seen).collect();
        self.roster.note_seen(&all);
        Ok(TellReply {})
    }
}

/// A text from outside, cut to the length that is kept.
pub(super) fn plain(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A serial number in the form in which the inventory compares them.
fn folded(serial: &str) -> String {
    serial.to_ascii_uppercase()
}

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
    let listener = Listener::tls(
        listener,
        "enrolment",
        LIMITS,
        &credentials,
        ClientCertificates::Required,
    )?;
    let service = Service {
        desk,
        notices: Arc::default(),
    };
    tonic::transport::Server::builder()
        .layer(fabric_identity::TakenLayer)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(OwnerServer::new(service).max_decoding_message_size(LONGEST))
        .serve_with_incoming_shutdown(listener.incoming(), shutdown)
        .await?;
    Ok(())
}

struct Service {
    desk: Arc<Desk>,
    notices: Arc<Notices>,
}

impl Service {
    /// Checks that the caller may ask, then runs `answer` on a thread that may wait for the disk.
    async fn answer<Q: Send + 'static, A: Send + 'static>(
        &self,
        request: Request<Q>,
        answer: impl FnOnce(&Desk, &Q) -> Result<A, Status> + Send + 'static,
    ) -> Result<Response<A>, Status> {
        let peer = request.extensions().get::<Peer>();
        if peer.and_then(Peer::subject) != Some(&Subject::Provision) {
            let why = "only the provisioning server may ask for enrolments";
            if let Some(peer) = peer
                && let Some(left_out) = self.notices.due(peer.address.ip(), why)
            {
                tracing::warn!(target: "audit", %peer, why, left_out, "call refused");
            }
            return Err(Status::permission_denied(why));
        }
        let (desk, ask) = (Arc::clone(&self.desk), request.into_inner());
        let done = tokio::task::spawn_blocking(move || answer(&desk, &ask)).await;
        let done = done.map_err(|_| Status::internal("the answer was not finished"))?;
        if let Err(status) = &done {
            tracing::warn!(target: "audit", why = status.message(), "an enrolment was refused");
        }
        done.map(Response::new)
    }
}

#[async_trait]
impl Owner for Service {
    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<BootstrapReply>, Status> {
        self.answer(request, Desk::bootstrap).await
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        self.answer(request, Desk::report).await
    }

    async fn tell(&self, request: Request<TellRequest>) -> Result<Response<TellReply>, Status> {
        self.answer(request, Desk::tell).await
    }
}
