//! Storm control: floods of a sender beyond its rate are dropped and counted, and no other sender is affected.

use bmv2_tests::program::Core;
use fabric_pipeline::{DropReason, Pipeline};
use vfabric_api::topology::IpFamily;

use crate::cases::*;
use crate::frames::*;
use crate::p4_switch;
use crate::world::*;

/// The burst has as many.
const BURST: usize = 2000;
const BEYOND: usize = 300;

fn cry(n: u8) -> Vec<u8> {
    ethernet(BROADCAST, mac(n), 0x88b5, &[0x42; 46])
}

fn storm(core: Core) {
    let world = World::new(IpFamily::Ipv4);
    let name = core.name();
    // An access port, then others: another one, a host, another leaf.
    let unknown = frame(
        [2, 9, 9, 9, 9, 9],
        mac(21),
        &echo(v4(A, 21).into(), v4(A, 99).into(), 64, false),
    );
    let mut packets = vec![(ACCESS_A, cry(21)); BURST + BEYOND];
    packets.extend(vec![(ACCESS_A, unknown.clone()); BEYOND]);
    let known = frame(mac(11), mac(21), &echo(v4(A, 21).into(), v4(A, 11).into(), 64, false));
    packets.push((ACCESS_A, known.clone()));
    packets.push((ACCESS_B, tagged(100, &cry(22))));
    packets.push((H1, world.h1_sends(world.leaf1(), A, &cry(11))));
    let outcome = p4_switch::run(core, Pipeline::LEAF, &world.entities(), &packets);

    let copies = |port: u16, what: &[u8]| {
        let frames = outcome.out.get(&port).into_iter().flatten();
        frames.filter(|f| f.ends_with(what)).count()
    };
    let dropped = outcome.drops[&u32::from(DropReason::FloodLimit as u8)] as usize;
    let passed = BURST + 2 * BEYOND - dropped;
    // The clock goes on by a microsecond a frame, so a few more pass than at once.
    assert!((BURST..BURST + 10).contains(&passed), "{passed} passed the {name}");
    for port in [H1, H2, UPLINK] {
        let seen = copies(port, &cry(21)) + copies(port, &unknown);
        assert_eq!(seen, passed, "copies of a storm at port {port} of the {name}");
    }
    assert_eq!(copies(H1, &known), 1, "unicast of the same sender, {name}");
    assert_eq!(copies(UPLINK, &cry(22)), 1, "another network's flood, {name}");
    assert_eq!(copies(H2, &cry(11)), 1, "another sender's flood, {name}");
    assert_eq!(outcome.drops.len(), 1, "{:?} of the {name}", outcome.drops);
}

#[test]
fn engine_storm() {
    storm(Core::Engine);
}

#[test]
fn interpreter_storm() {
    storm(Core::Interpreter);
}

#[test]
fn reference_storm() {
    storm(Core::Reference);
}

/// A host has its rate. Frames from another leaf were limited there.
#[test]
fn tunnels() {
    let world = World::new(IpFamily::Ipv6);
    let count = BURST + BEYOND;
    let unknown = echo(v4(A, 11).into(), v4(A, 99).into(), 64, false);
    let unknown = frame([2, 9, 9, 9, 9, 9], mac(11), &unknown);
    let mut from_host = vec![(H1, world.h1_sends(world.leaf1(), A, &cry(11))); BURST];
    from_host.extend(vec![(H1, world.h1_sends(world.leaf1(), A, &unknown)); BEYOND]);
    let from_leaf2 = vxlan(world.leaf2(), world.leaf1(), 62, A, &cry(13));
    let from_leaf2 = vec![(UPLINK, frame(LEAF, SPINE, &from_leaf2)); count];
    let packets = [from_host, from_leaf2].concat();
    let outcome = p4_switch::run(Core::Engine, Pipeline::LEAF, &world.entities(), &packets);
    let dropped = outcome.drops[&u32::from(DropReason::FloodLimit as u8)] as usize;
    assert!((BEYOND - 10..=BEYOND).contains(&dropped), "{dropped}");
    let at_access = &outcome.out[&ACCESS_A];
    let of = |frame: &Vec<u8>| at_access.iter().filter(|f| *f == frame).count();
    assert_eq!(
        (of(&cry(11)) + of(&unknown), of(&cry(13))),
        (count - dropped, count),
        "copies of floods, broadcast and to nobody's address"
    );
}
