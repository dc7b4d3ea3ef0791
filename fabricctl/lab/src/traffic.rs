//! Continuous traffic, to see what a fault costs.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::probe;

/// Longest wait for the last replies: on a busy machine a process may wait for
/// a large part of a second.
const LINGER: Duration = Duration::from_secs(2);
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
        // A packet that could not be sent has no answer: it counts as lost.
        let _ = socket.send(&number.to_be_bytes());
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

/// Collects the numbers of replies until all `sent` packets have one, or time runs out.
fn receive(socket: &UdpSocket, sent: &mpsc::Receiver<usize>) -> BTreeSet<u32> {
    let mut answered = BTreeSet::new();
    let mut buffer = [0u8; 256];
    let mut end: Option<(usize, Instant)> = None;
    loop {
        // An error: refused (the server is restarting), or nothing for a while.
        if let Ok(length) = socket.recv(&mut buffer) {
            let number = length
                .checked_sub(4)
                .and_then(|at| buffer.get(at..length)?.try_into().ok());
            answered.extend(number.map(u32::from_be_bytes));
        }
        if end.is_none() {
            end = sent.try_recv().ok().map(|total| (total, Instant::now()));
        }
        if end.is_some_and(|(total, since)| answered.len() >= total || since.elapsed() > LINGER) {
            return answered;
        }
    }
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
