//! Every checksum that a pipeline updates incrementally equals a computation over the whole data.

use std::net::IpAddr;

use fabric_pipeline::Pipeline;
use vfabric_api::topology::IpFamily;

use crate::cases::*;
use crate::frames::*;
use crate::world::*;
use crate::{p4_switch, spine};

/// All values of the identification field, so all checksums that a header can have.
fn identifications() -> impl Iterator<Item = u16> {
    0..=u16::MAX
}

/// Checks the IPv4 header at an offset of each frame that left a port.
fn check_headers(frames: &[Vec<u8>], at: usize, sent: usize) {
    assert_eq!(frames.len(), sent);
    for frame in frames {
        let header = &frame[at..];
        assert_eq!(header[10..12], ipv4_checksum(header), "{}", crate::hex(header));
    }
}

#[test]
fn routed_headers() {
    let world = World::new(IpFamily::Ipv4);
    let packet = echo(v4(B, 22).into(), v4(A, 21).into(), 64, false);
    let frames: Vec<_> = identifications()
        .map(|id| {
            let mut packet = packet.clone();
            packet[8] = 2 + (id % 253) as u8; // TTL
            (ACCESS_B, tagged(100, &frame(GATEWAY, mac(22), &identified(packet, id))))
        })
        .collect();
    let outcome = p4_switch::run(
        bmv2_tests::program::Core::Engine,
        Pipeline::LEAF,
        &world.entities(),
        &frames,
    );
    check_headers(&outcome.out[&ACCESS_A], 14, frames.len());
}

#[test]
fn underlay_headers() {
    let (from, to) = (spine::host_address(3), spine::host_address(1));
    let packet = vxlan(from, to, 63, A, &[0x42; 60]);
    let frames: Vec<_> = identifications()
        .map(|id| {
            (
                3,
                frame(spine::SPINE, spine::leaf_mac(4), &identified(packet.clone(), id)),
            )
        })
        .collect();
    let outcome = p4_switch::run(
        bmv2_tests::program::Core::Engine,
        Pipeline::SPINE,
        &spine::entities(),
        &frames,
    );
    check_headers(&outcome.out[&1], 14, frames.len());
}

/// Echo replies, with identifiers over the whole range: 0, which makes the reply all zeros, and
/// 0xffff, which sums to the other zero, are among them. One's complement has two
/// zeros, so what counts is that a receiver's sum comes out right (RFC 1071).
#[test]
fn echo_replies() {
    let world = World::new(IpFamily::Ipv4);
    let families: [(IpAddr, IpAddr); 2] = [(v4(B, 22).into(), v4(B, 1).into()), (v6(B, 22).into(), v6(B, 1).into())];
    for (from, gateway) in families {
        let kind = if from.is_ipv4() { 8 } else { 128 };
        let frames: Vec<_> = identifications()
            .step_by(17)
            .map(|id| {
                let message = [&id.to_be_bytes()[..], &[0, 0]].concat();
                let packet = icmp(from, gateway, 64, kind, 0, &message);
                (ACCESS_B, tagged(100, &frame(GATEWAY, mac(22), &packet)))
            })
            .collect();
        let outcome = p4_switch::run(
            bmv2_tests::program::Core::Engine,
            Pipeline::LEAF,
            &world.entities(),
            &frames,
        );
        let replies = &outcome.out[&ACCESS_B];
        assert_eq!(replies.len(), frames.len());
        for reply in replies {
            let packet = &reply[18..];
            let (at, pseudo) = match from {
                IpAddr::V4(_) => (20, 0),
                IpAddr::V6(_) => (40, payload_sum(packet)),
            };
            assert!(sums_to_zero(&packet[at..], pseudo), "{}", crate::hex(packet));
        }
    }
}
