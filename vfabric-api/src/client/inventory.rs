//! Calls about the inventory.

use std::time::Duration;

use reqwest::Method;

use super::{Client, ClientError};
use crate::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use crate::ident::{Name, PortId};
use crate::inventory::{Inventory, ItemKey};
use crate::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use crate::machine::{Install, InstallSpec, Reboot, RebootSpec};
use crate::service::Outcome;
use crate::topology::{PortRef, Topology};

/// Operations on a switch or host, apart from adding, changing and removing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Paths avoid it, it gets no new attachments.
    Drain,
    /// Ends a drain.
    Undrain,
    /// Declares it gone: it is dead.
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

/// The parameter of a removal, which links do not have.
fn cascades(key: &ItemKey, cascade: bool) -> String {
    match key {
        ItemKey::Link(..) => String::new(),
        _ => format!("cascade={cascade}&"),
    }
}

fn seconds(wait: Option<Duration>) -> f64 {
    wait.unwrap_or_default().as_secs_f64()
}

/// The key of the link at a port, with this port as both of its ends: the controller finds the other end.
pub fn link_at(switch: Name, port: PortId) -> ItemKey {
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

    /// Carries out an operation on a switch or host, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn device(&self, key: &ItemKey, verb: Verb, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let path = format!("{}/{}?wait={}", path(key), verb.word(), seconds(wait));
        self.call(Method::POST, &path, None, wait).await
    }

    /// What [`Client::device`] would change, with the plan of the devices; nothing is changed.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn plan_device(&self, key: &ItemKey, verb: Verb) -> Result<Outcome, ClientError> {
        let path = format!("{}/{}?dry_run=true", path(key), verb.word());
        self.call(Method::POST, &path, None, None).await
    }

    /// Makes a token with which the agent of a host enrols.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn make_host_token(&self, host: &Name, spec: EnrolmentTokenSpec) -> Result<HostToken, ClientError> {
        let path = format!("{}/enrolment-token", path(&ItemKey::Host(host.clone())));
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), None).await
    }

    /// Makes a token with which the machine of a switch enrols.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn make_switch_token(&self, switch: &Name, spec: EnrolmentTokenSpec) -> Result<SwitchToken, ClientError> {
        let path = format!("{}/enrolment-token", path(&ItemKey::Switch(switch.clone())));
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), None).await
    }

    /// Restarts a switch, which is drained first unless `spec` says otherwise.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn reboot(&self, switch: &Name, spec: &RebootSpec) -> Result<Reboot, ClientError> {
        let path = format!("{}/reboot", path(&ItemKey::Switch(switch.clone())));
        let wait = spec.wait().ok();
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), wait).await
    }

    /// Begins to install software on a switch.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn install(&self, switch: &Name, spec: &InstallSpec) -> Result<Install, ClientError> {
        let path = format!("{}/install", path(&ItemKey::Switch(switch.clone())));
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), None).await
    }

    /// Makes another machine this switch, or says what that would do.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn replace_machine(&self, switch: &Name, spec: &ReplaceSpec) -> Result<Lifecycle, ClientError> {
        let path = format!("{}/replace", path(&ItemKey::Switch(switch.clone())));
        let wait = spec.drain().wait().ok();
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), wait).await
    }

    /// Takes a switch out of the fabric for good, or says what that would do.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn retire(&self, switch: &Name, spec: &RetireSpec) -> Result<Lifecycle, ClientError> {
        let path = format!("{}/retire", path(&ItemKey::Switch(switch.clone())));
        let wait = spec.drain().wait().ok();
        let body = serde_json::to_value(spec).map_err(super::unreadable)?;
        self.call(Method::POST, &path, Some(body), wait).await
    }

    /// Removes an object, with `cascade` also what uses it, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn remove(&self, key: &ItemKey, cascade: bool, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let path = format!("{}?{}wait={}", path(key), cascades(key, cascade), seconds(wait));
        self.call(Method::DELETE, &path, None, wait).await
    }

    /// What [`Client::remove`] would change, with the plan of the devices; nothing is changed.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn plan_removal(&self, key: &ItemKey, cascade: bool) -> Result<Outcome, ClientError> {
        let path = format!("{}?{}dry_run=true", path(key), cascades(key, cascade));
        self.call(Method::DELETE, &path, None, None).await
    }
}
