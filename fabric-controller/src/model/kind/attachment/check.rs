//! Checks an attachment, and allocates its addresses.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Mac;
use vfabric_api::kind::{AttachmentSpec, Key, SubnetSpec};

use super::{At, StoredAttachment};
use crate::ident::SwitchIndex;
use crate::model::fields::Fields;
use crate::model::kind::Network;
use crate::model::kind::network::{address_at, check_ip, is_host_address, martian, reserved_to};
use crate::model::number::{Number, Uid};
use crate::model::pool::Addresses;
use crate::model::{GREATEST_NUMBER, Model};

/// Most `allowed_addresses` of one attachment: room for a virtual router and some nested workloads in the tables that
/// every attachment of a leaf shares.
const MAX_ALLOWED: usize = 64;

impl Model {
    pub(in crate::model) fn check_attachment(
        &self,
        fields: &Fields<'_>,
        key: &Key,
        spec: &AttachmentSpec,
    ) -> Result<StoredAttachment, ApiError> {
        let Some((network_id, network)) = self.known_network(&key.vdc, &spec.network) else {
            return Err(fields.invalid("network", &spec.network, format!("a network of vdc `{}`", key.vdc)));
        };
        let own = self
            .vdcs
            .get(&key.vdc)
            .and_then(|v| v.attachments.get(&key.name))
            .copied();
        let access_id = self.check_place(fields, own, network_id, &spec.place)?;
        self.check_migration(fields, own, spec)?;
        let home = match self.resolve(&key.vdc, spec, access_id) {
            Some((_, At::Host(host))) => self.fabric.leaf_of(host),
            Some((_, At::Port { leaf, .. })) => Some(leaf),
            None => None,
        };
        let target = self.target_of(spec).and_then(|target| self.fabric.leaf_of(target.host));
        // Without a pair of flood groups the network would not work there.
        let full = |l: &SwitchIndex| !network.used().leaves.contains_key(l) && self.free_group(*l).is_none();
        if let Some(leaf) = home.into_iter().chain(target).find(full) {
            let leaf = self.fabric.switch_name(leaf).unwrap_or_default();
            let expected = format!(
                "a place on or under another leaf: `{leaf}` has all its {GREATEST_NUMBER} pairs of multicast groups in use"
            );
            return Err(fields.error(ErrorCode::Exhausted, "place", &spec.name, expected));
        }
        let before = own.and_then(|o| self.attachments.get(o));
        let uid = before.map_or(Uid(self.next_uid), |a| a.uid);
        // It keeps its addresses if it stays in its network.
        let kept = before.filter(|a| a.network == network_id);
        let given = || kept.map_or_else(|| self.free_mac(key, uid, network), |a| a.mac);
        let mac = spec.mac.unwrap_or_else(given);
        if !mac.is_unicast() || mac == self.fabric.view.gateway_mac {
            return Err(fields.invalid("mac", mac, "a unicast MAC address other than the gateway's"));
        }
        if network.used().macs.get(&mac).is_some_and(|owner| Some(*owner) != own) {
            let expected = format!("a MAC address that is free in network `{}`", spec.network);
            return Err(fields.error(ErrorCode::Taken, "mac", mac, expected));
        }
        let mut ips: Vec<IpAddr> = Vec::new();
        for (i, ip) in spec.ips.iter().enumerate() {
            check_ip(fields, &format!("ips[{i}]"), *ip, network)?;
            if ips.contains(ip) || network.used().ips.get(ip).is_some_and(|owner| Some(*owner) != own) {
                let expected = format!("an address that is free in network `{}`", spec.network);
                return Err(fields.error(ErrorCode::Taken, &format!("ips[{i}]"), ip, expected));
            }
            ips.push(*ip);
        }
        if ips.is_empty() {
            ips = match kept {
                Some(attachment) => attachment.ips.clone(),
                None => self.free_ips(fields, network)?,
            };
        }
        self.check_allowed(fields, spec, network)?;
        Ok(StoredAttachment {
            uid,
            spec: spec.clone(),
            mac,
            ips,
            access_id,
        })
    }

    fn check_allowed(&self, fields: &Fields<'_>, spec: &AttachmentSpec, network: &Network) -> Result<(), ApiError> {
        let allowed = &spec.allowed_addresses;
        if allowed.len() > MAX_ALLOWED {
            let expected = format!("at most {MAX_ALLOWED} entries");
            return Err(fields.invalid("allowed_addresses", allowed.len(), expected));
        }
        for (i, entry) in allowed.iter().enumerate() {
            let field = |name: &str| format!("allowed_addresses[{i}].{name}");
            let Some(net) = entry.net() else {
                return Err(fields.invalid(&format!("allowed_addresses[{i}]"), "", "either `ip` or `cidr`"));
            };
            if net.trunc() != net {
                return Err(fields.invalid(&field("cidr"), net, "a prefix with no host bits set"));
            }
            let one = net.prefix_len() == net.max_prefix_len();
            if let Some((range, what)) = martian(&net) {
                let expected = format!("unicast addresses that hosts may have: {range} is {what}");
                let (name, value) = match entry.ip {
                    Some(ip) => ("ip", ip.to_string()),
                    None => ("cidr", net.to_string()),
                };
                return Err(fields.invalid(&field(name), value, expected));
            }
            if one && network.spec.subnets.iter().any(|s| s.gateway() == net.addr()) {
                let expected = "an address other than the gateway's";
                return Err(fields.error(ErrorCode::Taken, &field("ip"), net.addr(), expected));
            }
            if let Some(mac) = entry
                .mac
                .filter(|m| !m.is_unicast() || *m == self.fabric.view.gateway_mac)
            {
                return Err(fields.invalid(&field("mac"), mac, "a unicast MAC address other than the gateway's"));
            }
        }
        Ok(())
    }

    /// A new address from each subnet. It is not reserved, no attachment has it, and no device still holds it for
    /// another attachment.
    fn free_ips(&self, fields: &Fields<'_>, network: &Network) -> Result<Vec<IpAddr>, ApiError> {
        let free = |(subnet, pool): (&SubnetSpec, &Addresses)| {
            let barred = |offset: u128| {
                let ip = address_at(&subnet.cidr, offset);
                let taken =
                    || network.used().ips.contains_key(&ip) || self.quarantine.holds(&Number::Ip(network.uid, ip));
                let usable = || is_host_address(&subnet.cidr, ip) && subnet.gateway() != ip && !taken();
                reserved_to(subnet, offset).or_else(|| (!usable()).then_some(offset))
            };
            let found = pool.find(barred).map(|offset| address_at(&subnet.cidr, offset));
            found.ok_or_else(|| fields.error(ErrorCode::Exhausted, "ips", subnet.cidr, self.why_full(network, subnet)))
        };
        network.spec.subnets.iter().zip(&*network.pools()).map(free).collect()
    }

    /// The expectation of an error for a full subnet: names a device for which addresses wait.
    fn why_full(&self, network: &Network, subnet: &SubnetSpec) -> String {
        let waits = self.quarantine.all().find_map(|number| match number {
            Number::Ip(of, ip) if *of == network.uid && subnet.cidr.contains(ip) => {
                let device = self.quarantine.get(number)?.devices().next()?;
                Some((*ip, self.fabric.device_name(device)?))
            }
            _ => None,
        });
        match waits {
            Some((ip, device)) => {
                format!("a subnet with a free address; {ip}, among others, is free when `{device}` has removed it")
            }
            None if !subnet.reserved.is_empty() => "a subnet with a free address that is not reserved".to_owned(),
            None => "a subnet with a free address".to_owned(),
        }
    }

    /// A locally administered MAC address (IEEE 802c) that nobody in the network has and no device may hold. The first
    /// choice is derived from the attachment's name, so that an attachment that is created again under the same name
    /// has the address that its neighbours know; further choices are derived from its identity.
    fn free_mac(&self, key: &Key, uid: Uid, network: &Network) -> Mac {
        for attempt in 0u32..=u32::MAX {
            let mut hasher = DefaultHasher::new();
            match attempt {
                0 => (key.vdc.as_str(), network.spec.name.as_str(), key.name.as_str()).hash(&mut hasher),
                _ => (uid, attempt).hash(&mut hasher),
            }
            let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
            let mac = Mac([0x02, a, b, c, d, e]);
            let taken = network.used().macs.contains_key(&mac) || self.quarantine.holds(&Number::Mac(network.uid, mac));
            // It is never one of the fabric's routers.
            if !taken && mac.0.get(..3) != Some(&[0x02, 0xfa, 0xb0]) {
                return mac;
            }
        }
        Mac([0x02, 0, 0, 0, 0, 1])
    }
}
