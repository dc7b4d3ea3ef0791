//! The inventory for the enrolment of hosts, and the tokens for it.

use std::sync::Arc;

use vfabric_api::enrolment::{HostToken, HostTokenSpec};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::inventory::ItemState;

use super::Controller;
use crate::events::News;
use crate::host_enrolment::desk::{Desk, Found, Hosts};
use crate::model::fabric::Node;
use crate::store::Store;

impl<S: Store> Hosts for Controller<S> {
    fn host(&self, name: &Name) -> Option<Found> {
        let fabric = self.fabric_now();
        let Some(Node::Host(host)) = fabric.node(name) else {
            return None;
        };
        let entry = fabric.host(host)?;
        Some(Found {
            uid: entry.uid.get(),
            vtep_ipv4: entry.spec.vtep_ipv4,
            vtep_ipv6: entry.spec.vtep_ipv6,
            is_retired: entry.gone || entry.state == ItemState::Leaving,
        })
    }

    fn note(&self, news: News) {
        self.events.note(news);
    }
}

impl<S: Store> Controller<S> {
    /// Sets the part that lets hosts enrol; until then no token can be made.
    pub fn enrol_hosts(&self, desk: Arc<Desk>) {
        // The first call counts; there is only one.
        let _ = self.host_enrolment.set(desk);
    }

    /// Makes a token for a host.
    pub(super) async fn make_host_token(&self, host: &Name, spec: HostTokenSpec) -> Result<HostToken, ApiError> {
        let desk = self.host_enrolment.get().cloned().ok_or_else(|| {
            let detail = "hosts cannot enrol here: the controller was started without --host-authority";
            ApiError::new(ErrorCode::PreconditionFailed, detail)
        })?;
        let host = host.clone();
        let made = tokio::task::spawn_blocking(move || desk.make_token(&host, spec)).await;
        made.map_err(|_| ApiError::new(ErrorCode::Internal, "the token could not be made"))?
    }
}
