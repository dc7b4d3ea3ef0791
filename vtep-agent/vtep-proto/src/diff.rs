//! The difference between two sets of host objects.

use std::collections::BTreeMap;

use crate::entity::{HostEntity, HostKey};

/// One step from what a host holds to what it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create or change.
    Upsert(HostEntity),
    /// Remove.
    Remove(HostKey),
}

/// The steps from `held` to `desired`, in an order in which they can be applied: upserts in order of creation, then
/// removals in reverse, so that no object is ever without the objects that it needs.
pub fn changes(held: &BTreeMap<HostKey, HostEntity>, desired: &BTreeMap<HostKey, HostEntity>) -> Vec<Change> {
    let upserts = desired
        .iter()
        .filter(|(k, e)| held.get(k) != Some(e))
        .map(|(_, e)| Change::Upsert(e.clone()));
    let removes = held
        .keys()
        .rev()
        .filter(|k| !desired.contains_key(k))
        .map(|k| Change::Remove(k.clone()));
    upserts.chain(removes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{FdbEntry, Network, UnderlayFamily};
    use crate::ident::{MacAddress, Vni};

    fn network(vni: u32, mtu: u32) -> HostEntity {
        HostEntity::Network(Network {
            vni: Vni::new(vni).unwrap(),
            mtu,
            underlay: UnderlayFamily::Ipv4,
            flood: Default::default(),
            gateways: Default::default(),
        })
    }

    fn fdb(vni: u32, last: u8) -> HostEntity {
        HostEntity::Fdb(FdbEntry {
            vni: Vni::new(vni).unwrap(),
            mac: MacAddress::new([2, 0, 0, 0, 0, last]).unwrap(),
            vtep: [10, 0, 0, last].into(),
        })
    }

    fn map(all: &[HostEntity]) -> BTreeMap<HostKey, HostEntity> {
        all.iter().map(|e| (e.key(), e.clone())).collect()
    }

    #[test]
    fn only_differences_in_dependency_order() {
        let held = map(&[network(1, 1500), network(2, 1500), fdb(2, 1), fdb(1, 7)]);
        let desired = map(&[network(1, 1400), network(3, 1500), fdb(3, 1), fdb(1, 7)]);
        let got = changes(&held, &desired);
        let expected = vec![
            Change::Upsert(network(1, 1400)),
            Change::Upsert(network(3, 1500)),
            Change::Upsert(fdb(3, 1)),
            Change::Remove(fdb(2, 1).key()),
            Change::Remove(network(2, 1500).key()),
        ];
        assert_eq!(got, expected);
        assert!(changes(&desired, &desired).is_empty());
    }
}
