//! Rendering for the fabric's own pipelines (`fabric-pipeline`) and the VTEP agent.

use std::fmt;

use fabric_pipeline::tables::{self, host_refusal};
use fabric_pipeline::{DropReason, binding::KeyFields};
use p4runtime_client::entity::EntityKey as SwitchKey;
use p4runtime_client::entity::EntityValue;
use vfabric_api::topology::Role;
use vtep_proto::HostEntity;

use super::{Render, attachment, host, network, underlay};
use crate::entity::counter::{CounterCell, CounterQuery, CounterValue};
use crate::entity::{Entity, EntityKey};
use crate::view::{AttachmentView, BehindView, FabricView, FloodView, HostView, NetworkView, PathView, SwitchView};

/// [`Render`] for `leaf.p4`, `spine.p4` and `vtep-agent`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FabricRender;

impl Render for FabricRender {
    fn switch(&self, fabric: &FabricView, switch: &SwitchView, out: &mut Vec<Entity>) {
        underlay::switch(fabric, switch, out);
    }

    fn path(&self, path: &PathView, out: &mut Vec<Entity>) {
        underlay::path(path, out);
    }

    fn behind(&self, fabric: &FabricView, switch: &SwitchView, behind: &BehindView, out: &mut Vec<Entity>) {
        underlay::behind(fabric, switch, behind, out);
    }

    fn local_host(&self, fabric: &FabricView, leaf: &SwitchView, host: &HostView, out: &mut Vec<Entity>) {
        underlay::local_host(fabric, leaf, host, out);
    }

    fn network_on_leaf(&self, fabric: &FabricView, _: &SwitchView, network: &NetworkView, out: &mut Vec<Entity>) {
        network::network(fabric, network, out);
    }

    fn routed_network_on_leaf(&self, _: &FabricView, _: &SwitchView, network: &NetworkView, out: &mut Vec<Entity>) {
        network::routed_network(network, out);
    }

    fn flood_on_leaf(
        &self,
        _: &FabricView,
        _: &SwitchView,
        network: &NetworkView,
        flood: &FloodView,
        out: &mut Vec<Entity>,
    ) {
        network::flood(network, flood, out);
    }

    fn host_network_on_leaf(
        &self,
        _: &FabricView,
        _: &SwitchView,
        host: &HostView,
        network: &NetworkView,
        out: &mut Vec<Entity>,
    ) {
        network::host_network(host, network, out);
    }

    fn attachment_on_leaf(
        &self,
        _: &FabricView,
        leaf: &SwitchView,
        network: &NetworkView,
        attachment: &AttachmentView,
        bridged: bool,
        out: &mut Vec<Entity>,
    ) {
        attachment::on_leaf(leaf, network, attachment, bridged, out);
    }

    fn network_on_host(&self, fabric: &FabricView, host: &HostView, network: &NetworkView, out: &mut Vec<Entity>) {
        host::network(fabric, host, network, out);
    }

    fn attachment_on_host(
        &self,
        fabric: &FabricView,
        host: &HostView,
        network: &NetworkView,
        attachment: &AttachmentView,
        out: &mut Vec<Entity>,
    ) {
        host::attachment(fabric, host, network, attachment, out);
    }

    fn drop_counters(&self, role: Role) -> Vec<CounterQuery> {
        use tables::counters::{EGRESS_DROPS, INGRESS_DROPS};
        let mut queries: Vec<CounterQuery> = [INGRESS_DROPS, EGRESS_DROPS]
            .map(|counter_id| CounterQuery::Indirect { counter_id })
            .into();
        if role == Role::Leaf {
            queries.push(CounterQuery::Direct {
                table_id: host_refusal::ID,
            });
        }
        queries
    }

    fn drop_reason(&self, role: Role, value: &CounterValue) -> Option<(String, Option<u16>)> {
        match (value.query, &value.cell) {
            (CounterQuery::Indirect { .. }, CounterCell::Index(index)) => {
                let reason = DropReason::from_number(*index)?;
                // A leaf counts these by host; see below.
                let counted_by_host = role == Role::Leaf && reason == DropReason::HostVni;
                (!counted_by_host).then(|| (reason.code(), None))
            }
            (CounterQuery::Direct { .. }, CounterCell::Entry(EntityKey::Switch(SwitchKey::Table(key)))) => {
                let host = host_refusal::Key::from_match(&key.fields).ok()?;
                // 16 bits by its type.
                let vtep_id = u16::try_from(host.vtep_id.get()).ok()?;
                Some((DropReason::HostVni.code(), Some(vtep_id)))
            }
            _ => None,
        }
    }

    fn describe(&self, _: Option<Role>, entity: &Entity) -> (String, String, String) {
        match entity {
            Entity::Switch(e) => match tables::describe(e) {
                Some(d) => (d.table.to_owned(), d.key, d.action),
                None => in_numbers(e),
            },
            Entity::Host(e) => host_in_words(e),
        }
    }
}

/// An object of a host: its kind, what names it, and what it is.
fn host_in_words(e: &HostEntity) -> (String, String, String) {
    let (kind, content) = match e {
        HostEntity::Network(n) => {
            let gateways = n.gateways.iter().map(|g| format!("{} ({})", list(&g.ips), g.mac));
            let (flood, gateways) = (list(&n.flood), list(gateways));
            (
                "network",
                format!("mtu {}, floods to {flood}, gateways {gateways}", n.mtu),
            )
        }
        HostEntity::Fdb(f) => ("fdb", format!("vtep {}", f.vtep)),
        HostEntity::Neighbour(n) => ("neighbour", format!("mac {}", n.mac)),
        HostEntity::Attachment(a) => ("attachment", attachment_in_words(a)),
    };
    (kind.to_owned(), e.key().to_string(), content)
}

/// Joins words with spaces.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(" ")
    }
}

fn attachment_in_words(a: &vtep_proto::Attachment) -> String {
    let mut words = vec![
        format!("network {}", a.vni),
        format!("mac {}", a.mac),
        format!("addresses {}", list(&a.addresses)),
    ];
    for route in &a.routes {
        let via = route.via.map_or_else(|| "the link".to_owned(), |via| via.to_string());
        words.push(format!("route {} by {via}", route.destination));
    }
    words.push(format!("interface {} in {}", a.interface, a.netns));
    if a.mtu != 0 {
        words.push(format!("mtu {}", a.mtu));
    }
    for allowed in &a.allowed_addresses {
        let mac = allowed.mac.map_or_else(String::new, |mac| format!(" with {mac}"));
        words.push(format!("also {}{mac}", allowed.prefix));
    }
    if !a.port_security {
        words.push("no port security".to_owned());
    }
    match a.mode {
        vtep_proto::Mode::Serving => {}
        vtep_proto::Mode::Standby => words.push("standby: its workload has not arrived yet".to_owned()),
        vtep_proto::Mode::Leaving => words.push("leaving: its workload has moved".to_owned()),
    }
    if a.shared_netns {
        words.push("shared namespace".to_owned());
    }
    words.join(", ")
}

/// Entities that are not entries of a known table.
fn in_numbers(e: &p4runtime_client::entity::Entity) -> (String, String, String) {
    let list = |items: Vec<String>| items.join(", ");
    let (kind, value) = match e.value() {
        EntityValue::Member(call) => {
            use fabric_pipeline::binding::ActionParams;
            let action = tables::path::Action::from_call(call).map(|a| a.to_string());
            ("member", action.unwrap_or_else(|_| format!("{call:?}")))
        }
        EntityValue::Group(group) => {
            let members = group.members.iter().map(|m| format!("member {}", m.member_id));
            ("group", list(members.collect()))
        }
        EntityValue::MulticastGroup(group) => {
            let copies = group
                .replicas
                .iter()
                .map(|r| format!("port {} replica {}", r.port.0, r.instance));
            ("multicast_group", list(copies.collect()))
        }
        other => ("entity", format!("{other:?}")),
    };
    (kind.to_owned(), e.key().to_string(), value)
}
