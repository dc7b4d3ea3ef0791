//! Reading bodies, paths and queries, with errors that name the field.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use super::MAX_BODY_BYTES;
use super::bodies::{self, Share};
use super::guard::caller;
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

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let kinds = &["application/merge-patch+json", "application/json"];
        parse(&read(request, kinds).await?).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parse(&read(request, &["application/json"]).await?).map(Self)
    }
}

/// The octets of a body with one of these media types; a body without a type counts as the first.
async fn read(request: Request, kinds: &[&str]) -> Result<Bytes, ApiError> {
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
    octets(request).await
}

/// The octets of a body, which has a limit in size and time.
pub(super) async fn octets(request: Request) -> Result<Bytes, ApiError> {
    let late = |_| {
        let detail = format!("the body was not complete after {} s", BODY_TIMEOUT.as_secs());
        ApiError::new(ErrorCode::Malformed, detail)
    };
    let name = caller().map(|caller| caller.name.clone()).unwrap_or_default();
    let read = gather(request.into_body(), Share::of(name));
    tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(late)?
}

/// Reads a body to its end.
async fn gather(body: axum::body::Body, mut share: Share) -> Result<Bytes, ApiError> {
    let mut parts = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|e| ApiError::new(ErrorCode::Malformed, format!("body: {e}")))?;
        if all.len() + part.len() > MAX_BODY_BYTES {
            let detail = format!("the body has more than {MAX_BODY_BYTES} octets");
            return Err(ApiError::new(ErrorCode::TooLarge, detail));
        }
        if !share.grow(part.len()) {
            let detail = format!(
                "the requests that you are sending have more than {} octets together",
                bodies::MOST
            );
            return Err(ApiError::new(ErrorCode::TooMany, detail));
        }
        all.extend_from_slice(&part);
    }
    Ok(all.freeze())
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body;
    use tokio::time::Instant;

    use super::*;

    /// A body that comes in parts of one octet, with this pause before each.
    async fn read_slowly(parts: usize, pause: Duration) -> (Result<Bytes, ApiError>, Duration) {
        let parts = futures::stream::iter(0..parts).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Bytes::from_static(b" "))
        });
        let request = Request::new(body::Body::from_stream(parts));
        let start = Instant::now();
        let read = octets(request).await;
        (read, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_in_time_is_refused_however_slowly_it_comes() {
        // An octet a second does not extend the time, and neither does a body that never
        // ends.
        for (parts, pause) in [(usize::MAX, 1), (1, 1_000_000)] {
            let (read, took) = read_slowly(parts, Duration::from_secs(pause)).await;
            let error = read.unwrap_err();
            assert_eq!(error.code, ErrorCode::Malformed);
            assert_eq!(error.detail, "the body was not complete after 60 s");
            assert_eq!(took, BODY_TIMEOUT);
        }
        let (read, took) = read_slowly(59, Duration::from_secs(1)).await;
        assert_eq!((read.unwrap().len(), took), (59, Duration::from_secs(59)));
    }
}
