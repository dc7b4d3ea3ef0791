//! Checks an object of the inventory against the others, and allocates its numbers.

use std::net::IpAddr;

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ethernet;
use vfabric_api::ident::PortId;
use vfabric_api::inventory::{Item, ItemKey, ItemState};
use vfabric_api::topology::{Fabric, Host, Link, OVERLAY_OVERHEAD_V6, PortRef, Role, Switch};

use super::stored::{StoredHost, StoredItem, StoredLink, StoredSwitch};
use crate::model::fabric::{GREATEST_VTEP, Node, Unique, uniques_of_host, uniques_of_link, uniques_of_switch};
use crate::model::fault::{self, Fault};
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};
use crate::model::{Model, SwitchIndex};

/// Smallest MTU of the underlay: that of IPv6 links, and room for the encapsulation.
const LEAST_MTU: u16 = 1280 + OVERLAY_OVERHEAD_V6;
/// VLAN ids that a port may have entries for.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl Model {
    /// Checks and completes an object. Returns the object as it would be stored.
    pub(super) fn check_item(&mut self, path: &str, item: &Item) -> Result<StoredItem, ApiError> {
        let fields = Fields(path);
        let key = item.key();
        let before = self.stored_item(&key);
        if let Some(before) = before.as_ref().filter(|b| !b.state().is_wanted()) {
            let detail = match before.state() {
                ItemState::Gone => format!("{key} was declared gone: remove it, then add it again"),
                _ => format!("{key} is leaving: {}", self.why_leaving(&key).join("; ")),
            };
            return Err(ApiError::new(ErrorCode::InUse, detail));
        }
        if let Item::Switch(Switch { name, .. }) | Item::Host(Host { name, .. }) = item
            && let Some(node) = self.fabric.node(name)
            && matches!(node, Node::Switch(_)) != matches!(item, Item::Switch(_))
        {
            let expected = "a name that no other switch or host has";
            return Err(fields.error(ErrorCode::Taken, "name", name, expected));
        }
        match item {
            Item::Fabric(settings) => self.check_settings(&fields, settings),
            Item::Switch(spec) => self.check_switch(&fields, &key, spec),
            Item::Host(spec) => self.check_host(&fields, &key, spec),
            Item::Link(spec) => self.check_link(&fields, &key, spec),
        }
    }

    fn check_settings(&self, fields: &Fields<'_>, next: &Fabric) -> Result<StoredItem, ApiError> {
        if next.mtu < LEAST_MTU {
            return Err(fields.invalid("mtu", next.mtu, format!("at least {LEAST_MTU} octets")));
        }
        if !next.gateway_mac.is_unicast() {
            return Err(fields.invalid("gateway_mac", next.gateway_mac, "a unicast MAC address"));
        }
        if next.vni_pool.first > next.vni_pool.last {
            let expected = "a range whose first is not greater than its last";
            return Err(fields.invalid("vni_pool", next.vni_pool.first, expected));
        }
        let now = &self.fabric.settings;
        let in_use = |field: &str, value: &dyn ToString| {
            let expected = "the current value, as long as there are tenant networks";
            fields.error(ErrorCode::InUse, field, value.to_string(), expected)
        };
        let used = self.counts().0 > 0;
        if used && next.gateway_mac != now.gateway_mac {
            return Err(in_use("gateway_mac", &next.gateway_mac));
        }
        if used && next.vxlan_underlay != now.vxlan_underlay {
            return Err(in_use(
                "vxlan_underlay",
                &format!("{:?}", next.vxlan_underlay).to_lowercase(),
            ));
        }
        let overhead = next.vxlan_underlay.overlay_overhead();
        // Only a smaller one can be too small.
        let too_big = |n: &&crate::model::kind::Network| n.spec.mtu > next.mtu.saturating_sub(overhead);
        if next.mtu < now.mtu
            && let Some(network) = self.all_networks().find(too_big)
        {
            let (vdc, name, mtu) = (&network.vdc, &network.spec.name, network.spec.mtu);
            let expected = format!("at least {}: network {vdc}/{name} has an MTU of {mtu}", mtu + overhead);
            return Err(fields.error(ErrorCode::InUse, "mtu", next.mtu, expected));
        }
        Ok(StoredItem::Fabric(next.clone()))
    }

    fn check_switch(&mut self, fields: &Fields<'_>, key: &ItemKey, spec: &Switch) -> Result<StoredItem, ApiError> {
        if spec.device_id == 0 {
            return Err(fields.invalid("device_id", 0, "a number from 1 to 65535"));
        }
        if let Some(mac) = spec.mac.filter(|mac| !mac.is_unicast()) {
            return Err(fields.invalid("mac", mac, "a unicast MAC address"));
        }
        address(fields, "loopback_ipv4", spec.loopback_ipv4.into())?;
        address(fields, "loopback_ipv6", spec.loopback_ipv6.into())?;
        if spec.role == Role::Spine && !spec.access_ports.is_empty() {
            return Err(fields.invalid(
                "access_ports",
                spec.access_ports.len(),
                "none: a spine has no access ports",
            ));
        }
        for (i, port) in spec.access_ports.iter().enumerate() {
            if spec.access_ports.iter().take(i).any(|p| p == port) {
                return Err(fields.invalid(&format!("access_ports[{i}]"), port, "each port once"));
            }
        }
        if let Some((field, value, expected)) = ethernet::problems(&spec.ports, &spec.breakouts).into_iter().next() {
            return Err(fields.invalid(&field, value, expected));
        }
        let before = match self.stored_item(key) {
            Some(StoredItem::Switch(before)) => Some(before),
            _ => None,
        };
        if let Some(before) = &before {
            if before.spec.role != spec.role {
                let expected = "its current role; to change it, remove the switch and add it again";
                let role = format!("{:?}", spec.role).to_lowercase();
                return Err(fields.invalid("role", role, expected));
            }
            self.check_ports_left(fields, before, spec)?;
        }
        let uid = before.as_ref().map_or(Uid(self.next_uid), |b| b.uid);
        self.check_unique(fields, key, uid, uniques_of_switch(spec))?;
        let at = before.as_ref().map(|b| SwitchIndex(b.handle));
        for (i, port) in spec.access_ports.iter().enumerate() {
            let new = before.as_ref().is_none_or(|b| !b.spec.access_ports.contains(port));
            if let Some(at) = at.filter(|_| new) {
                self.check_port_rests(fields, &format!("access_ports[{i}]"), (at, *port), uid)?;
            }
        }
        Ok(StoredItem::Switch(match before {
            Some(before) => StoredSwitch {
                // Another device id means another machine.
                state: match before.spec.device_id == spec.device_id {
                    true => before.state,
                    false => ItemState::Arriving,
                },
                spec: spec.clone(),
                ..before
            },
            None => StoredSwitch {
                uid,
                handle: self.free_handle(key)?,
                vtep_id: match spec.role {
                    Role::Leaf => self.free_vtep(key)?,
                    Role::Spine => 0,
                },
                state: newcomer(),
                gone: false,
                replaced_s: 0,
                spec: spec.clone(),
            },
        }))
    }

    /// Access ports that a switch no longer has are not in use.
    fn check_ports_left(&self, fields: &Fields<'_>, before: &StoredSwitch, spec: &Switch) -> Result<(), ApiError> {
        let at = SwitchIndex(before.handle);
        let user = |port: PortId| self.attachment_on_port(at, port);
        let left = before.spec.access_ports.iter();
        let used = left
            .filter(|p| !spec.access_ports.contains(p))
            .find_map(|p| Some((p, user(*p)?)));
        match used {
            None => Ok(()),
            Some((port, user)) => {
                let expected = format!("a list with port {port}, which {user} uses");
                Err(fields.error(ErrorCode::InUse, "access_ports", spec.access_ports.len(), expected))
            }
        }
    }

    fn check_host(&mut self, fields: &Fields<'_>, key: &ItemKey, spec: &Host) -> Result<StoredItem, ApiError> {
        if !spec.mac.is_unicast() {
            return Err(fields.invalid("mac", spec.mac, "a unicast MAC address"));
        }
        address(fields, "vtep_ipv4", spec.vtep_ipv4.into())?;
        address(fields, "vtep_ipv6", spec.vtep_ipv6.into())?;
        let leaf = self.live_switch(fields, "uplink.switch", &spec.uplink, Some(Role::Leaf))?;
        let before = match self.stored_item(key) {
            Some(StoredItem::Host(before)) => Some(before),
            _ => None,
        };
        if let Some(before) = &before
            && before.spec.uplink.switch != spec.uplink.switch
        {
            let expected = format!("`{}`: remove the host and add it again", before.spec.uplink.switch);
            return Err(fields.invalid("uplink.switch", &spec.uplink.switch, expected));
        }
        let uid = before.as_ref().map_or(Uid(self.next_uid), |b| b.uid);
        self.check_unique(fields, key, uid, uniques_of_host(spec))?;
        if before.as_ref().is_none_or(|b| b.spec.uplink.port != spec.uplink.port) {
            self.check_port_rests(fields, "uplink.port", (leaf, spec.uplink.port), uid)?;
        }
        self.check_number(fields, "mac", &spec.mac, Number::HostMac(leaf, spec.mac), uid)?;
        Ok(StoredItem::Host(match before {
            Some(before) => StoredHost {
                // Another MAC address may mean another machine.
                state: match before.spec.mac == spec.mac {
                    true => before.state,
                    false => ItemState::Arriving,
                },
                spec: spec.clone(),
                ..before
            },
            None => StoredHost {
                uid,
                handle: self.free_handle(key)?,
                vtep_id: self.free_vtep(key)?,
                state: newcomer(),
                gone: false,
                spec: spec.clone(),
            },
        }))
    }

    fn check_link(&mut self, fields: &Fields<'_>, key: &ItemKey, spec: &Link) -> Result<StoredItem, ApiError> {
        if let Some(known) = self.stored_item(key) {
            return Ok(known);
        }
        let a = self.live_switch(fields, "a.switch", &spec.a, None)?;
        let b = self.live_switch(fields, "b.switch", &spec.b, None)?;
        if a == b {
            return Err(fields.invalid("b.switch", &spec.b.switch, "another switch than at the other end"));
        }
        let uid = Uid(self.next_uid);
        self.check_unique(fields, key, uid, uniques_of_link(spec))?;
        // A port need not rest between two cables, because both belong to the fabric.
        for (field, end) in [("a.port", (a, spec.a.port)), ("b.port", (b, spec.b.port))] {
            self.check_vlans_rest(fields, field, end, uid)?;
        }
        let handle = self.fabric.next_link;
        if handle == u32::MAX {
            let detail = format!("{key} cannot be added: all {} handles of links were given", u32::MAX);
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        let spec = spec.clone();
        Ok(StoredItem::Link(StoredLink { uid, handle, spec }))
    }

    /// A switch to which others may be cabled.
    fn live_switch(
        &self,
        fields: &Fields<'_>,
        field: &str,
        end: &PortRef,
        role: Option<Role>,
    ) -> Result<SwitchIndex, ApiError> {
        let wanted = match role {
            Some(Role::Leaf) => "the name of a leaf that is neither leaving nor gone",
            _ => "the name of a switch that is neither leaving nor gone",
        };
        let found = match self.fabric.node(&end.switch) {
            Some(Node::Switch(s)) => self.fabric.switch(s).map(|entry| (s, entry)),
            _ => None,
        };
        let fits = found.filter(|(_, e)| e.state.is_wanted() && role.is_none_or(|r| e.spec.role == r));
        fits.map(|(s, _)| s)
            .ok_or_else(|| fields.invalid(field, &end.switch, wanted))
    }

    /// No other object has any of these values, and no device holds any of them for another object.
    fn check_unique(
        &self,
        fields: &Fields<'_>,
        key: &ItemKey,
        uid: Uid,
        uniques: Vec<(String, Unique)>,
    ) -> Result<(), ApiError> {
        for (field, unique) in uniques {
            let value = match &unique {
                Unique::DeviceId(id) => id.to_string(),
                Unique::Address(ip) => ip.to_string(),
                Unique::Mac(mac) => mac.to_string(),
                Unique::Server(server) => server.to_string(),
                Unique::Port(switch, port) => format!("{switch}:{port}"),
                Unique::Serial(serial) => serial.clone(),
            };
            if let Some(owner) = self.fabric.taken(&unique).filter(|o| *o != key) {
                let state = self.stored_item(owner).map(|i| i.state()).unwrap_or_default();
                let state = if state.is_wanted() {
                    String::new()
                } else {
                    format!(", which is {state}")
                };
                let expected = format!("a value that is not used by {owner}{state}");
                return Err(fields.error(ErrorCode::Taken, &field, value, expected));
            }
            let number = match unique {
                Unique::DeviceId(id) => Number::RouterMac(id),
                Unique::Address(ip) => Number::Underlay(ip),
                Unique::Mac(_) | Unique::Serial(_) | Unique::Server(_) | Unique::Port(..) => continue,
            };
            self.check_number(fields, &field, &value, number, uid)?;
        }
        Ok(())
    }

    fn check_number(
        &self,
        fields: &Fields<'_>,
        field: &str,
        value: &dyn ToString,
        number: Number,
        uid: Uid,
    ) -> Result<(), ApiError> {
        if !self.quarantine.bars(&number, uid) {
            return Ok(());
        }
        let expected = format!("another one until {}", self.why_held(&number));
        Err(fields.error(ErrorCode::Taken, field, value.to_string(), expected))
    }

    /// Refuses a port whose switch may still give it the meaning of an earlier cable.
    fn check_port_rests(
        &self,
        fields: &Fields<'_>,
        field: &str,
        end: (SwitchIndex, PortId),
        uid: Uid,
    ) -> Result<(), ApiError> {
        self.check_number(fields, field, &end.1, Number::Port(end.0, end.1), uid)?;
        self.check_vlans_rest(fields, field, end, uid)
    }

    fn check_vlans_rest(
        &self,
        fields: &Fields<'_>,
        field: &str,
        (switch, port): (SwitchIndex, PortId),
        uid: Uid,
    ) -> Result<(), ApiError> {
        for vlan in std::iter::once(None).chain(VLANS.map(Some)) {
            self.check_number(fields, field, &port, Number::PortVlan(switch, port, vlan), uid)?;
        }
        Ok(())
    }

    fn free_handle(&self, key: &ItemKey) -> Result<u32, ApiError> {
        let handle = self.fabric.next_device;
        if handle == u32::MAX {
            let detail = format!("{key} cannot be added: all {} handles of devices were given", u32::MAX);
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        Ok(handle)
    }

    fn free_vtep(&self, key: &ItemKey) -> Result<u16, ApiError> {
        let held = |n: u32| u16::try_from(n).is_ok_and(|n| self.quarantine.holds(&Number::Vtep(n)));
        let found = self.fabric.vteps.find(held).and_then(|n| u16::try_from(n).ok());
        found.ok_or_else(|| {
            let detail = format!(
                "{key} cannot be added: all {} numbers of VTEPs are in use or wait for devices to let go of them",
                self.fabric.vteps.size().min(GREATEST_VTEP)
            );
            ApiError::new(ErrorCode::Exhausted, detail)
        })
    }

    /// What has to happen before a number in quarantine is free, in words.
    fn why_held(&self, number: &Number) -> String {
        let what = number.describe(&self.fabric);
        let device = self.quarantine.get(number).and_then(|e| e.devices().next());
        match device.and_then(|d| self.fabric.device_name(d)) {
            Some(device) => format!("`{device}` has confirmed that {what} is gone"),
            None => format!("{what} has rested"),
        }
    }

    /// What a leaving object waits for, in words.
    pub fn why_leaving(&self, key: &ItemKey) -> Vec<String> {
        let Some(item) = self.stored_item(key) else {
            return Vec::new();
        };
        let mut reasons: Vec<String> = self.held_numbers(&item).iter().map(|n| self.why_held(n)).collect();
        reasons.sort();
        reasons.dedup();
        let users = match key {
            ItemKey::Switch(name) => match self.fabric.node(name) {
                Some(Node::Switch(s)) => self
                    .fabric
                    .hosts_under(s)
                    .filter_map(|h| self.fabric.host_name(h))
                    .collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        reasons.extend(users.into_iter().map(|host| format!("host `{host}` has left")));
        if reasons.is_empty() {
            return reasons;
        }
        reasons.into_iter().map(|r| format!("waits until {r}")).collect()
    }

    /// Numbers of an object that are not free.
    pub(super) fn held_numbers(&self, item: &StoredItem) -> Vec<Number> {
        let leaf = match item {
            StoredItem::Host(h) => self.fabric.leaf_of(crate::model::HostIndex(h.handle)),
            _ => None,
        };
        let numbers = super::put::numbers_of(item, leaf).into_iter();
        numbers.filter(|n| self.quarantine.holds(n)).collect()
    }
}

/// The initial state of a device.
fn newcomer() -> ItemState {
    if fault::is_on(Fault::ArrivesAtOnce) {
        ItemState::InService
    } else {
        ItemState::Arriving
    }
}

fn address(fields: &Fields<'_>, field: &str, address: IpAddr) -> Result<(), ApiError> {
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(fields.invalid(field, address, "a unicast address"));
    }
    Ok(())
}
