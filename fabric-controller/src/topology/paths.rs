//! All shortest paths between switches, kept up to date link by link.

use std::collections::HashMap;

use petgraph::algo::dijkstra;
use petgraph::graph::{EdgeIndex, NodeIndex, UnGraph};
use petgraph::visit::{EdgeFiltered, EdgeRef};
use vfabric_api::ident::{Name, PortId};
use vfabric_api::topology::{PortRef, Topology};

use crate::model::SwitchIndex;

/// A cable: its position in [`Topology::links`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

/// The ports of `on` towards `to` are no longer what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathChange {
    /// The switch whose ports changed.
    pub on: SwitchIndex,
    /// The switch that they lead to.
    pub to: SwitchIndex,
}

/// One cable between two nodes.
#[derive(Debug, Clone)]
struct Cable {
    ports: [(NodeIndex, PortId); 2],
    up: bool,
}

impl Cable {
    /// The port by which it leaves `node`.
    fn port_of(&self, node: NodeIndex) -> PortId {
        let [a, b] = self.ports;
        if a.0 == node { a.1 } else { b.1 }
    }
}

/// The way to one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Way {
    /// Hops from each switch; [`UNREACHABLE`] if there is no way.
    hops: Vec<u32>,
    /// Ports of each switch that lie on a shortest path, sorted.
    ports: Vec<Vec<PortId>>,
}

const UNREACHABLE: u32 = u32::MAX;

/// The graph of a fabric, with the shortest paths between all its switches.
#[derive(Debug, Clone)]
pub struct Paths {
    graph: UnGraph<(), Cable>,
    /// By destination.
    ways: Vec<Way>,
    ends: HashMap<(SwitchIndex, PortId), LinkIndex>,
}

fn switch(node: NodeIndex) -> SwitchIndex {
    SwitchIndex::from(node.index())
}

impl Paths {
    /// The paths of a fabric with all its links up. Links whose ends name no switch are
    /// left out (a validated topology has none).
    pub fn new(topology: &Topology) -> Self {
        let mut graph = UnGraph::with_capacity(topology.switches.len(), topology.links.len());
        let mut names: HashMap<&Name, NodeIndex> = HashMap::new();
        for s in &topology.switches {
            names.insert(&s.name, graph.add_node(()));
        }
        let mut ends = HashMap::new();
        for link in &topology.links {
            let find = |end: &PortRef| names.get(&end.switch).map(|n| (*n, end.port));
            let (Some(a), Some(b)) = (find(&link.a), find(&link.b)) else {
                continue;
            };
            let edge = graph.add_edge(
                a.0,
                b.0,
                Cable {
                    ports: [a, b],
                    up: true,
                },
            );
            let index = LinkIndex(u32::try_from(edge.index()).unwrap_or(u32::MAX));
            for (n, port) in [a, b] {
                ends.insert((switch(n), port), index);
            }
        }
        let mut paths = Self {
            graph,
            ways: Vec::new(),
            ends,
        };
        paths.ways = paths.graph.node_indices().map(|to| paths.way(to)).collect();
        paths
    }

    /// Ports of `on` that lie on a shortest path to `to`, sorted; empty if there is no
    /// path, or if both are the same switch.
    pub fn ports(&self, on: SwitchIndex, to: SwitchIndex) -> &[PortId] {
        let ports = self.ways.get(to.index()).and_then(|w| w.ports.get(on.index()));
        ports.map_or(&[], Vec::as_slice)
    }

    /// The link that is cabled to a port.
    pub fn link_at(&self, on: SwitchIndex, port: PortId) -> Option<LinkIndex> {
        self.ends.get(&(on, port)).copied()
    }

    /// Both ends of a link.
    pub fn ends(&self, link: LinkIndex) -> Option<[(SwitchIndex, PortId); 2]> {
        let cable = self.graph.edge_weight(EdgeIndex::new(link.0 as usize))?;
        Some(cable.ports.map(|(n, port)| (switch(n), port)))
    }

    /// True if the link carries traffic; false also for a link that does not exist.
    pub fn is_up(&self, link: LinkIndex) -> bool {
        self.graph
            .edge_weight(EdgeIndex::new(link.0 as usize))
            .is_some_and(|c| c.up)
    }

    /// Takes note that a link went down or came up. Returns the pairs whose ports changed,
    /// in order; none if it was so already.
    pub fn set_link(&mut self, link: LinkIndex, up: bool) -> Vec<PathChange> {
        let edge = EdgeIndex::new(link.0 as usize);
        let Some(cable) = self.graph.edge_weight_mut(edge).filter(|c| c.up != up) else {
            return Vec::new();
        };
        cable.up = up;
        let ports = cable.ports;
        let mut changes = Vec::new();
        for to in self.graph.node_indices() {
            self.update(to, ports, up, &mut changes);
        }
        changes.sort_unstable();
        changes
    }

    /// Brings the way to `to` up to date after the link between `ends` changed.
    fn update(&mut self, to: NodeIndex, ends: [(NodeIndex, PortId); 2], up: bool, changes: &mut Vec<PathChange>) {
        let way = &mut self.ways[to.index()];
        let [a, b] = ends;
        let (far, near) = if way.hops[a.0.index()] >= way.hops[b.0.index()] {
            (a, b)
        } else {
            (b, a)
        };
        let (far_hops, near_hops) = (way.hops[far.0.index()], way.hops[near.0.index()]);
        if far_hops == near_hops {
            return; // beside every shortest path, or both cut off
        }
        let ports = &mut way.ports[far.0.index()];
        let change = PathChange {
            on: switch(far.0),
            to: switch(to),
        };
        match ports.binary_search(&far.1) {
            // Other next hops remain: no distance changes.
            Ok(at) if !up && ports.len() > 1 => {
                ports.remove(at);
                changes.push(change);
            }
            // One more way that is as short as the others.
            Err(at) if up && far_hops == near_hops.saturating_add(1) => {
                ports.insert(at, far.1);
                changes.push(change);
            }
            _ => {
                let fresh = self.way(to);
                let old = std::mem::replace(&mut self.ways[to.index()], fresh);
                let new = &self.ways[to.index()];
                for (on, (before, after)) in (0..).zip(old.ports.iter().zip(&new.ports)) {
                    if before != after {
                        changes.push(PathChange {
                            on: SwitchIndex(on),
                            to: switch(to),
                        });
                    }
                }
            }
        }
    }

    /// Computes the way to one destination over the links that are up.
    fn way(&self, to: NodeIndex) -> Way {
        let live = EdgeFiltered::from_fn(&self.graph, |e| e.weight().up);
        let found = dijkstra(&live, to, None, |_| 1u32);
        let hops: Vec<u32> = self
            .graph
            .node_indices()
            .map(|n| found.get(&n).copied().unwrap_or(UNREACHABLE))
            .collect();
        let next_hops = |n: NodeIndex| {
            let nearer = |other: NodeIndex| hops[other.index()].saturating_add(1) == hops[n.index()];
            let mut ports: Vec<PortId> = self
                .graph
                .edges(n)
                .filter(|e| e.weight().up && nearer(if e.source() == n { e.target() } else { e.source() }))
                .map(|e| e.weight().port_of(n))
                .collect();
            ports.sort_unstable();
            ports
        };
        let ports = self
            .graph
            .node_indices()
            .map(|n| {
                if hops[n.index()] == UNREACHABLE {
                    Vec::new()
                } else {
                    next_hops(n)
                }
            })
            .collect();
        Way { hops, ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two spines (0, 1) and three leaves (2, 3, 4); links numbered leaf by leaf; spine 0
    /// on port 1 and spine 1 on port 2 of each leaf.
    fn fabric() -> Topology {
        let mut switches = String::new();
        let mut links = String::new();
        for i in 0..5 {
            let role = if i < 2 { "spine" } else { "leaf" };
            let id = i + 1;
            switches += &format!(
                "  - {{ name: s{i}, role: {role}, device_id: {id}, loopback_ipv4: 10.255.0.{id}, \
                 loopback_ipv6: \"fd00::{id}\", p4runtime: \"192.0.2.{id}:9559\" }}\n"
            );
        }
        for leaf in 2..5 {
            for spine in 0..2 {
                let (up, down) = (spine + 1, leaf - 1);
                links += &format!(
                    "  - {{ a: {{ switch: s{leaf}, port: {up} }}, b: {{ switch: s{spine}, port: {down} }} }}\n"
                );
            }
        }
        let text = format!("fabric: {{ name: t }}\nswitches:\n{switches}links:\n{links}");
        Topology::from_yaml(&text).unwrap()
    }

    fn ports(paths: &Paths, on: u32, to: u32) -> Vec<u16> {
        paths
            .ports(SwitchIndex(on), SwitchIndex(to))
            .iter()
            .map(|p| p.get())
            .collect()
    }

    fn change(on: u32, to: u32) -> PathChange {
        PathChange {
            on: SwitchIndex(on),
            to: SwitchIndex(to),
        }
    }

    #[test]
    fn leaves_use_both_spines() {
        let paths = Paths::new(&fabric());
        assert_eq!(ports(&paths, 2, 3), [1, 2]);
        assert_eq!(ports(&paths, 2, 0), [1]);
        assert_eq!(ports(&paths, 0, 2), [1]);
        assert_eq!(ports(&paths, 0, 1), [1, 2, 3], "spine to spine through any leaf");
        assert!(ports(&paths, 2, 2).is_empty());
    }

    #[test]
    fn a_lost_link_changes_what_used_it_and_nothing_else() {
        let mut paths = Paths::new(&fabric());
        let link = paths.link_at(SwitchIndex(2), PortId::try_from(1).unwrap()).unwrap();
        let changes = paths.set_link(link, false);
        // Leaf 2 and the other leaves lose a way to each other; spine 0 and leaf 2 reach each
        // other over a detour; the spines lose one of their ways over leaves. Nothing
        // changes between leaves 3 and 4, or for spine 1 and any leaf.
        let used = [(0, 1), (0, 2), (1, 0), (2, 0), (2, 3), (2, 4), (3, 2), (4, 2)];
        assert_eq!(changes, used.map(|(on, to)| change(on, to)));
        assert_eq!(ports(&paths, 2, 3), [2]);
        assert_eq!(ports(&paths, 0, 2), [2, 3]);
        assert!(paths.set_link(link, false).is_empty());
        assert_eq!(paths.set_link(link, true), changes);
        assert_eq!(ports(&paths, 2, 3), [1, 2]);
    }

    #[test]
    fn a_leaf_that_is_cut_off_has_no_paths() {
        let mut paths = Paths::new(&fabric());
        for port in [1, 2] {
            let link = paths.link_at(SwitchIndex(2), PortId::try_from(port).unwrap()).unwrap();
            paths.set_link(link, false);
        }
        assert!(ports(&paths, 2, 3).is_empty());
        assert!(ports(&paths, 3, 2).is_empty());
        assert_eq!(ports(&paths, 3, 4), [1, 2]);
    }

    proptest! {
        /// After any sequence of link events the paths are those of a fresh computation,
        /// and the reported changes are the real ones.
        #[test]
        fn incremental_equals_fresh(events in proptest::collection::vec((0u32..6, any::<bool>()), 1..30)) {
            let mut paths = Paths::new(&fabric());
            for (link, up) in events {
                let before = paths.clone();
                let changes = paths.set_link(LinkIndex(link), up);
                for to in paths.graph.node_indices() {
                    prop_assert_eq!(&paths.ways[to.index()], &paths.way(to));
                    for on in paths.graph.node_indices() {
                        let differs = before.ports(switch(on), switch(to)) != paths.ports(switch(on), switch(to));
                        let said = changes.contains(&PathChange { on: switch(on), to: switch(to) });
                        prop_assert_eq!(differs, said);
                    }
                }
            }
        }
    }
}
