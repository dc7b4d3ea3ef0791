//! Checks a network, and allocates its VNI.

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Name, Vni};
use vfabric_api::kind::{Key, NetworkSpec};

use super::subnet::{check_subnet, disjoint, list, overlap};
use super::{Network, StoredNetwork};
use crate::ident::NetworkId;
use crate::model::Model;
use crate::model::fault::{self, Fault};
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};

/// Smallest MTU that IPv4 hosts must accept (RFC 791) and IPv6 links must have (RFC 8200 section 5).
const LEAST_MTU_V4: u16 = 576;
const LEAST_MTU_V6: u16 = 1280;

impl Model {
    /// A network by its name.
    pub(in crate::model) fn known_network(&self, vdc: &Name, name: &Name) -> Option<(NetworkId, &Network)> {
        let id = *self.vdcs.get(vdc)?.networks.get(name)?;
        Some((id, self.networks.get(id)?))
    }

    pub(in crate::model) fn check_network(
        &self,
        fields: &Fields<'_>,
        key: &Key,
        spec: &NetworkSpec,
    ) -> Result<StoredNetwork, ApiError> {
        let overhead = self.fabric.view.vxlan_underlay.overlay_overhead();
        let has_v6 = spec.subnets.iter().any(|s| matches!(s.cidr, IpNet::V6(_)));
        let least = if has_v6 { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
        let most = self.fabric.view.mtu - overhead;
        if !(least..=most).contains(&spec.mtu) {
            return Err(fields.invalid("mtu", spec.mtu, format!("{least} to {most} octets")));
        }
        for (i, subnet) in spec.subnets.iter().enumerate() {
            check_subnet(fields, i, subnet)?;
            for (j, other) in spec.subnets.iter().take(i).enumerate() {
                if overlap(&subnet.cidr, &other.cidr) {
                    let expected = format!("a subnet that does not overlap subnets[{j}] ({})", other.cidr);
                    return Err(fields.invalid(&format!("subnets[{i}].cidr"), subnet.cidr, expected));
                }
            }
        }
        let known = self.known_network(&key.vdc, &key.name);
        if let Some((id, network)) = known {
            self.check_network_in_use(fields, id, network, spec)?;
        }
        let vni = match (known, spec.vni) {
            (Some((_, network)), None) => network.vni,
            (Some((_, network)), Some(vni)) if vni == network.vni => vni,
            (Some((_, network)), Some(vni)) => {
                return Err(fields.invalid("vni", vni, format!("{}, which cannot be changed", network.vni)));
            }
            // A VNI in quarantine is accepted; the network waits for it.
            (None, Some(vni)) if !self.vnis.is_used(vni.get()) => vni,
            (None, Some(vni)) => {
                let expected = "a VNI that no network and no router has";
                return Err(fields.error(ErrorCode::Taken, "vni", vni, expected));
            }
            (None, None) => self.free_vni(key)?,
        };
        Ok(StoredNetwork {
            uid: known.map_or(Uid(self.next_uid), |(_, network)| network.uid),
            spec: spec.clone(),
            vni,
        })
    }

    pub(in crate::model) fn free_vni(&self, key: &Key) -> Result<Vni, ApiError> {
        let detail = || {
            let pool = &self.fabric.settings.vni_pool;
            format!(
                "{key} cannot be added: each of the {} VNIs of the pool ({} to {}) is in use or waits for devices to let \
                 go of it",
                self.vnis.size(),
                pool.first,
                pool.last
            )
        };
        self.vnis
            .find(|vni| self.quarantine.holds(&Number::Vni(vni)) && !fault::is_on(Fault::VniAtOnce))
            .and_then(|vni| Vni::try_from(vni).ok())
            .ok_or_else(|| ApiError::new(ErrorCode::Exhausted, detail()))
    }

    /// Checks a change of a network that has attachments or a router.
    fn check_network_in_use(
        &self,
        fields: &Fields<'_>,
        id: NetworkId,
        network: &Network,
        spec: &NetworkSpec,
    ) -> Result<(), ApiError> {
        for ip in network.used().ips.keys() {
            let stays = spec.subnets.iter().any(|s| s.cidr.contains(ip) && s.gateway() != *ip);
            if !stays {
                let expected = format!("subnets in which {ip}, an attachment's address, is not a gateway");
                return Err(fields.error(ErrorCode::InUse, "subnets", list(&spec.subnets), expected));
            }
        }
        let router = network.router.and_then(|r| self.routers.get(r));
        if let Some(router) = router {
            self.check_routes_of(fields, router, id, spec)?;
        }
        for other in router.into_iter().flat_map(|r| &r.networks).filter(|n| **n != id) {
            let Some(other) = self.networks.get(*other) else {
                continue;
            };
            disjoint(fields, "subnets", spec, &other.spec)?;
        }
        Ok(())
    }
}
