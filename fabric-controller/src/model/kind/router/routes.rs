//! Static routes: their check, and the attachments to which they lead.
//!
//! A route leads to the attachment that has the address `via`. It is rendered with that attachment, on every leaf that
//! has the attachment's host routes. So it comes and goes with the attachment, and no route leads to a MAC address or a
//! VTEP that a host route does not lead to as well.

use std::collections::HashSet;
use std::net::IpAddr;

use foldhash::HashMap;
use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{Key, NetworkSpec, RouterSpec, StaticRoute};

use super::Router;
use crate::ident::NetworkId;
use crate::model::Model;
use crate::model::fields::Fields;
use crate::model::kind::Attachment;

/// Static routes of one router.
const MAX_ROUTES: usize = 1024;

/// The prefixes of each target.
pub(super) fn by_target(spec: &RouterSpec) -> HashMap<IpAddr, Vec<IpNet>> {
    let mut routes: HashMap<IpAddr, Vec<IpNet>> = HashMap::default();
    for route in &spec.routes {
        routes.entry(route.via).or_default().push(route.to);
    }
    routes
}

/// Routes of a router that joins these subnets. `field` names their list.
pub(super) fn check_routes(
    fields: &Fields<'_>,
    field: &str,
    routes: &[StaticRoute],
    subnets: &[IpNet],
) -> Result<(), ApiError> {
    if routes.len() > MAX_ROUTES {
        return Err(fields.invalid(field, routes.len(), format!("at most {MAX_ROUTES} entries")));
    }
    let mut seen = HashSet::new();
    for (i, StaticRoute { to, via }) in routes.iter().enumerate() {
        let (to_field, via_field) = (format!("{field}[{i}].to"), format!("{field}[{i}].via"));
        if to.trunc() != *to {
            let expected = format!("a prefix without host bits, such as {}", to.trunc());
            return Err(fields.invalid(&to_field, to, expected));
        }
        if is_never_routed(to) {
            return Err(fields.invalid(&to_field, to, "unicast addresses that can be routed"));
        }
        if !seen.insert(to) {
            return Err(fields.invalid(&to_field, to, "each prefix once"));
        }
        if let Some(subnet) = subnets.iter().find(|subnet| subnet.contains(to)) {
            let expected = format!("a prefix that does not lie in {subnet}, a subnet of the router's networks");
            return Err(fields.invalid(&to_field, to, expected));
        }
        if !subnets.iter().any(|subnet| subnet.contains(via)) {
            let expected = "an address in a subnet of the router's networks";
            return Err(fields.invalid(&via_field, via, expected));
        }
        if via.is_ipv4() != to.addr().is_ipv4() {
            let expected = format!("an address of the same family as {to}");
            return Err(fields.invalid(&via_field, via, expected));
        }
    }
    Ok(())
}

/// Multicast, loopback, link-local and reserved: the leaf drops packets to these before it asks for routes.
fn is_never_routed(to: &IpNet) -> bool {
    let base = to.network();
    let special = match base {
        // 240.0.0.0/4 is reserved (RFC 1112 section 4).
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    base.is_multicast() || base.is_loopback() || special
}

impl Model {
    /// Checks that this many routes of a router fit into its vDC; `before` is the current number.
    pub(super) fn check_number_of_routes(
        &self,
        fields: &Fields<'_>,
        key: &Key,
        spec: &RouterSpec,
        before: usize,
    ) -> Result<(), ApiError> {
        let Some(vdc) = self.vdcs.get(&key.vdc) else {
            return Ok(());
        };
        let Some(limit) = vdc.spec.limits.routes else {
            return Ok(());
        };
        let (others, needed) = (vdc.routes - before, spec.routes.len());
        let free = (limit as usize).saturating_sub(others);
        if needed <= free.max(before) {
            return Ok(());
        }
        let expected = format!(
            "at most {free}: vDC `{}` may have {limit} static routes, and other routers have {others}",
            key.vdc
        );
        Err(fields.error(ErrorCode::Exhausted, "routes", needed, expected))
    }

    /// Checks that a router's routes are still valid if one of its networks gets other subnets.
    pub(in crate::model) fn check_routes_of(
        &self,
        fields: &Fields<'_>,
        router: &Router,
        id: NetworkId,
        spec: &NetworkSpec,
    ) -> Result<(), ApiError> {
        if router.spec.routes.is_empty() {
            return Ok(());
        }
        let others = router.networks.iter().filter(|n| **n != id);
        let others = others
            .filter_map(|n| self.networks.get(*n))
            .flat_map(|n| &n.spec.subnets);
        let subnets: Vec<IpNet> = others.chain(&spec.subnets).map(|s| s.cidr).collect();
        for StaticRoute { to, via } in &router.spec.routes {
            if !subnets.iter().any(|subnet| subnet.contains(via)) || subnets.iter().any(|subnet| subnet.contains(to)) {
                let subnets = spec
                    .subnets
                    .iter()
                    .map(|s| s.cidr.to_string())
                    .collect::<Vec<_>>()
                    .join(" ");
                let name = &router.spec.name;
                let expected = format!("subnets that leave router `{name}` its route to {to} via {via}");
                return Err(fields.error(ErrorCode::InUse, "subnets", subnets, expected));
            }
        }
        Ok(())
    }

    /// Prefixes that routers send to an attachment.
    pub(in crate::model) fn routes_to(&self, attachment: &Attachment) -> Vec<IpNet> {
        let router = self.networks.get(attachment.network).and_then(|n| n.router);
        let Some(router) = router.and_then(|r| self.routers.get(r)) else {
            return Vec::new();
        };
        let routes = attachment.ips.iter().filter_map(|ip| router.routes.get(ip));
        routes.flatten().copied().collect()
    }
}
