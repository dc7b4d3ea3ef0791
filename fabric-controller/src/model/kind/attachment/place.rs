//! Places: on a host, or on an access port of a leaf.

use std::sync::Arc;

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Name, PortId};
use vfabric_api::inventory::ItemState;
use vfabric_api::kind::{AttachmentSpec, Key, Kind, Place};
use vfabric_api::topology::Role;

use super::At;
use crate::ident::{AttachmentId, NetworkId, SwitchIndex};
use crate::model::fabric::Node;
use crate::model::fault::{self, Fault};
use crate::model::fields::Fields;
use crate::model::number::Number;
use crate::model::{GREATEST_NUMBER, Model};

/// Longest name of a Linux interface.
const MAX_INTERFACE: usize = 15;
/// Longest name of a network namespace (PATH_MAX is far longer than any real one).
const MAX_NETNS: usize = 255;

/// Whether a namespace could have an interface of this name besides its own. Linux accepts neither `/` nor `:`, and
/// reads `%d` as "the next number"; `lo` exists already; `all` and `default` mean something else to sysctl.
fn is_interface(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
    (1..=MAX_INTERFACE).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('.')
        && !["lo", "all", "default"].contains(&name)
}

impl Model {
    /// Checks a place in a network; returns the access id, 0 for a host.
    pub(in crate::model) fn check_place(
        &self,
        fields: &Fields<'_>,
        own: Option<AttachmentId>,
        network: NetworkId,
        place: &Place,
    ) -> Result<u16, ApiError> {
        match place {
            Place::Host { host, netns, interface } => {
                self.check_interface(fields, "place.host", own, (host, netns, interface))?;
                Ok(0)
            }
            Place::Port { switch, port, vlan } => {
                let Some(Node::Switch(index)) = self.fabric.node(switch) else {
                    return Err(fields.invalid("place.port.switch", switch, "the name of a leaf"));
                };
                let leaf = self.fabric.switch(index).filter(|s| s.spec.role == Role::Leaf);
                let Some(leaf) = leaf else {
                    return Err(fields.invalid("place.port.switch", switch, "the name of a leaf"));
                };
                self.check_in_service(fields, "place.port.switch", Node::Switch(index), own)?;
                if !leaf.spec.access_ports.contains(port) {
                    return Err(fields.invalid("place.port.port", port, format!("an access port of `{switch}`")));
                }
                if let Some(vlan) = vlan.filter(|v| !(1..=4094).contains(v)) {
                    return Err(fields.invalid("place.port.vlan", vlan, "a VLAN id from 1 to 4094"));
                }
                if self
                    .ports
                    .get(&(index, *port, *vlan))
                    .is_some_and(|owner| Some(*owner) != own)
                {
                    let expected = format!("a port and VLAN of `{switch}` that no attachment has");
                    return Err(fields.error(ErrorCode::Taken, "place.port", port, expected));
                }
                self.access_id_at(own, network, (index, *port, *vlan)).ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Exhausted,
                        format!(
                            "`{switch}` has all its {GREATEST_NUMBER} access ids in use: none is left for port {port}"
                        ),
                    )
                })
            }
        }
    }

    /// Checks an interface on a host; the fields' names follow on `prefix`.
    pub(in crate::model) fn check_interface(
        &self,
        fields: &Fields<'_>,
        prefix: &str,
        own: Option<AttachmentId>,
        (host, netns, interface): (&Name, &str, &str),
    ) -> Result<(), ApiError> {
        let field = |name: &str| format!("{prefix}.{name}");
        let Some(Node::Host(index)) = self.fabric.node(host) else {
            return Err(fields.invalid(&field("host"), host, "the name of a host"));
        };
        self.check_in_service(fields, &field("host"), Node::Host(index), own)?;
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
        if !is_interface(interface) {
            let expected = format!(
                "an interface name of 1 to {MAX_INTERFACE} characters without `/`, `:` and `%`, not `lo`, `all` \
                 or `default`"
            );
            return Err(fields.invalid(&field("interface"), interface, expected));
        }
        // A path could lead to the host's own namespace.
        let path = netns.contains('/') || netns.starts_with('.');
        if netns.is_empty() || netns.len() > MAX_NETNS || !plain(netns) || path {
            let expected = "the name of a network namespace in /run/netns, not a path";
            return Err(fields.invalid(&field("netns"), netns, expected));
        }
        let taken = self.interfaces.get(&(index, netns.to_owned(), interface.to_owned()));
        if taken.is_some_and(|owner| Some(*owner) != own) {
            let expected = format!("an interface that no attachment in `{netns}` on `{host}` has");
            return Err(fields.error(ErrorCode::Taken, &field("interface"), interface, expected));
        }
        Ok(())
    }

    /// A new attachment, or one that moves, goes where devices are in service.
    fn check_in_service(
        &self,
        fields: &Fields<'_>,
        field: &str,
        node: Node,
        own: Option<AttachmentId>,
    ) -> Result<(), ApiError> {
        let stays = own.and_then(|o| self.attachments.get(o));
        if stays.is_some_and(|a| a.places().any(|at| self.device_at(&at) == node.device())) {
            return Ok(());
        }
        match self.fabric.state_of(node) {
            Some((ItemState::InService, false)) => Ok(()),
            state => {
                let state = state.map(|(state, _)| state).unwrap_or(ItemState::Leaving);
                let name = self.fabric.device_name(node.device()).unwrap_or_default();
                let expected = format!("a place that is in service; this one is {state}");
                Err(fields.error(ErrorCode::InUse, field, name, expected))
            }
        }
    }

    /// The access id of an attachment. It keeps its id if it stays at its place and in its network. Otherwise it gets a
    /// free one, because frames under way still carry the old meaning of the id.
    fn access_id_at(
        &self,
        own: Option<AttachmentId>,
        network: NetworkId,
        place: (SwitchIndex, PortId, Option<u16>),
    ) -> Option<u16> {
        let own = own
            .and_then(|o| self.attachments.get(o))
            .filter(|a| a.network == network);
        match own.map(|a| &a.at) {
            Some(At::Port {
                leaf,
                port,
                vlan,
                access_id,
            }) if (*leaf, *port, *vlan) == place || (*leaf == place.0 && fault::is_on(Fault::AccessIdMoves)) => {
                Some(*access_id)
            }
            _ => self.free_access_id(place.0),
        }
    }

    /// An attachment on an access port, whatever its VLAN.
    pub(in crate::model) fn attachment_on_port(&self, leaf: SwitchIndex, port: PortId) -> Option<Key> {
        let all = self.at.get(&self.fabric.switch_device(leaf)).into_iter().flatten();
        let mut found = all.filter_map(|a| self.attachments.get(*a));
        let user = found.find(|a| matches!(a.at, At::Port { port: p, .. } if p == port))?;
        Some(Key::new(user.vdc.clone(), Kind::Attachment, user.spec.name.clone()))
    }

    /// Resolves the place and network of an attachment; none if they do not exist any more.
    pub(in crate::model) fn resolve(
        &self,
        vdc: &Name,
        spec: &AttachmentSpec,
        access_id: u16,
    ) -> Option<(NetworkId, At)> {
        let (network, _) = self.known_network(vdc, &spec.network)?;
        let at = match &spec.place {
            Place::Host { host, .. } => match self.fabric.node(host)? {
                Node::Host(host) => At::Host(host),
                Node::Switch(_) => return None,
            },
            Place::Port { switch, port, vlan } => match self.fabric.node(switch)? {
                Node::Switch(leaf) => At::Port {
                    leaf,
                    port: *port,
                    vlan: *vlan,
                    access_id,
                },
                Node::Host(_) => return None,
            },
        };
        Some((network, at))
    }

    /// The numbers of a place.
    pub(in crate::model) fn stored_place_numbers(&self, place: &Place, access_id: u16) -> Vec<Number> {
        match place {
            Place::Host { host, netns, interface } => match self.fabric.node(host) {
                Some(Node::Host(h)) => vec![Number::Interface(
                    h,
                    Arc::from(netns.as_str()),
                    Arc::from(interface.as_str()),
                )],
                _ => Vec::new(),
            },
            Place::Port { switch, port, vlan } => match self.fabric.node(switch) {
                Some(Node::Switch(s)) => vec![Number::PortVlan(s, *port, *vlan), Number::AccessId(s, access_id)],
                _ => Vec::new(),
            },
        }
    }
}
