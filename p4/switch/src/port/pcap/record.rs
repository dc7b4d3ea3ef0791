//! The thread that writes capture files.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime};

use super::format;

/// Frames that wait to be written: a disk that pauses for some milliseconds loses none at a million each second.
const QUEUE: usize = 16 << 10;

enum Order {
    Open(usize, PathBuf, BufWriter<File>),
    Write(usize, Duration, Vec<u8>),
}

/// Opens capture files and writes them. When it and all [`Track`]s are dropped, the rest is written and the thread
/// ends.
pub struct Recorder {
    orders: Option<SyncSender<Order>>,
    lost: Arc<AtomicU64>,
    files: usize,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// One capture file, to write to.
#[derive(Clone)]
pub struct Track {
    file: usize,
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("pcap".into())
            .spawn(move || run(&inbox))?;
        Ok(Self {
            orders: Some(orders),
            lost: Arc::default(),
            files: 0,
            thread: Some(thread),
        })
    }

    /// Creates a capture file, or replaces an existing one.
    ///
    /// # Errors
    /// It cannot be written; the error names it.
    pub fn file(&mut self, path: &Path) -> io::Result<Track> {
        let open = || {
            let mut output = BufWriter::new(File::create(path)?);
            format::write_header(&mut output)?;
            output.flush()?;
            Ok(output)
        };
        let output = open().map_err(|e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let ended = || io::Error::other("the thread that writes capture files has ended");
        let orders = self.orders.clone().ok_or_else(ended)?;
        let order = Order::Open(self.files, path.to_owned(), output);
        orders.send(order).map_err(|_| ended())?;
        self.files += 1;
        Ok(Track {
            file: self.files - 1,
            orders,
            lost: Arc::clone(&self.lost),
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic was already reported.
            let _ = thread.join();
        }
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!("capture files lack {lost} frames that came faster than they were written");
        }
    }
}

impl Track {
    fn order(&self, frame: &[u8]) -> Order {
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Order::Write(self.file, time, frame.to_vec())
    }

    /// Records a frame if there is room.
    pub fn offer(&self, frame: &[u8]) {
        if self.orders.try_send(self.order(frame)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a frame, and waits for room.
    pub fn write(&self, frame: &[u8]) {
        // Fails if the thread has ended, which was already reported.
        let _ = self.orders.send(self.order(frame));
    }
}

fn run(inbox: &Receiver<Order>) {
    let mut files: Vec<Option<(PathBuf, BufWriter<File>)>> = Vec::new();
    let failed = |file: &mut Option<(PathBuf, BufWriter<File>)>, error: &io::Error| {
        if let Some((path, _)) = file.take() {
            tracing::error!("{}: {error}; nothing more is written to it", path.display());
        }
    };
    loop {
        let order = match inbox.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Empty) => {
                // Flush before sleeping, so that readers of the files see everything captured so far.
                for file in &mut files {
                    if let Some(Err(error)) = file.as_mut().map(|(_, output)| output.flush()) {
                        failed(file, &error);
                    }
                }
                match inbox.recv() {
                    Ok(order) => order,
                    Err(_) => return,
                }
            }
            // Dropping flushes, too, but then an error can only be logged.
            Err(TryRecvError::Disconnected) => {
                for file in &mut files {
                    if let Some(Err(error)) = file.as_mut().map(|(_, output)| output.flush()) {
                        failed(file, &error);
                    }
                }
                return;
            }
        };
        match order {
            Order::Open(index, path, output) => {
                files.resize_with(files.len().max(index + 1), || None);
                if let Some(place) = files.get_mut(index) {
                    *place = Some((path, output));
                }
            }
            Order::Write(index, time, frame) => {
                let Some(file) = files.get_mut(index) else { continue };
                let written = file
                    .as_mut()
                    .map(|(_, output)| format::write_packet(output, time, &frame));
                if let Some(Err(error)) = written {
                    failed(file, &error);
                }
            }
        }
    }
}
