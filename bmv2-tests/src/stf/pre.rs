//! The packet replication engine as scripts build it: nodes with handles, groups of nodes, clone sessions.

use std::collections::BTreeMap;

use super::target::Replica;

#[derive(Debug, Clone, Copy)]
enum Mirror {
    Port(u32),
    Group(u32),
}

/// Groups, nodes and sessions so far.
#[derive(Debug, Default)]
pub(super) struct Pre {
    nodes: Vec<(u32, Vec<u32>)>,
    groups: BTreeMap<u32, Vec<u32>>,
    mirrors: BTreeMap<u32, Mirror>,
}

impl Pre {
    pub(super) fn create_group(&mut self, group: u32) {
        self.groups.entry(group).or_default();
    }

    pub(super) fn create_node(&mut self, rid: u32, ports: Vec<u32>) {
        self.nodes.push((rid, ports));
    }

    pub(super) fn update_node(&mut self, node: u32, ports: Vec<u32>) -> Result<(), String> {
        let found = self
            .nodes
            .get_mut(node as usize)
            .ok_or_else(|| format!("there is no node {node}"))?;
        found.1 = ports;
        Ok(())
    }

    pub(super) fn associate(&mut self, group: u32, node: u32) -> Result<(), String> {
        if self.nodes.get(node as usize).is_none() {
            return Err(format!("there is no node {node}"));
        }
        let nodes = self
            .groups
            .get_mut(&group)
            .ok_or_else(|| format!("there is no multicast group {group}"))?;
        nodes.push(node);
        Ok(())
    }

    pub(super) fn mirror_port(&mut self, session: u32, port: u32) {
        self.mirrors.insert(session, Mirror::Port(port));
    }

    pub(super) fn mirror_group(&mut self, session: u32, group: u32) {
        self.mirrors.insert(session, Mirror::Group(group));
    }

    pub(super) fn delete_mirror(&mut self, session: u32) {
        self.mirrors.remove(&session);
    }

    /// All groups, in the form for a target.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u32, Vec<Replica>)> + '_ {
        self.groups.keys().map(|group| (*group, self.replicas(*group)))
    }

    /// All sessions, in the form for a target.
    pub(super) fn mirrors(&self) -> impl Iterator<Item = (u32, Vec<Replica>)> + '_ {
        self.mirrors.iter().map(|(session, mirror)| match mirror {
            Mirror::Port(port) => (*session, vec![Replica { port: *port, rid: 0 }]),
            Mirror::Group(group) => (*session, self.replicas(*group)),
        })
    }

    fn replicas(&self, group: u32) -> Vec<Replica> {
        let nodes = self.groups.get(&group).into_iter().flatten();
        let nodes = nodes.filter_map(|n| self.nodes.get(*n as usize));
        nodes
            .flat_map(|(rid, ports)| ports.iter().map(|port| Replica { port: *port, rid: *rid }))
            .collect()
    }
}
