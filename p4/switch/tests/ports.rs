//! Ports on kernel devices: two hosts, each in a network namespace, joined by forwarding threads. Needs root.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use p4_switch::port::netdev::Netdev;
use p4_switch::port::{Burst, Forwarder, Port as _, Ports, Sink, memory};

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}

type Task = Box<dyn FnOnce() + Send>;

/// A thread that lives in a network namespace of its own.
struct Namespace {
    tasks: Sender<Task>,
    id: i32,
}

impl Namespace {
    fn new() -> Self {
        let (tasks, inbox) = channel::<Task>();
        let (sender, id) = channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make namespaces");
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            inbox.iter().for_each(|task| task());
        });
        let id = id.recv().unwrap();
        Self { tasks, id }
    }

    /// Runs something there; returns when it is done.
    fn start<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> std::sync::mpsc::Receiver<T> {
        let (sender, answer) = channel();
        let task = move || {
            let _ = sender.send(task());
        };
        self.tasks.send(Box::new(task)).unwrap();
        answer
    }

    fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(task).recv().expect("the task ends well")
    }
}

/// Port 1 to port 2 and back, and a note of the largest frame.
struct Crossover(Arc<AtomicUsize>);

impl Forwarder for Crossover {
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink) {
        let to = 3 - burst.port();
        while let Some(frame) = burst.next_frame() {
            self.0.fetch_max(frame.len(), Ordering::Relaxed);
            sink.frame(to, frame);
        }
    }
}

fn crossover(threads: usize) -> (Ports, Arc<AtomicUsize>) {
    let largest = Arc::new(AtomicUsize::new(0));
    let make = |wakers: &[_]| {
        let forwarder = |_| Box::new(Crossover(Arc::clone(&largest))) as Box<dyn Forwarder>;
        wakers.iter().map(forwarder).collect()
    };
    (Ports::start(threads, make).unwrap(), largest)
}

struct Bed {
    switch: Namespace,
    a: Namespace,
    b: Namespace,
}

/// Two hosts on the two ports `p1` and `p2` of a namespace for a switch.
fn bed() -> Bed {
    let (switch, a, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (port, host) in [(1, &a), (2, &b)] {
        let id = host.id;
        switch.run(move || {
            ip(&format!("link add p{port} type veth peer name eth0 netns {id}"));
            ip(&format!("link set p{port} up"));
        });
        host.run(move || {
            ip("link set lo up");
            ip("link set eth0 up");
            ip(&format!("addr add 10.0.0.{port}/24 dev eth0"));
            let remote = 3 - port;
            ip(&format!(
                "link add vx type vxlan id 7 dstport 4789 local 10.0.0.{port} remote 10.0.0.{remote}"
            ));
            ip(&format!("addr add 10.0.2.{port}/24 dev vx"));
            ip(&format!("addr add fd00::{port}/64 dev vx nodad"));
            ip(&format!("addr add fd01::{port}/64 dev eth0 nodad"));
            ip("link set vx up");
        });
    }
    Bed { switch, a, b }
}

/// Octets of a transfer; each differs from its neighbours.
fn pattern() -> Vec<u8> {
    (0..8u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Sends a pattern from host A to this address of host B.
fn transfer(bed: &Bed, address: &str) {
    let at = format!("{address}:5000");
    let listener = bed.b.run(move || TcpListener::bind(at).unwrap());
    let at = format!("{address}:5000");
    let received = bed.b.start(move || {
        let mut octets = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut octets).unwrap();
        octets
    });
    bed.a.run(move || {
        let mut stream = TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(10)).unwrap();
        stream.write_all(&pattern()).unwrap();
    });
    assert!(
        received.recv().unwrap() == pattern(),
        "what was sent to {address} arrived"
    );
}

fn open_both(threads: usize) -> (Ports, Arc<AtomicUsize>) {
    let (ports, largest) = crossover(threads);
    for number in [1, 2] {
        ports.attach(number, &Netdev::new(&format!("p{number}"))).unwrap();
    }
    (ports, largest)
}

#[test]
fn offloaded_checksums_and_segments_are_as_on_a_wire() {
    let bed = bed();
    let (_ports, largest) = bed.switch.run(|| open_both(2));
    transfer(&bed, "10.0.0.2");
    transfer(&bed, "[fd01::2]");
    // Through VXLAN, whose senders leave just as much work to devices.
    transfer(&bed, "10.0.2.2");
    transfer(&bed, "[fd00::2]");
    assert_eq!(
        largest.load(Ordering::Relaxed),
        14 + 1500,
        "large frames were cut to the MTU"
    );
}

#[test]
fn tags_are_in_the_frames() {
    let bed = bed();
    let (_ports, _) = bed.switch.run(|| open_both(1));
    let open = || Netdev::new("eth0").open(1).unwrap().remove(0);
    let (mut a, b) = (bed.a.run(open), bed.b.run(open));
    let mut rx = b.rx.unwrap();
    // Large frames take another path through the kernel.
    bed.switch.run(|| {
        ip("link set p1 mtu 9000");
        ip("link set p2 mtu 9000");
    });
    bed.a.run(|| ip("link set eth0 mtu 9000"));
    bed.b.run(|| ip("link set eth0 mtu 9000"));
    for length in [60, 1500, 9000] {
        // To a group address of nobody, tagged with priority 3, VLAN 5, and an EtherType for experiments.
        let mut sent = vec![3, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x60, 0x05, 0x88, 0xb5];
        sent.resize(length, 0xab);
        a.tx.send(&sent);
        a.tx.flush();
        let received = loop {
            // The hosts also send frames of their own.
            match rx.next() {
                Some(frame) if frame.starts_with(&[3, 0, 0, 0, 0, 9]) => break frame.to_vec(),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert_eq!(received, sent, "{length} octets");
    }
}

#[test]
fn a_device_may_be_missing_and_come_back() {
    let bed = bed();
    let missing = bed.switch.run(|| {
        let (ports, _) = crossover(1);
        ports.attach(1, &Netdev::new("p9"))
    });
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("interface p9"), "{text}");

    let ports = bed.switch.run(|| {
        let (ports, _) = open_both(2);
        ports
    });
    let id = bed.b.id;
    let ports = bed.switch.run(move || {
        ip("link del p2");
        ip(&format!("link add p2 type veth peer name eth0 netns {id}"));
        ip("link set p2 up");
        ports.attach(2, &Netdev::new("p2")).unwrap();
        ports
    });
    bed.b.run(|| {
        ip("addr add 10.0.0.2/24 dev eth0");
        ip("link set eth0 up");
    });
    transfer(&bed, "10.0.0.2");
    drop(ports);
}

#[test]
fn ports_in_memory_come_and_go_while_frames_flow() {
    let (ports, _) = crossover(2);
    let (one, wire1) = memory::pair().unwrap();
    let (two, wire2) = memory::pair().unwrap();
    ports.attach(1, &one).unwrap();
    ports.attach(2, &two).unwrap();
    for n in 0..1000u32 {
        assert!(wire1.send(&n.to_be_bytes()));
    }
    let wait = Duration::from_secs(10);
    for n in 0..1000u32 {
        assert_eq!(wire2.receive(wait).unwrap(), n.to_be_bytes(), "in order");
    }
    ports.detach(2).unwrap();
    while wire2.send(b"closed") {
        std::thread::yield_now();
    }
    let (two, wire2) = memory::pair().unwrap();
    ports.attach(2, &two).unwrap();
    assert!(wire2.send(b"back"));
    assert_eq!(wire1.receive(wait).unwrap(), b"back");
    drop(ports);
    assert_eq!(wire1.receive(wait), None, "closed when the threads have ended");
}
