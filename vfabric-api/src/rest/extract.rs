//! Reading bodies, paths and queries, with errors that name the field.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::MAX_BODY_BYTES;
use crate::error::{ApiError, ErrorCode};
use crate::refusal::refusal;
use crate::strict::Strict;

/// Longest time for a body to arrive; the largest one needs 9 Mbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

/// A JSON merge patch (RFC 7396).
pub(super) struct MergePatch(pub(super) serde_json::Value);

/// The revision that `If-Match` expects (RFC 9110, section 13.1.1); none without the header and for `*`.
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(IF_MATCH) else {
            return Ok(Self(None));
        };
        let wrong =
            |value: &str| ApiError::field(ErrorCode::Malformed, "If-Match", value, "the `ETag` of an object, or *");
        let value = value.to_str().map_err(|_| wrong("text that is not ASCII"))?.trim();
        if value == "*" {
            return Ok(Self(None));
        }
        if value.is_empty() {
            // An empty list of tags matches nothing.
            let detail = "`If-Match` has no tag, so the object is not as expected";
            return Err(ApiError::new(ErrorCode::PreconditionFailed, detail));
        }
        let tag = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let revision = tag.and_then(|tag| tag.parse().ok());
        revision
            .map(|revision| Self(Some(revision)))
            .ok_or_else(|| wrong(value))
    }
}

impl<S: Send + Sync> FromRequest<S> for MergePatch {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kinds = &["application/merge-patch+json", "application/json"];
        parse(&read(request, state, kinds).await?).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        parse(&read(request, state, &["application/json"]).await?).map(Self)
    }
}

/// The octets of a body with one of these media types; a body without a type counts as the first.
async fn read<S: Send + Sync>(request: Request, state: &S, kinds: &[&str]) -> Result<Bytes, ApiError> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    // Parameters, such as a charset, do not matter (RFC 9110, section 8.3.1).
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !kind.is_empty() && !kinds.iter().any(|k| essence.eq_ignore_ascii_case(k)) {
        let expected = kinds.join(" or ");
        return Err(ApiError::field(
            ErrorCode::UnsupportedMediaType,
            "Content-Type",
            kind,
            expected,
        ));
    }
    octets(request, state).await
}

/// The octets of a body, which has a limit in size and time.
pub(super) async fn octets<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let late = |_| {
        let detail = format!("the body was not complete after {} s", BODY_TIMEOUT.as_secs());
        ApiError::new(ErrorCode::Malformed, detail)
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
    read.map_err(late)?.map_err(|e| {
        if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("the body has more than {MAX_BODY_BYTES} octets");
            return ApiError::new(ErrorCode::TooLarge, detail);
        }
        ApiError::new(ErrorCode::Malformed, format!("body: {e}"))
    })
}

/// Parses JSON; an error names the field, its value and what was expected.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(Strict(&mut deserializer))
        .map_err(|error| refusal(&error, serde_json::from_slice(bytes).ok().as_ref()))?;
    deserializer
        .end()
        .map_err(|e| ApiError::new(ErrorCode::Malformed, format!("body: {e}")))?;
    Ok(parsed)
}

/// Path parameters.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // An impossible name is reported as missing, so that the caller learns no more.
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|p| Self(p.0))
            .map_err(|e| ApiError::new(ErrorCode::NotFound, e.body_text()))
    }
}

/// Query parameters.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|q| Self(q.0))
            .map_err(|e| ApiError::new(ErrorCode::Malformed, e.body_text()))
    }
}
