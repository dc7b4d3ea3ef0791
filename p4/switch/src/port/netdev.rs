//! Network devices as ports.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::offload::{Segments, complete_checksum};
use super::qdisc::Qdisc;
use super::sys::{self, HEADROOM, Meta, RxRing, TxSocket};
use super::{Counters, Lane, Port, Receive, Transmit};

/// Octets of all rings of a port: 8192 frames, which last 40 ms at 200,000 frames a second. A thread that shares its
/// processor may not run for that long.
const RING_OCTETS: usize = 16 << 20;
/// Least octets of one ring, however many threads share the port.
const LEAST_RING_OCTETS: usize = 1 << 20;

/// A network device, by its name.
pub struct Netdev {
    name: String,
    counters: Arc<Counters>,
    qdisc: Qdisc,
}

impl Netdev {
    /// The device of this name in this network namespace. It need not exist before it is opened.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            counters: Arc::default(),
            qdisc: Qdisc::default(),
        }
    }

    /// As [`Self::new`], but losses are added to those of an earlier port.
    pub fn with_counters(name: &str, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            ..Self::new(name)
        }
    }

    /// Lets the port send past or through the device's queueing discipline.
    #[must_use]
    pub fn with_qdisc(self, qdisc: Qdisc) -> Self {
        Self { qdisc, ..self }
    }

    /// Its losses.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

/// Opens the rings of all lanes side by side: the kernel waits for every processor for each of them.
fn open_rings(index: u32, lanes: usize) -> io::Result<Vec<RxRing>> {
    let octets = (RING_OCTETS / lanes.max(1)).max(LEAST_RING_OCTETS);
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..lanes)
            .map(|_| scope.spawn(move || RxRing::open(index, octets)))
            .collect();
        let rings = opening.into_iter().map(|ring| {
            let panicked = |_| Err(io::Error::other("opening a ring panicked"));
            ring.join().unwrap_or_else(panicked)
        });
        rings.collect()
    })
}

impl Port for Netdev {
    fn open(&self, lanes: usize) -> io::Result<Vec<Lane>> {
        let open = || {
            let index = sys::index(&self.name)?;
            // Devices without the feature refuse.
            let _ = sys::disable_lro(&self.name);
            let mut fanout = None;
            let rings = open_rings(index, lanes)?;
            if lanes > 1 {
                for ring in &rings {
                    fanout = Some(ring.join(fanout)?);
                }
            }
            let mut opened = Vec::with_capacity(lanes);
            for ring in rings {
                ring.begin()?;
                let rx = NetdevReceive {
                    ring,
                    segments: Segments::default(),
                    counters: self.counters(),
                };
                let tx = NetdevTransmit {
                    socket: TxSocket::open(index, self.qdisc.bypass(index))?,
                    counters: self.counters(),
                };
                opened.push(Lane {
                    rx: Some(Box::new(rx)),
                    tx: Box::new(tx),
                });
            }
            Ok(opened)
        };
        open().map_err(|e: io::Error| io::Error::new(e.kind(), format!("interface {}: {e}", self.name)))
    }
}

struct NetdevReceive {
    ring: RxRing,
    segments: Segments,
    counters: Arc<Counters>,
}

impl NetdevReceive {
    /// Receives a frame. Returns whether it was cut, and how many octets in front of it do not belong to it.
    fn advance(&mut self) -> Option<(bool, usize)> {
        loop {
            let Some(Meta { mut offload, vlan }) = self.ring.advance() else {
                Counters::add(&self.counters.in_lost, std::mem::take(&mut self.ring.lost));
                return None;
            };
            let room_and_frame = self.ring.room_and_frame();
            let mut room = HEADROOM;
            if let (Some((start, offset)), false) = (offload.checksum, offload.is_large()) {
                complete_checksum(room_and_frame.get_mut(HEADROOM..)?, start, offset);
            }
            if let Some(vlan) = vlan {
                vlan.put(room_and_frame);
                offload.transport = offload.transport.saturating_add(4);
                room = 0;
            }
            if !offload.is_large() {
                return Some((false, room));
            }
            if self.segments.start(room_and_frame.get(room..)?, offload) {
                return Some((true, 0));
            }
            Counters::add(&self.counters.in_lost, 1);
        }
    }
}

impl Receive for NetdevReceive {
    fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    fn next(&mut self) -> Option<&mut [u8]> {
        if self.segments.is_done() {
            let (is_cut, room) = self.advance()?;
            if !is_cut {
                return self.ring.room_and_frame().get_mut(room..);
            }
        }
        self.segments.next_segment()
    }

    fn failed(&mut self) {
        self.ring.acknowledge_error();
    }
}

struct NetdevTransmit {
    socket: TxSocket,
    counters: Arc<Counters>,
}

impl Transmit for NetdevTransmit {
    fn send(&mut self, frame: &[u8]) {
        if self.socket.push(frame) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.socket.is_empty() {
            Counters::add(&self.counters.out_lost, self.socket.flush() as u64);
        }
    }

    fn has_room(&self) -> bool {
        self.socket.has_room()
    }
}
