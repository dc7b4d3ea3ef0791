//! Which entities refer to which, so that an entity is made before those that refer to it, and
//! removed after them.
//!
//! Profiles, groups and replication always have references. Tables have them where the program says so with
//! `@refers_to(table, field)` on a match field or an action parameter. `@refers_to(builtin::multicast_group_table,
//! ...)` on a parameter means that entries name groups. On a match field that is `replica.instance` it means that
//! packets of a group look the table up, so its entries come before the groups that cause such packets.

use std::collections::{BTreeMap, BTreeSet};

use p4runtime_proto::p4::config::v1::{P4Info, Table};

use crate::{entity::EntityKey, names::id};

/// Kinds of object that can refer to others or be referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Table(u32),
    Members(u32),
    Groups(u32),
    Replication,
}

/// Levels of creation: an entity refers only to entities of lower levels. In a cycle, the reference that closes it is
/// ignored.
#[derive(Debug, Clone, Default)]
pub struct Order {
    levels: BTreeMap<Node, u8>,
}

impl Order {
    /// The order that a P4Info implies.
    #[must_use]
    pub fn new(p4info: &P4Info) -> Self {
        let edges = edges(p4info);
        let mut order = Self::default();
        for node in edges.keys() {
            order.visit(*node, &edges, &mut Vec::new());
        }
        order
    }

    /// The level of an entity, from 0.
    #[must_use]
    pub fn level(&self, key: &EntityKey) -> u8 {
        let node = match key {
            EntityKey::Table(key) => Node::Table(key.table_id),
            EntityKey::DefaultAction { table_id } => Node::Table(*table_id),
            EntityKey::Member { profile_id, .. } => Node::Members(*profile_id),
            EntityKey::Group { profile_id, .. } => Node::Groups(*profile_id),
            EntityKey::MulticastGroup(_) | EntityKey::CloneSession(_) => Node::Replication,
            _ => return 0,
        };
        self.levels.get(&node).copied().unwrap_or(0)
    }

    fn visit(&mut self, node: Node, edges: &BTreeMap<Node, BTreeSet<Node>>, path: &mut Vec<Node>) -> u8 {
        if let Some(level) = self.levels.get(&node) {
            return *level;
        }
        path.push(node);
        let mut level = 0u8;
        for below in edges.get(&node).into_iter().flatten() {
            if !path.contains(below) {
                level = level.max(self.visit(*below, edges, path).saturating_add(1));
            }
        }
        path.pop();
        self.levels.insert(node, level);
        level
    }
}

fn edges(p4info: &P4Info) -> BTreeMap<Node, BTreeSet<Node>> {
    let mut edges: BTreeMap<Node, BTreeSet<Node>> = BTreeMap::new();
    edges.entry(Node::Replication).or_default();
    for profile in &p4info.action_profiles {
        let profile = id(profile.preamble.as_ref());
        let groups = edges.entry(Node::Groups(profile)).or_default();
        groups.insert(Node::Members(profile));
        edges.entry(Node::Members(profile)).or_default();
    }
    for table in &p4info.tables {
        let node = Node::Table(id(table.preamble.as_ref()));
        edges.entry(node).or_default();
        for field in &table.match_fields {
            for (target, what) in references(&field.annotations) {
                if target.contains("multicast_group_table") {
                    if what.contains("instance") {
                        edges.entry(Node::Replication).or_default().insert(node);
                    }
                } else if let Some(target) = find(p4info, &target) {
                    edges.entry(node).or_default().insert(target);
                }
            }
        }
        // An action belongs to the entries, or to the members that they share.
        let owner = match table.implementation_id {
            0 => node,
            profile => {
                let below = [Node::Groups(profile), Node::Members(profile)];
                edges.entry(node).or_default().extend(below);
                Node::Members(profile)
            }
        };
        let targets = action_references(p4info, table);
        let targets = targets.filter(|t| *t != owner && *t != node);
        edges.entry(owner).or_default().extend(targets);
    }
    edges
}

/// What the actions of a table refer to.
fn action_references<'a>(p4info: &'a P4Info, table: &'a Table) -> impl Iterator<Item = Node> + 'a {
    let used = |action: u32| table.action_refs.iter().any(|r| r.id == action);
    p4info
        .actions
        .iter()
        .filter(move |a| used(id(a.preamble.as_ref())))
        .flat_map(|a| &a.params)
        .flat_map(|p| references(&p.annotations))
        .filter_map(|(target, _)| {
            if target.contains("multicast_group_table") || target.contains("clone_session_table") {
                Some(Node::Replication)
            } else {
                find(p4info, &target)
            }
        })
}

/// (object, field) of every `@refers_to(object, field)`.
fn references(annotations: &[String]) -> impl Iterator<Item = (String, String)> + '_ {
    annotations.iter().filter_map(|annotation| {
        let body = annotation.trim().strip_prefix("@refers_to")?.trim();
        let body = body.strip_prefix('(')?.strip_suffix(')')?;
        let (object, field) = body.split_once(',')?;
        // Compilers print the tokens apart: "builtin : : multicast_group_table".
        let clean = |text: &str| text.replace([' ', '"'], "");
        Some((clean(object), clean(field)))
    })
}

/// A table by full name, alias, or last component.
fn find(p4info: &P4Info, name: &str) -> Option<Node> {
    let tables = || p4info.tables.iter().filter_map(|t| t.preamble.as_ref());
    let table = tables()
        .find(|p| p.name == name || p.alias == name)
        .or_else(|| tables().find(|p| p.name.rsplit('.').next() == Some(name)))?;
    Some(Node::Table(table.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Match, TableKey};
    use p4runtime_proto::p4::config::v1::{Action, ActionProfile, ActionRef, MatchField, Preamble, action::Param};

    fn preamble(id: u32, name: &str) -> Option<Preamble> {
        Some(Preamble {
            id,
            name: name.into(),
            alias: name.into(),
            ..Default::default()
        })
    }

    fn table(id: u32, name: &str, action: u32) -> Table {
        Table {
            preamble: preamble(id, name),
            action_refs: vec![ActionRef {
                id: action,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn action(id: u32, reference: &str) -> Action {
        Action {
            preamble: preamble(id, &format!("a{id}")),
            params: vec![Param {
                id: 1,
                annotations: vec![reference.into()],
                ..Default::default()
            }],
        }
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let mut route = table(1, "route", 11);
        route.implementation_id = 21;
        let mut replica = table(4, "replica", 99);
        replica.match_fields = vec![MatchField {
            annotations: vec!["@refers_to(builtin : : multicast_group_table , replica.instance)".into()],
            ..Default::default()
        }];
        let order = Order::new(&P4Info {
            tables: vec![route, table(2, "path", 99), table(3, "flood", 12), replica],
            actions: vec![
                action(11, "@refers_to(path, path)"),
                action(12, "@refers_to(builtin::multicast_group_table, multicast_group_id)"),
            ],
            action_profiles: vec![ActionProfile {
                preamble: preamble(21, "paths"),
                with_selector: true,
                ..Default::default()
            }],
            ..Default::default()
        });
        let table = |id| order.level(&EntityKey::Table(TableKey::new(id, Match::builder())));
        let (profile_id, member_id, group_id) = (21, 1, 1);
        let member = order.level(&EntityKey::Member { profile_id, member_id });
        let group = order.level(&EntityKey::Group { profile_id, group_id });
        assert!(table(2) < member && member < group && group < table(1));
        let multicast = order.level(&EntityKey::MulticastGroup(1));
        assert!(table(4) < multicast && multicast < table(3));
    }

    #[test]
    fn circles_end() {
        let order = Order::new(&P4Info {
            tables: vec![table(1, "a", 11), table(2, "b", 12)],
            actions: vec![action(11, "@refers_to(b, x)"), action(12, "@refers_to(a, x)")],
            ..Default::default()
        });
        assert_eq!(order.levels.len(), 3);
    }
}
