//! The forwarding threads: each waits for frames of its lanes, passes them to its forwarder, and sends the results.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustc_hash::FxHashMap;

use super::{Burst, Forwarder, Lane, Port, Receive, Sink, Transmit};

/// Most frames that are taken from one port in a row. Then the results are sent, so that the first frame does not wait
/// for the last, and the next port has its turn, so that no port starves.
const BURST: usize = 64;
/// Ports that one call of epoll reports as ready; the next call reports the others.
const READY: usize = 64;
/// Commands that wait for a thread. It checks after each burst, so a longer queue would not help.
const COMMANDS: usize = 16;
/// Frames in a millisecond above which a thread lets frames gather before it polls again. Waking up for each costs more
/// than forwarding it; below this rate, no frame waits.
const DENSE: u32 = 50;
/// Average number of frames per poll below which gathering does not help: a sender that waits for each frame to come
/// back can send many in a millisecond, and delays would only slow it down.
const TOGETHER: u32 = 2;
/// How long frames gather. Even at the highest rate that a thread can forward, the rings can buffer several times as
/// long.
const GATHER: Duration = Duration::from_micros(50);
/// If frames arrive closer together than this, a thread keeps polling for this long after the last one: waking up takes
/// several times as long as forwarding. Meanwhile it yields to any other work for the processor.
const CLOSE: Duration = Duration::from_micros(100);
/// How often the rate is computed.
const WINDOW: Duration = Duration::from_millis(1);
/// The id of the waker in epoll, in place of a port number.
const WAKER: u64 = u64::MAX;

/// Interrupts a forwarding thread's wait.
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        // Fails only if it has been woken already.
        let _ = self.0.write(1);
    }
}

enum Command {
    Attach(u32, Lane),
    Detach(u32),
    /// Reply, to show that the thread works.
    Answer(SyncSender<()>),
}

struct Thread {
    commands: Option<SyncSender<Command>>,
    waker: Waker,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Thread {
    fn order(&self, command: Command) -> io::Result<()> {
        let sent = self.commands.as_ref().map(|c| c.send(command));
        self.waker.wake();
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("a forwarding thread has ended")),
        }
    }
}

impl Thread {
    fn name(&self) -> &str {
        let thread = self.handle.as_ref().map(|handle| handle.thread());
        thread.and_then(|t| t.name()).unwrap_or("without a name")
    }

    /// Asks for an answer; none if the thread has ended, or takes no commands.
    fn ask(&self) -> Option<Receiver<()>> {
        let (answer, result) = sync_channel(1);
        self.commands.as_ref()?.try_send(Command::Answer(answer)).ok()?;
        self.waker.wake();
        Some(result)
    }
}

/// Open ports and the threads that forward between them. The threads end when this is dropped.
pub struct Ports(Vec<Thread>);

impl Ports {
    /// Starts a thread for each forwarder. `make` is given the threads' wakers in order and makes the forwarders.
    ///
    /// # Errors
    /// The system has no descriptor or thread left.
    pub fn start(threads: usize, make: impl FnOnce(&[Waker]) -> Vec<Box<dyn Forwarder>>) -> io::Result<Self> {
        let wakers = (0..threads).map(|_| Waker::new()).collect::<io::Result<Vec<_>>>()?;
        let forwarders = make(&wakers);
        let mut this = Self(Vec::with_capacity(threads));
        for (index, (waker, forwarder)) in wakers.into_iter().zip(forwarders).enumerate() {
            let (commands, inbox) = sync_channel(COMMANDS);
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(waker.0.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKER))?;
            let worker = Worker {
                epoll,
                inbox,
                waker: waker.clone(),
                forwarder,
                rx: FxHashMap::default(),
                tx: Outlets::default(),
            };
            let name = format!("forward{index}");
            let handle = std::thread::Builder::new().name(name).spawn(|| worker.run())?;
            this.0.push(Thread {
                commands: Some(commands),
                waker,
                handle: Some(handle),
            });
        }
        Ok(this)
    }

    /// Opens a port under a number, and closes the port that had this number.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn attach(&self, number: u32, port: &dyn Port) -> io::Result<()> {
        let lanes = port.open(self.0.len())?;
        for (thread, lane) in self.0.iter().zip(lanes) {
            thread.order(Command::Attach(number, lane))?;
        }
        Ok(())
    }

    /// Waits until every thread has answered, but no longer than `within`.
    ///
    /// # Errors
    /// The names of the threads that have not, or that have ended.
    pub fn answer(&self, within: Duration) -> Result<(), String> {
        let until = Instant::now() + within;
        // Ask all threads before waiting for the first.
        let asked: Vec<_> = self.0.iter().map(Thread::ask).collect();
        let left = || until.saturating_duration_since(Instant::now());
        let silent = self.0.iter().zip(asked).filter_map(|(thread, answer)| {
            let how = match answer.map(|a| a.recv_timeout(left())) {
                Some(Ok(_)) => return None,
                Some(Err(RecvTimeoutError::Timeout)) => "is stuck",
                Some(Err(RecvTimeoutError::Disconnected)) => "has ended",
                None => "takes no commands",
            };
            Some(format!("forwarding thread {} {how}", thread.name()))
        });
        let silent: Vec<String> = silent.collect();
        match silent.is_empty() {
            true => Ok(()),
            false => Err(silent.join(", ")),
        }
    }

    /// Closes a port.
    ///
    /// # Errors
    /// A thread has ended.
    pub fn detach(&self, number: u32) -> io::Result<()> {
        self.0.iter().try_for_each(|t| t.order(Command::Detach(number)))
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        for thread in &mut self.0 {
            thread.commands = None;
            thread.waker.wake();
        }
        for thread in &mut self.0 {
            if let Some(handle) = thread.handle.take() {
                // A panic was already reported.
                let _ = handle.join();
            }
        }
    }
}

/// The ports through which a thread sends.
#[derive(Default)]
struct Outlets {
    lanes: Vec<(u32, Box<dyn Transmit>)>,
    index: FxHashMap<u32, usize>,
}

impl Outlets {
    fn remove(&mut self, port: u32) {
        self.lanes.retain(|(number, _)| *number != port);
        self.index = self
            .lanes
            .iter()
            .enumerate()
            .map(|(at, (number, _))| (*number, at))
            .collect();
    }

    fn insert(&mut self, port: u32, tx: Box<dyn Transmit>) {
        self.remove(port);
        self.index.insert(port, self.lanes.len());
        self.lanes.push((port, tx));
    }

    fn flush(&mut self) {
        self.lanes.iter_mut().for_each(|(_, tx)| tx.flush());
    }
}

impl Sink for Outlets {
    fn frame(&mut self, port: u32, frame: &[u8]) -> bool {
        let lane = self.index.get(&port).and_then(|at| self.lanes.get_mut(*at));
        let Some((_, tx)) = lane else { return false };
        tx.send(frame);
        true
    }

    fn has_room(&self, port: u32) -> bool {
        let lane = self.index.get(&port).and_then(|at| self.lanes.get(*at));
        lane.is_none_or(|(_, tx)| tx.has_room())
    }
}

/// How densely frames arrive.
struct Pace {
    since: Instant,
    frames: u32,
    looks: u32,
    is_dense: bool,
    /// The last poll found as many as a port's turn allows: more are waiting already, and the ring fills.
    is_behind: bool,
    /// When a poll last found frames, and whether the one before had been shortly before.
    found: Instant,
    is_close: bool,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            frames: 0,
            looks: 0,
            is_dense: false,
            is_behind: false,
            found: Instant::now(),
            is_close: false,
        }
    }

    /// Whether to let frames gather before the next poll.
    fn gathers(&self) -> bool {
        self.is_dense && !self.is_behind
    }

    /// Records the frames that a poll found.
    fn note(&mut self, frames: usize, now: Instant) {
        self.is_behind = frames >= BURST;
        if frames > 0 {
            self.is_close = now.saturating_duration_since(self.found) < CLOSE;
            self.found = now;
        }
        self.looks = self.looks.saturating_add(1);
        self.frames = self.frames.saturating_add(u32::try_from(frames).unwrap_or(u32::MAX));
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let windows = u32::try_from(passed.as_micros() / WINDOW.as_micros()).unwrap_or(u32::MAX);
            let least = DENSE.saturating_mul(windows).max(TOGETHER.saturating_mul(self.looks));
            self.is_dense = self.frames >= least;
            (self.since, self.frames, self.looks) = (now, 0, 0);
        }
    }
}

struct Worker {
    epoll: Epoll,
    inbox: Receiver<Command>,
    waker: Waker,
    forwarder: Box<dyn Forwarder>,
    rx: FxHashMap<u32, Box<dyn Receive>>,
    tx: Outlets,
}

impl Worker {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); READY];
        let mut pace = Pace::new();
        loop {
            if pace.gathers() {
                std::thread::sleep(GATHER);
            }
            let ready = match self.wait(&mut events, &pace) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!("forwarding ends: epoll: {error}");
                    return;
                }
            };
            if ready == 0 {
                self.forwarder.woken(&mut self.tx);
                self.tx.flush();
            }
            let mut frames = 0;
            for event in events.iter().take(ready) {
                if event.data() != WAKER {
                    frames += self.turn(event);
                    continue;
                }
                // Reset it before the poll, so that events after the poll wake the thread again.
                let _ = self.waker.0.read();
                if !self.obey() {
                    return;
                }
                self.forwarder.woken(&mut self.tx);
                self.tx.flush();
            }
            pace.note(frames, Instant::now());
        }
    }

    /// Waits for ports that are ready; does not sleep while frames come close to each other. Returns 0 when the time
    /// has come at which the forwarder wanted to be woken.
    fn wait(&self, events: &mut [EpollEvent], pace: &Pace) -> Result<usize, Errno> {
        if pace.is_close && !pace.is_dense {
            while pace.found.elapsed() < CLOSE {
                match self.epoll.wait(events, EpollTimeout::ZERO) {
                    Ok(0) => std::thread::yield_now(),
                    found => return found,
                }
            }
        }
        let timeout = match self.forwarder.rest() {
            None => EpollTimeout::NONE,
            // It takes whole milliseconds; round up.
            Some(rest) => EpollTimeout::from(u16::try_from(rest.as_micros().div_ceil(1000)).unwrap_or(u16::MAX)),
        };
        self.epoll.wait(events, timeout)
    }

    /// Forwards a burst of a ready port; returns the number of frames.
    fn turn(&mut self, event: &EpollEvent) -> usize {
        // The port was detached meanwhile.
        let Some((port, rx)) = u32::try_from(event.data())
            .ok()
            .and_then(|p| Some((p, self.rx.get_mut(&p)?)))
        else {
            return 0;
        };
        if event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            rx.failed();
        }
        let mut burst = Burst {
            port,
            rx: rx.as_mut(),
            left: BURST,
        };
        self.forwarder.burst(&mut burst, &mut self.tx);
        let frames = BURST - burst.left;
        self.tx.flush();
        frames
    }

    /// Carries out a command; returns false if the thread should end.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Attach(port, lane)) => {
                    self.detach(port);
                    self.tx.insert(port, lane.tx);
                    let Some(rx) = lane.rx else { continue };
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(port));
                    if let Err(error) = self.epoll.add(rx.fd(), event) {
                        tracing::error!(port, "cannot wait for frames: {error}");
                    }
                    self.rx.insert(port, rx);
                }
                Ok(Command::Detach(port)) => self.detach(port),
                // The caller may have given up.
                Ok(Command::Answer(answer)) => drop(answer.try_send(())),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn detach(&mut self, port: u32) {
        if let Some(rx) = self.rx.remove(&port) {
            // Closing the descriptor would be enough if it were the only one.
            let _ = self.epoll.delete(rx.fd());
        }
        self.tx.remove(port);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Works only while nobody holds the lock.
    struct Held(Arc<Mutex<()>>);

    impl Forwarder for Held {
        fn burst(&mut self, _: &mut Burst<'_>, _: &mut dyn Sink) {}

        fn woken(&mut self, _: &mut dyn Sink) {
            drop(self.0.lock().unwrap());
        }
    }

    #[test]
    fn threads_answer_unless_one_of_them_is_held_up() {
        let locks = [Arc::new(Mutex::new(())), Arc::new(Mutex::new(()))];
        let all = || {
            locks
                .iter()
                .map(|l| Box::new(Held(Arc::clone(l))) as Box<dyn Forwarder>)
        };
        let ports = Ports::start(2, |_| all().collect()).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(ports.answer(long), Ok(()));
        let held = locks[1].lock().unwrap();
        // The thread may answer once before it waits for the lock; after that it never
        // answers.
        let stuck = loop {
            if let Err(stuck) = ports.answer(Duration::from_millis(50)) {
                break stuck;
            }
        };
        assert!(stuck.contains("forwarding thread forward1 is stuck"), "{stuck}");
        drop(held);
        assert_eq!(ports.answer(long), Ok(()));
    }

    #[test]
    fn frames_gather_only_while_they_are_dense() {
        let mut pace = Pace::new();
        let start = pace.since;
        let at = |us| start + Duration::from_micros(us);
        pace.note(1, at(500));
        assert!(!pace.gathers(), "a window is not over");
        pace.note(DENSE as usize, at(1000));
        assert!(pace.gathers());
        pace.note(BURST, at(1100));
        assert!(!pace.gathers(), "more wait than a turn takes");
        pace.note(1, at(1200));
        assert!(pace.gathers());
        pace.note(DENSE as usize, at(4200));
        assert!(!pace.is_dense, "the same in three windows");
        for us in 0..2000 {
            pace.note(1, at(4201 + us));
        }
        assert!(!pace.is_dense, "many, but each alone");
        assert!(pace.is_close);
        pace.note(0, at(6300));
        assert!(pace.is_close, "an empty poll does not count");
        pace.note(1, at(6400));
        assert!(!pace.is_close);
    }
}
