//! Which calls a peer may make. Its certificate says who it is; this module says what it may do.
//!
//! | peer | may |
//! | --- | --- |
//! | controller | everything |
//! | operator with role admin | everything, each change audited; never instead of the controller ([`Authority`]) |
//! | operator | read: state, pipeline, counters, health, reflection |
//! | host, switch, anybody else | nothing |
//! | anybody, without TLS | everything |
//!
//! The check comes before a request's body is read, and covers every service of the port: a call that this file does
//! not name is only for the controller and admins.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use fabric_identity::{Claim, Notices, Peer, Subject};
use futures::future::Either;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use crate::p4runtime::session::Authority;

/// Calls that change nothing.
const READING: [&str; 13] = [
    "/p4.v1.P4Runtime/Read",
    "/p4.v1.P4Runtime/GetForwardingPipelineConfig",
    "/p4.v1.P4Runtime/Capabilities",
    "/gnmi.gNMI/Capabilities",
    "/gnmi.gNMI/Get",
    "/gnmi.gNMI/Subscribe",
    "/gnoi.system.System/Time",
    "/gnoi.system.System/RebootStatus",
    "/gnoi.healthz.Healthz/Get",
    "/gnoi.healthz.Healthz/List",
    "/gnoi.os.OS/Verify",
    "/gnsi.certz.v1.Certz/GetProfileList",
    "/gnsi.certz.v1.Certz/CanGenerateCSR",
];
/// Services that change nothing.
const READING_SERVICES: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

fn only_reads(path: &str) -> bool {
    READING.contains(&path) || READING_SERVICES.iter().any(|service| path.starts_with(service))
}

/// What a peer is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Allowed,
    /// Allowed, and written to the audit log.
    Audited,
    Denied(&'static str),
}

fn right(peer: Option<&Peer>, path: &str) -> Right {
    match peer.map(|peer| &peer.claim) {
        Some(Claim::PlainText) => Right::Allowed,
        Some(Claim::Member(identity)) => match &identity.subject {
            Subject::Controller => Right::Allowed,
            Subject::Operator(_) | Subject::Admin(_) if only_reads(path) => Right::Allowed,
            Subject::Admin(_) => Right::Audited,
            Subject::Operator(_) => {
                Right::Denied("an operator may only read; changes need an operator's admin certificate")
            }
            Subject::Switch(_) | Subject::Host(_) | Subject::User(_) | Subject::Provision => {
                Right::Denied("a switch serves the controller and operators only")
            }
        },
        Some(Claim::Nobody(_) | Claim::NoCertificate | Claim::Shown(_)) | None => {
            Right::Denied("the certificate names no member of this fabric")
        }
    }
}

/// A peer's authority in arbitration.
pub fn authority(peer: Option<&Peer>) -> Authority {
    match peer.and_then(Peer::subject) {
        Some(Subject::Admin(_)) => Authority::Operator,
        _ => Authority::Controller,
    }
}

/// Puts [`Access`] before all services of a server.
#[derive(Clone, Default)]
pub struct AccessLayer(Arc<Notices>);

impl<S> tower::Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access {
            inner,
            notices: Arc::clone(&self.0),
        }
    }
}

/// Refuses calls that their peer may not make, with `PERMISSION_DENIED`.
#[derive(Clone)]
pub struct Access<S> {
    inner: S,
    notices: Arc<Notices>,
}

impl<S, B> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let path = request.uri().path();
        match right(peer, path) {
            Right::Allowed => {}
            Right::Audited => {
                if let Some(peer) = peer {
                    tracing::warn!(target: "audit", %peer, call = path, "an operator acts instead of the controller");
                }
            }
            Right::Denied(why) => {
                if let Some(peer) = peer
                    && let Some(left_out) = self.notices.due(peer.address.ip(), why)
                {
                    tracing::warn!(target: "audit", %peer, call = path, why, left_out, "call refused");
                }
                return Either::Right(ready(Ok(Status::permission_denied(why).into_http())));
            }
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(claim: Claim) -> Peer {
        Peer {
            validity: None,
            liveness: fabric_identity::Liveness::default(),
            address: ([192, 0, 2, 1], 1).into(),
            claim,
        }
    }

    fn member(subject: &str) -> Peer {
        let identity = format!("spiffe://lab/{subject}").parse().unwrap();
        peer(Claim::Member(identity))
    }

    #[test]
    fn calls_that_nobody_thought_of_are_changes() {
        for path in [
            "/p4.v1.P4Runtime/New",
            "/gnmi.gNMI/New",
            "/x.Y/Read",
            "/p4.v1.P4Runtime/Read/",
            "",
        ] {
            assert!(
                matches!(right(Some(&member("operator/ada")), path), Right::Denied(_)),
                "{path}"
            );
        }
    }

    #[test]
    fn without_a_peer_nothing_is_allowed() {
        assert!(matches!(right(None, READING[0]), Right::Denied(_)));
        assert!(matches!(
            right(Some(&peer(Claim::NoCertificate)), READING[0]),
            Right::Denied(_)
        ));
    }
}
