//! Namespaces, hosts and workloads for the tests.

pub mod frames;
pub mod wire;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use vtep_agent::datapath::Scope;
use vtep_agent::datapath::Seen;
use vtep_agent::datapath::StepError;
use vtep_agent::datapath::kernel::{self, Change, FloodLimit, Kernel, Monitor, Overlay};
use vtep_agent::desired::Desired;
use vtep_agent::engine::{Engine, News};
use vtep_agent::object::{LocalVteps, ObjectKey, bridge_name};
use vtep_agent::watch::Watch;
use vtep_proto::v1::ErrorCode;
use vtep_proto::{Attachment, FdbEntry, HostEntity, HostKey, MacAddress, Neighbour, Network, UnderlayFamily, Vni};

/// How long a packet that should arrive may take on a loaded machine.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long to wait for a packet that must not arrive.
const SILENCE: Duration = Duration::from_millis(400);

pub fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

pub fn mac(last: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, last]).unwrap()
}

pub fn run(program: &str, args: &[&str]) {
    output(program, args);
}

/// What a program prints.
pub fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub fn ip(args: &[&str]) {
    run("ip", args);
}

/// A name that no other test, process or run has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "vta{}-{}-{what}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A named network namespace that is removed when the value is dropped.
pub struct Netns(String);

impl Netns {
    pub fn new(name: &str) -> Self {
        ip(&["netns", "add", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        Self(name.to_owned())
    }

    /// A link that somebody else makes.
    pub fn later(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Every link of a namespace as `ip` shows it: index, flags, MTU, MAC address.
pub fn links(netns: &str) -> Vec<String> {
    let out = Command::new("ip").args(["-n", netns, "-o", "link"]).output().unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Runs `work` on a thread inside a namespace.
pub fn inside<T: Send + 'static>(netns: &str, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{netns}")).unwrap();
    thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// A datagram from one namespace, address and port to another, and one back.
fn udp(
    (near, from, from_port): (&str, IpAddr, u16),
    (far, to, to_port): (&str, IpAddr, u16),
    size: usize,
    wait: Duration,
) -> Result<(), String> {
    let bind = |netns: &str, ip: IpAddr, port: u16| {
        inside(netns, move || UdpSocket::bind((ip, port)).unwrap())
            .join()
            .unwrap()
    };
    let (near, far) = (bind(near, from, from_port), bind(far, to, to_port));
    let payload = vec![0xa5u8; size];
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(wait)).unwrap();
    }
    let mut buffer = vec![0u8; 10_000];
    near.send_to(&payload, far.local_addr().unwrap())
        .map_err(|e| format!("send: {e}"))?;
    let (length, peer) = far.recv_from(&mut buffer).map_err(|e| format!("receive: {e}"))?;
    assert_eq!((&buffer[..length], peer), (&payload[..], near.local_addr().unwrap()));
    far.send_to(&payload, peer).map_err(|e| format!("answer: {e}"))?;
    let (length, _) = near
        .recv_from(&mut buffer)
        .map_err(|e| format!("receive the answer: {e}"))?;
    assert_eq!(length, size);
    Ok(())
}

pub fn udp_round_trip(near: (&str, IpAddr), far: (&str, IpAddr), size: usize) {
    udp_round_trip_on_ports((near.0, near.1, 0), (far.0, far.1, 0), size);
}

pub fn udp_round_trip_on_ports(near: (&str, IpAddr, u16), far: (&str, IpAddr, u16), size: usize) {
    if let Err(e) = udp(near, far, size, ARRIVAL) {
        panic!("{size} octets from {} to {} and back: {e}", near.1, far.1);
    }
}

type Job = Box<dyn FnOnce(&mut Option<Engine<Kernel>>) + Send>;

struct Host {
    netns: Netns,
    overlay: Netns,
    workload: Netns,
    local: LocalVteps,
    jobs: mpsc::Sender<Job>,
    entities: Vec<HostEntity>,
    /// Notifications of the overlay since the engine was started.
    monitor: Option<Monitor>,
}

/// Two hosts and a workload namespace on each.
pub struct Lab {
    hosts: Vec<Host>,
    underlay: UnderlayFamily,
}

fn local(host: usize) -> LocalVteps {
    let last = host as u8 + 1;
    LocalVteps {
        ipv4: Some([192, 0, 2, last].into()),
        ipv6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()].into()),
    }
}

impl Lab {
    pub fn new(underlay: UnderlayFamily) -> Self {
        let hosts: Vec<Host> = (0..2)
            .map(|i| {
                let (name, overlay, workload) = (unique("h"), unique("o"), unique("w"));
                let (netns, workload) = (Netns::new(&name), Netns::new(&workload));
                let (jobs, queue) = mpsc::channel::<Job>();
                inside(&name, move || {
                    let mut engine = None;
                    queue.into_iter().for_each(|job| job(&mut engine));
                });
                Host {
                    netns,
                    overlay: Netns::later(&overlay),
                    workload,
                    local: local(i),
                    jobs,
                    entities: Vec::new(),
                    monitor: None,
                }
            })
            .collect();
        let (a, b) = (&hosts[0].netns.0, &hosts[1].netns.0);
        ip(&[
            "-n", a, "link", "add", "up0", "mtu", "9216", "type", "veth", "peer", "name", "up0", "netns", b, "mtu",
            "9216",
        ]);
        for (host, netns) in [a, b].into_iter().enumerate() {
            let at = local(host);
            ip(&[
                "-n",
                netns,
                "addr",
                "add",
                &format!("{}/24", at.ipv4.unwrap()),
                "dev",
                "up0",
            ]);
            ip(&[
                "-n",
                netns,
                "addr",
                "add",
                &format!("{}/64", at.ipv6.unwrap()),
                "dev",
                "up0",
                "nodad",
            ]);
            ip(&["-n", netns, "link", "set", "up0", "up"]);
            // The kernel receives for an IPv6 address some time after it was added.
            let received = || {
                let get = ["-n", netns, "-6", "route", "get", &at.ipv6.unwrap().to_string()];
                let shown = Command::new("ip").args(get).output().unwrap();
                shown.stdout.starts_with(b"local ")
            };
            while !received() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        let mut lab = Self { hosts, underlay };
        (0..2).for_each(|i| {
            lab.start(i);
        });
        lab
    }

    pub fn host(&self, host: usize) -> &str {
        &self.hosts[host].netns.0
    }

    /// The namespace of a host's bridges.
    pub fn overlay(&self, host: usize) -> &str {
        &self.hosts[host].overlay.0
    }

    pub fn workload(&self, host: usize) -> &str {
        &self.hosts[host].workload.0
    }

    pub fn engine<T: Send + 'static>(
        &self,
        host: usize,
        work: impl FnOnce(&mut Engine<Kernel>) -> T + Send + 'static,
    ) -> T {
        let (answer, result) = mpsc::channel();
        let job: Job = Box::new(move |engine| answer.send(work(engine.as_mut().unwrap())).unwrap());
        self.hosts[host].jobs.send(job).unwrap();
        result.recv().unwrap()
    }

    fn start(&mut self, host: usize) -> News {
        let (local, entities) = (self.hosts[host].local, self.hosts[host].entities.clone());
        let overlay = self.overlay(host).to_owned();
        let (opened, monitor) = mpsc::channel();
        let start: Job = Box::new(move |engine| {
            // The previous engine still holds the namespace.
            *engine = None;
            let overlay = Overlay::keep(&overlay).unwrap();
            opened.send(kernel::monitor("up0", &overlay).unwrap()).unwrap();
            *engine = Some(Engine::new(
                Kernel::open(overlay, FloodLimit::default(), Watch::default()).unwrap(),
                Desired::new(local, 9216),
                entities,
                true,
            ));
        });
        self.hosts[host].jobs.send(start).unwrap();
        self.hosts[host].monitor = monitor.recv().ok();
        self.check(host, &Scope::All)
    }

    /// What notifications up to now say of entries of a network, where it is not what the host should hold.
    pub fn news_of_entries(&mut self, host: usize, n: u32) -> Vec<Seen> {
        static NEXT: AtomicU32 = AtomicU32::new(0x0aff_0000);
        // Notifications come in order: those of this address, which no other call uses, are the last.
        let last = IpAddr::V4(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let (overlay, bridge) = (self.overlay(host).to_owned(), bridge_name(vni(n)));
        let at_last = |verb: &str, more: &[&str]| {
            let entry = ["-n", &overlay, "neigh", verb, &last.to_string(), "dev", &bridge];
            ip(&[&entry, more].concat());
        };
        at_last("add", &["lladdr", "02:ff:ff:ff:ff:ff", "nud", "permanent"]);
        at_last("del", &[]);
        let mut news = Vec::new();
        let mut monitor = self.hosts[host].monitor.take().unwrap();
        loop {
            let Change::Entry(seen) = monitor.blocking_recv().unwrap() else {
                continue;
            };
            match &seen {
                Seen::Gone(ObjectKey::Neighbour(_, ip)) if *ip == last => break,
                seen if seen.key() == ObjectKey::Neighbour(vni(n), last) => {}
                _ => {
                    let asked = seen.clone();
                    if !self.engine(host, move |e| e.is_as_desired(&asked)) {
                        news.push(seen);
                    }
                }
            }
        }
        self.hosts[host].monitor = Some(monitor);
        news
    }

    /// Ends the engine.
    pub fn stop(&self, host: usize) {
        let (done, end) = mpsc::channel();
        let job: Job = Box::new(move |engine| {
            *engine = None;
            done.send(()).unwrap();
        });
        self.hosts[host].jobs.send(job).unwrap();
        end.recv().unwrap();
    }

    /// Ends the engine and starts another with the same desired state.
    pub fn restart(&mut self, host: usize) -> News {
        self.start(host)
    }

    pub fn update(&mut self, host: usize, upserts: Vec<HostEntity>, removes: &[HostKey]) {
        let at = &mut self.hosts[host].entities;
        at.retain(|e| !removes.contains(&e.key()) && !upserts.iter().any(|u| u.key() == e.key()));
        at.extend(upserts.iter().cloned());
        let removes = removes.to_vec();
        self.engine(host, move |e| e.update(upserts, &removes).unwrap());
    }

    pub fn check(&self, host: usize, scope: &Scope) -> News {
        let scope = scope.clone();
        self.engine(host, move |e| e.check(&scope).unwrap())
    }

    pub fn retry(&self, host: usize) -> News {
        self.engine(host, |e| e.retry(|code| code == ErrorCode::NetnsNotFound).unwrap())
    }

    pub fn error(&self, host: usize, key: &HostKey) -> Option<StepError> {
        let key = key.clone();
        self.engine(host, move |e| e.error(&key).cloned())
    }

    pub fn keys(&self, host: usize) -> Vec<HostKey> {
        self.hosts[host].entities.iter().map(HostEntity::key).collect()
    }

    pub fn links(&self, host: usize) -> Vec<String> {
        links(self.overlay(host))
    }

    /// How many links the host's own namespace has.
    pub fn links_of_host(&self, host: usize) -> usize {
        links(self.host(host)).len()
    }

    pub fn network(&self, _host: usize, n: u32) -> HostEntity {
        HostEntity::Network(Network {
            vni: vni(n),
            mtu: 1500,
            underlay: self.underlay,
            flood: Default::default(),
            gateways: Default::default(),
        })
    }

    pub fn attachment(&self, host: usize, n: u32, name: &str) -> HostEntity {
        let last = host + 1;
        HostEntity::from(Attachment {
            id: format!("blue/{name}"),
            vni: vni(n),
            mac: mac(last as u8),
            addresses: [format!("10.0.0.{last}/24"), format!("fd00::{last}/64")]
                .iter()
                .map(|a| a.parse().unwrap())
                .collect(),
            routes: ["0.0.0.0/0 10.0.0.254", "::/0 fd00::fe"]
                .iter()
                .filter_map(|r| r.split_once(' '))
                .map(|(d, v)| vtep_proto::Route {
                    destination: d.parse().unwrap(),
                    via: v.parse().ok(),
                })
                .collect(),
            netns: self.workload(host).to_owned(),
            interface: "eth0".into(),
            mtu: 0,
            allowed_addresses: Default::default(),
            port_security: true,
            shared_netns: false,
            mode: Default::default(),
        })
    }

    /// The entities of a host about the workload on the other one.
    pub fn remote(&self, other: usize, n: u32) -> Vec<HostEntity> {
        let last = other as u8 + 1;
        let vtep = self.hosts[other].local.of(self.underlay).unwrap();
        let ips = [format!("10.0.0.{last}"), format!("fd00::{last}")];
        let neighbours = ips.iter().map(|ip| Neighbour {
            vni: vni(n),
            ip: ip.parse().unwrap(),
            mac: mac(last),
        });
        let station = HostEntity::Fdb(FdbEntry {
            vni: vni(n),
            mac: mac(last),
            vtep,
        });
        [station]
            .into_iter()
            .chain(neighbours.map(HostEntity::Neighbour))
            .collect()
    }

    /// A workload on each host, in one network.
    pub fn two_workloads(&mut self, n: u32) {
        for (host, name) in [(0, "a"), (1, "b")] {
            let mut all = vec![self.network(host, n)];
            all.extend(self.remote(1 - host, n));
            all.push(self.attachment(host, n, name));
            self.update(host, all, &[]);
            for key in self.keys(host) {
                assert_eq!(self.error(host, &key), None, "{key}");
            }
        }
    }

    pub fn udp_round_trip(&self, a: usize, from: IpAddr, b: usize, to: IpAddr, size: usize) {
        udp_round_trip((self.workload(a), from), (self.workload(b), to), size);
    }

    pub fn udp_arrives(&self, a: usize, from: IpAddr, b: usize, to: IpAddr) -> bool {
        udp((self.workload(a), from, 0), (self.workload(b), to, 0), 64, SILENCE).is_ok()
    }

    /// True when something that listens on the host gets a datagram from the workload.
    pub fn host_answers(&self, host: usize, from: IpAddr, at: SocketAddr) -> bool {
        let server = inside(self.host(host), move || UdpSocket::bind(at).unwrap())
            .join()
            .unwrap();
        let client = inside(self.workload(host), move || UdpSocket::bind((from, 0)).unwrap())
            .join()
            .unwrap();
        server.set_read_timeout(Some(SILENCE)).unwrap();
        let _ = client.send_to(b"hello", at);
        server.recv_from(&mut [0; 16]).is_ok()
    }

    pub fn tcp_round_trip(&self, a: usize, from: IpAddr, b: usize, to: IpAddr, size: usize) {
        let _ = from;
        let listener = inside(self.workload(b), move || TcpListener::bind((to, 0)).unwrap())
            .join()
            .unwrap();
        let address = listener.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = vec![0u8; size];
            stream.read_exact(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let payload = sent.clone();
        let got = inside(self.workload(a), move || {
            let mut stream = TcpStream::connect_timeout(&address, ARRIVAL).unwrap();
            stream.set_read_timeout(Some(ARRIVAL)).unwrap();
            stream.write_all(&payload).unwrap();
            let mut all = vec![0u8; size];
            stream.read_exact(&mut all).unwrap();
            all
        })
        .join()
        .unwrap();
        echo.join().unwrap();
        assert!(got == sent);
    }

    /// Waits until a condition holds that the kernel establishes in the background.
    pub fn until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < ARRIVAL, "the condition never held");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
