//! Calls about users, tokens and the audit log.

use reqwest::Method;

use super::{Client, ClientError, unreadable};
use crate::access::{AuditPage, NewToken, TokenSpec, User, UserKey, UserSpec, WhoAmI};
use crate::error::ErrorCode;
use crate::ident::Name;

/// Path of users of the fabric, or of a vDC.
fn users(vdc: Option<&Name>) -> String {
    vdc.map_or("/v1/users".into(), |vdc| format!("/v1/vdcs/{vdc}/users"))
}

fn user(key: &UserKey) -> String {
    format!("{}/{}", users(key.vdc.as_ref()), key.name)
}

impl Client {
    /// Who the caller is, and its roles.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.read("/v1/whoami").await
    }

    /// Users of the fabric, or of a vDC.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn users(&self, vdc: Option<&Name>) -> Result<Vec<User>, ClientError> {
        self.read(&users(vdc)).await
    }

    /// One user.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn user(&self, key: &UserKey) -> Result<User, ClientError> {
        self.read(&user(key)).await
    }

    /// Replaces a user, or creates it.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn put_user(&self, vdc: Option<&Name>, spec: &UserSpec) -> Result<User, ClientError> {
        let key = UserKey {
            vdc: vdc.cloned(),
            name: spec.name.clone(),
        };
        let body = serde_json::to_value(spec).map_err(unreadable)?;
        match self.call(Method::PUT, &user(&key), Some(body.clone()), None).await {
            Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound => {
                self.call(Method::POST, &users(vdc), Some(body), None).await
            }
            done => done,
        }
    }

    /// Deletes a user and its tokens.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn delete_user(&self, key: &UserKey) -> Result<(), ClientError> {
        self.command(Method::DELETE, &user(key)).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn make_token(&self, key: &UserKey, spec: &TokenSpec) -> Result<NewToken, ClientError> {
        let body = serde_json::to_value(spec).map_err(unreadable)?;
        let path = format!("{}/tokens", user(key));
        self.call(Method::POST, &path, Some(body), None).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn revoke_token(&self, key: &UserKey, id: &str) -> Result<(), ClientError> {
        let id = super::escape(id);
        self.command(Method::DELETE, &format!("{}/tokens/{id}", user(key)))
            .await
    }

    /// The last records of the audit log below `before`, at most `limit`, the newest first; of one vDC if one is given.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn audit(&self, vdc: Option<&Name>, before: Option<u64>, limit: usize) -> Result<AuditPage, ClientError> {
        let path = vdc.map_or("/v1/audit".into(), |vdc| format!("/v1/vdcs/{vdc}/audit"));
        let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
        self.read(&format!("{path}?limit={limit}{before}")).await
    }
}
