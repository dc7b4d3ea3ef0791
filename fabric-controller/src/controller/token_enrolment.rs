//! Enrolment with tokens: the view of the inventory that it needs, and how tokens are made.

use std::sync::Arc;

use vfabric_api::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::inventory::ItemState;
use vfabric_api::provisioning::BootStep;

use super::Controller;
use super::enrolment::settings_of;
use crate::device::reports::{Milestone, Report};
use crate::events::News;
use crate::model::fabric::Node;
use crate::store::Store;
use crate::token_enrolment::desk::{Desk, Found, Inventory, Invited, Member, Place};

impl<S: Store> Inventory for Controller<S> {
    fn find(&self, member: &Member) -> Option<Found> {
        let fabric = self.fabric_now();
        let (uid, is_retired, place) = match (member, fabric.node(member.name())?) {
            (Member::Host(_), Node::Host(host)) => {
                let entry = fabric.host(host)?;
                let place = Place::Host(entry.spec.vtep_ipv4, entry.spec.vtep_ipv6);
                (entry.uid, entry.gone || entry.state == ItemState::Leaving, place)
            }
            (Member::Switch(_), Node::Switch(switch)) => {
                let entry = fabric.switch(switch)?;
                let text = |label: &Option<vfabric_api::ident::Label>| label.as_ref().map(|l| l.as_str().to_owned());
                let place = Place::Switch {
                    config: settings_of(&entry.spec),
                    serial: entry.spec.serial.as_ref().map(ToString::to_string),
                    model: text(&entry.spec.model),
                };
                (entry.uid, entry.gone || entry.state == ItemState::Leaving, place)
            }
            _ => return None,
        };
        Some(Found {
            uid: uid.get(),
            is_retired,
            place,
        })
    }

    fn note(&self, news: News) {
        self.events.note(news);
    }

    fn enrolled(&self, member: &Member, words: &str) {
        self.note_boot(member.name(), &Report::Step(Milestone::now(BootStep::Enrolled, words)));
    }
}

impl<S: Store> Controller<S> {
    /// Sets the desk that makes tokens and decides about machines; until then no token can
    /// be made.
    pub fn enrol_by_tokens(&self, desk: Arc<Desk>) {
        // Only the first call would count, and nobody calls this twice.
        let _ = self.token_enrolment.set(desk);
    }

    /// Makes a token.
    async fn make_enrolment_token(&self, member: Member, spec: EnrolmentTokenSpec) -> Result<Invited, ApiError> {
        let desk = self.token_enrolment.get().cloned().ok_or_else(|| {
            let option = match &member {
                Member::Host(_) => "--host-authority",
                Member::Switch(_) => "--switch-authority",
            };
            let detail = format!("{member} cannot enrol with a token: the controller was started without {option}");
            ApiError::new(ErrorCode::PreconditionFailed, detail)
        })?;
        let made = tokio::task::spawn_blocking(move || desk.make_token(&member, spec)).await;
        made.map_err(|_| ApiError::new(ErrorCode::Internal, "the token could not be made"))?
    }

    /// Makes a token for a host.
    pub(super) async fn make_host_token(&self, host: &Name, spec: EnrolmentTokenSpec) -> Result<HostToken, ApiError> {
        let made = self.make_enrolment_token(Member::Host(host.clone()), spec).await?;
        Ok(HostToken {
            token: made.token,
            host: host.clone(),
            expires_ms: made.expires_ms,
            authority: made.authority,
        })
    }

    /// Makes a token for a switch.
    pub(super) async fn make_switch_token(
        &self,
        switch: &Name,
        spec: EnrolmentTokenSpec,
    ) -> Result<SwitchToken, ApiError> {
        let made = self.make_enrolment_token(Member::Switch(switch.clone()), spec).await?;
        Ok(SwitchToken {
            token: made.token,
            switch: switch.clone(),
            expires_ms: made.expires_ms,
            authority: made.authority,
        })
    }
}
