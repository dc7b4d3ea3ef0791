//! What tenants ask for: vDCs, tenant networks, routers and attachments, and files of them.
//!
//! These are the bodies of the REST API and the documents of an intent file. A `*Spec` is
//! what a user writes; ids that the controller allocates (VNI, VRF, MAC) come back in the
//! status. An object is addressed as `vdc/kind/name`; names are unique per kind in a vDC.

pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;
use crate::ident::schema::IpPrefix;
pub use crate::kind::{
    AllowedAddress, AttachmentSpec, Migration, MigrationPhase, NetworkSpec, Place, RouterSpec, SubnetSpec, VdcSpec,
};
use crate::kind::{AssignedPort, Kind, Limits, Spec, VniRange};
use crate::labels::Labels;

/// An intent file: vDCs with everything in them, applied as one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The vDCs.
    pub vdcs: Vec<VdcIntent>,
}

/// One vDC of an intent file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VdcIntent {
    /// Name, unique in the fabric.
    pub name: Name,
    /// Free text for people, of at most 500 octets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 500)]
    pub description: String,
    /// Hosts that are assigned to it; none when left out. Their agents may attach pods that start there, and
    /// users of the vDC may place attachments there. A `fabric-admin` may place them anywhere.
    /// Hosts may be named before they are in the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Name>,
    /// Access ports that are assigned to it, for users of the vDC; none when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<AssignedPort>,
    /// VNIs that users of the vDC may name; none when left out. If a network names no VNI, the controller chooses one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnis: Vec<VniRange>,
    /// Prefixes that hold the subnets of its networks. A user of the vDC may only create subnets inside one of them; any
    /// subnet when left out. Other vDCs may have the same prefixes.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::kind::prefix::list"
    )]
    #[schema(value_type = Vec<IpPrefix>)]
    pub address_pools: Vec<IpNet>,
    /// Limits on its objects.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Labels, which selectors use (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Objects in it to delete. A missing one is not an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Removal>,
    /// Its tenant networks.
    #[serde(default)]
    pub networks: Vec<NetworkSpec>,
    /// Its routers.
    #[serde(default)]
    pub routers: Vec<RouterSpec>,
    /// Its attachments.
    #[serde(default)]
    pub attachments: Vec<AttachmentSpec>,
}

/// An object of a vDC to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Its kind; not a vDC.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl Intent {
    /// How many objects it names, including the vDCs and the objects to delete.
    pub fn len(&self) -> usize {
        let of_vdc =
            |vdc: &VdcIntent| 1 + vdc.remove.len() + vdc.networks.len() + vdc.routers.len() + vdc.attachments.len();
        self.vdcs.iter().map(of_vdc).sum()
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.vdcs.is_empty()
    }
}

impl VdcIntent {
    /// A vDC with nothing in it.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            description: String::new(),
            hosts: Vec::new(),
            ports: Vec::new(),
            vnis: Vec::new(),
            address_pools: Vec::new(),
            limits: Limits::default(),
            labels: Labels::new(),
            remove: Vec::new(),
            networks: Vec::new(),
            routers: Vec::new(),
            attachments: Vec::new(),
        }
    }

    /// Its objects in the order in which they need each other, the vDC first. Each with its path in the document
    /// (`networks[1]`; empty for the vDC).
    pub fn into_specs(self) -> Vec<(String, Spec)> {
        fn all<T>(field: &str, specs: Vec<T>, of: fn(T) -> Spec) -> impl Iterator<Item = (String, Spec)> {
            let path = move |(i, spec)| (format!("{field}[{i}]"), of(spec));
            specs.into_iter().enumerate().map(path)
        }
        let vdc = VdcSpec {
            name: self.name,
            description: self.description,
            hosts: self.hosts,
            ports: self.ports,
            vnis: self.vnis,
            address_pools: self.address_pools,
            limits: self.limits,
            labels: self.labels,
        };
        std::iter::once((String::new(), Spec::Vdc(vdc)))
            .chain(all("networks", self.networks, Spec::Network))
            .chain(all("routers", self.routers, Spec::Router))
            .chain(all("attachments", self.attachments, Spec::Attachment))
            .collect()
    }
}
