//! Identifies the caller, decides what it may do, and records it. No other module decides this.
//!
//! **How a request is handled.** The caller must prove its identity (bearer token, RFC 6750, or client certificate), otherwise 401.
//! The matched path and method decide which role is needed ([`super::operation`]). If the caller has no role in the path's vDC, the
//! response is that of a missing vDC, before anything is looked up. If a role is not enough, the response is 403 and names the needed one.
//! Then the handler runs, with access to the caller ([`caller`]). The handler of `apply` checks the names in the body; the controller
//! checks what a tenant's change may take, when it checks the change.
//!
//! **Record.** Every call that changes something or is refused is in the audit log before the response is sent. While the log
//! cannot be written, nothing can be changed.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fabric_identity::{Notices, Peer};
use governor::{DefaultKeyedRateLimiter, Quota};

use super::access::Door;
use super::operation::Operations;
use super::problem::{no_such_method, request_id_of};
use super::repeat;
use crate::access::{AuditRecord, Caller, Level, Needs};
use crate::error::{ApiError, ErrorCode};
use crate::ident::Name;
use crate::kind::Key;

/// Requests that a tenant's user may make in a second, and at once. Users of the fabric have no such limit.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// In a second, over time.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Default for Rate {
    fn default() -> Self {
        let n = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            per_second: n(100),
            burst: n(500),
        }
    }
}

/// Users whose rate is remembered; above that number, idle ones are forgotten.
const REMEMBERED: usize = 4096;

/// The guard of the API.
pub(super) struct Guard {
    door: Door,
    operations: Operations,
    rate: DefaultKeyedRateLimiter<String>,
    notices: Notices,
}

impl Guard {
    pub(super) fn new(door: Door, rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            door,
            operations: Operations::new(),
            rate: DefaultKeyedRateLimiter::keyed(quota),
            notices: Notices::default(),
        }
    }
}

tokio::task_local! {
    /// The caller of the current request.
    static CALLER: Arc<Caller>;
}

/// The caller of the current request.
///
/// # Errors
/// `Internal` outside of one.
pub(super) fn caller() -> Result<Arc<Caller>, ApiError> {
    let nobody = |_| ApiError::new(ErrorCode::Internal, "the request has no caller");
    CALLER.try_with(Arc::clone).map_err(nobody)
}

/// The token of a request: scheme in any case (RFC 9110, section 11.1), one or more spaces, token.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The operation of a request and its vDC, as its handler will see them.
struct Addressed {
    /// The template of the path; none if no path of the API fits.
    template: Option<MatchedPath>,
    /// The vDC that the path names, decoded as for the handler.
    vdc: Option<Name>,
}

impl Addressed {
    async fn of(request: Request) -> (Self, Request) {
        let (mut parts, body) = request.into_parts();
        let template = parts.extensions.get::<MatchedPath>().cloned();
        let values = RawPathParams::from_request_parts(&mut parts, &()).await.ok();
        let vdc = values.as_ref().and_then(|values| {
            let (_, value) = values.iter().find(|(name, _)| *name == "vdc")?;
            value.parse().ok()
        });
        (Self { template, vdc }, Request::from_parts(parts, body))
    }
}

/// The error for something that does not exist, or that this caller may not know of.
pub(super) fn unseen(vdc: &Name) -> ApiError {
    ApiError::not_found(Key::vdc(vdc.clone()))
}

/// The error for a role that is not enough.
pub(super) fn too_little(needs: Needs, vdc: Option<&Name>) -> ApiError {
    let role = needs.role().map(|role| role.to_string()).unwrap_or_default();
    let detail = match (needs, vdc) {
        (Needs::Vdc(_), Some(vdc)) => format!("this needs the role `{role}` in vDC `{vdc}`"),
        _ => format!("this needs the role `{role}`"),
    };
    ApiError::new(ErrorCode::Forbidden, detail)
}

/// Checks that a caller has the rights that an operation needs in the vDC that the request names.
///
/// # Errors
/// `NotFound` if it may not know of the vDC, `Forbidden` if its role is not enough.
pub(super) fn permit(caller: &Caller, needs: Needs, vdc: Option<&Name>) -> Result<(), ApiError> {
    let in_vdc = vdc.and_then(|vdc| caller.grants.vdc(vdc));
    if let (Some(vdc), None) = (vdc, in_vdc) {
        return Err(unseen(vdc));
    }
    let is_enough = match needs {
        Needs::Known => true,
        Needs::Fabric(level) => caller.grants.fabric() >= Some(level),
        Needs::Vdc(level) => in_vdc >= Some(level),
    };
    is_enough.then_some(()).ok_or_else(|| too_little(needs, vdc))
}

impl Guard {
    /// How long a caller has to wait before its next request, in seconds; none: not at all.
    fn throttled(&self, caller: &Caller) -> Option<u64> {
        if caller.grants.fabric().is_some() {
            return None;
        }
        if self.rate.len() > REMEMBERED {
            self.rate.retain_recent();
        }
        let refused = self.rate.check_key(&caller.name).err()?;
        let wait = refused.wait_time_from(governor::clock::Clock::now(&governor::clock::DefaultClock::default()));
        Some(wait.as_secs() + 1)
    }

    /// Whether the request may reach its handler; if not, the answer.
    async fn admit(&self, caller: &Caller, addressed: &Addressed, request: Request) -> Result<Request, Response> {
        let Some(template) = addressed.template.as_ref().map(MatchedPath::as_str) else {
            return Ok(request);
        };
        let Some(needs) = self.operations.needs(request.method(), template) else {
            return Err(no_such_method(request).await);
        };
        if let Some(seconds) = self.throttled(caller) {
            let error = ApiError::new(
                ErrorCode::TooMany,
                format!("too many requests: try again in {seconds} s"),
            );
            return Err(([(RETRY_AFTER, seconds.to_string())], error).into_response());
        }
        // No caller has a role in a vDC whose name is impossible.
        if template.contains("{vdc}") && addressed.vdc.is_none() {
            let path = request.uri().path();
            return Err(ApiError::not_found(format_args!("path `{path}`")).into_response());
        }
        permit(caller, needs, addressed.vdc.as_ref()).map_err(IntoResponse::into_response)?;
        if changes(request.method())
            && let Err(why) = self.door.can_record()
        {
            let detail = format!("nothing can be changed while the audit log cannot be written: {why}");
            return Err(ApiError::new(ErrorCode::Unavailable, detail).into_response());
        }
        Ok(request)
    }

    /// A request without an identified caller.
    async fn turn_away(&self, mut record: AuditRecord, peer: Option<&Peer>, why: String) -> Response {
        let due = peer.map_or(Some(0), |peer| self.notices.due(peer.address.ip(), &why));
        if let Some(left_out) = due {
            tracing::warn!(target: "audit", peer = record.peer, request_id = record.request_id, why, left_out, "log-in failed");
            record.left_out = left_out;
            record.time_ms = now_ms();
            record.status = StatusCode::UNAUTHORIZED.as_u16();
            record.refused = Some(why);
            self.door.record(record).await;
        }
        let error = ApiError::new(
            ErrorCode::Unauthenticated,
            "a valid bearer token or client certificate is needed",
        );
        ([("www-authenticate", "Bearer")], error).into_response()
    }
}

/// Whether requests of this method change something.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let (addressed, request) = Addressed::of(request).await;
    let mut record = AuditRecord {
        peer: peer.as_ref().map(|peer| peer.address.to_string()).unwrap_or_default(),
        request_id: request_id_of(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        vdc: addressed.vdc.clone(),
        ..AuditRecord::default()
    };
    let caller = match guard.door.identify(bearer(request.headers()), peer.as_ref()).await {
        Ok(caller) => Arc::new(caller),
        Err(why) => return guard.turn_away(record, peer.as_ref(), why).await,
    };
    let changes = changes(request.method());
    let response = match guard.admit(&caller, &addressed, request).await {
        Ok(request) => {
            CALLER
                .scope(Arc::clone(&caller), answer(&caller, &addressed, request, next))
                .await
        }
        Err(refused) => refused,
    };
    let status = response.status();
    // "Not found" for something that the caller may not know of is a refusal, too.
    let is_refusal = matches!(status.as_u16(), 403 | 404 | 429);
    if changes || (is_refusal && caller.grants.fabric().is_none()) {
        record.time_ms = now_ms();
        record.caller = caller.name.clone();
        record.proof = caller.proof.clone();
        record.status = status.as_u16();
        record.refused = response
            .extensions()
            .get::<ApiError>()
            .map(|error| error.detail.clone());
        tracing::info!(target: "audit", caller = record.caller, proof = record.proof, peer = record.peer,
            request_id = record.request_id, method = record.method, path = record.path, status = record.status,
            refused = record.refused, "call");
        guard.door.record(record).await;
    }
    response
}

/// Runs the handler. A repeated call gets the stored answer.
async fn answer(caller: &Caller, addressed: &Addressed, request: Request, next: Next) -> Response {
    let template = addressed.template.as_ref().map_or("", MatchedPath::as_str);
    let key = match repeat::key_of(request.headers(), request.method(), template) {
        Ok(key) => key.map(str::to_owned),
        Err(error) => return error.into_response(),
    };
    match key {
        Some(key) => repeat::scope((&caller.name, &key), request, |request| next.run(request)).await,
        None => next.run(request).await,
    }
}

/// The level that is needed to change the content of a vDC.
pub(super) const EDIT: Needs = Needs::Vdc(Level::Edit);

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case_and_a_token_in_its_own() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            bearer(&headers).map(str::to_owned)
        };
        for value in ["Bearer AbC", "bearer AbC", "BEARER  AbC"] {
            assert_eq!(read(value).as_deref(), Some("AbC"), "{value}");
        }
        for value in ["Basic AbC", "BearerAbC", "AbC", ""] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
