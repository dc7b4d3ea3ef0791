//! Writes texts of traced packets to an output, but no more than people can read.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Most packets that are traced in a second. Nobody reads more, and this many cost a thread a few percent of its time.
pub const PACKETS_PER_SECOND: u64 = 1000;
/// Texts that may wait for the output: those of one second.
const QUEUE: usize = PACKETS_PER_SECOND as usize;
/// How soon packets that were left out are reported.
const MENTION: Duration = Duration::from_millis(500);

struct Shared {
    started: Instant,
    /// The second to which `count` belongs.
    second: AtomicU64,
    count: AtomicU64,
    number: AtomicU64,
    left_out: AtomicU64,
}

/// How long the end waits for the output. The queue is written in less time, unless nobody reads the output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Shows when a [`Printer`] has written everything.
pub struct Ending(Receiver<()>);

impl Ending {
    /// Waits until all printed texts are written; all clones of the printer must be dropped before. The wait is
    /// bounded, in case nobody reads the output.
    pub fn wait(self) {
        let _ = self.0.recv_timeout(LAST_WORDS);
    }
}

/// The queue of traced packets. When all clones are dropped, the rest is written and the thread ends.
#[derive(Clone)]
pub struct Printer {
    texts: SyncSender<String>,
    shared: Arc<Shared>,
}

impl Printer {
    /// Starts a thread that writes to this output, and ends when the output fails.
    ///
    /// # Errors
    /// The system cannot start another thread.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<(Self, Ending)> {
        let (texts, inbox) = sync_channel(QUEUE);
        let (ended, ending) = sync_channel(1);
        let shared = Arc::new(Shared {
            started: Instant::now(),
            second: AtomicU64::new(0),
            count: AtomicU64::new(0),
            number: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("trace".into());
        thread.spawn(move || {
            if let Err(error) = print(&inbox, &own, output) {
                tracing::error!("tracing ends: {error}");
            }
            // It does not matter if nobody waits for this.
            let _ = ended.send(());
        })?;
        Ok((Self { texts, shared }, Ending(ending)))
    }

    /// A number for a packet that is to be traced; `None` if enough were traced in this second.
    pub fn admit(&self) -> Option<u64> {
        let shared = &self.shared;
        let now = shared.started.elapsed().as_secs();
        if shared.second.swap(now, Ordering::Relaxed) != now {
            shared.count.store(0, Ordering::Relaxed);
        }
        if shared.count.fetch_add(1, Ordering::Relaxed) >= PACKETS_PER_SECOND {
            shared.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(shared.number.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Prints a text, or counts it as left out where the output is too slow.
    pub fn print(&self, text: &str) {
        if self.texts.try_send(text.to_owned()).is_err() {
            self.shared.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn print(inbox: &Receiver<String>, shared: &Shared, mut output: impl Write) -> std::io::Result<()> {
    loop {
        let text = inbox.recv_timeout(MENTION);
        match &text {
            Ok(text) => output.write_all(text.as_bytes())?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let left_out = shared.left_out.swap(0, Ordering::Relaxed);
                if left_out > 0 {
                    writeln!(output, "... {left_out} packets were not traced: there were too many")?;
                }
                output.flush()?;
            }
        }
        if text == Err(RecvTimeoutError::Disconnected) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    /// An output that can be held up, and read.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_stands_still_holds_nobody_up() {
        let output = Output::default();
        let (printer, _) = Printer::start(output.clone()).unwrap();
        let held = output.0.lock().unwrap();
        for _ in 0..3 * QUEUE {
            printer.print("a packet\n");
        }
        drop(held);
        drop(printer);
        loop {
            let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
            if let Some((_, said)) = text.split_once("... ") {
                let shown = text.matches("a packet\n").count();
                let left_out: usize = said.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(shown + left_out, 3 * QUEUE);
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn all_is_written_before_the_end() {
        let output = Output::default();
        let (printer, ending) = Printer::start(output.clone()).unwrap();
        (0..100).for_each(|_| printer.print("a packet\n"));
        drop(printer);
        ending.wait();
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("a packet\n").count(), 100);
    }

    #[test]
    fn a_flood_is_bounded() {
        let (printer, _) = Printer::start(std::io::sink()).unwrap();
        let started = Instant::now();
        let many = 20 * PACKETS_PER_SECOND;
        let admitted = (0..many).filter(|_| printer.admit().is_some()).count() as u64;
        // The limit holds for each second, and the loop may have begun and ended inside one.
        let seconds = started.elapsed().as_secs() + 2;
        assert!(admitted >= PACKETS_PER_SECOND && admitted <= seconds * PACKETS_PER_SECOND);
    }
}
