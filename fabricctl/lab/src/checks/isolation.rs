//! Does nothing reach what it should not?

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vfabric_api::service::{Key, Kind};
use vfabric_api::status::View;
use vfabric_api::topology::{Host, IpFamily};

use super::{Endpoint, Scene};
use crate::probe::{self, ANSWER_TIMEOUT, Capture};
use crate::{AGENT_PORT, Target, intruder, netns, plan};

/// UDP port of VXLAN (RFC 7348 section 5).
const VXLAN_PORT: u16 = 4789;
/// Frames forged for each target.
const FORGED: usize = 10;

/// The vDCs use the same addresses on purpose: what answers must always be one's own.
pub(super) fn between_vdcs(cx: &Scene<'_>) -> Result<String> {
    let captures: Vec<_> = cx
        .endpoints
        .iter()
        .map(|e| Ok((e, Capture::start(&e.namespace)?)))
        .collect::<Result<_>>()?;
    let marker = |vdc: &dyn std::fmt::Display| format!("secret of {vdc}");
    let mut asked = 0;
    for (from, to) in cx.pairs(|a, b| a.vdc != b.vdc)? {
        for ip in to.ips() {
            // An address that exists in both vDCs is answered by one's own; any other by nobody.
            let own = cx.endpoints.iter().any(|e| e.vdc == from.vdc && e.ips().contains(&ip));
            let patience = if own {
                ANSWER_TIMEOUT
            } else {
                Duration::from_millis(100)
            };
            match probe::ask(&from.namespace, ip, &marker(&from.vdc), patience)? {
                Some((who, _)) if !who.starts_with(&format!("{}/", from.vdc)) => {
                    bail!("{} asked {ip} and {who} of another vDC answered", from.id)
                }
                None if own => bail!("{}: {ip} of its own vDC does not answer", from.id),
                _ => asked += 1,
            }
        }
    }
    let mut frames = 0;
    for (endpoint, seen) in Capture::finish_all(captures)? {
        for frame in seen {
            frames += 1;
            let other = cx.lab.intent.vdcs.iter().filter(|v| v.name != endpoint.vdc);
            if let Some(leak) = other
                .map(|v| marker(&v.name))
                .find(|m| probe::contains(&frame, m.as_bytes()))
            {
                bail!("{} received a packet with the {leak}", endpoint.id);
            }
        }
    }
    Ok(format!(
        "{asked} attempts over v4 and v6, {frames} frames captured, none of the other vDC"
    ))
}

/// A host that was broken into sends VXLAN frames with the VNI of a vDC it holds no
/// attachment of, to every place that could let them through.
pub(super) fn forged_vni(cx: &Scene<'_>) -> Result<String> {
    let (host, victim) = attacker(cx)?;
    let key = Key::new(victim.vdc.clone(), Kind::Network, victim.network.clone());
    let View::Network(network) = cx.runtime.block_on(cx.client.get(&key))? else {
        bail!("{key} is no network")
    };
    let marker = format!("forged for {}", victim.id);
    let payload = forge(network.vni.get(), victim, marker.as_bytes());
    let before = refused(cx, host)?;
    let capture = Capture::start(&victim.namespace)?;
    let targets = targets(cx, victim)?;
    let from = SocketAddr::new(source(cx, host), 0);
    for target in &targets {
        netns::within(&plan::namespace(&host.name), || {
            let socket = std::net::UdpSocket::bind(from)?;
            for _ in 0..FORGED {
                socket.send_to(&payload, target)?;
            }
            Ok(())
        })?;
    }
    let expected = before + (FORGED * targets.len()) as u64;
    let limit = Duration::from_secs(5);
    let (counted, _) = cx.until(limit, "the drop counter", || {
        Ok(Some(refused(cx, host)?).filter(|n| *n >= expected))
    })?;
    let arrived = capture
        .finish()?
        .iter()
        .filter(|f| probe::contains(f, marker.as_bytes()))
        .count();
    if arrived > 0 {
        bail!("{arrived} forged frames reached {}", victim.id);
    }
    Ok(format!(
        "{} frames forged on {}, {} counted as refused, none arrived",
        FORGED * targets.len(),
        host.name,
        counted - before
    ))
}

/// Whoever broke into a host or a switch has its key: it opens nothing but what is its own.
pub(super) fn stolen_certificates(cx: &Scene<'_>) -> Result<String> {
    if cx.lab.options.target == Target::Bmv2 {
        return Ok("not asked of simple_switch_grpc, which knows no identities".into());
    }
    let agents = format!("{}:{AGENT_PORT}", cx.lab.plan.controller);
    let attempts = cx.runtime.block_on(intruder::try_other_certificates(cx.lab, &agents))?;
    Ok(format!("{attempts} calls with keys of hosts and switches, all refused"))
}

/// A host, and a workload of a network that this host has no attachment of.
fn attacker<'a>(cx: &'a Scene<'_>) -> Result<(&'a Host, &'a Endpoint)> {
    let pair = cx.lab.topology.hosts.iter().find_map(|host| {
        let holds = |e: &Endpoint| {
            let here = |o: &&Endpoint| o.host.as_ref() == Some(&host.name) && o.vdc == e.vdc && o.network == e.network;
            cx.endpoints.iter().any(|o| here(&o))
        };
        let victim = cx
            .endpoints
            .iter()
            .find(|e| e.host.is_some() && e.leaf != host.uplink.switch && !holds(e))?;
        Some((host, victim))
    });
    pair.context("every host holds an attachment of every network")
}

fn source(cx: &Scene<'_>, host: &Host) -> std::net::IpAddr {
    match cx.lab.topology.fabric.vxlan_underlay {
        IpFamily::Ipv4 => host.vtep_ipv4.into(),
        IpFamily::Ipv6 => host.vtep_ipv6.into(),
    }
}

/// The victim's host, and every leaf's VTEP.
fn targets(cx: &Scene<'_>, victim: &Endpoint) -> Result<Vec<SocketAddr>> {
    let name = victim.host.as_ref().context("the victim is on a host")?;
    let host = cx.lab.topology.host(name).context("the victim's host")?;
    let leaves = cx.lab.leaves().map(|l| match cx.lab.topology.fabric.vxlan_underlay {
        IpFamily::Ipv4 => l.loopback_ipv4.into(),
        IpFamily::Ipv6 => l.loopback_ipv6.into(),
    });
    Ok([source(cx, host)]
        .into_iter()
        .chain(leaves)
        .map(|ip| (ip, VXLAN_PORT).into())
        .collect())
}

/// Packets refused because the host may not use their VNI.
fn refused(cx: &Scene<'_>, host: &Host) -> Result<u64> {
    let drops = cx.runtime.block_on(cx.client.drops())?;
    let of_host = drops
        .iter()
        .filter(|d| d.host.as_ref() == Some(&host.name) && d.reason == "host_vni");
    Ok(of_host.map(|d| d.packets).sum())
}

/// VXLAN header (RFC 7348 section 5) and an inner UDP packet for the victim.
fn forge(vni: u32, victim: &Endpoint, marker: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    let std::net::IpAddr::V4(to) = victim.ipv4 else {
        return payload;
    };
    let [x, y, z, _] = to.octets();
    let builder = etherparse::PacketBuilder::ethernet2([0x02, 0, 0, 0, 0xba, 0xd0], victim.mac.0)
        .ipv4([x, y, z, 99], to.octets(), 64)
        .udp(4000, probe::ECHO_PORT);
    // Writing to a vector of enough capacity cannot fail.
    let _ = builder.write(&mut payload, marker);
    payload
}
