//! Bearer tokens (RFC 6750).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use crate::error::{ApiError, ErrorCode};

/// Fewest characters of a token: 128 bits in hexadecimal.
const MIN_TOKEN_CHARS: usize = 32;

/// The tokens that may use the API. They are never logged or shown.
#[derive(Clone)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// Reads tokens, one a line; empty lines and lines that start with `#` are passed over.
    ///
    /// # Errors
    /// Names the line of a token that is too short to be safe, or says that there is none.
    pub fn parse(text: &str) -> Result<Self, String> {
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
            Ok(Self(tokens))
        }
    }

    /// Whether the token is one of these; takes as long for a wrong token as for a right one.
    fn allow(&self, given: &str) -> bool {
        let found = self
            .0
            .iter()
            .fold(Choice::from(0), |hit, t| hit | t.as_bytes().ct_eq(given.as_bytes()));
        found.into()
    }
}

pub(super) async fn require_token(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let allowed = given
        .and_then(|v| v.strip_prefix("Bearer "))
        .is_some_and(|t| tokens.allow(t.trim()));
    if allowed {
        next.run(request).await
    } else {
        let error = ApiError::new(ErrorCode::Unauthenticated, "a valid bearer token is needed");
        ([("www-authenticate", "Bearer")], error).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_allowed() {
        let token = "0123456789abcdef0123456789abcdef";
        let tokens = Tokens::parse(&format!("# admin\n{token}\n")).unwrap();
        assert!(tokens.allow(token));
        assert!(!tokens.allow(&token[1..]));
        assert!(!tokens.allow(""));
        assert!(Tokens::parse("short").is_err());
        assert!(Tokens::parse("# none\n").is_err());
    }
}
