//! Continuous traffic, to measure what a fault costs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::probe::{self, Worker};

/// Longest wait for the last replies: on a busy machine a process may wait for
/// a large part of a second.
const LINGER: Duration = Duration::from_secs(2);
/// The next packet goes out after this long even if the one before got no reply: a lab replies within a few milliseconds.
const GIVEN_UP: Duration = Duration::from_millis(50);
/// How often a receiver checks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One flow of requests and replies.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The namespace that sends.
    pub from: String,
    /// The echo server that answers.
    pub to: IpAddr,
}

/// The results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Packets sent.
    pub sent: usize,
    /// Packets without a reply.
    pub lost: usize,
    /// Longest time without replies on one flow.
    pub outage: Duration,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} packets lost", self.lost, self.sent)?;
        if self.lost > 0 {
            write!(f, ", longest outage {} ms", self.outage.as_millis())?;
        }
        Ok(())
    }
}

/// Traffic on several flows until it is stopped.
pub struct Traffic {
    interval: Duration,
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Vec<Instant>>>,
    receivers: Vec<JoinHandle<BTreeSet<u32>>>,
}

impl Traffic {
    /// Starts to send on every flow, one packet an interval.
    ///
    /// # Errors
    /// A socket could not be opened.
    pub fn start(flows: &[Flow], interval: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut traffic = Self {
            interval,
            stop: stop.clone(),
            senders: Vec::new(),
            receivers: Vec::new(),
        };
        for flow in flows {
            let socket = probe::udp(&flow.from, (flow.to, probe::ECHO_PORT).into())?;
            socket.set_read_timeout(Some(LOOK_EVERY))?;
            let reader = socket.try_clone()?;
            let flag = stop.clone();
            let (total, sent) = mpsc::channel();
            traffic.senders.push(std::thread::spawn(move || {
                let sent = send(&socket, interval, &flag);
                // The receiver runs until the sender has ended.
                let _ = total.send(sent.len());
                sent
            }));
            traffic
                .receivers
                .push(std::thread::spawn(move || receive(&reader, &sent)));
        }
        Ok(traffic)
    }

    /// Stops and counts.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn stop(self) -> Result<Loss> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Loss::default();
        for (sender, receiver) in self.senders.into_iter().zip(self.receivers) {
            let sent = sender.join().ok().context("a sender panicked")?;
            let answered = receiver.join().ok().context("a receiver panicked")?;
            let loss = count(&sent, &answered, self.interval);
            all.sent += loss.sent;
            all.lost += loss.lost;
            all.outage = all.outage.max(loss.outage);
        }
        Ok(all)
    }
}

fn send(socket: &UdpSocket, interval: Duration, stop: &AtomicBool) -> Vec<Instant> {
    let mut sent = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = u32::try_from(sent.len()).unwrap_or(u32::MAX);
        sent.push(Instant::now());
        // A packet that could not be sent counts as lost.
        let _ = socket.send(&number.to_be_bytes());
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

/// Collects the numbers of replies until all `sent` packets have one, or time runs out.
fn receive(socket: &UdpSocket, sent: &mpsc::Receiver<usize>) -> BTreeSet<u32> {
    let mut answered = BTreeSet::new();
    let mut end: Option<(usize, Instant)> = None;
    loop {
        // None: refused (the server is restarting), or nothing for a while.
        answered.extend(number(socket));
        if end.is_none() {
            end = sent.try_recv().ok().map(|total| (total, Instant::now()));
        }
        if end.is_some_and(|(total, since)| answered.len() >= total || since.elapsed() > LINGER) {
            return answered;
        }
    }
}

/// One flow with one packet under way: the next packet is sent when the one before was answered, or after [`GIVEN_UP`].
/// A short outage costs one packet, however busy the machine is.
pub(crate) struct OneByOne {
    from: SocketAddr,
    worker: Worker<(usize, BTreeSet<u32>)>,
}

/// The results of a [`OneByOne`].
pub(crate) struct Walked {
    /// The sender's address and port.
    pub(crate) from: SocketAddr,
    /// Packets sent: numbers from 0.
    pub(crate) sent: usize,
    /// The numbers without an answer.
    pub(crate) lost: Vec<u32>,
}

impl OneByOne {
    /// Starts it, with a pause between an answer and the next packet.
    ///
    /// # Errors
    /// A socket could not be opened.
    pub(crate) fn start(flow: &Flow, pause: Duration) -> Result<Self> {
        let socket = probe::udp(&flow.from, (flow.to, probe::ECHO_PORT).into())?;
        let from = socket.local_addr()?;
        let walk = move |stop: &AtomicBool| {
            let (mut sent, mut answered) = (0, BTreeSet::new());
            while !stop.load(Ordering::Relaxed) {
                let number = u32::try_from(sent).unwrap_or(u32::MAX);
                // A packet that could not be sent counts as lost.
                let _ = socket.send(&number.to_be_bytes());
                sent += 1;
                hear(&socket, &mut answered, GIVEN_UP, |answered| answered.contains(&number));
                std::thread::sleep(pause);
            }
            hear(&socket, &mut answered, LINGER, |answered| answered.len() >= sent);
            (sent, answered)
        };
        let worker = Worker::start(walk);
        Ok(Self { from, worker })
    }

    /// Stops it and counts.
    ///
    /// # Errors
    /// The thread panicked.
    pub(crate) fn stop(self) -> Result<Walked> {
        let (sent, answered) = self.worker.finish()?;
        let lost = (0u32..).take(sent).filter(|number| !answered.contains(number));
        Ok(Walked {
            from: self.from,
            sent,
            lost: lost.collect(),
        })
    }
}

/// Reads answers until all expected ones have arrived, or time runs out.
fn hear(socket: &UdpSocket, answered: &mut BTreeSet<u32>, patience: Duration, enough: impl Fn(&BTreeSet<u32>) -> bool) {
    let end = Instant::now() + patience;
    while !enough(answered) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        answered.extend(number(socket));
    }
}

/// The number that the next answer is about; none when there is no answer.
fn number(socket: &UdpSocket) -> Option<u32> {
    let mut buffer = [0u8; 256];
    let length = socket.recv(&mut buffer).ok()?;
    let octets = buffer.get(length.checked_sub(4)?..length)?;
    octets.try_into().ok().map(u32::from_be_bytes)
}

/// The longest outage of a flow runs from the first packet lost in a row to the next that
/// was answered.
fn count(sent: &[Instant], answered: &BTreeSet<u32>, interval: Duration) -> Loss {
    let mut loss = Loss {
        sent: sent.len(),
        lost: sent.len().saturating_sub(answered.len()),
        outage: Duration::ZERO,
    };
    let mut answers = answered.iter().copied().peekable();
    let mut out_since: Option<Instant> = None;
    for (number, at) in (0u32..).zip(sent) {
        if answers.next_if_eq(&number).is_some() {
            if let Some(since) = out_since.take() {
                loss.outage = loss.outage.max(at.saturating_duration_since(since));
            }
        } else {
            out_since.get_or_insert(*at);
        }
    }
    if let (Some(since), Some(last)) = (out_since, sent.last()) {
        loss.outage = loss.outage.max(last.saturating_duration_since(since) + interval);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(2);

    #[test]
    fn an_outage_lasts_until_the_next_answer() {
        let start = Instant::now();
        let sent: Vec<_> = (0..10).map(|i| start + INTERVAL * i).collect();
        let loss = count(&sent, &[0, 1, 5, 6, 8, 9].into(), INTERVAL);
        assert_eq!(
            loss,
            Loss {
                sent: 10,
                lost: 4,
                outage: INTERVAL * 3
            }
        );
        assert_eq!(count(&sent, &(0..10).collect(), INTERVAL).lost, 0);
        let none = count(&sent, &BTreeSet::new(), INTERVAL);
        assert_eq!((none.lost, none.outage), (10, INTERVAL * 10));
    }
}
