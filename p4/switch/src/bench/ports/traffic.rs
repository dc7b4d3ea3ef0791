//! Frames to send, and a cheap generator: it sends batches of frames with one call and bypasses the queueing
//! discipline.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use p4_switch::port::netdev::Netdev;
use p4_switch::port::{Port as _, Receive, Transmit};

use super::Error;
use super::bed::RECEIVE;
use super::leaf;
use super::subject::Kind;

/// Flows, so that threads share the work.
const FLOWS: u16 = 64;
/// Frames that are sent at once at a fixed rate: the clock is too coarse to send them one by one.
const BATCH: usize = 32;
/// How long to wait for the last frames.
const SETTLE: Duration = Duration::from_millis(60);
/// Frames whose latency is measured.
const PINGS: usize = 2000;
/// A frame that takes longer is lost.
const LOST: Duration = Duration::from_millis(200);
/// Longest time that a switch gets to forward its first frame.
const START: Duration = Duration::from_secs(20);

/// Ones' complement sum (RFC 1071).
pub(super) fn checksum(octets: &[u8]) -> u16 {
    let words = octets
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// An IPv4 datagram of UDP in an Ethernet frame.
pub(super) fn udp(to: [u8; 6], dst: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = (20 + 8 + payload.len()) as u16;
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 1, 1]);
    frame.extend(dst);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend((length - 20).to_be_bytes());
    // No checksum (RFC 768).
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// Frames that a switch of this kind forwards from port 1 to port 2, one for each flow.
pub(in crate::bench) fn frames(kind: Kind, size: usize) -> Vec<Vec<u8>> {
    let flow = |flow: u16| match kind {
        Kind::Leaf | Kind::PeerLeaf => leaf::frame(flow, size),
        _ => {
            let payload = vec![0; size - 42];
            let dst = [10, 0, 2, flow as u8];
            udp([2, 0xfa, 0xb0, 0, 0, 1], dst, (40_000 + flow, 9), &payload)
        }
    };
    (0..FLOWS).map(flow).collect()
}

/// Counts of sent and received frames.
pub(super) struct Run {
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) time: Duration,
}

/// Sends by one device, and watches another.
pub(in crate::bench) struct Generator {
    tx: Box<dyn Transmit>,
    sender: Netdev,
    receiver: Netdev,
}

fn received() -> Result<u64, Error> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = text
        .lines()
        .find_map(|l| l.trim_start().strip_prefix(RECEIVE)?.strip_prefix(':'));
    // Octets, then packets.
    let packets = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| "/proc/thread-self/net/dev does not have the receiver".into())
}

fn wait(rx: &dyn Receive, timeout: Duration) -> Result<(), Error> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(rx.fd(), PollFlags::POLLIN)], timeout)?;
    Ok(())
}

impl Generator {
    /// Opens these devices of this thread's namespace.
    pub(in crate::bench) fn open(send: &str, receive: &str) -> Result<Self, Error> {
        let sender = Netdev::new(send);
        let lane = sender
            .open(1)?
            .into_iter()
            .next()
            .ok_or("a device opens with one lane")?;
        Ok(Self {
            tx: lane.tx,
            sender,
            receiver: Netdev::new(receive),
        })
    }

    /// Opens the device that is watched.
    pub(in crate::bench) fn open_receiver(&self) -> Result<Box<dyn Receive>, Error> {
        let lane = self.receiver.open(1)?.into_iter().next();
        lane.and_then(|l| l.rx)
            .ok_or_else(|| "a device opens with one lane".into())
    }

    /// Sends a frame each millisecond until one arrives, and returns how long after `since` that was.
    pub(super) fn first(&mut self, frames: &[Vec<u8>], since: Instant) -> Result<Duration, Error> {
        let mut rx = self.open_receiver()?;
        let passed = self.until_arrival(frames, &mut *rx, since)?;
        // Frames still under way must not be mistaken for later ones.
        std::thread::sleep(SETTLE);
        Ok(passed)
    }

    /// As [`Self::first`], with a receiver that is already open, and without the pause at the end.
    pub(in crate::bench) fn until_arrival(
        &mut self,
        frames: &[Vec<u8>],
        rx: &mut dyn Receive,
        since: Instant,
    ) -> Result<Duration, Error> {
        for frame in frames.iter().cycle() {
            self.tx.send(frame);
            self.tx.flush();
            wait(rx, Duration::from_millis(1))?;
            if rx.next().is_some() {
                return Ok(since.elapsed());
            }
            if since.elapsed() > START {
                break;
            }
        }
        Err("the switch forwards nothing".into())
    }

    /// Median and 99th percentile of the time that one frame alone takes.
    pub(super) fn latency(&mut self, frames: &[Vec<u8>]) -> Result<(Duration, Duration), Error> {
        let mut rx = self.open_receiver()?;
        // Nanoseconds, three significant digits; whatever takes longer than a minute counts as a minute.
        let mut times = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
        for frame in frames.iter().cycle().take(PINGS) {
            while rx.next().is_some() {}
            let sent = Instant::now();
            self.tx.send(frame);
            self.tx.flush();
            while rx.next().is_none() && sent.elapsed() < LOST {
                wait(&*rx, LOST)?;
            }
            times.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let at = |percent| Duration::from_nanos(times.value_at_percentile(percent));
        Ok((at(50.0), at(99.0)))
    }

    /// Sends at a rate for a time.
    pub(super) fn run(&mut self, frames: &[Vec<u8>], rate: u32, time: Duration) -> Result<Run, Error> {
        let lost = || {
            self.sender
                .counters()
                .out_lost
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        let (before, lost_before) = (received()?, lost());
        let start = Instant::now();
        let mut frames = frames.iter().cycle();
        let mut sent = 0u64;
        loop {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            if start.elapsed() >= time {
                break;
            }
            if due < sent + BATCH as u64 {
                let ahead = (sent + BATCH as u64 - due) as f64 / f64::from(rate);
                // Sleep: the switch needs the processor.
                std::thread::sleep(Duration::from_secs_f64(ahead));
                continue;
            }
            // After a pause of the machine, missed frames are made up for, but not all at once.
            for frame in frames.by_ref().take(BATCH.max(((due - sent) as usize).min(2 * BATCH))) {
                self.tx.send(frame);
                sent += 1;
            }
            self.tx.flush();
        }
        let passed = start.elapsed();
        std::thread::sleep(SETTLE);
        let refused = self
            .sender
            .counters()
            .out_lost
            .load(std::sync::atomic::Ordering::Relaxed)
            - lost_before;
        Ok(Run {
            sent: sent.saturating_sub(refused),
            delivered: received()? - before,
            time: passed,
        })
    }
}
