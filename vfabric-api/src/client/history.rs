//! Calls about the past.

use std::time::Duration;

use super::{Client, ClientError, escape, flag};
use crate::history::{Diff, History, Revision};
use crate::ident::Name;
use crate::service::{Outcome, Rollback};

impl Client {
    /// The last revisions below `before`, at most `limit`, the newest first; only those of one vDC if one is given;
    /// then a page may have fewer although more follow.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn history(&self, vdc: Option<&Name>, before: Option<u64>, limit: usize) -> Result<History, ClientError> {
        let vdc = vdc.map(|vdc| format!("&vdc={vdc}")).unwrap_or_default();
        let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
        self.read(&format!("/v1/history?limit={limit}{before}{vdc}")).await
    }

    /// One revision.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn revision(&self, revision: u64) -> Result<Revision, ClientError> {
        self.read(&format!("/v1/history/{revision}")).await
    }

    /// How the intent of two revisions differs.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn diff(&self, from: u64, to: u64) -> Result<Diff, ClientError> {
        self.read(&format!("/v1/diff?from={from}&to={to}")).await
    }

    /// Restores the intent of an older revision, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn rollback(&self, rollback: &Rollback, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let vdc = rollback
            .vdc
            .as_ref()
            .map(|vdc| format!("&vdc={vdc}"))
            .unwrap_or_default();
        let path = format!(
            "/v1/history/{}/rollback?dry_run={}&wait={}&reason={}{vdc}{}",
            rollback.to,
            rollback.dry_run,
            wait.unwrap_or_default().as_secs_f64(),
            escape(&rollback.origin.reason),
            flag(rollback.origin.force, "&force=true"),
        );
        self.call(reqwest::Method::POST, &path, None, wait).await
    }
}
