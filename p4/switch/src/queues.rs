//! Egress queues of ports, as in simple_switch: each port has one queue for each priority, with a depth in packets
//! and a rate in packets a second; the highest priority that may send goes first. Packets that find a full queue are lost and counted.
//!
//! # Model
//! A port has queues when somebody set a rate or a depth for it, when the switch was started with more than one
//! priority, or while a queueing discipline is attached to its device: then packets wait here until the device takes
//! more, so that programs see how many wait. All other packets go straight through egress.
//!
//! # Cost
//! A switch in which no port has queues looks at one flag for each packet. Queued packets are copied, and share one lock.

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use p4_engine::Waiting;

/// Packets that a queue holds unless another depth is set: simple_switch's default.
pub const DEFAULT_DEPTH: usize = 64;
/// Longest queue that can be set: each packet may have 64 KiB.
pub const MAX_DEPTH: usize = 1 << 14;
/// Most ports with queues. A program may send to any port number, so this limits the memory for packets.
const MAX_PORTS: usize = 4096;
/// How soon to check again whether a device accepts more.
const DEVICE_FULL_NS: u64 = 500_000;
const SECOND_NS: u64 = 1_000_000_000;
/// A queue that is late, because the thread that empties it was late, catches up for at most this much time.
const CATCH_UP_NS: u64 = 10_000_000;

/// One queue, of packets or of a test's items.
#[derive(Debug)]
struct Queue<T> {
    packets: VecDeque<T>,
    depth: usize,
    /// Time between packets; 0 without a rate.
    interval_ns: u64,
    /// The next one leaves no earlier than this.
    next_ns: u64,
}

/// The queues of a port, the highest priority last.
#[derive(Debug)]
struct PortQueues<T> {
    queues: Vec<Queue<T>>,
    /// Packets in all of them.
    waiting: usize,
    /// A rate or a depth was set.
    is_configured: bool,
    /// A queueing discipline is attached to the device.
    is_shaped: bool,
    lost: u64,
}

/// Settings of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Packets that it holds.
    Depth(usize),
    /// Packets a second; 0 means no limit.
    Rate(u64),
}

/// Queues of all ports, without locks and clocks.
#[derive(Debug)]
struct State<T> {
    priorities: usize,
    /// Settings of ports that have none of their own, by priority: depth, interval.
    defaults: Vec<(usize, u64)>,
    all_configured: bool,
    ports: FxHashMap<u32, PortQueues<T>>,
    /// Ports with packets, in the order in which they have their turn.
    busy: VecDeque<u32>,
}

fn interval_ns(rate: u64) -> u64 {
    SECOND_NS.checked_div(rate).unwrap_or(0)
}

/// The result of a request for the next packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// This one, and how many wait behind it at its port.
    Packet(T, usize),
    /// None now; try again after this many nanoseconds.
    Later(u64),
    /// None wait.
    Empty,
}

impl<T> State<T> {
    fn new(priorities: usize) -> Self {
        Self {
            priorities,
            defaults: vec![(DEFAULT_DEPTH, 0); priorities],
            all_configured: priorities > 1,
            ports: FxHashMap::default(),
            busy: VecDeque::new(),
        }
    }

    fn port(&mut self, port: u32) -> Option<&mut PortQueues<T>> {
        if self.ports.len() >= MAX_PORTS && !self.ports.contains_key(&port) {
            return None;
        }
        let queue = |(depth, interval_ns): &(usize, u64)| Queue {
            packets: VecDeque::new(),
            depth: *depth,
            interval_ns: *interval_ns,
            next_ns: 0,
        };
        let defaults = &self.defaults;
        Some(self.ports.entry(port).or_insert_with(|| PortQueues {
            queues: defaults.iter().map(queue).collect(),
            waiting: 0,
            is_configured: false,
            is_shaped: false,
            lost: 0,
        }))
    }

    /// Packets that wait at a port, if it has queues.
    fn waiting(&self, port: u32) -> Option<usize> {
        match self.ports.get(&port) {
            Some(of) if of.is_configured || of.is_shaped || self.all_configured => Some(of.waiting),
            Some(_) => None,
            None => (self.all_configured && self.ports.len() < MAX_PORTS).then_some(0),
        }
    }

    /// Adds a packet; returns false if there is no room.
    fn push(&mut self, port: u32, priority: u64, packet: T) -> bool {
        let Some(of) = self.port(port) else { return false };
        let place = usize::try_from(priority).ok().and_then(|at| of.queues.get_mut(at));
        let Some(queue) = place.filter(|queue| queue.packets.len() < queue.depth) else {
            of.lost += 1;
            return false;
        };
        queue.packets.push_back(packet);
        of.waiting += 1;
        if of.waiting == 1 {
            self.busy.push_back(port);
        }
        true
    }

    /// The next packet that may leave now; `takes` says whether a port's device takes one.
    fn pop(&mut self, now_ns: u64, mut takes: impl FnMut(u32) -> bool) -> Next<T> {
        let mut wait_ns = u64::MAX;
        for _ in 0..self.busy.len() {
            let Some(port) = self.busy.pop_front() else { break };
            let Some(of) = self.ports.get_mut(&port) else { continue };
            let packet = if of.is_shaped && !takes(port) {
                wait_ns = wait_ns.min(DEVICE_FULL_NS);
                None
            } else {
                let filled = of.queues.iter_mut().rev().filter(|queue| !queue.packets.is_empty());
                let mut popped = None;
                for queue in filled {
                    if queue.next_ns <= now_ns {
                        let earliest = now_ns.saturating_sub(queue.interval_ns.max(CATCH_UP_NS));
                        queue.next_ns = queue.next_ns.max(earliest).saturating_add(queue.interval_ns);
                        popped = queue.packets.pop_front();
                        break;
                    }
                    wait_ns = wait_ns.min(queue.next_ns - now_ns);
                }
                popped
            };
            if packet.is_some() {
                of.waiting -= 1;
            }
            if of.waiting > 0 {
                self.busy.push_back(port);
            }
            if let Some(packet) = packet {
                return Next::Packet(packet, of.waiting);
            }
        }
        match wait_ns {
            u64::MAX => Next::Empty,
            wait_ns => Next::Later(wait_ns),
        }
    }

    fn set(&mut self, port: Option<u32>, priority: Option<usize>, setting: Setting) -> bool {
        let is_it = |at: usize| priority.is_none_or(|wanted| wanted == at);
        let apply = |queue: &mut Queue<T>| match setting {
            Setting::Depth(depth) => queue.depth = depth.min(MAX_DEPTH),
            Setting::Rate(rate) => {
                queue.interval_ns = interval_ns(rate);
                // Until another packet leaves, the new rate has no history.
                queue.next_ns = 0;
            }
        };
        let of_port = |of: &mut PortQueues<T>| {
            of.is_configured = true;
            let queues = of.queues.iter_mut().enumerate();
            queues.filter(|(at, _)| is_it(*at)).for_each(|(_, queue)| apply(queue));
        };
        if priority.is_some_and(|priority| priority >= self.priorities) {
            return false;
        }
        match port {
            Some(port) => self.port(port).map(of_port).is_some(),
            None => {
                for (depth, interval) in &mut self.defaults {
                    match setting {
                        Setting::Depth(to) => *depth = to.min(MAX_DEPTH),
                        Setting::Rate(to) => *interval = interval_ns(to),
                    }
                }
                self.all_configured = true;
                self.ports.values_mut().for_each(of_port);
                true
            }
        }
    }
}

/// The egress queues of a switch.
#[derive(Debug)]
pub struct Queues {
    /// Whether any port has queues.
    is_on: AtomicBool,
    state: Mutex<State<Waiting>>,
}

impl Queues {
    /// No port has queues yet.
    pub fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            state: Mutex::new(State::new(1)),
        }
    }

    /// Gives each port this many priorities, 0 being the lowest. Only for the start: waiting packets are lost.
    pub fn set_priorities(&self, priorities: NonZeroU8) {
        let priorities = usize::from(priorities.get());
        *self.lock() = State::new(priorities);
        self.is_on.store(priorities > 1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State<Waiting>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any port may have queues.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// How many priorities there are.
    pub fn priorities(&self) -> usize {
        self.lock().priorities
    }

    /// Sets a depth or a rate, of one port or all, of one priority or all. False if there is no such queue.
    pub fn set(&self, port: Option<u32>, priority: Option<usize>, setting: Setting) -> bool {
        let is_set = self.lock().set(port, priority, setting);
        if is_set {
            self.is_on.store(true, Ordering::Relaxed);
        }
        is_set
    }

    /// Notes whether a queueing discipline is attached to a port's device.
    pub fn set_shaped(&self, port: u32, is_shaped: bool) {
        let mut state = self.lock();
        if is_shaped {
            self.is_on.store(true, Ordering::Relaxed);
        } else if !state.ports.contains_key(&port) {
            return;
        }
        if let Some(of) = state.port(port) {
            of.is_shaped = is_shaped;
        }
    }

    /// Packets that wait at a port; none if it has no queues.
    pub fn waiting(&self, port: u32) -> Option<usize> {
        self.lock().waiting(port)
    }

    /// Packets for which a port's queue had no room.
    pub fn lost(&self, port: u32) -> u64 {
        self.lock().ports.get(&port).map_or(0, |of| of.lost)
    }

    /// Adds a packet; if the queue is full, the packet is lost and counted.
    pub fn push(&self, port: u32, priority: u64, packet: Waiting) {
        self.lock().push(port, priority, packet);
    }

    /// The next packet that may leave; `takes` says whether a port's device takes one.
    pub fn pop(&self, now_ns: u64, takes: impl FnMut(u32) -> bool) -> Next<Waiting> {
        self.lock().pop(now_ns, takes)
    }
}

impl Default for Queues {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn drain(state: &mut State<u32>, now_ns: u64) -> Vec<u32> {
        std::iter::from_fn(|| match state.pop(now_ns, |_| true) {
            Next::Packet(packet, _) => Some(packet),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn without_settings_no_port_has_queues() {
        let mut state = State::<u32>::new(1);
        assert_eq!(state.waiting(1), None);
        assert!(state.set(Some(2), None, Setting::Rate(0)));
        assert_eq!((state.waiting(1), state.waiting(2)), (None, Some(0)));
        assert!(state.set(None, None, Setting::Depth(3)));
        assert_eq!((state.waiting(1), state.waiting(7)), (Some(0), Some(0)));
        assert!(!state.set(None, Some(1), Setting::Depth(3)), "there is one priority");
    }

    #[test]
    fn a_queue_holds_its_depth_and_counts_what_is_lost() {
        let mut state = State::new(1);
        for n in 0..70 {
            assert_eq!(state.push(1, 0, n), n < 64);
        }
        assert!(state.set(Some(2), None, Setting::Depth(2)));
        assert_eq!([1, 2, 3].map(|n| state.push(2, 0, n)), [true, true, false]);
        assert_eq!((state.ports[&1].lost, state.ports[&2].lost), (6, 1));
        assert!(!state.push(2, 1, 0), "a priority that is not there");
        assert_eq!(state.pop(0, |_| true), Next::Packet(0, 63));
        assert_eq!(state.pop(0, |_| true), Next::Packet(1, 1), "ports take turns");
    }

    #[test]
    fn the_highest_priority_goes_first() {
        let mut state = State::new(3);
        for (priority, n) in [(0, 1), (2, 2), (1, 3), (2, 4), (0, 5)] {
            assert!(state.push(1, priority, n));
        }
        assert_eq!(drain(&mut state, 0), [2, 4, 3, 1, 5]);
    }

    #[test]
    fn a_lower_priority_uses_what_a_limited_one_leaves() {
        let mut state = State::new(2);
        assert!(state.set(Some(1), Some(1), Setting::Rate(100)));
        for n in 0..3 {
            assert!(state.push(1, 1, 10 + n) && state.push(1, 0, n));
        }
        assert_eq!(drain(&mut state, 0), [10, 0, 1, 2]);
        assert_eq!(state.pop(4 * MS, |_| true), Next::Later(6 * MS));
        assert_eq!(drain(&mut state, 10 * MS), [11]);
        // The queue is served late, but it does not make up for all of that time.
        for n in 0..4 {
            assert!(state.push(1, 1, 20 + n));
        }
        assert_eq!(drain(&mut state, 1000 * MS), [12, 20]);
        assert!(state.set(Some(1), None, Setting::Rate(0)));
        assert_eq!(drain(&mut state, 1000 * MS), [21, 22, 23]);
        assert_eq!(state.pop(0, |_| true), Next::Empty);
    }

    #[test]
    fn a_shaped_port_waits_for_its_device() {
        let mut state = State::new(1);
        state.port(1).unwrap().is_shaped = true;
        assert_eq!(state.waiting(1), Some(0));
        assert!(state.push(1, 0, 1) && state.push(2, 0, 2));
        assert_eq!(state.pop(0, |port| port != 1), Next::Packet(2, 0));
        assert_eq!(state.pop(0, |port| port != 1), Next::Later(DEVICE_FULL_NS));
        assert_eq!(state.pop(0, |_| true), Next::Packet(1, 0));
    }

    #[test]
    fn the_number_of_ports_is_bounded() {
        let mut state = State::new(2);
        for port in 0..2 * MAX_PORTS as u32 {
            state.push(port, 0, ());
        }
        assert_eq!(state.ports.len(), MAX_PORTS);
    }
}
