//! Errors on the wire: `application/problem+json` (RFC 9457), and the id of each request.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::error::{ApiError, ErrorCode};

/// Header that carries the id of a request, in the request and in the response.
const REQUEST_ID: &str = "x-request-id";
/// Longest id that a caller may choose.
const MAX_REQUEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: String;
}

impl IntoResponse for ApiError {
    fn into_response(mut self) -> Response {
        self.request_id = CURRENT.try_with(String::clone).ok();
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = serde_json::to_value(&self).unwrap_or_default();
        if let Some(members) = body.as_object_mut() {
            members.insert("type".into(), "about:blank".into());
            members.insert("title".into(), status.canonical_reason().unwrap_or_default().into());
            members.insert("status".into(), status.as_u16().into());
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, body.to_string()).into_response();
        // For the audit log.
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every request an id (the caller's, if it is a plain token), for the log, the
/// answer and the error.
pub(super) async fn request_id(request: Request, next: Next) -> Response {
    let plain = |v: &&str| v.len() <= MAX_REQUEST_ID && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .filter(plain)
        .map(str::to_owned);
    let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let answer = async {
        let mut response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    };
    CURRENT.scope(id.clone(), answer.instrument(span)).await
}

/// Id of the current request; empty outside a request.
pub(super) fn request_id_of() -> String {
    CURRENT.try_with(String::clone).unwrap_or_default()
}

/// Refuses a request of HTTP/1.1 that has no `Host`, or several (RFC 9112, section 3.2).
pub async fn require_host(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        let detail = format!("{hosts} Host headers: HTTP/1.1 requires exactly one");
        return ApiError::new(ErrorCode::Malformed, detail).into_response();
    }
    next.run(request).await
}

pub(super) async fn no_such_path(request: Request) -> ApiError {
    ApiError::not_found(format_args!("path `{}`", request.uri().path()))
}

pub(super) async fn no_such_method(request: Request) -> Response {
    let detail = format!("`{}` cannot be used on `{}`", request.method(), request.uri().path());
    let mut response = ApiError::new(ErrorCode::Malformed, detail).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
