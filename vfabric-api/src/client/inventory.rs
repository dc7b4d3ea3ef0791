//! Calls about the inventory.

use std::time::Duration;

use reqwest::Method;

use super::{Client, ClientError};
use crate::ident::PortId;
use crate::inventory::{Inventory, ItemKey};
use crate::service::Outcome;
use crate::topology::{PortRef, Topology};

/// Operations on a switch or host, apart from adding, changing and removing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Paths avoid it, it gets no new attachments.
    Drain,
    /// Ends a drain.
    Undrain,
    /// It is dead.
    Gone,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Gone => "gone",
        }
    }
}

/// Path of an object. Names are DNS labels, so they need no escaping.
fn path(key: &ItemKey) -> String {
    match key {
        ItemKey::Fabric => "/v1/inventory/fabric".into(),
        ItemKey::Switch(name) => format!("/v1/inventory/switches/{name}"),
        ItemKey::Host(name) => format!("/v1/inventory/hosts/{name}"),
        ItemKey::Link(end, _) => format!("/v1/inventory/links/{}/{}", end.switch, end.port),
    }
}

fn seconds(wait: Option<Duration>) -> f64 {
    wait.unwrap_or_default().as_secs_f64()
}

/// The link at a port; the controller knows which one it is.
pub fn link_at(switch: crate::ident::Name, port: PortId) -> ItemKey {
    let end = PortRef { switch, port };
    ItemKey::Link(end.clone(), end)
}

impl Client {
    /// The whole inventory.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn inventory(&self) -> Result<Inventory, ClientError> {
        self.read("/v1/inventory").await
    }

    /// Changes the inventory to match a topology, and waits up to `wait` for the devices; with `dry_run`, only returns
    /// what would change.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn import(
        &self,
        topology: &Topology,
        dry_run: bool,
        wait: Option<Duration>,
    ) -> Result<Outcome, ClientError> {
        let path = format!("/v1/inventory?dry_run={dry_run}&wait={}", seconds(wait));
        let body = serde_json::to_value(topology).map_err(|e| ClientError::Settings(e.to_string()))?;
        self.call(Method::PUT, &path, Some(body), wait).await
    }

    /// Does something to a switch or host, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn device(&self, key: &ItemKey, verb: Verb, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let path = format!("{}/{}?wait={}", path(key), verb.word(), seconds(wait));
        self.call(Method::POST, &path, None, wait).await
    }

    /// Removes an object (with `cascade`, also the objects that use it), and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn remove(&self, key: &ItemKey, cascade: bool, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let cascade = match key {
            ItemKey::Link(..) => String::new(),
            _ => format!("cascade={cascade}&"),
        };
        let path = format!("{}?{cascade}wait={}", path(key), seconds(wait));
        self.call(Method::DELETE, &path, None, wait).await
    }
}
