//! The sizes of the tables of switches.
//!
//! The numbers are those of the P4Info that the switches run (P4Runtime 1.4, section 7.2.2, `Table.size`): one set for each
//! role. Tables whose entries are const are left out, as nobody writes to them, and so are tables without a size.
//! Action profiles and multicast groups are not tables and are not counted here.

use rustc_hash::FxHashMap;

use p4runtime_client::entity::EntityKey as SwitchKey;
use p4runtime_proto::p4::config::v1::P4Info;
use vfabric_api::topology::Role;

use crate::entity::Entity;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its short name.
    pub name: String,
    /// Entries that fit into it.
    pub size: usize,
}

/// The tables of each role, by P4Info id. The default knows none: then nothing is bounded.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    leaf: FxHashMap<u32, Table>,
    spine: FxHashMap<u32, Table>,
}

impl Tables {
    /// The tables of the programs that leaves and spines run.
    pub fn of(leaf: &P4Info, spine: &P4Info) -> Self {
        Self {
            leaf: read(leaf),
            spine: read(spine),
        }
    }

    /// A table of a role, by its P4Info id.
    pub fn get(&self, role: Role, id: u32) -> Option<&Table> {
        self.role(role).get(&id)
    }

    /// All tables of a role.
    pub fn role(&self, role: Role) -> &FxHashMap<u32, Table> {
        match role {
            Role::Leaf => &self.leaf,
            Role::Spine => &self.spine,
        }
    }

    /// Whether no table is known.
    pub fn is_empty(&self) -> bool {
        self.leaf.is_empty() && self.spine.is_empty()
    }

    /// Makes a table smaller, so that tests fill it.
    #[cfg(test)]
    pub(crate) fn shrink(&mut self, name: &str, size: usize) {
        let tables = self.leaf.values_mut().chain(self.spine.values_mut());
        for table in tables.filter(|table| table.name == name) {
            table.size = size;
        }
    }
}

fn read(info: &P4Info) -> FxHashMap<u32, Table> {
    let bounded = info
        .tables
        .iter()
        .filter(|table| !table.is_const_table && table.size > 0);
    let table = |table: &p4runtime_proto::p4::config::v1::Table| {
        let preamble = table.preamble.as_ref()?;
        let name = if preamble.alias.is_empty() {
            &preamble.name
        } else {
            &preamble.alias
        };
        let size = usize::try_from(table.size).ok()?;
        let name = name.clone();
        Some((preamble.id, Table { name, size }))
    };
    bounded.filter_map(table).collect()
}

/// The P4Info id of an entry's table; none if the entity is not a table entry.
pub fn table_of(entity: &Entity) -> Option<u32> {
    match entity {
        Entity::Switch(entity) => match entity.key() {
            SwitchKey::Table(key) => Some(key.table_id),
            _ => None,
        },
        Entity::Host(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_programs() {
        let info = |pipeline: fabric_pipeline::Pipeline| pipeline.decode_p4info().unwrap();
        let tables = Tables::of(
            &info(fabric_pipeline::Pipeline::LEAF),
            &info(fabric_pipeline::Pipeline::SPINE),
        );
        let size = |role, name: &str| tables.role(role).values().find(|t| t.name == name).map(|t| t.size);
        assert_eq!(size(Role::Leaf, "bridge_mac"), Some(131_072));
        assert_eq!(size(Role::Leaf, "port_vlan"), Some(8192));
        assert_eq!(size(Role::Spine, "bridge_mac"), None);
        assert!(!tables.role(Role::Spine).is_empty());
        let all = info(fabric_pipeline::Pipeline::LEAF).tables;
        let consts: Vec<u32> = all
            .iter()
            .filter(|t| t.is_const_table)
            .filter_map(|t| Some(t.preamble.as_ref()?.id))
            .collect();
        assert!(consts.iter().all(|id| tables.get(Role::Leaf, *id).is_none()));
    }
}
