//! Objects as the model keeps and stores them: what the user wrote, and what was allocated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::{Mac, Name, PortId, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, RouterSpec, VdcSpec};
use vfabric_api::service::{Key, Kind, Spec};

use super::ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex};

/// An object with everything that is not derived from others: the unit of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// A vDC.
    Vdc(VdcSpec),
    /// A network with its VNI.
    Network {
        /// As written.
        spec: NetworkSpec,
        /// Its VNI.
        vni: Vni,
    },
    /// A router with its VRF.
    Router {
        /// As written.
        spec: RouterSpec,
        /// Its L3 VNI.
        vrf: Vni,
    },
    /// An attachment with its addresses.
    Attachment {
        /// As written.
        spec: AttachmentSpec,
        /// Its MAC address.
        mac: Mac,
        /// Its IP addresses.
        ips: Vec<IpAddr>,
        /// Number of its (port, VLAN) on its leaf; 0 on a host.
        access_id: u16,
    },
}

impl Stored {
    /// What the user wrote.
    pub fn spec(&self) -> Spec {
        match self {
            Self::Vdc(spec) => Spec::Vdc(spec.clone()),
            Self::Network { spec, .. } => Spec::Network(spec.clone()),
            Self::Router { spec, .. } => Spec::Router(spec.clone()),
            Self::Attachment { spec, .. } => Spec::Attachment(spec.clone()),
        }
    }
}

/// The store's key of an object. Kinds sort in the order in which they are to be loaded.
pub fn store_key(key: &Key) -> Vec<u8> {
    let rank = match key.kind {
        Kind::Vdc => 0,
        Kind::Network => 1,
        Kind::Router => 2,
        Kind::Attachment => 3,
    };
    format!("object/{rank}/{}/{}", key.vdc, key.name).into_bytes()
}

/// The object's key of a store key.
pub fn parse_store_key(key: &[u8]) -> Option<Key> {
    let mut parts = std::str::from_utf8(key).ok()?.strip_prefix("object/")?.split('/');
    let kind = match parts.next()? {
        "0" => Kind::Vdc,
        "1" => Kind::Network,
        "2" => Kind::Router,
        "3" => Kind::Attachment,
        _ => return None,
    };
    Some(Key::new(parts.next()?.parse().ok()?, kind, parts.next()?.parse().ok()?))
}

/// A vDC and the names in it.
#[derive(Debug)]
pub struct Vdc {
    /// As written.
    pub spec: VdcSpec,
    /// Networks by name.
    pub networks: BTreeMap<Name, NetworkId>,
    /// Routers by name.
    pub routers: BTreeMap<Name, RouterId>,
    /// Attachments by name.
    pub attachments: BTreeMap<Name, AttachmentId>,
}

/// A network and who uses it.
#[derive(Debug)]
pub struct Network {
    /// Its vDC.
    pub vdc: Name,
    /// As written.
    pub spec: NetworkSpec,
    /// Its VNI.
    pub vni: Vni,
    /// The router that joins it.
    pub router: Option<RouterId>,
    /// Attachments in it.
    pub attachments: BTreeSet<AttachmentId>,
    /// MAC addresses in use.
    pub macs: HashMap<Mac, AttachmentId>,
    /// IP addresses in use.
    pub ips: HashMap<IpAddr, AttachmentId>,
    /// Attachments on or under each leaf.
    pub leaves: BTreeMap<SwitchIndex, u32>,
    /// Attachments on each host.
    pub hosts: BTreeMap<HostIndex, u32>,
}

/// A router and where it is needed.
#[derive(Debug)]
pub struct Router {
    /// Its vDC.
    pub vdc: Name,
    /// As written.
    pub spec: RouterSpec,
    /// Its L3 VNI.
    pub vrf: Vni,
    /// The networks it joins.
    pub networks: Vec<NetworkId>,
    /// Attachments of its networks on or under each leaf.
    pub leaves: BTreeMap<SwitchIndex, u32>,
}

/// Where an attachment is, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// On a host.
    Host(HostIndex),
    /// On an access port of a leaf, which knows it by this number.
    Port {
        /// The leaf.
        leaf: SwitchIndex,
        /// The port.
        port: PortId,
        /// Its VLAN.
        vlan: Option<u16>,
        /// Number of (port, VLAN) on the leaf.
        access_id: u16,
    },
}

/// An attachment.
#[derive(Debug)]
pub struct Attachment {
    /// Its vDC.
    pub vdc: Name,
    /// As written.
    pub spec: AttachmentSpec,
    /// Its MAC address.
    pub mac: Mac,
    /// Its IP addresses.
    pub ips: Vec<IpAddr>,
    /// Its network.
    pub network: NetworkId,
    /// Where it is.
    pub at: At,
}
