//! Calls that may be repeated: `Idempotency-Key`.
//!
//! **Model.** A call that changes intent or inventory may carry a key that the caller chose. The controller stores the
//! response in the same transaction as the change, so either both exist or neither, even after a restart. The same call
//! with the same key then gets the first response again, with `Idempotent-Replayed: true`; another call with that key
//! is refused (422). Keys belong to their caller. A refused call and a dry run leave no trace, because nothing
//! happened.
//!
//! Two calls are the same if method, path, query and body are, octet by octet. A repeated call that arrives while the
//! first one is under way waits for it, because the writer handles one after the other.
//!
//! **Bounds.** The controller decides how long and how many keys are kept (`docs/controller.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use ring::digest::{Context, SHA256};

use super::extract::octets;
use crate::error::{ApiError, ErrorCode};
use crate::service::Repeatable;

/// The header (draft-ietf-httpapi-idempotency-key-header).
pub(super) const KEY: &str = "idempotency-key";
/// The header of a repeated response.
pub(super) const REPLAYED: &str = "idempotent-replayed";
/// Longest key, in octets.
pub(super) const MAX_KEY: usize = 255;

tokio::task_local! {
    static CURRENT: Arc<Keyed>;
}

/// The key of the current request.
struct Keyed {
    repeatable: Repeatable,
    is_replayed: AtomicBool,
}

/// Whether requests of this method and path may carry a key: those that change intent or inventory. Calls about users,
/// tokens and images do not: a secret is shown only once, and an upload is never held in memory to be compared. A
/// restart of a switch happens outside the store, and replacing or retiring a switch takes several transactions.
pub(super) fn takes_key(method: &Method, template: &str) -> bool {
    let changes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    let is_elsewhere = ["/enrolment-token", "/reboot", "/install", "/replace", "/retire"]
        .iter()
        .any(|end| template.ends_with(end));
    changes && !is_elsewhere && !template.contains("/users") && !template.contains("/images")
}

/// The key of a request, if it has one.
///
/// # Errors
/// `Malformed`: it is not a valid key, or the operation accepts none.
pub(super) fn key_of<'a>(headers: &'a HeaderMap, method: &Method, template: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(KEY).filter(|_| !method.is_safe()) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let wrong = |expected: String| {
        let shown: String = text.chars().take(80).collect();
        Err(ApiError::field(
            ErrorCode::Malformed,
            "Idempotency-Key",
            shown,
            expected,
        ))
    };
    if !takes_key(method, template) {
        return wrong("no key: calls about users, tokens and images cannot be repeated".to_owned());
    }
    if text.is_empty() || text.len() > MAX_KEY || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong(format!("1 to {MAX_KEY} visible ASCII characters, once"));
    }
    Ok(Some(text))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // Add the length first, so that parts cannot be mistaken for other parts.
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut octets = [0; 32];
    octets.copy_from_slice(context.finish().as_ref());
    octets
}

/// Handles a request with a key. Reads its whole body here, and passes it on.
pub(super) async fn scope<F: Future<Output = Response>>(
    (caller, key): (&str, &str),
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match octets(Request::from_parts(parts.clone(), body)).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let keyed = Arc::new(Keyed {
        repeatable: Repeatable {
            key: digest(&[caller.as_bytes(), key.as_bytes()]),
            request: digest(&[parts.method.as_str().as_bytes(), target.as_bytes(), &body]),
        },
        is_replayed: AtomicBool::new(false),
    });
    let request = Request::from_parts(parts, Body::from(body));
    let mut response = CURRENT.scope(Arc::clone(&keyed), next(request)).await;
    if keyed.is_replayed.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The key of the current request; none if it has none.
pub(super) fn repeatable() -> Option<Repeatable> {
    CURRENT.try_with(|keyed| keyed.repeatable).ok()
}

/// Records that the response is that of an earlier call.
pub(super) fn note_replay() {
    // Outside a request with a key, nothing is replayed.
    let _ = CURRENT.try_with(|keyed| keyed.is_replayed.store(true, Ordering::Relaxed));
}
