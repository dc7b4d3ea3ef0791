//! Does everything reach what it should?

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Endpoint, Scene, median};
use crate::probe::{self, ANSWER_TIMEOUT, Capture, IcmpError};

/// Octets of a TCP transfer: some thousand full segments.
const TCP_OCTETS: usize = 16 << 20;
/// Octets of ICMP data that fill a packet of the given MTU: header sizes of RFC 791/8200 and 792.
const IPV4_AND_ICMP: u16 = 28;
const IPV6_AND_ICMP: u16 = 48;

/// Sends a request between each pair over IPv4 and IPv6, and expects the answer of the right endpoint.
fn ask_all(pairs: &[(&Endpoint, &Endpoint)]) -> Result<String> {
    let mut times = Vec::new();
    for (from, to) in pairs {
        for ip in to.ips() {
            let answer = probe::ask(&from.namespace, ip, "who are you", ANSWER_TIMEOUT)?;
            let Some((who, took)) = answer else {
                bail!("{} got no answer from {} ({ip})", from.id, to.id)
            };
            if who != to.id {
                bail!("{} asked {} ({ip}), but {who} answered", from.id, to.id);
            }
            times.push(took);
        }
    }
    let count = times.len();
    Ok(format!(
        "{count} of {count} answered (v4, v6), median {:.2} ms",
        median(&mut times).as_secs_f64() * 1e3
    ))
}

pub(super) fn same_network(cx: &Scene<'_>) -> Result<String> {
    let same = |a: &Endpoint, b: &Endpoint| a.vdc == b.vdc && a.network == b.network;
    // Both are on hosts. Pairs under one leaf count, too, but at least one pair has to cross the spines.
    let pairs = cx.pairs(|a, b| same(a, b) && a.host.is_some() && b.host.is_some())?;
    pairs
        .iter()
        .find(|(a, b)| a.leaf != b.leaf)
        .context("the intent has no pair across leaves")?;
    ask_all(&pairs)
}

pub(super) fn bare_metal(cx: &Scene<'_>) -> Result<String> {
    ask_all(&cx.pairs(|a, b| a.vdc == b.vdc && (a.host.is_none() || b.host.is_none()))?)
}

pub(super) fn routed(cx: &Scene<'_>) -> Result<String> {
    let pairs = cx.pairs(|a, b| a.vdc == b.vdc && a.network != b.network)?;
    let figure = ask_all(&pairs)?;
    let captures = capture_all(cx)?;
    let marker = |from: &Endpoint, ip: &IpAddr| format!("ttl of {} to {ip}.", from.id);
    let mut sent = Vec::new();
    for (from, to) in &pairs {
        for ip in to.ips() {
            probe::ask(&from.namespace, ip, &marker(from, &ip), ANSWER_TIMEOUT)?;
            sent.push((from, to, ip));
        }
    }
    let frames: BTreeMap<&str, _> = Capture::finish_all(captures)?.into_iter().collect();
    for (from, to, ip) in sent {
        let marker = marker(from, &ip);
        let seen = frames.get(to.id.as_str()).into_iter().flatten();
        let seen = seen
            .filter(|f| probe::contains(f, marker.as_bytes()))
            .find_map(|f| probe::ttl(f));
        // Linux sends with 64 (RFC 1700's recommended default).
        if seen != Some(63) {
            bail!(
                "{} to {} ({ip}): TTL on arrival is {seen:?}, expected 63",
                from.id,
                to.id
            );
        }
    }
    Ok(format!("{figure}; TTL 64 arrives as 63"))
}

/// Captures at every endpoint.
fn capture_all<'a>(cx: &'a Scene<'_>) -> Result<Vec<(&'a str, Capture)>> {
    let endpoints = cx.endpoints.iter();
    endpoints
        .map(|e| Ok((e.id.as_str(), Capture::start(&e.namespace)?)))
        .collect()
}

pub(super) fn gateway(cx: &Scene<'_>) -> Result<String> {
    let mut times = Vec::new();
    for from in &cx.endpoints {
        for subnet in &cx.network(from)?.subnets {
            let took = probe::ping(&from.namespace, subnet.gateway(), 56, ANSWER_TIMEOUT)?;
            times.push(took.with_context(|| format!("{}: gateway {} does not answer", from.id, subnet.gateway()))?);
        }
    }
    let count = times.len();
    Ok(format!(
        "{count} of {count} answered (v4, v6), median {:.2} ms",
        median(&mut times).as_secs_f64() * 1e3
    ))
}

/// A UDP port on which nobody listens; traceroute begins with it.
const CLOSED_PORT: u16 = 33_434;

/// Traceroute between all endpoints of different networks shows the gateway, then the destination. A packet that is too
/// large for the other network is answered with that network's MTU.
pub(super) fn errors(cx: &Scene<'_>) -> Result<String> {
    let (mut hops, mut too_big) = (0, 0);
    for (from, to) in cx.pairs(|a, b| a.vdc == b.vdc && a.network != b.network)? {
        let (here, there) = (cx.network(from)?, cx.network(to)?);
        for ip in to.ips() {
            let gateway = |of: &vfabric_api::intent::NetworkSpec| {
                let mut gateways = of.subnets.iter().map(|s| s.gateway());
                gateways.find(|g| g.is_ipv4() == ip.is_ipv4()).context("no gateway")
            };
            let expect = |to: IpAddr, ttl, data, want: IcmpError| {
                let heard = probe::provoke(
                    &from.namespace,
                    SocketAddr::new(to, CLOSED_PORT),
                    ttl,
                    data,
                    ANSWER_TIMEOUT,
                )?;
                if heard != Some(want) {
                    bail!(
                        "{} to {to}, TTL {ttl}, {data} octets: {heard:?}, expected {want:?}",
                        from.id
                    );
                }
                Ok(())
            };
            let says = |from: IpAddr, v4: (u8, u8), v6: (u8, u8), rest| {
                let (kind, code) = if ip.is_ipv4() { v4 } else { v6 };
                IcmpError { from, kind, code, rest }
            };
            let own = gateway(here)?;
            expect(ip, 1, 20, says(own, (11, 0), (3, 0), 0))?;
            expect(ip, 2, 20, says(ip, (3, 3), (1, 4), 0))?;
            expect(gateway(there)?, 1, 20, says(own, (3, 3), (1, 4), 0))?;
            hops += 3;
            if here.mtu > there.mtu {
                let headers = if ip.is_ipv4() { IPV4_AND_ICMP } else { IPV6_AND_ICMP };
                let data = usize::from(here.mtu - headers);
                expect(ip, 64, data, says(own, (3, 4), (2, 0), there.mtu.into()))?;
                too_big += 1;
            }
        }
    }
    if too_big == 0 {
        bail!("no network has a larger MTU than another that it is routed to");
    }
    Ok(format!(
        "{hops} hops of traceroute, {too_big} packets too big answered (v4, v6)"
    ))
}

pub(super) fn full_size(cx: &Scene<'_>) -> Result<String> {
    let mtu = |a: &Endpoint, b: &Endpoint| anyhow::Ok(cx.network(a)?.mtu.min(cx.network(b)?.mtu));
    let pairs = cx.pairs(|a, b| a.vdc == b.vdc && a.leaf != b.leaf)?;
    let captures = capture_all(cx)?;
    let mut count = 0;
    for (from, to) in &pairs {
        for ip in to.ips() {
            let headers = if ip.is_ipv4() { IPV4_AND_ICMP } else { IPV6_AND_ICMP };
            let data = usize::from(mtu(from, to)? - headers);
            let answer = probe::ping(&from.namespace, ip, data, ANSWER_TIMEOUT)?;
            answer.with_context(|| format!("{} to {} ({ip}): a full-size ping is not answered", from.id, to.id))?;
            count += 1;
        }
    }
    for (id, frames) in Capture::finish_all(captures)? {
        // 14 octets of Ethernet header come on top of the MTU; a fragment would be shorter.
        let with = pairs.iter().filter(|(a, b)| a.id == id || b.id == id);
        let whole = with
            .map(|(a, b)| Ok(usize::from(mtu(a, b)?) + 14))
            .collect::<Result<BTreeSet<usize>>>()?;
        let pings: Vec<usize> = frames
            .iter()
            .filter(|f| probe::contains(f, &[probe::PING_DATA; 64]))
            .map(Vec::len)
            .collect();
        if pings.is_empty() || pings.iter().any(|l| !whole.contains(l)) {
            bail!("{id}: expected frames of {whole:?} octets, captured {pings:?}");
        }
    }
    Ok(format!("{count} of {count} pings of the MTU answered whole"))
}

fn tcp(cx: &Scene<'_>, what: impl Fn(&Endpoint, &Endpoint) -> bool) -> Result<String> {
    let pairs = cx.pairs(what)?;
    let (from, to) = pairs.first().context("no pair")?;
    let mut figures = Vec::new();
    for ip in to.ips() {
        let took = transfer(from, to, ip)?;
        let rate = TCP_OCTETS as f64 * 8.0 / took.as_secs_f64() / 1e6;
        figures.push(format!("{} {rate:.0} Mbit/s", if ip.is_ipv4() { "v4" } else { "v6" }));
    }
    Ok(format!("{} MiB intact: {}", TCP_OCTETS >> 20, figures.join(", ")))
}

fn transfer(from: &Endpoint, to: &Endpoint, ip: IpAddr) -> Result<Duration> {
    probe::tcp(&from.namespace, &to.namespace, ip, TCP_OCTETS)
        .with_context(|| format!("{} to {} ({ip})", from.id, to.id))
}

pub(super) fn tcp_bridged(cx: &Scene<'_>) -> Result<String> {
    tcp(cx, |a, b| {
        a.vdc == b.vdc && a.network == b.network && a.leaf != b.leaf && a.host.is_some() && b.host.is_some()
    })
}

pub(super) fn tcp_routed(cx: &Scene<'_>) -> Result<String> {
    tcp(cx, |a, b| {
        a.vdc == b.vdc && a.network != b.network && a.leaf != b.leaf && a.host.is_some() && b.host.is_some()
    })
}

pub(super) fn tcp_metal(cx: &Scene<'_>) -> Result<String> {
    tcp(cx, |a, b| {
        a.vdc == b.vdc && a.host.is_none() && b.host.is_some() && a.leaf != b.leaf
    })
}
