//! Objects as the model keeps and stores them: what the user wrote, and what was allocated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::{Mac, Name, PortId, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, RouterSpec, VdcSpec};
use vfabric_api::service::{Key, Kind, Spec};

use super::number::{Number, Uid};
use super::pool::Addresses;
use crate::ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex};

/// An object with everything that is not derived from others: the unit of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// A vDC.
    Vdc(VdcSpec),
    /// A network with its VNI.
    Network {
        /// Its identity; 0 in stores of before there were identities.
        #[serde(default)]
        uid: Uid,
        /// As written.
        spec: NetworkSpec,
        /// Its VNI.
        vni: Vni,
    },
    /// A router with its VRF.
    Router {
        /// Its identity.
        #[serde(default)]
        uid: Uid,
        /// As written.
        spec: RouterSpec,
        /// Its L3 VNI.
        vrf: Vni,
    },
    /// An attachment with its addresses.
    Attachment {
        /// Its identity.
        #[serde(default)]
        uid: Uid,
        /// As written.
        spec: AttachmentSpec,
        /// Its MAC address: given once, kept for life.
        mac: Mac,
        /// Its IP addresses.
        ips: Vec<IpAddr>,
        /// Number of its (port, VLAN) on its leaf; 0 on a host.
        access_id: u16,
    },
}

impl Stored {
    /// Its identity; vDCs have none, since no packet can meet one.
    pub fn uid_mut(&mut self) -> Option<&mut Uid> {
        match self {
            Self::Vdc(_) => None,
            Self::Network { uid, .. } | Self::Router { uid, .. } | Self::Attachment { uid, .. } => Some(uid),
        }
    }

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

/// A network on or under a leaf.
#[derive(Debug, Clone, Copy)]
pub struct OnLeaf {
    /// Attachments there.
    pub count: u32,
    /// Number of its pair of flood groups; 0 where the leaf has none left.
    pub group: u16,
}

/// A network and who uses it.
#[derive(Debug)]
pub struct Network {
    /// Its identity.
    pub uid: Uid,
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
    /// Which addresses of each subnet of `spec` can be given out.
    pub(super) pools: Vec<Addresses>,
    /// Leaves that it has attachments on or under.
    pub leaves: BTreeMap<SwitchIndex, OnLeaf>,
    /// Attachments on each host.
    pub hosts: BTreeMap<HostIndex, u32>,
}

/// A router and where it is needed.
#[derive(Debug)]
pub struct Router {
    /// Its identity.
    pub uid: Uid,
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
    /// Its identity.
    pub uid: Uid,
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

impl Attachment {
    /// Numbers that stand for its place.
    pub fn place_numbers(&self) -> Vec<Number> {
        match (&self.at, &self.spec.place) {
            (At::Host(host), vfabric_api::intent::Place::Host { netns, interface, .. }) => {
                let (netns, interface) = (Arc::from(netns.as_str()), Arc::from(interface.as_str()));
                vec![Number::Interface(*host, netns, interface)]
            }
            (
                At::Port {
                    leaf,
                    port,
                    vlan,
                    access_id,
                },
                _,
            ) => vec![
                Number::PortVlan(*leaf, *port, *vlan),
                Number::AccessId(*leaf, *access_id),
            ],
            (At::Host(_), _) => Vec::new(),
        }
    }

    /// Its addresses, in the network with this identity.
    pub fn address_numbers(&self, network: Uid) -> impl Iterator<Item = Number> {
        let ips = self.ips.iter().map(move |ip| Number::Ip(network, *ip));
        std::iter::once(Number::Mac(network, self.mac)).chain(ips)
    }
}
