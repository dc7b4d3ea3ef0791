//! Ports that are capture files, and captures beside other ports.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::format::Reader;
use super::record::Track;
use crate::port::memory::{self, Wire};
use crate::port::{Lane, Port, Receive, Transmit};

/// How often a file that waits for a program checks whether there is one.
const LOOK: Duration = Duration::from_millis(10);

/// A port that receives the packets of one file and sends to another. It can be opened many times; each time the file is
/// read from its start, as fast as its packets are forwarded.
pub struct FilePort {
    input: Option<PathBuf>,
    output: Option<Track>,
    is_ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl FilePort {
    /// A port of these files; without an input file, nothing is received; without an output file, sent frames are lost.
    /// Packets are received once `is_ready` returns true, that is, once the switch has a program.
    pub fn new(
        input: Option<PathBuf>,
        output: Option<Track>,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            input,
            output,
            is_ready: Arc::new(is_ready),
        }
    }
}

fn read(path: &Path) -> io::Result<Reader<BufReader<File>>> {
    let open = || Reader::new(BufReader::new(File::open(path)?));
    open().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn replay(path: &Path, mut reader: Reader<BufReader<File>>, wire: &Wire, is_ready: &dyn Fn() -> bool) {
    while !is_ready() {
        if wire.is_closed() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) if wire.send_waiting(&packet.frame) => {}
            // The port was closed.
            Ok(Some(_)) => return,
            Ok(None) => {
                tracing::info!("{}: all packets are received", path.display());
                return;
            }
            Err(error) => {
                tracing::error!("{}: {error}; the rest is not received", path.display());
                return;
            }
        }
    }
}

impl Port for FilePort {
    fn open(&self, lanes: usize) -> io::Result<Vec<Lane>> {
        let mut rx = None;
        if let Some(path) = self.input.clone() {
            let reader = read(&path)?;
            let (port, wire) = memory::pair()?;
            rx = port.open(1)?.into_iter().find_map(|lane| lane.rx);
            let is_ready = Arc::clone(&self.is_ready);
            let thread = std::thread::Builder::new().name("replay".into());
            thread.spawn(move || replay(&path, reader, &wire, &*is_ready))?;
        }
        let lane = || Lane {
            rx: rx.take(),
            tx: Box::new(FileTransmit(self.output.clone())) as Box<dyn Transmit>,
        };
        Ok(std::iter::repeat_with(lane).take(lanes).collect())
    }
}

struct FileTransmit(Option<Track>);

impl Transmit for FileTransmit {
    fn send(&mut self, frame: &[u8]) {
        if let Some(track) = &self.0 {
            track.write(frame);
        }
    }

    fn flush(&mut self) {}
}

/// A port whose frames are recorded as they pass.
pub struct Tap<P> {
    port: P,
    received: Track,
    sent: Track,
}

impl<P> Tap<P> {
    /// Records what a port receives and sends.
    pub fn new(port: P, received: Track, sent: Track) -> Self {
        Self { port, received, sent }
    }
}

impl<P: Port> Port for Tap<P> {
    fn open(&self, lanes: usize) -> io::Result<Vec<Lane>> {
        let tapped = |lane: Lane| Lane {
            rx: lane.rx.map(|rx| {
                let track = self.received.clone();
                Box::new(TapReceive { rx, track }) as Box<dyn Receive>
            }),
            tx: Box::new(TapTransmit {
                tx: lane.tx,
                track: self.sent.clone(),
            }),
        };
        Ok(self.port.open(lanes)?.into_iter().map(tapped).collect())
    }
}

struct TapReceive {
    rx: Box<dyn Receive>,
    track: Track,
}

impl Receive for TapReceive {
    fn fd(&self) -> BorrowedFd<'_> {
        self.rx.fd()
    }

    fn next(&mut self) -> Option<&mut [u8]> {
        let frame = self.rx.next()?;
        self.track.offer(frame);
        Some(frame)
    }

    fn failed(&mut self) {
        self.rx.failed();
    }
}

struct TapTransmit {
    tx: Box<dyn Transmit>,
    track: Track,
}

impl Transmit for TapTransmit {
    fn send(&mut self, frame: &[u8]) {
        self.track.offer(frame);
        self.tx.send(frame);
    }

    fn flush(&mut self) {
        self.tx.flush();
    }
}
