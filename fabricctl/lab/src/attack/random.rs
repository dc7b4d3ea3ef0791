//! Mutated frames of every protocol from every place, drawn from a seed.
//!
//! Where such a frame ends cannot be predicted. But no frame of one vDC may be received in another, none may reach the
//! management network, no daemon may stop, and the legitimate traffic must lose nothing. Frames of a compromised host
//! may enter the vDCs in which the host has attachments. Frames from a fabric link may enter every vDC, because a leaf
//! trusts what other leaves have admitted.
//!
//! In the second half of the time the machines' ports have VLANs ([`super::vlans`]). One of these belongs to another
//! vDC: the machines may then send into that vDC, and receive its frames.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use vfabric_api::ident::Name;

use super::list::{ATTACKS, Way};
use super::range::Range;
use super::report::{self, Row};
use super::speech::Liar;
use super::vlans::Vlans;
use super::volley::{self, Volley};
use super::watch::TOKEN;
use super::watch::{Port, Sender};
use crate::counters;
use crate::plan;
use crate::traffic::Loss;

/// Frames that one place sends in a row.
const BURST: usize = 16;
/// Pause between bursts. It allows some thousand frames a second in all, which does not overload the machine.
const PAUSE: Duration = Duration::from_millis(4);
/// Changes to one frame, at most.
const CHANGES: usize = 6;
/// Longest frame that is sent, in octets; every interface of the lab accepts it.
const LONGEST: usize = 1500;

/// Where frames come from, and which namespaces may receive them.
struct Place {
    port: Port,
    sender: Sender,
    may: BTreeSet<String>,
    /// Number of its tokens' attack.
    number: u32,
    /// Frames that the attacks sent from there; these are mutated.
    seeds: Vec<Vec<u8>>,
}

fn places(range: &Range<'_>, first: u32, on_vlans: Option<&Vlans>) -> Result<Vec<Place>> {
    let mut seeds = Volley::without_tokens(&range.watch);
    for (_, way) in ATTACKS {
        match way {
            Way::Workloads(lie) => Liar::all(&range.cast, true).try_for_each(|l| lie(&l, &mut seeds))?,
            Way::Metals(lie) => Liar::all(&range.cast, false).try_for_each(|l| lie(&l, &mut seeds))?,
            Way::Frames(build) => build(&range.cast, &mut seeds)?,
            Way::OnVlans(build) => on_vlans.map_or(Ok(()), |ports| build(&range.cast, ports, &mut seeds))?,
            Way::Other(_) => {}
        }
    }
    // Each frame once, because a storm is thousands of equal frames.
    let mut by_port: BTreeMap<Port, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for shot in seeds.shots {
        let of_port = by_port.entry(shot.port).or_default();
        of_port.extend(shot.frames.into_iter().map(|(_, frame)| frame));
    }
    let numbered = (first..).zip(by_port);
    numbered
        .map(|(number, (port, seeds))| {
            Ok(Place {
                may: may_receive(range, &port, on_vlans)?,
                sender: port.open()?,
                port,
                number,
                seeds: seeds.into_iter().collect(),
            })
        })
        .collect()
}

/// Namespaces of members that may receive what this port sends.
fn may_receive(range: &Range<'_>, port: &Port, on_vlans: Option<&Vlans>) -> Result<BTreeSet<String>> {
    let cast = &range.cast;
    // A vDC's members, and machines of other vDCs on whose ports it has a VLAN.
    let of_vdc = |vdc: &Name| {
        let machines = on_vlans.into_iter().flat_map(|ports| ports.machines_with(vdc));
        machines.chain(cast.vdc(vdc)).collect::<BTreeSet<_>>()
    };
    if let Some(member) = cast.members.iter().find(|m| &m.port == port) {
        let other = on_vlans.and_then(|ports| ports.other_vdc_on(port));
        let vdcs = [Some(&member.endpoint.vdc), other].into_iter().flatten();
        return Ok(vdcs.flat_map(of_vdc).collect());
    }
    let hosts = &cast.cx.lab.topology.hosts;
    if let Some(host) = hosts.iter().find(|h| plan::namespace(&h.name) == port.namespace) {
        let here = cast
            .workloads()
            .filter(|m| m.endpoint.host.as_ref() == Some(&host.name));
        return Ok(here.flat_map(|m| of_vdc(&m.endpoint.vdc)).collect());
    }
    Ok(range.members.clone())
}

/// Changes a frame here and there. Its token is put back at its end, even if it was overwritten.
fn mutate(rng: &mut StdRng, seeds: &[Vec<u8>], token: [u8; TOKEN]) -> Option<Vec<u8>> {
    let mut frame = seeds.choose(rng)?.clone();
    for _ in 0..rng.random_range(0..=CHANGES) {
        let length = frame.len().max(1);
        // Most changes go into the headers, where they matter.
        let at = if rng.random_bool(0.8) {
            rng.random_range(0..length.min(80))
        } else {
            rng.random_range(0..length)
        };
        match rng.random_range(0..8) {
            0 => frame
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|o| *o ^= 1 << rng.random_range(0..8)),
            1 => frame.iter_mut().skip(at).take(1).for_each(|o| *o = rng.random()),
            2 => frame
                .iter_mut()
                .skip(at)
                .take(2)
                .for_each(|o| *o = *[0, 0xff, 0x7f, 0x80].choose(&mut *rng).unwrap_or(&0)),
            3 => frame.truncate(at.max(14)),
            4 => frame
                .splice(at.min(frame.len())..at.min(frame.len()), rng.random::<[u8; 4]>())
                .for_each(drop),
            5 => frame
                .drain(at.min(frame.len())..(at + 4).min(frame.len()))
                .for_each(drop),
            6 => {
                // A tag of some kind in front of the EtherType.
                let tag = *[0x8100u16, 0x88a8, 0x9100].choose(&mut *rng).unwrap_or(&0x8100);
                frame = super::frame::tagged(tag, rng.random(), &frame);
            }
            _ => {
                // Replaces the tail of this frame with that of another.
                let other = seeds.choose(&mut *rng)?;
                frame.truncate(at.max(14));
                frame.extend(other.iter().skip(at));
            }
        }
    }
    frame.truncate(LONGEST - TOKEN);
    // Never shorter than an Ethernet header, which the kernel requires.
    frame.resize(frame.len().max(14), 0);
    frame.extend(token);
    Some(frame)
}

/// The results of one half of the time.
#[derive(Default)]
struct Fired {
    places: usize,
    sent: u32,
    arrived: usize,
    loss: Loss,
    faults: Vec<String>,
}

/// Sends random frames for some time, and looks where they were received.
fn fire(range: &mut Range<'_>, rng: &mut StdRng, time: Duration, on_vlans: Option<&Vlans>) -> Result<Fired> {
    let places = places(range, range.next, on_vlans)?;
    range.next += u32::try_from(places.len())?;
    let traffic = range.traffic()?;
    let (started, mut sent, mut refused) = (Instant::now(), 0u32, 0u32);
    while started.elapsed() < time {
        let place = places.choose(rng).context("nowhere to send from")?;
        for _ in 0..BURST {
            let token = range.watch.token(place.number, sent).octets();
            let Some(frame) = mutate(rng, &place.seeds, token) else {
                continue;
            };
            sent += 1;
            // The kernel does not take every frame: one that a tag makes too long, for example.
            refused += u32::from(place.sender.send(&frame).is_err());
        }
        std::thread::sleep(PAUSE);
    }
    let mut fired = Fired {
        places: places.len(),
        sent: sent - refused,
        loss: traffic.stop()?,
        ..Fired::default()
    };
    let mut arrived = BTreeSet::new();
    for place in &places {
        for (namespace, numbers) in range.watch.seen(place.number) {
            let member = range.members.contains(namespace);
            if (member && !place.may.contains(namespace)) || namespace == plan::MGMT {
                fired.faults.push(format!(
                    "{} frames of {} {} reached {namespace}, such as number {}",
                    numbers.len(),
                    place.port.namespace,
                    place.port.interface,
                    numbers.first().copied().unwrap_or_default()
                ));
            }
            if member {
                arrived.extend(numbers);
            }
        }
        range.watch.forget(place.number);
    }
    fired.arrived = arrived.len();
    fired.faults.extend(volley::disturbed(fired.loss));
    Ok(fired)
}

/// Fires random frames while machines' ports have VLANs.
fn fire_on_vlans(range: &mut Range<'_>, rng: &mut StdRng, time: Duration) -> Result<Fired> {
    let ports = Vlans::open(&range.cast)?;
    let fired = fire(range, rng, time, Some(&ports));
    ports.close(range.cast.cx)?;
    fired
}

/// Sends random frames for some time and judges.
pub(super) fn run(range: &mut Range<'_>, seed: u64, time: Duration) -> Result<Row> {
    let mut rng = StdRng::seed_from_u64(seed);
    let before = range.counts()?;
    let plain = fire(range, &mut rng, time / 2, None)?;
    let on_vlans = fire_on_vlans(range, &mut rng, time / 2)?;
    let counted = counters::since(&before, &range.counts()?);
    let mut faults = [plain.faults, on_vlans.faults].concat();
    // A device that a sweep repairs is soon in sync again.
    if range.is_alone() {
        faults.extend(range.cast.cx.ready().err().map(|e| format!("{e:#}")));
    }
    faults.extend(range.disorder()?);
    Ok(Row {
        name: super::RANDOM.into(),
        sent: plain.sent + on_vlans.sent,
        ended: format!(
            "from {} places, half of the time with VLANs on access ports, {} arrived in an own network; seed {seed}",
            plain.places,
            plain.arrived + on_vlans.arrived
        ),
        counted: report::summary(range.cast.cx.lab, &counted),
        legitimate_sent: plain.loss.sent + on_vlans.loss.sent,
        legitimate_lost: plain.loss.lost + on_vlans.loss.lost,
        faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_frames_each_with_its_token() {
        let seeds = vec![vec![0x11; 60], vec![0x22; 20], vec![0x33; 14]];
        let draw = || {
            let mut rng = StdRng::seed_from_u64(7);
            (0..200)
                .map(|n| mutate(&mut rng, &seeds, [n; TOKEN]).unwrap())
                .collect::<Vec<_>>()
        };
        let frames = draw();
        assert_eq!(frames, draw());
        for (n, frame) in (0..).zip(&frames) {
            assert!(frame.ends_with(&[n; TOKEN]) && (14 + TOKEN..=LONGEST).contains(&frame.len()));
        }
        assert!(frames.iter().collect::<BTreeSet<_>>().len() > 100);
    }
}
