//! Typed entries and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use fabric_pipeline::binding::{DecodeError, Lpm, decode};
use fabric_pipeline::{Bits, tables};
use p4runtime_client::entity::{ActionCall, Entity, Match, TableKey};
use proptest::prelude::*;

fn bits<const W: u32>() -> impl Strategy<Value = Bits<W>> {
    any::<u128>().prop_map(|v| Bits::masked(v & Bits::<W>::MAX))
}

proptest! {
    #[test]
    fn exact_entries_survive(
        (vrf, dst, vni, vtep_id, dmac, mtu) in
            (bits::<24>(), bits::<128>(), bits::<24>(), bits::<16>(), bits::<48>(), bits::<16>())
    ) {
        let key = tables::ipv6_host::Key { vrf, dst };
        let action = tables::ipv6_host::Action::RouteToVtep { vni, vtep_id, dmac, mtu };
        prop_assert_eq!(decode(&key.entry(action)), Ok((key, action)));
    }

    #[test]
    fn prefixes_survive(dst: u128, prefix_len in 0u32..=128, port in bits::<9>()) {
        let mask = u128::MAX.checked_shl(128 - prefix_len).unwrap_or(0);
        let key = tables::underlay_route::Key { dst: Lpm { value: (dst & mask).into(), prefix_len } };
        let action = tables::underlay_route::Action::ToHost { port };
        prop_assert_eq!(decode(&key.entry(action)), Ok((key, action)));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let id = tables::port_vlan::ID;
    let call = ActionCall::bare(0x0100_0002);
    let entry = |fields, call| Entity::table(TableKey::new(id, fields), call);
    let read = decode::<tables::port_vlan::Key, tables::port_vlan::Action>;

    let wide = Match::builder().exact(1, [2, 0]).exact(2, [0]);
    assert_eq!(
        read(&entry(wide, call.clone())),
        Err(DecodeError::Field { field: "port" })
    );
    let partial = Match::builder().exact(1, [1]);
    assert_eq!(read(&entry(partial, call)), Err(DecodeError::Field { field: "vid" }));
    let good = || Match::builder().exact(1, [1]).exact(2, [0]);
    let unknown = entry(good(), ActionCall::bare(7));
    assert_eq!(read(&unknown), Err(DecodeError::UnknownAction { id: 7 }));
    let short = entry(good(), ActionCall::new(0x0100_0001, [(1, [1])]));
    assert_eq!(read(&short), Err(DecodeError::Param { param: "vrf" }));
    let other = tables::router_mac::Key { dmac: [0; 6].into() }.entry(tables::router_mac::Action::SetRouted);
    assert_eq!(read(&other), Err(DecodeError::NotThisTable { table: "port_vlan" }));
}

#[test]
fn entries_are_described_in_the_programs_words() {
    let key = tables::ipv4_host::Key {
        vrf: Bits::masked(10_000),
        dst: Ipv4Addr::new(10, 0, 0, 2).into(),
    };
    let dmac = [2, 0, 0, 0, 0, 1].into();
    let action = tables::ipv4_host::Action::RouteToVtep {
        vni: Bits::masked(10_001),
        vtep_id: 5.into(),
        dmac,
        mtu: 1500.into(),
    };
    let said = tables::describe(&key.entry(action)).unwrap();
    assert_eq!(said.table, "ipv4_host");
    assert_eq!(said.key, "vrf 10000, dst 10.0.0.2");
    assert_eq!(
        said.action,
        "route_to_vtep(vni 10001, vtep_id 5, dmac 02:00:00:00:00:01, mtu 1500)"
    );

    let dst = Lpm {
        value: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(),
        prefix_len: 64,
    };
    let route = tables::underlay_route::Key { dst }.entry(tables::underlay_route::Action::ToPath { path: 3.into() });
    assert_eq!(tables::describe(&route).unwrap().key, "dst fd00::/64");
    assert!(tables::describe(&Entity::multicast_group(1, vec![])).is_none());
}
