//! The forwarding thread: waits for frames on all ports, runs them through the program,
//! sends what comes out.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc;

use super::packet::PacketSocket;
use crate::device::Dataplane;
use crate::reference::{Output, Switch, Tables};

/// Frames taken from one port before the next has its turn, so that none starves.
const BURST: usize = 64;
/// Largest frame: that of the kernel's largest MTU with Ethernet header and VLAN tag.
const MAX_FRAME: usize = 65_535 + 18;

/// Interrupts the forwarding thread's wait.
#[derive(Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker, to be given to [`start`] later.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::from_flags(
            EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
        )?)))
    }

    /// Wakes it.
    pub fn wake(&self) {
        // Fails only when it is woken already.
        let _ = self.0.write(1);
    }
}

/// The running thread; it ends when this is dropped.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Port {
    number: u32,
    socket: PacketSocket,
}

/// Opens the ports and starts to forward.
///
/// # Errors
/// An interface cannot be opened; the error names it.
pub fn start(
    ports: &[(u32, String)],
    plane: Arc<Dataplane>,
    outgoing: mpsc::Receiver<Vec<u8>>,
    waker: Waker,
) -> io::Result<Forwarder> {
    let open = |(number, name): &(u32, String)| {
        let socket =
            PacketSocket::open(name).map_err(|e| io::Error::new(e.kind(), format!("interface {name}: {e}")))?;
        Ok(Port {
            number: *number,
            socket,
        })
    };
    let ports: Vec<Port> = ports.iter().map(open).collect::<io::Result<_>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, wakeup) = (Arc::clone(&stop), waker.clone());
    let thread = std::thread::Builder::new().name("forward".into());
    let thread = thread.spawn(move || {
        Loop {
            ports,
            plane,
            outgoing,
            waker: wakeup,
        }
        .run(&flag)
    })?;
    Ok(Forwarder {
        stop,
        waker,
        thread: Some(thread),
    })
}

struct Loop {
    ports: Vec<Port>,
    plane: Arc<Dataplane>,
    outgoing: mpsc::Receiver<Vec<u8>>,
    waker: Waker,
}

impl Loop {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = Vec::with_capacity(MAX_FRAME);
        let mut out = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let ready = self.wait();
            let running = self.plane.running.load_full();
            self.packet_outs(running.as_deref().map(|r| r.switch.as_ref()), &mut out);
            for (at, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                self.burst(at, running.as_deref().map(|r| r.switch.as_ref()), &mut buffer, &mut out);
            }
        }
    }

    /// Waits until something is there; says which ports have it.
    fn wait(&self) -> Vec<bool> {
        let mut polled: Vec<PollFd<'_>> = vec![PollFd::new(self.waker.0.as_fd(), PollFlags::POLLIN)];
        polled.extend(
            self.ports
                .iter()
                .map(|p| PollFd::new(p.socket.as_fd(), PollFlags::POLLIN)),
        );
        let _ = poll(&mut polled, PollTimeout::NONE);
        let _ = self.waker.0.read();
        polled.iter().skip(1).map(|p| p.any().unwrap_or(false)).collect()
    }

    fn packet_outs(&mut self, switch: Option<&Switch>, out: &mut Vec<Output>) {
        while let Ok(frame) = self.outgoing.try_recv() {
            let Some((switch, port)) = switch.and_then(|s| Some((s, s.cpu_port?))) else {
                continue;
            };
            switch.process(port, &frame, self.plane.now_ns(), out);
            self.send(out);
        }
    }

    fn burst(&self, at: usize, switch: Option<&Switch>, buffer: &mut Vec<u8>, out: &mut Vec<Output>) {
        let Some(port) = self.ports.get(at) else { return };
        // Taken once a burst; a writer waits for one burst at the most.
        let tables = switch.map(Switch::tables);
        for _ in 0..BURST {
            // An error is the end of the burst: nothing there, or the link went down.
            if port.socket.receive(buffer, MAX_FRAME).is_err() {
                return;
            }
            if let (Some(switch), Some(tables)) = (switch, &tables) {
                self.frame(switch, tables, port.number, buffer, out);
            }
        }
    }

    fn frame(&self, switch: &Switch, tables: &Tables, port: u32, frame: &[u8], out: &mut Vec<Output>) {
        switch.process_with(tables, port, frame, self.plane.now_ns(), out);
        self.send(out);
    }

    fn send(&self, out: &mut Vec<Output>) {
        for mut output in out.drain(..) {
            if self.plane.take(&mut output) {
                continue;
            }
            let Output::Frame { port, data } = output else { continue };
            if let Some(port) = self.ports.iter().find(|p| p.number == port) {
                // A frame that does not fit, or a link that is down: lost, as on any wire.
                let _ = port.socket.send(&data);
            }
        }
    }
}
