//! Multicast groups as bmv2's packet replication engine has them: nodes with a replication id and ports, which are
//! associated with groups. P4Runtime has only groups with replicas, so the nodes are kept here.

use std::collections::{BTreeMap, BTreeSet};

use p4runtime_proto::p4::v1::replica::PortKind;
use p4runtime_proto::p4::v1::{MulticastGroupEntry, Replica};

/// Most nodes and groups that are remembered.
const MAX_KEPT: usize = 4096;

/// A node: `egress_rid`, and the ports that get a copy.
type Node = (u32, Vec<u32>);

/// Nodes and groups that commands made.
#[derive(Debug, Default)]
pub(super) struct Replication {
    nodes: BTreeMap<u32, Node>,
    groups: BTreeMap<u32, BTreeSet<u32>>,
    next_node: u32,
}

impl Replication {
    pub(super) fn create_group(&mut self, group: u32) -> Result<(), String> {
        if self.groups.contains_key(&group) {
            return Err(format!("multicast group {group} exists"));
        }
        if self.groups.len() >= MAX_KEPT {
            return Err(format!("{MAX_KEPT} multicast groups exist, which is the most"));
        }
        self.groups.insert(group, BTreeSet::new());
        Ok(())
    }

    pub(super) fn destroy_group(&mut self, group: u32) -> Result<(), String> {
        let removed = self.groups.remove(&group);
        removed.map(drop).ok_or_else(|| no_group(group))
    }

    /// Makes a node; returns its handle.
    pub(super) fn create_node(&mut self, replication_id: u32, ports: Vec<u32>) -> Result<u32, String> {
        if self.nodes.len() >= MAX_KEPT {
            return Err(format!("{MAX_KEPT} nodes exist, which is the most"));
        }
        let handle = self.next_node;
        self.next_node += 1;
        self.nodes.insert(handle, (replication_id, ports));
        Ok(handle)
    }

    /// Replaces the ports of a node; returns the groups that change.
    pub(super) fn update_node(&mut self, handle: u32, ports: Vec<u32>) -> Result<Vec<u32>, String> {
        let node = self.nodes.get_mut(&handle).ok_or_else(|| no_node(handle))?;
        node.1 = ports;
        Ok(self.groups_of(handle))
    }

    /// Removes a node; returns the groups that change.
    pub(super) fn destroy_node(&mut self, handle: u32) -> Result<Vec<u32>, String> {
        self.nodes.remove(&handle).ok_or_else(|| no_node(handle))?;
        let groups = self.groups_of(handle);
        self.groups.values_mut().for_each(|nodes| {
            nodes.remove(&handle);
        });
        Ok(groups)
    }

    fn groups_of(&self, handle: u32) -> Vec<u32> {
        let with = self.groups.iter().filter(|(_, nodes)| nodes.contains(&handle));
        with.map(|(group, _)| *group).collect()
    }

    /// Puts a node into a group, or takes it out.
    pub(super) fn associate(&mut self, group: u32, handle: u32, is_in: bool) -> Result<(), String> {
        if !self.nodes.contains_key(&handle) {
            return Err(no_node(handle));
        }
        let nodes = self.groups.get_mut(&group).ok_or_else(|| no_group(group))?;
        let changed = if is_in {
            nodes.insert(handle)
        } else {
            nodes.remove(&handle)
        };
        changed
            .then_some(())
            .ok_or_else(|| format!("node {handle} and multicast group {group} are in that state already"))
    }

    /// A group in P4Runtime's form.
    pub(super) fn entry(&self, group: u32) -> Result<MulticastGroupEntry, String> {
        let nodes = self.groups.get(&group).ok_or_else(|| no_group(group))?;
        let nodes = nodes.iter().filter_map(|handle| self.nodes.get(handle));
        let replicas = nodes.flat_map(|(instance, ports)| {
            ports.iter().map(|port| Replica {
                instance: *instance,
                port_kind: Some(PortKind::Port(port.to_be_bytes().to_vec())),
                ..Replica::default()
            })
        });
        Ok(MulticastGroupEntry {
            multicast_group_id: group,
            replicas: replicas.collect(),
            ..MulticastGroupEntry::default()
        })
    }

    /// Groups and nodes for people.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for (group, nodes) in &self.groups {
            text += &format!("mgrp({group})\n");
            for handle in nodes {
                if let Some((id, ports)) = self.nodes.get(handle) {
                    text += &format!("  -> (L1h={handle}, rid={id}) -> (ports={ports:?}, lags=[])\n");
                }
            }
        }
        text
    }
}

fn no_group(group: u32) -> String {
    format!("there is no multicast group {group} made by mc_mgrp_create")
}

fn no_node(handle: u32) -> String {
    format!("there is no node {handle}")
}
