//! Judges one expectation with real packets.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vfabric_api::ident::Name;

use super::control;
use super::file::{By, Expectation, Fault};
use super::world::{Pair, World};
use crate::plan;
use crate::probe::{self, ANSWER_TIMEOUT, Capture};

/// Pairs that are probed at the same time.
const AT_ONCE: usize = 8;
/// Octets of a TCP transfer: some tens of full segments.
const TCP_OCTETS: usize = 1 << 16;
/// Replies from which the median is computed.
const ANSWERS: usize = 5;
/// A UDP port that nobody listens on: where traceroute begins.
const CLOSED_PORT: u16 = 33_434;
/// Longest path that is followed.
const MAX_HOPS: u32 = 16;
/// Octets of an Ethernet header without a tag.
const ETHERNET: usize = 14;

/// The findings about an expectation.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What is wrong, in words.
    pub(super) wrong: Vec<String>,
    /// How long answers took.
    pub(super) times: Vec<Duration>,
    /// Frames of pairs for which something is wrong, by name of the place.
    pub(super) frames: Vec<(String, Vec<Vec<u8>>)>,
}

impl Verdict {
    fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        self.times.extend(other.times);
        self.frames.extend(other.frames);
    }
}

/// Judges everything except the cost of the fault.
///
/// # Errors
/// The probes could not be made.
pub(super) fn judge(world: &World<'_>, of: &Expectation) -> Result<Verdict> {
    let pairs = world.pairs(of)?;
    let mut verdict = Verdict::default();
    for some in pairs.chunks(AT_ONCE) {
        let found: Vec<Result<Verdict>> = std::thread::scope(|scope| {
            let work: Vec<_> = some.iter().map(|p| scope.spawn(|| tapped(world, of, *p))).collect();
            let join = |w: std::thread::ScopedJoinHandle<'_, Result<Verdict>>| w.join();
            work.into_iter()
                .map(|w| join(w).ok().context("a probe panicked").flatten())
                .collect()
        });
        for one in found {
            verdict.add(one?);
        }
    }
    if of.by().contains(&By::Tcp) {
        // One after the other: each listens on the same port.
        for pair in &pairs {
            verdict.wrong.extend(tcp(world, of, *pair)?);
        }
    }
    Ok(verdict)
}

/// Whether all that should be reached answers at this moment.
pub(super) fn answers(world: &World<'_>, of: &Expectation) -> Result<bool> {
    for p in world.pairs(of)? {
        match probe::ask(&p.from.namespace, p.ip, "there?", ANSWER_TIMEOUT) {
            Ok(Some((who, _))) if who == p.to.id => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Captures the frames of a pair at the target, at the sender and at every switch, in this order. A switch that was
/// killed takes no frames, although they still come to its ports.
fn taps(world: &World<'_>, of: &Expectation, pair: Pair<'_>) -> Result<Vec<(String, Capture)>> {
    let mut taps = Vec::new();
    for machine in [pair.to, pair.from] {
        taps.push((machine.id.clone(), Capture::start(&machine.namespace)?));
    }
    let is_dead = |name: &Name| matches!(&of.under, Some(Fault::KillSwitch(killed)) if killed == name);
    for switch in world.lab.topology.switches.iter().filter(|s| !is_dead(&s.name)) {
        taps.push((switch.name.to_string(), Capture::start(&plan::namespace(&switch.name))?));
    }
    Ok(taps)
}

/// Probes a pair while its frames are captured.
fn tapped(world: &World<'_>, of: &Expectation, pair: Pair<'_>) -> Result<Verdict> {
    let taps = taps(world, of, pair)?;
    let marker = format!("check-{:016x}.", rand::random::<u64>());
    let mut verdict = Verdict::default();
    let sent = send(of, pair, &marker, &mut verdict);
    let is_refused = !of.reach && of.by().iter().any(|b| *b != By::Tcp);
    let control = if is_refused {
        Some(control::answers(pair)?)
    } else {
        None
    };
    let frames = Capture::finish_all(taps)?;
    let refusals = sent?;
    arrived(of, pair, &marker, &frames, &mut verdict.wrong);
    if let Some(control) = control {
        verdict
            .wrong
            .extend(control.doubt(pair, &frames, marker.as_bytes(), &refusals));
    }
    let whose = format!("{} to {} ({})", pair.from.id, pair.to.id, pair.ip);
    verdict.wrong.iter_mut().for_each(|w| *w = format!("{whose}: {w}"));
    if !verdict.wrong.is_empty() {
        let about = |f: &Vec<u8>| match pair.ip {
            IpAddr::V4(ip) => probe::contains(f, &ip.octets()),
            IpAddr::V6(ip) => probe::contains(f, &ip.octets()),
        };
        verdict.frames = frames
            .into_iter()
            .map(|(place, frames)| (place, frames.into_iter().filter(about).collect()))
            .collect();
    }
    Ok(verdict)
}

/// Sends all probes of a pair, and notes answers that are missing or wrong. Returns why probes that should not arrive could
/// not even be sent.
fn send(of: &Expectation, pair: Pair<'_>, marker: &str, verdict: &mut Verdict) -> Result<Vec<String>> {
    let from = &pair.from.namespace;
    let mut refusals = Vec::new();
    let rounds = if of.answer_ms.is_some() { ANSWERS } else { 1 };
    for by in of.by().iter().filter(|b| **b != By::Tcp) {
        for _ in 0..rounds {
            let answer = match by {
                By::Ping => probe::ping_with(from, pair.ip, marker.as_bytes(), ANSWER_TIMEOUT)
                    .map(|took| took.map(|took| (pair.to.id.clone(), took))),
                _ => probe::ask(from, pair.ip, marker, ANSWER_TIMEOUT),
            };
            if !of.reach {
                // An answer may come from another machine with the same address; the capture at the target decides.
                refusals.extend(answer.err().map(|e| format!("{by:?}: {e:#}")));
                continue;
            }
            match answer {
                Ok(Some((who, took))) if who == pair.to.id => verdict.times.push(took),
                Ok(Some((who, _))) => verdict.wrong.push(format!("{who} answered")),
                Ok(None) => verdict.wrong.push(format!("{by:?} is not answered")),
                Err(error) => verdict.wrong.push(format!("{by:?}: {error:#}")),
            }
        }
    }
    if !of.path.is_empty() {
        path(of, pair, &mut verdict.wrong)?;
    }
    if !of.through.is_empty() || of.ttl.is_some() {
        probe::ask(from, pair.ip, &one_way(marker), ANSWER_TIMEOUT)?;
    }
    for octets in of.mtu.iter().flat_map(|mtu| [*mtu, *mtu + 1]) {
        // An error: the sender itself refuses the packet.
        let _ = probe::ping_with(from, pair.ip, &filling(marker, pair.ip, octets), ANSWER_TIMEOUT);
    }
    Ok(refusals)
}

/// The text of the packet whose TTL and path are checked. In its answer, a name precedes this text.
fn one_way(marker: &str) -> String {
    format!("seen {marker}")
}

/// How much data an echo request needs so that its IP packet has `octets` octets (RFC 791, RFC 8200,
/// RFC 792).
fn filling(marker: &str, ip: IpAddr, octets: u16) -> Vec<u8> {
    let headers = if ip.is_ipv4() { 28 } else { 48 };
    let mut data = format!("size {octets} {marker}").into_bytes();
    data.resize(usize::from(octets).saturating_sub(headers), b'.');
    data
}

/// Looks at what arrived where.
fn arrived(of: &Expectation, pair: Pair<'_>, marker: &str, taps: &[(String, Vec<Vec<u8>>)], wrong: &mut Vec<String>) {
    let at_target = taps.first().map(|(_, f)| f.as_slice()).unwrap_or_default();
    if !of.reach {
        let got = at_target
            .iter()
            .filter(|f| probe::contains(f, marker.as_bytes()))
            .count();
        if got > 0 {
            wrong.push(format!("{got} packets arrived, expected none"));
        }
        return;
    }
    if let Some(want) = of.ttl {
        let seen = at_target
            .iter()
            .find(|f| probe::contains(f, one_way(marker).as_bytes()));
        let ttl = seen.and_then(|f| probe::ttl(f));
        if ttl != Some(want) {
            wrong.push(format!("TTL on arrival is {ttl:?}, expected {want}"));
        }
    }
    if let Some(mtu) = of.mtu {
        let whole = |octets: u16| {
            let text = format!("size {octets} {marker}");
            let full = |f: &&Vec<u8>| f.len() == usize::from(octets) + ETHERNET && probe::contains(f, text.as_bytes());
            at_target.iter().any(|f| full(&f))
        };
        if !whole(mtu) {
            wrong.push(format!("a packet of {mtu} octets does not arrive whole"));
        }
        if whole(mtu + 1) {
            wrong.push(format!("a packet of {} octets arrives whole too", mtu + 1));
        }
    }
    if !of.through.is_empty() {
        through(of, pair, marker, taps.get(2..).unwrap_or_default(), wrong);
    }
}

/// Which switches carried the packet in one direction.
fn through(of: &Expectation, pair: Pair<'_>, marker: &str, taps: &[(String, Vec<Vec<u8>>)], wrong: &mut Vec<String>) {
    let there = one_way(marker);
    let back = format!("{} {there}", pair.to.id);
    let carried = |f: &Vec<u8>| probe::contains(f, there.as_bytes()) && !probe::contains(f, back.as_bytes());
    let seen: Vec<&str> = taps
        .iter()
        .filter(|(_, frames)| frames.iter().any(carried))
        .map(|(name, _)| name.as_str())
        .collect();
    let fits = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let missing = of.through.iter().any(|p| !seen.iter().any(|s| fits(p, s)));
    let other = seen.iter().any(|s| !of.through.iter().any(|p| fits(p, s)));
    if missing || other {
        wrong.push(format!("went through {seen:?}, expected {:?}", of.through));
    }
}

/// Traceroute.
fn path(of: &Expectation, pair: Pair<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let mut hops = Vec::new();
    for ttl in 1..=MAX_HOPS {
        let target = SocketAddr::new(pair.ip, CLOSED_PORT);
        let heard = probe::provoke(&pair.from.namespace, target, ttl, 20, ANSWER_TIMEOUT)?;
        let Some(heard) = heard else { break };
        hops.push(heard.from);
        if heard.from == pair.ip {
            break;
        }
    }
    let fits = |want: &String, hop: &IpAddr| match want.as_str() {
        "gateway" => pair.from.gateways.contains(hop),
        "target" => *hop == pair.ip,
        address => address.parse() == Ok(*hop),
    };
    if hops.len() != of.path.len() || !of.path.iter().zip(&hops).all(|(want, hop)| fits(want, hop)) {
        wrong.push(format!("the path is {hops:?}, expected {:?}", of.path));
    }
    Ok(())
}

fn tcp(world: &World<'_>, of: &Expectation, pair: Pair<'_>) -> Result<Option<String>> {
    let (from, to) = (&pair.from.namespace, &pair.to.namespace);
    let whose = format!("{} to {} ({})", pair.from.id, pair.to.id, pair.ip);
    if of.reach {
        let started = Instant::now();
        let done = probe::tcp(from, to, pair.ip, TCP_OCTETS);
        return Ok(done
            .err()
            .map(|e| format!("{whose}: TCP: {e:#} ({} ms)", started.elapsed().as_millis())));
    }
    let taps = taps(world, of, pair)?;
    let reached = probe::tcp_arrives(from, to, pair.ip)?;
    let control = control::answers(pair)?;
    let frames = Capture::finish_all(taps)?;
    if reached {
        return Ok(Some(format!("{whose}: a TCP connection was accepted, expected none")));
    }
    // Source and destination, one after the other as in the packet's header.
    let between = |own: &IpAddr| match (own, pair.ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => Some([own.octets(), ip.octets()].concat()),
        (IpAddr::V6(own), IpAddr::V6(ip)) => Some([own.octets(), ip.octets()].concat()),
        _ => None,
    };
    let packets: Vec<Vec<u8>> = pair.from.ips.iter().filter_map(between).collect();
    let doubts = packets.iter().map(|mark| control.doubt(pair, &frames, mark, &[]));
    // The sender may use any of its addresses.
    let doubts: Option<Vec<String>> = doubts.collect();
    Ok(doubts
        .and_then(|d| d.into_iter().next())
        .map(|d| format!("{whose}: TCP: {d}")))
}
