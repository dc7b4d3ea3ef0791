//! Is it answered and replicated where it should be?

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, bail};

use super::{Endpoint, Scene};
use crate::netns;
use crate::probe::{self, ANSWER_TIMEOUT, Capture};

/// EtherType of ARP.
const ARP: [u8; 2] = [0x08, 0x06];

/// Whether a frame asks for the MAC address of somebody: an ARP request or an ICMPv6
/// neighbour solicitation (RFC 4861 section 4.3).
fn is_solicitation(frame: &[u8]) -> bool {
    let arp_request = frame.get(12..14) == Some(&ARP) && frame.get(20..22) == Some(&[0, 1]);
    let ipv6_icmp = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&58);
    arp_request || (ipv6_icmp && frame.get(54) == Some(&135))
}

/// Makes each endpoint forget its neighbours and look up others. Only the edge may see the request.
pub(super) fn neighbours(cx: &Scene<'_>) -> Result<String> {
    let captures: Vec<_> = cx
        .endpoints
        .iter()
        .map(|e| Ok((e, Capture::start(&e.namespace)?)))
        .collect::<Result<_>>()?;
    let mut asked = 0;
    for (from, to) in cx.pairs(|a, b| a.vdc == b.vdc && a.network == b.network)? {
        for ip in to.ips() {
            netns::ip_batch(Some(&from.namespace), "neigh flush dev eth0")?;
            let answer = probe::ask(&from.namespace, ip, "after forgetting", ANSWER_TIMEOUT)?;
            answer.with_context(|| format!("{} cannot resolve {ip}", from.id))?;
            asked += 1;
        }
    }
    let mut own = 0;
    for (endpoint, frames) in Capture::finish_all(captures)? {
        for frame in frames.iter().filter(|f| is_solicitation(f)) {
            // A capture also contains the frames that the endpoint sends.
            if frame.get(6..12) == Some(&endpoint.mac.0) {
                own += 1;
            } else {
                bail!(
                    "{} was asked for its MAC address by {:02x?}",
                    endpoint.id,
                    frame.get(6..12).unwrap_or_default()
                );
            }
        }
    }
    if own == 0 {
        bail!("nobody asked: the check shows nothing");
    }
    Ok(format!(
        "{asked} look-ups, {own} requests sent, none reached another workload"
    ))
}

/// Sends a broadcast and counts the copies at every endpoint of the lab.
pub(super) fn broadcast(cx: &Scene<'_>) -> Result<String> {
    let mut copies = 0;
    for from in &cx.endpoints {
        let captures: Vec<_> = cx
            .endpoints
            .iter()
            .map(|e| Ok((e, Capture::start(&e.namespace)?)))
            .collect::<Result<_>>()?;
        let marker = format!("broadcast of {}", from.id);
        let to = (subnet_broadcast(cx, from)?, 9);
        netns::within(&from.namespace, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_broadcast(true)?;
            // The limited broadcast leaves by the default route's interface; port 9 is discard.
            socket.send_to(marker.as_bytes(), to)?;
            Ok(())
        })?;
        std::thread::sleep(ANSWER_TIMEOUT / 10);
        for (endpoint, frames) in Capture::finish_all(captures)?
            .into_iter()
            .filter(|(e, _)| e.id != from.id)
        {
            let seen = frames.iter().filter(|f| probe::contains(f, marker.as_bytes())).count();
            let member = endpoint.vdc == from.vdc && endpoint.network == from.network;
            let expected = usize::from(member);
            if seen != expected {
                bail!(
                    "{} received {seen} copies of a broadcast of {}, expected {expected}",
                    endpoint.id,
                    from.id
                );
            }
            copies += seen;
        }
    }
    Ok(format!(
        "{} broadcasts, {copies} copies, each member exactly one, others none",
        cx.endpoints.len()
    ))
}

fn subnet_broadcast(cx: &Scene<'_>, of: &Endpoint) -> Result<Ipv4Addr> {
    let subnets = &cx.network(of)?.subnets;
    let v4 = subnets.iter().find_map(|s| match s.cidr {
        vfabric_api::intent::IpNet::V4(n) => Some(n.broadcast()),
        vfabric_api::intent::IpNet::V6(_) => None,
    });
    v4.context("the network has no IPv4 subnet")
}
