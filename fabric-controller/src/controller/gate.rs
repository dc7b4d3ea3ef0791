//! Access control of the REST API: proofs of identity, users and the audit log behind one trait.

use std::sync::Arc;

use fabric_identity::{Peer, Subject};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use vfabric_api::access::{AuditPage, AuditRecord, Caller, NewToken, TokenSpec, User, UserKey, UserSpec};
use vfabric_api::error::ApiError;
use vfabric_api::ident::Name;
use vfabric_api::rest::Access;

use super::Controller;
use super::users::finish;
use crate::access::audit::AuditLog;
use crate::access::file::Tokens;
use crate::access::oidc::Provider;
use crate::store::Store;

/// Identifies callers by the means that the operator configured, and keeps users in the controller's store.
pub struct Gate<S> {
    controller: Arc<Controller<S>>,
    tokens: Tokens,
    provider: Option<Provider>,
    audit: Arc<AuditLog>,
}

impl<S: Store> Gate<S> {
    /// With the tokens of the operator's file, an identity provider if there is one, and the audit log.
    pub fn new(
        controller: Arc<Controller<S>>,
        tokens: Tokens,
        provider: Option<Provider>,
        audit: impl Into<Arc<AuditLog>>,
    ) -> Self {
        Self {
            controller,
            tokens,
            provider,
            audit: audit.into(),
        }
    }

    async fn by_token(&self, token: &str) -> Result<Caller, String> {
        if let Some(caller) = self.tokens.caller(token) {
            return Ok(caller);
        }
        let directory = self.controller.directory();
        match &self.provider {
            // A JWT has three parts; none of our tokens has a dot.
            Some(provider) if token.contains('.') => {
                let (subject, expires_ms) = provider.subject(token)?;
                directory.by_subject(&subject, expires_ms)
            }
            _ => directory.by_token(token).await,
        }
    }
}

impl<S: Store> Access for Gate<S> {
    fn identify<'a>(&'a self, token: Option<&'a str>, peer: Option<&'a Peer>) -> BoxFuture<'a, Result<Caller, String>> {
        async move {
            match (token, peer.and_then(Peer::subject)) {
                (Some(token), _) => self.by_token(token).await,
                (None, Some(Subject::User(name))) => self.controller.directory().by_certificate(name),
                (None, Some(_)) => Err("a certificate of no user".to_owned()),
                (None, None) => Err("no valid bearer token".to_owned()),
            }
        }
        .boxed()
    }

    fn users(&self, vdc: Option<&Name>) -> Vec<User> {
        self.controller.directory().users(vdc)
    }

    fn user(&self, key: &UserKey) -> Option<User> {
        self.controller.directory().user(key)
    }

    fn put_user(&self, vdc: Option<Name>, spec: UserSpec, new: bool) -> BoxFuture<'_, Result<User, ApiError>> {
        let controller = Arc::clone(&self.controller);
        finish(async move { controller.put_user(vdc, spec, new).await }).boxed()
    }

    fn delete_user(&self, key: UserKey) -> BoxFuture<'_, Result<(), ApiError>> {
        let controller = Arc::clone(&self.controller);
        finish(async move { controller.delete_user(&key).await }).boxed()
    }

    fn make_token(&self, key: UserKey, spec: TokenSpec) -> BoxFuture<'_, Result<NewToken, ApiError>> {
        let controller = Arc::clone(&self.controller);
        finish(async move { controller.make_token(&key, spec).await }).boxed()
    }

    fn revoke_token(&self, key: UserKey, id: String) -> BoxFuture<'_, Result<(), ApiError>> {
        let controller = Arc::clone(&self.controller);
        finish(async move { controller.revoke_token(&key, &id).await }).boxed()
    }

    fn can_record(&self) -> Result<(), String> {
        self.audit.fault().map_or(Ok(()), Err)
    }

    fn record(&self, record: AuditRecord) -> BoxFuture<'_, ()> {
        self.audit.record(record).boxed()
    }

    fn audit(&self, vdc: Option<&Name>, before: Option<u64>, limit: usize) -> AuditPage {
        self.audit.page(vdc, before, limit)
    }
}

#[cfg(test)]
mod tests {
    use fabric_identity::{Claim, Liveness};

    use super::super::tests::{MemoryStore, World, fakes, topology};
    use super::*;

    /// Certificates of switches hold until they end, also those of switches that have left: so none may open anything.
    #[tokio::test]
    async fn the_certificate_of_a_switch_is_no_way_in_whether_it_has_left_or_not() {
        let world = World::over(topology(), MemoryStore::default(), fakes()).await;
        let log = tempfile::tempdir().unwrap();
        let tokens = Tokens::parse("0123456789abcdef0123456789abcdef").unwrap();
        let audit = AuditLog::open(log.path()).unwrap();
        let gate = Gate::new(Arc::clone(&world.controller), tokens, None, audit);
        for subject in [
            "switch/leaf1",
            "switch/retired",
            "host/host1",
            "provision",
            "controller",
        ] {
            let peer = Peer {
                address: "192.0.2.7:40000".parse().unwrap(),
                claim: Claim::Member(format!("spiffe://test/{subject}").parse().unwrap()),
                validity: None,
                liveness: Liveness::default(),
            };
            let refused = gate.identify(None, Some(&peer)).await.unwrap_err();
            assert_eq!(refused, "a certificate of no user", "{subject}");
        }
    }
}
