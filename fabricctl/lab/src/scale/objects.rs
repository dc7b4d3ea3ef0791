//! The objects that are made.

use anyhow::{Context as _, Result};
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, Intent, NetworkSpec, Place, SubnetSpec, VdcIntent, VdcSpec};
use vfabric_api::kind::{Key, Kind, Spec};

use super::size::Size;

/// A network of the load: its vDC and its number there.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) vdc: usize,
    pub(super) network: usize,
}

pub(super) fn vdc(index: usize) -> Result<Name> {
    Ok(format!("v{index}").parse()?)
}

pub(super) fn network_name(index: usize) -> Result<Name> {
    Ok(format!("n{index}").parse()?)
}

/// A network with one subnet; those of one vDC do not overlap.
pub(super) fn network(index: usize) -> Result<NetworkSpec> {
    let third = index % 256;
    let subnet = SubnetSpec::new(format!("10.{}.{third}.0/24", index / 256 % 256).parse()?);
    Ok(NetworkSpec {
        name: network_name(index)?,
        subnets: vec![subnet],
        mtu: 1500,
        vni: None,
        labels: Default::default(),
    })
}

/// An attachment on a host, with addresses that the controller chooses.
pub(super) fn attachment(name: String, network: usize, host: usize) -> Result<AttachmentSpec> {
    Ok(AttachmentSpec {
        name: name.parse()?,
        network: network_name(network)?,
        mac: None,
        ips: Vec::new(),
        place: Place::Host {
            host: format!("host{}", host + 1).parse()?,
            netns: name,
            interface: "eth0".into(),
        },
        port_security: true,
        allowed_addresses: Vec::new(),
        migration: None,
        labels: Default::default(),
    })
}

/// Name of an attachment of the load, and of its network namespace: a host has those of many vDCs.
pub(super) fn loaded_name(vdc: usize, n: usize) -> String {
    format!("v{vdc}a{n}")
}

/// A vDC of the load with everything in it.
pub(super) fn loaded(size: &Size, index: usize) -> Result<VdcIntent> {
    let mut intent = VdcIntent::new(vdc(index)?);
    intent.networks = (0..size.networks_of_vdc()).map(network).collect::<Result<_>>()?;
    let attachments = size.attachments_of_vdc();
    let attachment = |n: usize| {
        // Two of each network, on hosts of two leaves.
        attachment(loaded_name(index, n), n / 2, (index * attachments + n) % size.hosts)
    };
    intent.attachments = (0..attachments).map(attachment).collect::<Result<_>>()?;
    Ok(intent)
}

/// This many networks, spread evenly over the first `vdcs` vDCs and over the networks of each.
pub(super) fn spread(size: &Size, vdcs: usize, count: usize) -> impl Iterator<Item = At> {
    let of_vdc = size.networks_of_vdc();
    (0..count).map(move |n| At {
        vdc: n * vdcs / count.max(1),
        // An odd step reaches every network.
        network: n * 37 % of_vdc,
    })
}

/// A vDC and nothing else.
pub(super) fn bare(name: &Name) -> Spec {
    Spec::Vdc(VdcSpec::new(name.clone()))
}

/// An intent file with one vDC.
pub(super) fn file(vdc: VdcIntent) -> Intent {
    Intent { vdcs: vec![vdc] }
}

pub(super) fn attachment_key(vdc: &Name, name: &str) -> Result<Key> {
    let name = name.parse().with_context(|| name.to_owned())?;
    Ok(Key::new(vdc.clone(), Kind::Attachment, name))
}
