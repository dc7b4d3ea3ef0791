//! Users and their proofs, and the audit log.
//!
//! **Model.** The [`Directory`] knows all users: it is a copy of the store's rows `user/…`, which the controller
//! updates after they are durable. A caller proves its identity with a token of a user ([`token`]), a token from the operator's
//! file ([`mod@file`]), a token of an identity provider ([`oidc`]), or a client certificate for `/user/<name>`. Its
//! rights are the user's roles at that moment: a role that is withdrawn no longer counts at the next request.
//!
//! **Invariants.** The store has only an Argon2id hash of a token's secret. No secret is logged or shown twice. A token that
//! has expired, or whose user was deleted, proves nothing.
//!
//! **Cost.** A request costs two table look-ups and a SHA-256. The slow hash is computed once for each token after a
//! start, one at a time, so that guesses cannot use up the processor.

pub mod audit;
pub mod file;
pub mod oidc;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use vfabric_api::access::{Caller, Grants, NewToken, Token, TokenSpec, User, UserKey, UserSpec};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;

use token::{Digest, Secret};

/// Prefix of the store's keys.
pub const PREFIX: &[u8] = b"user/";
/// Users of the fabric and of all vDCs.
const MAX_USERS: usize = 10_000;
/// Tokens of one user.
const MAX_TOKENS: usize = 16;
/// Roles of one user.
const MAX_ROLES: usize = 64;
/// Longest free text, in octets.
const MAX_TEXT: usize = 500;
/// Longest subject of an identity provider, in octets (OpenID Connect Core 1.0, section 2).
const MAX_SUBJECT: usize = 255;
/// Shortest, longest and usual life of a token.
const LIFETIME_S: (u64, u64, u64) = (60, 366 * 86_400, 30 * 86_400);

/// A user as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUser {
    /// As written.
    pub spec: UserSpec,
    /// Its tokens, the oldest first.
    #[serde(default)]
    pub tokens: Vec<StoredToken>,
}

/// A token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// The part of it that is shown.
    #[serde(flatten)]
    pub token: Token,
    /// Argon2id of its secret, in the PHC string format.
    pub hash: String,
}

/// A token in memory.
#[derive(Debug)]
struct Known {
    user: UserKey,
    hash: String,
    expires_ms: u64,
    /// SHA-256 of the secret, once it has been verified.
    digest: std::sync::OnceLock<Digest>,
}

#[derive(Debug, Default)]
struct Tables {
    users: BTreeMap<UserKey, StoredUser>,
    tokens: HashMap<String, Arc<Known>>,
    subjects: HashMap<String, UserKey>,
}

/// All users.
#[derive(Debug)]
pub struct Directory {
    tables: RwLock<Tables>,
    /// One slow hash at a time.
    hashing: Semaphore,
}

/// The time, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Key of the row of a user.
pub fn row_key(key: &UserKey) -> Vec<u8> {
    let vdc = key.vdc.as_ref().map_or("", Name::as_str);
    [PREFIX, vdc.as_bytes(), b"/", key.name.as_str().as_bytes()].concat()
}

/// The user that a row is about.
pub fn parse_row_key(key: &[u8]) -> Option<UserKey> {
    let text = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
    let (vdc, name) = text.split_once('/')?;
    let vdc = match vdc {
        "" => None,
        vdc => Some(vdc.parse().ok()?),
    };
    let name = name.parse().ok()?;
    Some(UserKey { vdc, name })
}

fn shown(stored: &StoredUser) -> User {
    User {
        spec: stored.spec.clone(),
        tokens: stored.tokens.iter().map(|t| t.token.clone()).collect(),
    }
}

/// Checks what an administrator wrote; roles of vDCs are compared with `exists`.
///
/// # Errors
/// The first field that is wrong.
pub fn check(key: &UserKey, spec: &UserSpec, exists: impl Fn(&Name) -> bool) -> Result<(), ApiError> {
    let wrong = |field: String, value: String, expected: String| {
        Err(ApiError::field(ErrorCode::Invalid, field, value, expected))
    };
    if spec.description.len() > MAX_TEXT {
        let length = spec.description.len().to_string();
        return wrong("description".into(), length, format!("at most {MAX_TEXT} octets"));
    }
    if spec.roles.len() > MAX_ROLES {
        let number = spec.roles.len().to_string();
        return wrong("roles".into(), number, format!("at most {MAX_ROLES} roles"));
    }
    for (i, binding) in spec.roles.iter().enumerate() {
        let field = format!("roles[{i}].vdc");
        match &binding.vdc {
            Some(vdc) if binding.role.is_of_fabric() => {
                return wrong(
                    field,
                    vdc.to_string(),
                    format!("no vDC: `{}` is a role of the fabric", binding.role),
                );
            }
            Some(vdc) if !exists(vdc) => return wrong(field, vdc.to_string(), "the name of a vDC".into()),
            None if !binding.role.is_of_fabric() => {
                return wrong(
                    field,
                    String::new(),
                    format!("the vDC that `{}` is a role of", binding.role),
                );
            }
            _ => {}
        }
    }
    match &spec.oidc_subject {
        Some(subject) if key.vdc.is_some() => wrong(
            "oidc_subject".into(),
            subject.clone(),
            "none: only users of the fabric have one".into(),
        ),
        Some(subject) if subject.is_empty() || subject.len() > MAX_SUBJECT => wrong(
            "oidc_subject".into(),
            subject.clone(),
            format!("1 to {MAX_SUBJECT} octets"),
        ),
        _ => Ok(()),
    }
}

impl Directory {
    /// A directory with these users.
    pub fn new(users: impl IntoIterator<Item = (UserKey, StoredUser)>) -> Self {
        let directory = Self {
            tables: RwLock::default(),
            hashing: Semaphore::new(1),
        };
        for (key, user) in users {
            directory.set(key, Some(user));
        }
        directory
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a user to its stored form; `None`: deleted.
    pub fn set(&self, key: UserKey, user: Option<StoredUser>) {
        let mut tables = self.write();
        let mut before = HashMap::new();
        if let Some(old) = tables.users.remove(&key) {
            for token in &old.tokens {
                if let Some(known) = tables.tokens.remove(&token.token.id) {
                    before.insert(token.token.id.clone(), known);
                }
            }
            if let Some(subject) = &old.spec.oidc_subject {
                tables.subjects.remove(subject);
            }
        }
        let Some(user) = user else { return };
        for token in &user.tokens {
            let known = before.remove(&token.token.id).unwrap_or_else(|| {
                Arc::new(Known {
                    user: key.clone(),
                    hash: token.hash.clone(),
                    expires_ms: token.token.expires_ms,
                    digest: std::sync::OnceLock::new(),
                })
            });
            tables.tokens.insert(token.token.id.clone(), known);
        }
        if let Some(subject) = &user.spec.oidc_subject {
            tables.subjects.insert(subject.clone(), key.clone());
        }
        tables.users.insert(key, user);
    }

    /// Users of the fabric, or of one vDC, by name.
    pub fn users(&self, vdc: Option<&Name>) -> Vec<User> {
        let tables = self.read();
        let of_scope = tables.users.iter().filter(|(key, _)| key.vdc.as_ref() == vdc);
        of_scope.map(|(_, user)| shown(user)).collect()
    }

    /// One user.
    pub fn user(&self, key: &UserKey) -> Option<User> {
        self.read().users.get(key).map(shown)
    }

    /// One user as the store has it.
    pub fn stored(&self, key: &UserKey) -> Option<StoredUser> {
        self.read().users.get(key).cloned()
    }

    /// A user that belongs to a vDC or has a role in it.
    pub fn user_of(&self, vdc: &Name) -> Option<UserKey> {
        let tables = self.read();
        let has_role = |user: &StoredUser| user.spec.roles.iter().any(|binding| binding.vdc.as_ref() == Some(vdc));
        let found = tables
            .users
            .iter()
            .find(|(key, user)| key.vdc.as_ref() == Some(vdc) || has_role(user));
        found.map(|(key, _)| key.clone())
    }

    /// The user as it would be stored.
    ///
    /// # Errors
    /// It exists already (`new`) or not (otherwise); another has its subject; there are too many.
    pub fn put(&self, key: &UserKey, spec: UserSpec, new: bool) -> Result<StoredUser, ApiError> {
        let tables = self.read();
        let before = tables.users.get(key);
        match (before, new) {
            (Some(before), true) if before.spec != spec => {
                let detail = format!("user `{key}` exists already, with another content");
                return Err(ApiError::new(ErrorCode::AlreadyExists, detail));
            }
            (None, false) => return Err(not_found(key)),
            (None, true) if tables.users.len() >= MAX_USERS => {
                return Err(ApiError::new(
                    ErrorCode::Exhausted,
                    format!("there are {MAX_USERS} users, which is the most"),
                ));
            }
            _ => {}
        }
        if let Some(subject) = &spec.oidc_subject
            && tables.subjects.get(subject).is_some_and(|other| other != key)
        {
            return Err(ApiError::field(
                ErrorCode::Taken,
                "oidc_subject",
                subject,
                "a subject that no other user has",
            ));
        }
        let tokens = before.map(|user| user.tokens.clone()).unwrap_or_default();
        Ok(StoredUser { spec, tokens })
    }

    /// A new token, which does not belong to a user yet.
    ///
    /// # Errors
    /// A field is wrong.
    pub async fn new_token(&self, spec: TokenSpec) -> Result<(NewToken, StoredToken), ApiError> {
        let (least, most, usual) = LIFETIME_S;
        let lifetime_s = spec.lifetime_s.unwrap_or(usual);
        if !(least..=most).contains(&lifetime_s) {
            let expected = format!("{least} to {most} seconds");
            return Err(ApiError::field(ErrorCode::Invalid, "lifetime_s", lifetime_s, expected));
        }
        if spec.description.len() > MAX_TEXT {
            let expected = format!("at most {MAX_TEXT} octets");
            return Err(ApiError::field(
                ErrorCode::Invalid,
                "description",
                spec.description.len(),
                expected,
            ));
        }
        let now = now_ms();
        let secret = Secret::random();
        let token = Token {
            id: secret.id().to_owned(),
            description: spec.description,
            created_ms: now,
            expires_ms: now.saturating_add(lifetime_s.saturating_mul(1000)),
        };
        let new = NewToken {
            secret: secret.text().to_owned(),
            token: token.clone(),
        };
        let hash = self.slowly(move || token::hash(&secret)).await??;
        Ok((new, StoredToken { token, hash }))
    }

    /// The user with one more token, as it would be stored. Expired tokens are removed to make room.
    ///
    /// # Errors
    /// The user does not exist or has too many tokens.
    pub fn with_token(&self, key: &UserKey, token: StoredToken) -> Result<StoredUser, ApiError> {
        let mut user = self.stored(key).ok_or_else(|| not_found(key))?;
        let now = now_ms();
        user.tokens.retain(|t| t.token.expires_ms > now);
        if user.tokens.len() >= MAX_TOKENS {
            let detail = format!("user `{key}` has {MAX_TOKENS} tokens, which is the most: revoke one first");
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        user.tokens.push(token);
        Ok(user)
    }

    /// The user without one of its tokens, as it would be stored.
    ///
    /// # Errors
    /// There is no such user or token.
    pub fn without_token(&self, key: &UserKey, id: &str) -> Result<StoredUser, ApiError> {
        let mut user = self.stored(key).ok_or_else(|| not_found(key))?;
        let before = user.tokens.len();
        user.tokens.retain(|t| t.token.id != id);
        if user.tokens.len() == before {
            return Err(ApiError::not_found(format_args!("token `{id}` of user `{key}`")));
        }
        Ok(user)
    }

    /// Computes a slow hash, one at a time.
    async fn slowly<T: Send + 'static>(&self, hash: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let gone = || ApiError::new(ErrorCode::Internal, "a token could not be checked");
        let _turn = self.hashing.acquire().await.map_err(|_| gone())?;
        tokio::task::spawn_blocking(hash).await.map_err(|_| gone())
    }

    /// The caller that a token proves.
    ///
    /// # Errors
    /// Why it proves nobody.
    pub async fn by_token(&self, given: &str) -> Result<Caller, String> {
        let given = Secret::parse(given).ok_or("no valid bearer token")?;
        let known = self.read().tokens.get(given.id()).cloned();
        let known = known.ok_or("no valid bearer token")?;
        let digest = given.digest();
        let is_right = match known.digest.get() {
            Some(right) => right.is(&digest),
            None => {
                let (hash, given) = (known.hash.clone(), given.clone());
                let verified = self.slowly(move || token::verify(&given, &hash)).await;
                let is_right = verified.map_err(|e| e.detail)?;
                if is_right {
                    // Another request may have set it first, to the same value.
                    let _ = known.digest.set(digest);
                }
                is_right
            }
        };
        if !is_right {
            return Err("no valid bearer token".into());
        }
        if known.expires_ms <= now_ms() {
            return Err(format!("token {} of `{}` has ended", given.id(), known.user));
        }
        let proof = format!("token {}", given.id());
        let caller = self.caller(&known.user, proof, Some(known.expires_ms));
        caller.ok_or_else(|| "no valid bearer token".into())
    }

    /// The caller that a certificate for `/user/<name>` proves.
    ///
    /// # Errors
    /// There is no such user.
    pub fn by_certificate(&self, name: &str) -> Result<Caller, String> {
        let key = name.parse().ok().map(|name| UserKey { vdc: None, name });
        let caller = key.and_then(|key| self.caller(&key, "certificate".to_owned(), None));
        caller.ok_or_else(|| "a certificate of an unknown user".to_owned())
    }

    /// The caller that an identity provider knows by this subject.
    ///
    /// # Errors
    /// There is no such user.
    pub fn by_subject(&self, subject: &str, expires_ms: u64) -> Result<Caller, String> {
        let key = self.read().subjects.get(subject).cloned();
        let caller = key.and_then(|key| self.caller(&key, "oidc".to_owned(), Some(expires_ms)));
        caller.ok_or_else(|| "a subject of the identity provider that no user has".to_owned())
    }

    fn caller(&self, key: &UserKey, proof: String, expires_ms: Option<u64>) -> Option<Caller> {
        let tables = self.read();
        let roles = tables.users.get(key)?.spec.roles.clone();
        Some(Caller {
            name: key.to_string(),
            proof,
            grants: Grants::of(&roles),
            roles,
            expires_ms,
        })
    }
}

pub(crate) fn not_found(key: &UserKey) -> ApiError {
    ApiError::not_found(format_args!("user `{key}`"))
}

#[cfg(test)]
mod tests;
