//! Users: changed under the writer's lock, durable before they count.
//!
//! Users are not tenants' objects: they have no history and no plan, and a rollback does not restore them. They use the
//! vDCs that they belong to or have roles in, so such a vDC cannot be deleted: a later vDC of that name never finds
//! users of an earlier one.

use tracing::info;
use vfabric_api::access::{NewToken, TokenSpec, User, UserKey, UserSpec};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind};

use super::Controller;
use super::rows::to_json;
use super::writer::{State, unavailable};
use crate::access::{self, Directory, StoredUser};
use crate::model::change::Applied;
use crate::store::{Op, Store};

impl<S: Store> Controller<S> {
    /// The directory of users.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Creates (`new`) or replaces a user; its tokens stay.
    ///
    /// # Errors
    /// A field is wrong, the vDC does not exist, or the user cannot be stored.
    pub async fn put_user(&self, vdc: Option<Name>, spec: UserSpec, new: bool) -> Result<User, ApiError> {
        let key = UserKey {
            vdc,
            name: spec.name.clone(),
        };
        let mut state = self.state.lock().await;
        let exists = |vdc: &Name| state.model.vdc(vdc).is_some();
        if let Some(vdc) = key.vdc.as_ref().filter(|vdc| !exists(vdc)) {
            return Err(ApiError::not_found(Key::vdc(vdc.clone())));
        }
        access::check(&key, &spec, exists)?;
        let user = self.directory.put(&key, spec, new)?;
        if self.directory.stored(&key).as_ref() != Some(&user) {
            self.store_user(&mut state, &key, Some(user)).await?;
        }
        self.directory.user(&key).ok_or_else(|| access::not_found(&key))
    }

    /// Deletes a user and its tokens.
    ///
    /// # Errors
    /// There is no such user, or the deletion cannot be stored.
    pub async fn delete_user(&self, key: &UserKey) -> Result<(), ApiError> {
        let mut state = self.state.lock().await;
        self.directory.stored(key).ok_or_else(|| access::not_found(key))?;
        self.store_user(&mut state, key, None).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// There is no such user, a field is wrong, or it cannot be stored.
    pub async fn make_token(&self, key: &UserKey, spec: TokenSpec) -> Result<NewToken, ApiError> {
        self.directory.stored(key).ok_or_else(|| access::not_found(key))?;
        // Compute the slow hash before taking the lock. The user is read afterwards, because it may have changed.
        let (new, stored) = self.directory.new_token(spec).await?;
        let mut state = self.state.lock().await;
        let user = self.directory.with_token(key, stored)?;
        self.store_user(&mut state, key, Some(user)).await?;
        info!(target: "audit", user = %key, token = new.token.id, "token made");
        Ok(new)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// There is no such token, or the deletion cannot be stored.
    pub async fn revoke_token(&self, key: &UserKey, id: &str) -> Result<(), ApiError> {
        let mut state = self.state.lock().await;
        let user = self.directory.without_token(key, id)?;
        self.store_user(&mut state, key, Some(user)).await
    }

    async fn store_user(&self, state: &mut State, key: &UserKey, user: Option<StoredUser>) -> Result<(), ApiError> {
        let row = access::row_key(key);
        let ops = match &user {
            Some(user) => vec![Op::Put(row, to_json(user))],
            // A later user of that name must not get the answers of this one.
            None => std::iter::once(row)
                .chain(state.requests.keys_of(&key.to_string()))
                .map(Op::Delete)
                .collect(),
        };
        if !self.commit_ops(state, ops, "cannot store a user").await {
            return Err(unavailable("the change could not be stored"));
        }
        if user.is_none() {
            state.requests.forget(&key.to_string());
        }
        self.directory.set(key.clone(), user);
        Ok(())
    }

    /// Refuses a transaction that deletes a vDC which users belong to or have roles in.
    pub(super) fn check_users(&self, applied: &Applied) -> Result<(), ApiError> {
        let gone = |(key, now): &&(Key, Option<_>)| key.kind == Kind::Vdc && now.is_none();
        for (key, _) in applied.objects.iter().filter(gone) {
            if let Some(user) = self.directory.user_of(&key.vdc) {
                let detail = format!("{key} is still used by user `{user}`");
                return Err(ApiError::new(ErrorCode::InUse, detail));
            }
        }
        Ok(())
    }
}

/// Finishes a call even if its caller goes away, so that what is stored also takes effect.
pub(super) async fn finish<T: Send + 'static>(
    call: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = |_| ApiError::new(ErrorCode::Internal, "the change could not be carried out");
    tokio::spawn(call).await.map_err(ended).flatten()
}
