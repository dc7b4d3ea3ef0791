//! Users and their tokens.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Binding;
use crate::ident::Name;

/// Name of a user: of the fabric, or of a vDC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct UserKey {
    /// The vDC that it belongs to; absent: it belongs to the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdc: Option<Name>,
    /// Its name there.
    pub name: Name,
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vdc {
            Some(vdc) => write!(f, "{vdc}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// A user, as an administrator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Name, unique in the fabric or in the vDC. A client certificate for `spiffe://<fabric>/user/<name>` proves that its
    /// holder is the user of the fabric of that name.
    pub name: Name,
    /// Free text for people (at most 500 octets).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its roles (at most 64). A user of a vDC has roles of that vDC only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Binding>,
    /// The user's subject (`sub`) at the identity provider. Only for users of the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc_subject: Option<String>,
}

/// A user with its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// As written.
    pub spec: UserSpec,
    /// Its tokens, the oldest first.
    pub tokens: Vec<Token>,
}

/// Settings of a new token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// What it is for (at most 500 octets).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Seconds until it expires: 60 to 31,622,400 (366 days); 30 days when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 31_622_400)]
    pub lifetime_s: Option<u64>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Identifies the token, for revoking it and in the audit log.
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// When it expires, in milliseconds since 1970 (UTC).
    pub expires_ms: u64,
}

/// A new token; its secret is shown only this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// The token, to be sent as `Authorization: Bearer …`.
    pub secret: String,
    /// The stored token, without its secret.
    #[serde(flatten)]
    pub token: Token,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Who the caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The user.
    pub user: String,
    /// How the caller proved its identity: `token <id>`, `certificate`, `oidc`.
    pub proof: String,
    /// Its roles.
    pub roles: Vec<Binding>,
    /// When its proof expires, in milliseconds since 1970 (UTC); absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}
