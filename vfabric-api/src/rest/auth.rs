//! Bearer tokens (RFC 6750), and a record of who changed what with which request.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fabric_identity::{Notices, Peer};
use subtle::{Choice, ConstantTimeEq};

use super::problem::request_id_of;
use crate::error::{ApiError, ErrorCode};

/// Fewest characters of a token: 128 bits in hexadecimal.
const MIN_TOKEN_CHARS: usize = 32;
/// Octets of a token's SHA-256 that name it in the log: enough to tell tokens apart, too few to help guessing one.
const NAME_OCTETS: usize = 4;

/// The tokens that may use the API; clones share them. They are never logged or shown.
#[derive(Clone)]
pub struct Tokens(Arc<ArcSwap<Vec<String>>>);

impl Tokens {
    /// Reads tokens, one a line; empty lines and lines that start with `#` are passed over.
    ///
    /// # Errors
    /// Names the line of a token that is too short to be safe, or says that there is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(lines(text)?))))
    }

    /// Takes these tokens instead, from the next request on; false when they are the same.
    ///
    /// # Errors
    /// As [`Tokens::parse`]; the old ones stay valid.
    pub fn replace(&self, text: &str) -> Result<bool, String> {
        let tokens = lines(text)?;
        let news = **self.0.load() != tokens;
        if news {
            self.0.store(Arc::new(tokens));
        }
        Ok(news)
    }

    /// Whether the token is one of these; takes as long for a wrong token as for a right one.
    fn allow(&self, given: &str) -> bool {
        let tokens = self.0.load();
        let found = tokens
            .iter()
            .fold(Choice::from(0), |hit, t| hit | t.as_bytes().ct_eq(given.as_bytes()));
        found.into()
    }
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.len() < MIN_TOKEN_CHARS {
            return Err(format!(
                "line {}: a token needs at least {MIN_TOKEN_CHARS} characters",
                i + 1
            ));
        }
        tokens.push(line.to_owned());
    }
    if tokens.is_empty() {
        Err("no token found".into())
    } else {
        Ok(tokens)
    }
}

/// The token of a request: scheme in any case (RFC 9110, section 11.1), one or more spaces, token.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What the log calls a token.
fn name(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest
        .as_ref()
        .iter()
        .take(NAME_OCTETS)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The guard of the API.
pub(super) struct Guard {
    tokens: Tokens,
    notices: Notices,
}

impl Guard {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            notices: Notices::default(),
        }
    }
}

tokio::task_local! {
    /// The caller of the request that is being answered, as the log calls it.
    static CALLER: String;
}

/// The caller of the request that is being answered; empty outside of one.
pub(super) fn author() -> String {
    CALLER.try_with(String::clone).unwrap_or_default()
}

pub(super) async fn require_token(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let from = peer.as_ref().map(|peer| peer.address.to_string()).unwrap_or_default();
    let token = bearer(request.headers())
        .filter(|token| guard.tokens.allow(token))
        .map(name);
    let Some(token) = token else {
        let why = "no valid bearer token";
        let due = peer.map_or(Some(0), |peer| guard.notices.due(peer.address.ip(), why));
        if let Some(left_out) = due {
            tracing::warn!(target: "audit", peer = from, request_id = request_id_of(), why, left_out, "log-in failed");
        }
        let error = ApiError::new(ErrorCode::Unauthenticated, "a valid bearer token is needed");
        return ([("www-authenticate", "Bearer")], error).into_response();
    };
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = CALLER.scope(format!("token {token}"), next.run(request)).await;
    let status = response.status().as_u16();
    let request_id = request_id_of();
    tracing::info!(target: "audit", token, peer = from, request_id, %method, path, status, "change");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_whole_tokens_are_allowed() {
        let tokens = Tokens::parse(&format!("# admin\n{TOKEN}\n")).unwrap();
        assert!(tokens.allow(TOKEN));
        assert!(!tokens.allow(&TOKEN[1..]));
        assert!(!tokens.allow(""));
        assert!(Tokens::parse("short").is_err());
        assert!(Tokens::parse("# none\n").is_err());
    }

    #[test]
    fn tokens_are_replaced_everywhere_or_not_at_all() {
        let tokens = Tokens::parse(TOKEN).unwrap();
        let shared = tokens.clone();
        assert!(tokens.replace("short").is_err());
        assert!(shared.allow(TOKEN));
        assert_eq!(tokens.replace(TOKEN), Ok(false));
        assert_eq!(tokens.replace(&TOKEN.to_uppercase()), Ok(true));
        assert!(!shared.allow(TOKEN));
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_a_token_in_its_own() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        for value in ["Bearer AbC", "bearer AbC", "BEARER  AbC"] {
            assert_eq!(read(value).as_deref(), Some("AbC"), "{value}");
        }
        for value in ["Basic AbC", "BearerAbC", "AbC", ""] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn the_name_of_a_token_does_not_show_it() {
        assert_eq!(name(TOKEN).len(), 2 * NAME_OCTETS);
        assert!(!TOKEN.contains(&name(TOKEN)));
    }
}
