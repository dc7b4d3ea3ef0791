//! All shortest paths between switches, kept up to date link by link.

use std::collections::HashMap;

use petgraph::algo::dijkstra;
use petgraph::graph::{EdgeIndex, NodeIndex};
use petgraph::stable_graph::StableUnGraph;
use petgraph::visit::{EdgeFiltered, EdgeRef};
use vfabric_api::ident::PortId;

use crate::ident::SwitchIndex;

/// A cable: a handle that is never given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

/// The ports of switch `on` that lead to switch `to` have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathChange {
    /// The switch whose ports changed.
    pub on: SwitchIndex,
    /// The switch that they lead to.
    pub to: SwitchIndex,
}

/// Added to the cost of a cable for each reason to avoid it. It is more than the cost of any path without such a cable,
/// and small enough that the sum over a path of many such cables does not overflow.
const AVOIDED: u32 = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Node {
    switch: SwitchIndex,
    drained: bool,
}

/// One cable between two nodes.
#[derive(Debug, Clone)]
struct Cable {
    ports: [(NodeIndex, PortId); 2],
    up: bool,
    avoided: bool,
}

impl Cable {
    /// Its port at `node`.
    fn port_of(&self, node: NodeIndex) -> PortId {
        let [a, b] = self.ports;
        if a.0 == node { a.1 } else { b.1 }
    }
}

/// The paths to one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Way {
    /// Cost from each switch; [`UNREACHABLE`] if there is no path.
    costs: Vec<u32>,
    /// Ports of each switch that lie on a cheapest path, sorted.
    ports: Vec<Vec<PortId>>,
}

const UNREACHABLE: u32 = u32::MAX;

/// The graph of a fabric, with the best paths between all its switches.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    graph: StableUnGraph<Node, Cable>,
    nodes: HashMap<SwitchIndex, NodeIndex>,
    edges: HashMap<LinkIndex, EdgeIndex>,
    /// By destination.
    ways: HashMap<SwitchIndex, Way>,
    ends: HashMap<(SwitchIndex, PortId), LinkIndex>,
    /// Set between [`Paths::begin`] and [`Paths::finish`].
    building: bool,
}

impl Paths {
    /// Puts off all computation until [`Paths::finish`].
    pub fn begin(&mut self) {
        self.building = true;
    }

    /// Computes all paths, after [`Paths::begin`] and any number of changes.
    pub fn finish(&mut self) {
        self.building = false;
        self.ways = self.nodes.iter().map(|(s, n)| (*s, self.way(*n))).collect();
    }

    /// Ports of `on` that lie on a best path to `to`, sorted; empty if there is no
    /// path, or if both are the same switch.
    pub fn ports(&self, on: SwitchIndex, to: SwitchIndex) -> &[PortId] {
        let node = self.nodes.get(&on);
        let ports = node.and_then(|n| self.ways.get(&to)?.ports.get(n.index()));
        ports.map_or(&[], Vec::as_slice)
    }

    /// The link that is cabled to a port.
    pub fn link_at(&self, on: SwitchIndex, port: PortId) -> Option<LinkIndex> {
        self.ends.get(&(on, port)).copied()
    }

    /// Both ends of a link.
    pub fn ends(&self, link: LinkIndex) -> Option<[(SwitchIndex, PortId); 2]> {
        let cable = self.graph.edge_weight(*self.edges.get(&link)?)?;
        let [a, b] = cable.ports;
        Some([
            (self.graph.node_weight(a.0)?.switch, a.1),
            (self.graph.node_weight(b.0)?.switch, b.1),
        ])
    }

    /// True if the link carries traffic; false also for a link that does not exist.
    pub fn is_up(&self, link: LinkIndex) -> bool {
        let edge = self.edges.get(&link);
        edge.and_then(|e| self.graph.edge_weight(*e)).is_some_and(|c| c.up)
    }

    /// Adds a switch without links.
    pub fn add_switch(&mut self, switch: SwitchIndex) {
        if self.nodes.contains_key(&switch) {
            return;
        }
        let node = self.graph.add_node(Node { switch, drained: false });
        self.nodes.insert(switch, node);
        if self.building {
            return;
        }
        // An earlier node may have had this number.
        let size = node.index() + 1;
        for way in self.ways.values_mut() {
            way.costs.resize(way.costs.len().max(size), UNREACHABLE);
            way.ports.resize(way.ports.len().max(size), Vec::new());
            way.costs[node.index()] = UNREACHABLE;
            way.ports[node.index()] = Vec::new();
        }
        let way = self.way(node);
        self.ways.insert(switch, way);
    }

    /// Removes a switch with its links. Returns the pairs whose ports changed, in order.
    pub fn remove_switch(&mut self, switch: SwitchIndex) -> Vec<PathChange> {
        let Some(node) = self.nodes.get(&switch).copied() else {
            return Vec::new();
        };
        let at = |(link, edge): (&LinkIndex, &EdgeIndex)| {
            let ends = self.graph.edge_endpoints(*edge)?;
            (ends.0 == node || ends.1 == node).then_some(*link)
        };
        let links: Vec<LinkIndex> = self.edges.iter().filter_map(at).collect();
        let mut changes: Vec<PathChange> = links.into_iter().flat_map(|l| self.remove_link(l)).collect();
        self.nodes.remove(&switch);
        self.ways.remove(&switch);
        self.graph.remove_node(node);
        changes.sort_unstable();
        changes.dedup();
        changes
    }

    /// Adds a link between two switches; it is down. Does nothing if one of them does not exist.
    pub fn add_link(&mut self, link: LinkIndex, ends: [(SwitchIndex, PortId); 2]) {
        let find = |(switch, port): (SwitchIndex, PortId)| Some((*self.nodes.get(&switch)?, port));
        let [Some(a), Some(b)] = ends.map(find) else { return };
        if self.edges.contains_key(&link) {
            return;
        }
        let cable = Cable {
            ports: [a, b],
            up: false,
            avoided: false,
        };
        self.edges.insert(link, self.graph.add_edge(a.0, b.0, cable));
        self.ends.extend(ends.map(|end| (end, link)));
    }

    /// Removes a link. Returns the pairs whose ports changed, in order.
    pub fn remove_link(&mut self, link: LinkIndex) -> Vec<PathChange> {
        let changes = self.set_link(link, false);
        for end in self.ends(link).into_iter().flatten() {
            self.ends.remove(&end);
        }
        if let Some(edge) = self.edges.remove(&link) {
            self.graph.remove_edge(edge);
        }
        changes
    }

    /// Records that a link went down or came up. Returns the pairs whose ports changed, in order; none if the state is
    /// unchanged.
    pub fn set_link(&mut self, link: LinkIndex, up: bool) -> Vec<PathChange> {
        let Some(edge) = self.edges.get(&link).copied() else {
            return Vec::new();
        };
        let Some(cable) = self.graph.edge_weight_mut(edge).filter(|c| c.up != up) else {
            return Vec::new();
        };
        cable.up = up;
        let ports = cable.ports;
        let cost = self.cost(edge);
        let mut changes = Vec::new();
        if !self.building {
            let all: Vec<(SwitchIndex, NodeIndex)> = self.nodes.iter().map(|(s, n)| (*s, *n)).collect();
            for to in all {
                self.update(to, ports, (up, cost), &mut changes);
            }
        }
        changes.sort_unstable();
        changes
    }

    /// Sets whether a link is only used if there is no other path. Returns the pairs whose ports changed, in order.
    pub fn avoid_link(&mut self, link: LinkIndex, avoided: bool) -> Vec<PathChange> {
        let edge = self.edges.get(&link).and_then(|e| self.graph.edge_weight_mut(*e));
        let Some(cable) = edge.filter(|c| c.avoided != avoided) else {
            return Vec::new();
        };
        cable.avoided = avoided;
        self.again()
    }

    /// Sets whether paths lead through a switch only if there is no other path. Returns the pairs whose ports changed,
    /// in order.
    pub fn set_drained(&mut self, switch: SwitchIndex, drained: bool) -> Vec<PathChange> {
        let node = self.nodes.get(&switch).and_then(|n| self.graph.node_weight_mut(*n));
        let Some(node) = node.filter(|n| n.drained != drained) else {
            return Vec::new();
        };
        node.drained = drained;
        self.again()
    }

    /// Computes all paths again.
    fn again(&mut self) -> Vec<PathChange> {
        let mut changes = Vec::new();
        if self.building {
            return changes;
        }
        let all: Vec<(SwitchIndex, NodeIndex)> = self.nodes.iter().map(|(s, n)| (*s, *n)).collect();
        for (to, node) in all {
            self.replace((to, node), &mut changes);
        }
        changes.sort_unstable();
        changes
    }

    fn replace(&mut self, (to, node): (SwitchIndex, NodeIndex), changes: &mut Vec<PathChange>) {
        let fresh = self.way(node);
        let old = self.ways.insert(to, fresh).unwrap_or_default();
        let Some(new) = self.ways.get(&to) else { return };
        for on in self.graph.node_indices() {
            let of = |way: &Way| way.ports.get(on.index()).cloned().unwrap_or_default();
            if of(&old) != of(new)
                && let Some(node) = self.graph.node_weight(on)
            {
                let on = node.switch;
                changes.push(PathChange { on, to });
            }
        }
    }

    fn cost(&self, edge: EdgeIndex) -> u32 {
        let ends = self.graph.edge_endpoints(edge);
        let drained = |n: NodeIndex| self.graph.node_weight(n).is_some_and(|n| n.drained);
        let drained = ends.map_or(0, |(a, b)| u32::from(drained(a)) + u32::from(drained(b)));
        let avoided = self.graph.edge_weight(edge).is_some_and(|c| c.avoided);
        1 + AVOIDED * (drained + u32::from(avoided))
    }

    /// Updates the paths to `to` after the link between `ends` changed.
    fn update(
        &mut self,
        to: (SwitchIndex, NodeIndex),
        ends: [(NodeIndex, PortId); 2],
        (up, cost): (bool, u32),
        changes: &mut Vec<PathChange>,
    ) {
        let Some(way) = self.ways.get_mut(&to.0) else { return };
        let [a, b] = ends;
        let (far, near) = if way.costs[a.0.index()] >= way.costs[b.0.index()] {
            (a, b)
        } else {
            (b, a)
        };
        let (far_cost, near_cost) = (way.costs[far.0.index()], way.costs[near.0.index()]);
        let over_it = near_cost.saturating_add(cost);
        let ports = &mut way.ports[far.0.index()];
        match ports.binary_search(&far.1) {
            // The link is on no best path, or both ends are cut off.
            _ if far_cost == near_cost => return,
            Err(_) if !up || over_it > far_cost => return,
            // Other next hops remain: no cost changes.
            Ok(at) if !up && ports.len() > 1 => {
                ports.remove(at);
            }
            // One more path that is as good as the others.
            Err(at) if over_it == far_cost => ports.insert(at, far.1),
            _ => return self.replace(to, changes),
        }
        if let Some(on) = self.graph.node_weight(far.0) {
            changes.push(PathChange {
                on: on.switch,
                to: to.0,
            });
        }
    }

    /// Computes the paths to one destination over the links that are up.
    fn way(&self, to: NodeIndex) -> Way {
        let live = EdgeFiltered::from_fn(&self.graph, |e| e.weight().up);
        let found = dijkstra(&live, to, None, |e| self.cost(e.id()));
        let size = self.graph.node_indices().map(|n| n.index() + 1).max().unwrap_or(0);
        let mut way = Way {
            costs: vec![UNREACHABLE; size],
            ports: vec![Vec::new(); size],
        };
        for (node, cost) in &found {
            way.costs[node.index()] = *cost;
        }
        for node in found.keys() {
            let (n, costs) = (*node, &way.costs);
            let nearer = |other: NodeIndex, cost: u32| costs[other.index()].saturating_add(cost) == costs[n.index()];
            let edges = self.graph.edges(n).filter(|e| e.weight().up);
            let next = edges.filter(|e| {
                let other = if e.source() == n { e.target() } else { e.source() };
                nearer(other, self.cost(e.id()))
            });
            let mut ports: Vec<PortId> = next.map(|e| e.weight().port_of(n)).collect();
            ports.sort_unstable();
            way.ports[n.index()] = ports;
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(n: u32) -> PortId {
        u16::try_from(n).unwrap().try_into().unwrap()
    }

    /// Two spines (0, 1) and three leaves (2, 3, 4); links numbered leaf by leaf; spine 0
    /// on port 1 and spine 1 on port 2 of each leaf.
    fn fabric() -> Paths {
        let mut paths = Paths::default();
        (0..5).for_each(|s| paths.add_switch(SwitchIndex(s)));
        for leaf in 2..5 {
            for spine in 0..2 {
                let link = LinkIndex((leaf - 2) * 2 + spine);
                let ends = [
                    (SwitchIndex(leaf), port(spine + 1)),
                    (SwitchIndex(spine), port(leaf - 1)),
                ];
                paths.add_link(link, ends);
                paths.set_link(link, true);
            }
        }
        paths
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
        let paths = fabric();
        assert_eq!(ports(&paths, 2, 3), [1, 2]);
        assert_eq!(ports(&paths, 2, 0), [1]);
        assert_eq!(ports(&paths, 0, 2), [1]);
        assert_eq!(ports(&paths, 0, 1), [1, 2, 3], "spine to spine through any leaf");
        assert!(ports(&paths, 2, 2).is_empty());
    }

    #[test]
    fn a_lost_link_changes_what_used_it_and_nothing_else() {
        let mut paths = fabric();
        let link = paths.link_at(SwitchIndex(2), PortId::try_from(1).unwrap()).unwrap();
        let changes = paths.set_link(link, false);
        // Leaf 2 and the other leaves lose a path to each other; spine 0 and leaf 2 reach each other over a detour; the
        // spines lose one of their paths over leaves. Nothing changes between leaves 3 and 4, or for spine 1 and any
        // leaf.
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
        let mut paths = fabric();
        for port in [1, 2] {
            let link = paths.link_at(SwitchIndex(2), PortId::try_from(port).unwrap()).unwrap();
            paths.set_link(link, false);
        }
        assert!(ports(&paths, 2, 3).is_empty());
        assert!(ports(&paths, 3, 2).is_empty());
        assert_eq!(ports(&paths, 3, 4), [1, 2]);
    }

    #[test]
    fn a_drained_spine_is_used_where_there_is_no_other() {
        let mut paths = fabric();
        let changes = paths.set_drained(SwitchIndex(1), true);
        assert_eq!(ports(&paths, 2, 3), [1]);
        assert_eq!(ports(&paths, 2, 1), [2], "itself it is reached as before");
        assert!(changes.contains(&change(2, 3)) && !changes.contains(&change(2, 1)));
        paths.set_link(LinkIndex(0), false);
        assert_eq!(ports(&paths, 2, 3), [2], "better than no path");
        paths.set_link(LinkIndex(0), true);
        assert_eq!(paths.set_drained(SwitchIndex(1), false), changes);
        assert_eq!(ports(&paths, 2, 3), [1, 2]);
        paths.avoid_link(LinkIndex(1), true);
        assert_eq!((ports(&paths, 2, 3), ports(&paths, 3, 4)), (vec![1], vec![1, 2]));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Link(u32, bool),
        Drain(u32, bool),
        Avoid(u32, bool),
        RemoveSwitch(u32),
        AddSwitch(u32),
        RemoveLink(u32),
        AddLink(u32, u32, u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..8u32, any::<bool>()).prop_map(|(l, up)| Event::Link(l, up)),
            2 => (0..6u32, any::<bool>()).prop_map(|(s, on)| Event::Drain(s, on)),
            2 => (0..8u32, any::<bool>()).prop_map(|(l, on)| Event::Avoid(l, on)),
            1 => (0..6u32).prop_map(Event::RemoveSwitch),
            1 => (0..6u32).prop_map(Event::AddSwitch),
            1 => (0..8u32).prop_map(Event::RemoveLink),
            2 => (0..8u32, 0..6u32, 0..6u32).prop_map(|(l, a, b)| Event::AddLink(l, a, b)),
        ]
    }

    proptest! {
        /// After any sequence of events the paths are those of a fresh computation,
        /// and the reported changes are the real ones.
        #[test]
        fn incremental_equals_fresh(events in proptest::collection::vec(event(), 1..40)) {
            let mut paths = fabric();
            for event in events {
                let before = paths.clone();
                let changes = match event {
                    Event::Link(link, up) => paths.set_link(LinkIndex(link), up),
                    Event::Drain(s, on) => paths.set_drained(SwitchIndex(s), on),
                    Event::Avoid(link, on) => paths.avoid_link(LinkIndex(link), on),
                    Event::RemoveSwitch(s) => paths.remove_switch(SwitchIndex(s)),
                    Event::AddSwitch(s) => {
                        paths.add_switch(SwitchIndex(s));
                        Vec::new()
                    }
                    Event::RemoveLink(link) => paths.remove_link(LinkIndex(link)),
                    Event::AddLink(link, a, b) => {
                        // Ports of their own: no port has two cables.
                        let at = |side: u32| port(100 + 2 * link + side);
                        if a != b {
                            paths.add_link(LinkIndex(link), [(SwitchIndex(a), at(0)), (SwitchIndex(b), at(1))]);
                        }
                        Vec::new()
                    }
                };
                let mut fresh = paths.clone();
                fresh.finish();
                for to in (0..6).map(SwitchIndex) {
                    for on in (0..6).map(SwitchIndex) {
                        prop_assert_eq!(paths.ports(on, to), fresh.ports(on, to));
                        let there = paths.nodes.contains_key(&on) && paths.nodes.contains_key(&to);
                        let differs = before.ports(on, to) != paths.ports(on, to);
                        let said = changes.contains(&PathChange { on, to });
                        prop_assert!(!differs || said, "{:?} to {:?} changed without a report", on, to);
                        prop_assert!(differs || !said || !there, "{:?} towards {:?} did not change", on, to);
                    }
                }
            }
        }
    }
}
