//! What agents ask, over gRPC on their port.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fabric_identity::{Notices, Peer, Subject};
use tonic::{Request, Response, Status, async_trait};
use vfabric_api::access::AuditRecord;
use vfabric_api::event::EventReason;
use vtep_proto::v1;
use vtep_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};

use super::desk::{Desk, Granted, Refusal};
use crate::access::audit::AuditLog;
use crate::events::News;

/// Largest message, in octets: a token and a request for a certificate.
const LONGEST: usize = 64 << 10;

/// The service.
pub struct Service {
    desk: Arc<Desk>,
    audit: Arc<AuditLog>,
    notices: Notices,
}

impl Service {
    /// As a gRPC server.
    pub fn server(desk: Arc<Desk>, audit: Arc<AuditLog>) -> EnrolmentServer<Self> {
        let service = Self {
            desk,
            audit,
            notices: Notices::default(),
        };
        EnrolmentServer::new(service).max_decoding_message_size(LONGEST)
    }

    /// Asks the desk where it may wait for the disk, and writes the audit log.
    async fn ask(
        &self,
        call: &'static str,
        peer: Option<Peer>,
        ask: impl FnOnce(&Desk) -> Result<Granted, Refusal> + Send + 'static,
    ) -> Result<Response<v1::EnrolReply>, Status> {
        if let Some(why) = self.audit.fault() {
            let words = format!("no host can enrol while the audit log cannot be written: {why}");
            return Err(Status::unavailable(words));
        }
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || ask(&desk)).await;
        match done.map_err(|_| Status::internal("the request was not finished"))? {
            Ok(granted) => {
                tracing::info!(target: "audit", host = %granted.host, peer = ?peer.as_ref().map(Peer::to_string),
                    call, not_after = granted.not_after, "a host got a certificate");
                let caller = format!("host/{}", granted.host);
                self.record(call, peer.as_ref(), caller, None, 0).await;
                Ok(Response::new(self.reply(granted)))
            }
            Err(refusal) => Err(self.refuse(call, peer.as_ref(), &refusal).await),
        }
    }

    fn reply(&self, granted: Granted) -> v1::EnrolReply {
        v1::EnrolReply {
            host: granted.host.to_string(),
            certificate: granted.certificate,
            authorities: self.desk.authorities(),
            vtep_ipv4: granted.found.vtep_ipv4.octets().to_vec(),
            vtep_ipv6: granted.found.vtep_ipv6.octets().to_vec(),
        }
    }

    /// Notes a refusal: in the log, in the audit log and as an event; the same of one peer once a minute.
    async fn refuse(&self, call: &'static str, peer: Option<&Peer>, refusal: &Refusal) -> Status {
        let why = fabric_identity::explain(refusal);
        if refusal.is_ours() {
            tracing::error!(why, call, "a host could not enrol");
            return Status::unavailable(why);
        }
        let due = peer.and_then(|peer| self.notices.due(peer.address.ip(), &why));
        if let Some(left_out) = due {
            tracing::warn!(target: "audit", peer = ?peer.map(Peer::to_string), call, why, left_out, "enrolment refused");
            let host = refusal.host();
            let at = peer.map(|peer| peer.address.ip().to_string()).unwrap_or_default();
            self.desk.hosts().note(News {
                object: Some(format!("machine {at}")),
                device: host.clone(),
                ..News::of_fabric(EventReason::EnrolmentRefused, why.clone())
            });
            let caller = host.map(|host| format!("host/{host}")).unwrap_or_default();
            self.record(call, peer, caller, Some(why.clone()), left_out).await;
        }
        match refusal {
            Refusal::Request(_) => Status::invalid_argument(why),
            _ => Status::permission_denied(why),
        }
    }

    async fn record(&self, call: &str, peer: Option<&Peer>, caller: String, refused: Option<String>, left_out: u64) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let certified = peer.and_then(Peer::subject).is_some();
        let record = AuditRecord {
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            caller,
            proof: if certified { "certificate" } else { "enrolment token" }.to_owned(),
            peer: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
            method: "POST".into(),
            path: format!("/vfabric.vtep.v1.Enrolment/{call}"),
            status: if refused.is_some() { 403 } else { 200 },
            refused,
            left_out,
            ..AuditRecord::default()
        };
        self.audit.record(record).await;
    }
}

#[async_trait]
impl Enrolment for Service {
    async fn authorities(&self, _: Request<v1::AuthoritiesRequest>) -> Result<Response<v1::AuthoritiesReply>, Status> {
        let authorities = self.desk.authorities();
        Ok(Response::new(v1::AuthoritiesReply { authorities }))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let asked = request.into_inner();
        let ask = move |desk: &Desk| desk.enrol(&asked.token, &asked.certificate_signing_request, SystemTime::now());
        self.ask("Enrol", peer, ask).await
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::EnrolReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let name = match peer.as_ref().and_then(Peer::subject) {
            Some(Subject::Host(name)) => name.parse().ok(),
            _ => None,
        };
        let Some(name) = name else {
            let why = "only a host with a certificate may renew it";
            if let Some(peer) = &peer
                && let Some(left_out) = self.notices.due(peer.address.ip(), why)
            {
                tracing::warn!(target: "audit", %peer, why, left_out, "call refused");
            }
            return Err(Status::permission_denied(why));
        };
        let asked = request.into_inner();
        let ask = move |desk: &Desk| desk.renew(&name, &asked.certificate_signing_request, SystemTime::now());
        self.ask("Renew", peer, ask).await
    }
}
