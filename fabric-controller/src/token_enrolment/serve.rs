//! The calls of machines that enrol, over gRPC on the port of the agents.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bootz_proto::request as switch;
use bootz_proto::request::switch_enrolment_server::{SwitchEnrolment, SwitchEnrolmentServer};
use fabric_identity::{Notices, Peer, Subject};
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};
use vfabric_api::access::AuditRecord;
use vfabric_api::event::EventReason;
use vtep_proto::v1;
use vtep_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};

use super::desk::{Desk, Granted, Machine, Member, Place, Refusal};
use crate::access::audit::AuditLog;
use crate::events::News;

/// Largest message, in octets: a token and a request for a certificate.
const LONGEST: usize = 64 << 10;

/// The services of hosts and of switches.
#[derive(Clone)]
pub struct Service {
    desk: Arc<Desk>,
    audit: Arc<AuditLog>,
    notices: Arc<Notices>,
}

impl Service {
    /// Both as gRPC services.
    pub fn routes(desk: Arc<Desk>, audit: Arc<AuditLog>) -> Routes {
        let service = Self {
            desk,
            audit,
            notices: Arc::default(),
        };
        let hosts = EnrolmentServer::new(service.clone()).max_decoding_message_size(LONGEST);
        let switches = SwitchEnrolmentServer::new(service).max_decoding_message_size(LONGEST);
        Routes::new(hosts).add_service(switches)
    }

    /// Asks the desk where it may wait for the disk, and writes the audit log.
    async fn ask(
        &self,
        call: &'static str,
        peer: Option<Peer>,
        ask: impl FnOnce(&Desk) -> Result<Granted, Refusal> + Send + 'static,
    ) -> Result<Granted, Status> {
        if let Some(why) = self.audit.fault() {
            let words = format!("nobody can enrol while the audit log cannot be written: {why}");
            return Err(Status::unavailable(words));
        }
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || ask(&desk)).await;
        match done.map_err(|_| Status::internal("the request was not finished"))? {
            Ok(granted) => {
                tracing::info!(target: "audit", member = %granted.member, peer = ?peer.as_ref().map(Peer::to_string),
                    call, not_after = granted.not_after, "a machine got a certificate");
                let caller = caller(&granted.member);
                self.record(call, peer.as_ref(), caller, None, 0).await;
                Ok(granted)
            }
            Err(refusal) => Err(self.refuse(call, peer.as_ref(), &refusal).await),
        }
    }

    fn host_reply(&self, granted: Granted) -> Result<Response<v1::EnrolReply>, Status> {
        let Place::Host(vtep_ipv4, vtep_ipv6) = granted.found.place else {
            return Err(Status::internal("a switch got the certificate of a host"));
        };
        Ok(Response::new(v1::EnrolReply {
            host: granted.member.name().to_string(),
            certificate: granted.certificate,
            authorities: self.desk.authorities(),
            vtep_ipv4: vtep_ipv4.octets().to_vec(),
            vtep_ipv6: vtep_ipv6.octets().to_vec(),
        }))
    }

    fn switch_reply(&self, granted: Granted) -> Result<Response<switch::EnrolReply>, Status> {
        let Place::Switch { config, .. } = granted.found.place else {
            return Err(Status::internal("a host got the certificate of a switch"));
        };
        Ok(Response::new(switch::EnrolReply {
            hostname: config.hostname,
            device_id: config.device_id,
            listen: config.listen.to_string(),
            certificate: granted.certificate,
            authorities: self.desk.authorities(),
        }))
    }

    /// Notes a refusal: in the log, in the audit log and as an event; the same of one peer once a minute.
    async fn refuse(&self, call: &'static str, peer: Option<&Peer>, refusal: &Refusal) -> Status {
        let why = fabric_identity::explain(refusal);
        if refusal.is_ours() {
            tracing::error!(why, call, "a machine could not enrol");
            return Status::unavailable(why);
        }
        let due = peer.and_then(|peer| self.notices.due(peer.address.ip(), &why));
        if let Some(left_out) = due {
            tracing::warn!(target: "audit", peer = ?peer.map(Peer::to_string), call, why, left_out, "enrolment refused");
            let member = refusal.member();
            let at = peer.map(|peer| peer.address.ip().to_string()).unwrap_or_default();
            self.desk.inventory().note(News {
                object: Some(format!("machine {at}")),
                device: member.as_ref().map(|member| member.name().clone()),
                ..News::of_fabric(EventReason::EnrolmentRefused, why.clone())
            });
            let caller = member.as_ref().map(caller).unwrap_or_default();
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
            path: call.to_owned(),
            status: if refused.is_some() { 403 } else { 200 },
            refused,
            left_out,
            ..AuditRecord::default()
        };
        self.audit.record(record).await;
    }
}

/// A member as the audit log names it.
fn caller(member: &Member) -> String {
    match member {
        Member::Host(name) => format!("host/{name}"),
        Member::Switch(name) => format!("switch/{name}"),
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
        let ask = move |desk: &Desk| {
            let request = &asked.certificate_signing_request;
            desk.enrol(&asked.token, None, request, SystemTime::now())
        };
        let granted = self.ask("/vfabric.vtep.v1.Enrolment/Enrol", peer, ask).await?;
        self.host_reply(granted)
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
        let granted = self.ask("/vfabric.vtep.v1.Enrolment/Renew", peer, ask).await?;
        self.host_reply(granted)
    }
}

#[async_trait]
impl SwitchEnrolment for Service {
    async fn authorities(
        &self,
        _: Request<switch::AuthoritiesRequest>,
    ) -> Result<Response<switch::AuthoritiesReply>, Status> {
        let authorities = self.desk.authorities();
        Ok(Response::new(switch::AuthoritiesReply { authorities }))
    }

    async fn enrol(&self, request: Request<switch::EnrolRequest>) -> Result<Response<switch::EnrolReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let asked = request.into_inner();
        let machine = Machine {
            serial: asked.serial,
            model: asked.model,
        };
        let (token, signing) = (asked.token, asked.certificate_signing_request);
        let from = peer.as_ref().map(|peer| peer.address.ip().to_canonical().to_string());
        let ask = move |desk: &Desk| {
            let granted = desk.enrol(&token, Some(&machine), &signing, SystemTime::now())?;
            let words = format!(
                "got a certificate for a one-time token at {}, serial number {}",
                from.unwrap_or_default(),
                machine.serial
            );
            desk.inventory().enrolled(&granted.member, &words);
            Ok(granted)
        };
        let granted = self.ask("/vfabric.bootz.SwitchEnrolment/Enrol", peer, ask).await?;
        self.switch_reply(granted)
    }
}
