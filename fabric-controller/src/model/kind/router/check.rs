//! Checks a router, and allocates its VRF.

use std::collections::HashSet;

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{Key, RouterSpec};

use super::StoredRouter;
use super::routes::check_routes;
use crate::model::Model;
use crate::model::fields::Fields;
use crate::model::kind::Network;
use crate::model::kind::network::disjoint;
use crate::model::number::Uid;

impl Model {
    pub(in crate::model) fn check_router(
        &self,
        fields: &Fields<'_>,
        key: &Key,
        spec: &RouterSpec,
    ) -> Result<StoredRouter, ApiError> {
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.routers.get(&key.name)).copied();
        let mut joined: Vec<&Network> = Vec::new();
        let mut seen = HashSet::new();
        for (i, name) in spec.networks.iter().enumerate() {
            let field = format!("networks[{i}]");
            let Some((id, network)) = self.known_network(&key.vdc, name) else {
                return Err(fields.invalid(&field, name, format!("a network of vdc `{}`", key.vdc)));
            };
            if !seen.insert(id) {
                return Err(fields.invalid(&field, name, "each network once"));
            }
            if let Some(other) = network
                .router
                .filter(|r| Some(*r) != known)
                .and_then(|r| self.routers.get(r))
            {
                let expected = format!("a network that router `{}` does not join", other.spec.name);
                return Err(fields.error(ErrorCode::Taken, &field, name, expected));
            }
            for other in &joined {
                disjoint(fields, &field, &network.spec, &other.spec)?;
            }
            joined.push(network);
        }
        let before = known
            .and_then(|r| self.routers.get(r))
            .map_or(0, |r| r.spec.routes.len());
        self.check_number_of_routes(fields, key, spec, before)?;
        let subnets: Vec<IpNet> = joined.iter().flat_map(|n| &n.spec.subnets).map(|s| s.cidr).collect();
        check_routes(fields, "routes", &spec.routes, &subnets)?;
        let (uid, vrf) = match known.and_then(|r| self.routers.get(r)) {
            Some(router) => (router.uid, router.vrf),
            None => (Uid(self.next_uid), self.free_vni(key)?),
        };
        Ok(StoredRouter {
            uid,
            spec: spec.clone(),
            vrf,
        })
    }
}
