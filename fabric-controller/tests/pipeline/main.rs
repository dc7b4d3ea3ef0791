//! The pipelines with the entries that the controller renders for them: frames in, frames
//! out, compared octet by octet; no controller, no network.

mod bmv2;
mod cases;
mod checksums;
mod flood_rate;
mod frames;
mod guarded;
mod icmp_errors;
mod p4_switch;
mod source_guard;
mod spine;
mod static_routes;
mod world;

use std::collections::{BTreeMap, VecDeque};

use bmv2_tests::program::Core;
use fabric_pipeline::Pipeline;
use fabric_pipeline::tables::host_refusal;
use p4runtime_client::entity::EntityKey;
use vfabric_api::topology::IpFamily;

use cases::Case;
use world::World;

/// Ports on which packets may enter or leave.
pub(crate) const PORTS: [u16; 5] = [1, 3, 4, 10, 11];

/// The result of a run.
pub(crate) struct Outcome {
    /// Frames that left each port, in order.
    pub(crate) out: BTreeMap<u16, Vec<Vec<u8>>>,
    /// Packets dropped in the ingress, by reason.
    pub(crate) drops: BTreeMap<u32, i64>,
    /// ICMP errors, by the colour of their meter.
    pub(crate) icmp_errors: BTreeMap<u32, i64>,
    /// Packets refused for their VNI, by entry of `host_refusal`.
    pub(crate) refusals: BTreeMap<EntityKey, i64>,
}

/// Compares the frames that left the ports with those that the cases expect. The order of frames counts
/// within a port, but not between ports.
fn compare(cases: &[Case], out: BTreeMap<u16, Vec<Vec<u8>>>, drops: &BTreeMap<u32, i64>) {
    let mut seen: BTreeMap<u16, VecDeque<Vec<u8>>> = out.into_iter().map(|(p, f)| (p, f.into())).collect();
    let mut problems = String::new();
    let mut expected_drops: BTreeMap<u32, i64> = BTreeMap::new();
    for case in cases {
        for (port, want) in &case.out {
            let queue = seen.entry(*port).or_default();
            let got = queue.front().map(|f| frames::normalise(f.clone()));
            if got.as_ref() == Some(want) {
                queue.pop_front();
            } else {
                let there = queue.iter().any(|f| &frames::normalise(f.clone()) == want);
                problems += &format!("{}: port {port}: expected\n  {}\n", case.name, hex(want));
                problems += &format!("  got\n  {}\n", got.as_deref().map_or("nothing".into(), hex));
                if there {
                    // Skip to it, so that one surplus frame is one problem.
                    while queue.pop_front().is_some_and(|f| &frames::normalise(f) != want) {}
                } else if got.is_some_and(|g| g.len() == want.len()) {
                    queue.pop_front();
                }
            }
        }
        if let Some(reason) = case.drop {
            *expected_drops.entry(u32::from(reason as u8)).or_default() += 1;
        }
    }
    for (port, frame) in seen.into_iter().flat_map(|(p, q)| q.into_iter().map(move |f| (p, f))) {
        problems += &format!("port {port}: not expected\n  {}\n", hex(&frame));
    }
    if *drops != expected_drops {
        problems += &format!("drops by reason: {drops:?}, expected {expected_drops:?}\n");
    }
    assert!(problems.is_empty(), "{problems}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn rendered_keys_are_unique() {
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let entities = World::new(family).entities();
        let mut by_key = BTreeMap::new();
        for e in &entities {
            let before = by_key.insert(e.key(), e);
            assert!(before.is_none_or(|b| b == e), "two contents for {:?}", e.key());
        }
    }
}

/// Both forged VNIs are host 1's, and are counted as such.
fn check_refusals(refusals: &BTreeMap<EntityKey, i64>) {
    let vtep_id = 11.into();
    let refused_h1 = host_refusal::Key { vtep_id }.entry(host_refusal::Action::CountRefusal);
    assert_eq!(refusals, &BTreeMap::from([(refused_h1.key().clone(), 2)]));
}

async fn leaf_on_bmv2(family: IpFamily, device_id: u64) {
    let world = World::new(family);
    let cases = world.cases();
    let outcome = bmv2::run(Pipeline::LEAF, world.entities(), &packets(&cases), device_id).await;
    compare(&cases, outcome.out, &outcome.drops);
    check_refusals(&outcome.refusals);
}

fn packets(cases: &[Case]) -> Vec<(u16, Vec<u8>)> {
    cases.iter().map(|c| (c.port, c.frame.clone())).collect()
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on the PATH"]
async fn bmv2_leaf_ipv4() {
    leaf_on_bmv2(IpFamily::Ipv4, 1).await;
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on the PATH"]
async fn bmv2_leaf_ipv6() {
    leaf_on_bmv2(IpFamily::Ipv6, 2).await;
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on the PATH"]
async fn bmv2_spine() {
    let cases = spine::cases();
    let outcome = bmv2::run(Pipeline::SPINE, spine::entities(), &packets(&cases), 3).await;
    compare(&cases, outcome.out, &outcome.drops);
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on the PATH"]
async fn bmv2_spreads_flows() {
    let flows = spine::flows();
    let outcome = bmv2::run(Pipeline::SPINE, spine::entities(), &flows, 4).await;
    spine::check_spread(&flows, &outcome.out);
}

fn p4_switch_leaf(core: Core) {
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let world = World::new(family);
        let cases = world.cases();
        let outcome = p4_switch::run(core, Pipeline::LEAF, &world.entities(), &packets(&cases));
        compare(&cases, outcome.out, &outcome.drops);
        check_refusals(&outcome.refusals);
    }
}

#[test]
fn engine_leaf() {
    p4_switch_leaf(Core::Engine);
}

#[test]
fn interpreter_leaf() {
    p4_switch_leaf(Core::Interpreter);
}

#[test]
fn reference_leaf() {
    p4_switch_leaf(Core::Reference);
}

fn p4_switch_spine(core: Core) {
    let cases = spine::cases();
    let outcome = p4_switch::run(core, Pipeline::SPINE, &spine::entities(), &packets(&cases));
    compare(&cases, outcome.out, &outcome.drops);
    let flows = spine::flows();
    let outcome = p4_switch::run(core, Pipeline::SPINE, &spine::entities(), &flows);
    spine::check_spread(&flows, &outcome.out);
}

#[test]
fn engine_spine() {
    p4_switch_spine(Core::Engine);
}

#[test]
fn interpreter_spine() {
    p4_switch_spine(Core::Interpreter);
}

#[test]
fn reference_spine() {
    p4_switch_spine(Core::Reference);
}

/// Link discovery is sent unchanged, and received with its ingress port. That of a host or tenant is refused.
#[test]
fn p4_switch_controller_packets() {
    const CPU: u16 = fabric_pipeline::CPU_PORT;
    let lldp = frames::ethernet(
        [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        world::SPINE,
        0x88cc,
        b"somebody is here",
    );
    // 9 bits of port, then 7 of padding or of the reason.
    let header = |port: u16, rest: u16| ((port << 7) | rest).to_be_bytes();
    let with = |header: [u8; 2]| [&header[..], &lldp].concat();
    let packets = [
        (CPU, with(header(4, 0))),
        (1, lldp.clone()),
        (3, lldp.clone()),
        (10, lldp.clone()),
        (CPU, vec![1]),
    ];
    let pipelines = [
        (Pipeline::LEAF, World::new(IpFamily::Ipv4).entities()),
        (Pipeline::SPINE, spine::entities()),
    ];
    for (core, (pipeline, entities)) in Core::ALL
        .iter()
        .flat_map(|core| pipelines.iter().map(move |p| (*core, p)))
    {
        let outcome = p4_switch::run(core, *pipeline, entities, &packets);
        let at = format!("{} of the {}", core.name(), pipeline.name);
        assert_eq!(outcome.out.get(&4), Some(&vec![lldp.clone()]), "packet-out: {at}");
        let punted = outcome.out.get(&CPU).cloned().unwrap_or_default();
        let lldp_reason = 1;
        // Port 3 is a fabric port of the spine, and a host's on the leaf.
        let ports: &[u16] = if *pipeline == Pipeline::SPINE { &[1, 3] } else { &[1] };
        let want: Vec<Vec<u8>> = ports.iter().map(|p| with(header(*p, lldp_reason))).collect();
        assert_eq!(punted, want, "packet-in: {at}");
    }
}
