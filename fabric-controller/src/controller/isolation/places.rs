//! Whose each place is: a place at an access port belongs to the tenant whose entry the leaf holds.

use std::net::{IpAddr, Ipv4Addr};

use fabric_pipeline::binding::KeyFields as _;
use fabric_pipeline::tables::port_vlan;
use p4runtime_client::entity::{EntityKey as SwitchKey, EntityValue, TableAction};
use vfabric_api::ident::{Mac, PortId};

use super::devices::Sim;
use super::network::Edge;
use super::walk::Walk;
use crate::device::driver::Write;
use crate::entity::Entity;

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Station {
    pub(super) vdc: String,
    pub(super) mac: Mac,
    pub(super) ips: Vec<IpAddr>,
}

impl Walk {
    /// The entry of an access port is about to be written: who it is for.
    pub(super) fn note_meaning(&mut self, index: usize, wanted: &Entity) {
        let Some((edge, true)) = access_edge(index, wanted) else {
            return;
        };
        let Edge::Access(_, port, vlan) = edge else { return };
        let state = self.controller.state.try_lock().unwrap();
        let port = PortId::try_from(port).unwrap();
        let Some(attachment) = state.model.attachment_at(index.into(), port, vlan) else {
            return;
        };
        let station = Station {
            vdc: attachment.vdc.to_string(),
            mac: attachment.mac,
            ips: attachment.ips.clone(),
        };
        self.meant.insert((index, wanted.key()), station);
    }

    pub(super) fn note_occupant(&mut self, index: usize, write: &Write) {
        let entity = write.entity();
        let Some((edge, _)) = access_edge(index, entity) else {
            return;
        };
        match write {
            Write::Delete(_) => {
                self.access.remove(&edge);
            }
            Write::Insert(_) | Write::Modify(_) => {
                if let Some(station) = self.meant.get(&(index, entity.key())) {
                    self.access.insert(edge.clone(), station.clone());
                }
            }
        }
        self.seen.remove(&edge);
    }

    /// All workloads that devices let send.
    pub(super) fn stations(&self) -> Vec<(Edge, Station)> {
        let mut all: Vec<(Edge, Station)> = self.access.iter().map(|(e, s)| (e.clone(), s.clone())).collect();
        for (device, sim) in self.sims.iter().enumerate() {
            let Sim::Host(host) = sim else { continue };
            for a in host.attachments() {
                let station = Station {
                    vdc: a.id.split('/').next().unwrap().to_owned(),
                    mac: Mac(a.mac.octets()),
                    ips: a.addresses.iter().map(ipnet::IpNet::addr).collect(),
                };
                all.push((Edge::Host(device, a.id.clone()), station));
            }
        }
        all
    }

    /// Places, MAC addresses and IPv4 addresses of all workloads.
    pub(super) fn targets(&self) -> Vec<(Mac, Ipv4Addr)> {
        let all = self.stations();
        let of = |(_, station): &(Edge, Station)| {
            let v4 = station.ips.iter().find_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            });
            Some((station.mac, v4?))
        };
        all.iter().filter_map(of).collect()
    }
}

/// The access port that an entry is for, and whether it names a network.
fn access_edge(device: usize, entity: &Entity) -> Option<(Edge, bool)> {
    let Entity::Switch(e) = entity else { return None };
    let (SwitchKey::Table(key), EntityValue::Table(value)) = (e.key(), e.value()) else {
        return None;
    };
    if key.table_id != port_vlan::ID {
        return None;
    }
    let fields = port_vlan::Key::from_match(&key.fields).unwrap();
    let port = u16::try_from(fields.port.get()).unwrap();
    let vid = u16::try_from(fields.vid.get()).unwrap();
    let access = matches!(&value.action, TableAction::Call(call) if call.params().count() == 3);
    Some((Edge::Access(device, port, (vid != 0).then_some(vid)), access))
}
