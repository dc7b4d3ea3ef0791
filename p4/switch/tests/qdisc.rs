//! Traffic control on the devices of ports. Needs root.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p4_switch::port::netdev::Netdev;
use p4_switch::port::qdisc::{Qdisc, Qdiscs, Report};
use p4_switch::port::{Lane, Port as _};

fn run(line: &str) -> Vec<u8> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Frames that left by the root discipline of `p1`.
fn counted() -> u64 {
    let json: serde_json::Value = serde_json::from_slice(&run("tc -s -j qdisc show dev p1")).unwrap();
    let root = json.as_array().unwrap().iter().find(|q| q["root"] == true);
    root.and_then(|q| q["packets"].as_u64()).unwrap_or(0)
}

fn send(lane: &mut Lane, frames: usize) {
    for _ in 0..frames {
        lane.tx
            .send(&[&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], &[0; 986]].concat());
    }
    lane.tx.flush();
}

/// Runs `test` in a new network namespace with a veth `p1`; passes it the veth's index.
fn with_device<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(u32) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make namespaces");
        // Otherwise the kernel sends frames of its own (RFC 4861), which would be counted, too.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        run("ip link add p1 type veth peer name g1");
        run("ip link set p1 up");
        run("ip link set g1 up");
        let ifindex = nix::net::if_::if_nametoindex("p1").unwrap();
        // Threads of the runtime inherit the namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .unwrap();
        runtime.block_on(test(ifindex));
    });
    thread.join().unwrap();
}

async fn until(qdiscs: &Arc<Qdiscs>, ifindex: u32, attached: bool) {
    while qdiscs.is_attached(ifindex) != attached {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn frames_go_through_a_discipline_that_is_attached() {
    with_device(|ifindex| async move {
        let qdiscs = Qdiscs::follow().await.unwrap();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&reports);
        let report: Report = Arc::new(move |attached| noted.lock().unwrap().push(attached));
        let port = Netdev::new("p1").with_qdisc(Qdisc::WhereAttached(Arc::clone(&qdiscs), report));
        let mut lane = port.open(1).unwrap().remove(0);
        assert!(!qdiscs.is_attached(ifindex), "the kernel's own is bypassed");
        run("tc qdisc add dev p1 root tbf rate 1gbit burst 1mb limit 10mb");
        until(&qdiscs, ifindex, true).await;
        let before = counted();
        send(&mut lane, 10);
        while counted() < before + 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        // A discipline that takes three frames: the others are lost and counted.
        run("tc qdisc replace dev p1 root tbf rate 8bit burst 1500 limit 3000");
        let counters = port.counters();
        let lost = counters.out_lost();
        send(&mut lane, 50);
        assert!(counters.out_lost() - lost >= 40, "{} lost", counters.out_lost() - lost);

        run("tc qdisc del dev p1 root");
        until(&qdiscs, ifindex, false).await;
        run("tc qdisc add dev p1 clsact");
        until(&qdiscs, ifindex, true).await;
        run("tc qdisc del dev p1 clsact");
        until(&qdiscs, ifindex, false).await;
        let lost = counters.out_lost();
        send(&mut lane, 50);
        assert_eq!(counters.out_lost(), lost);
        assert_eq!(*reports.lock().unwrap(), [false, true, false, true, false]);
    });
}

#[test]
fn a_discipline_that_is_there_first_counts_and_a_flag_passes_it_by() {
    with_device(|ifindex| async move {
        run("tc qdisc add dev p1 root tbf rate 1gbit burst 1mb limit 10mb");
        let qdiscs = Qdiscs::follow().await.unwrap();
        assert!(qdiscs.is_attached(ifindex));
        for (qdisc, frames) in [
            (Qdisc::WhereAttached(qdiscs, Arc::new(|_| {})), 5),
            (Qdisc::Use, 5),
            (Qdisc::Bypass, 0),
        ] {
            let mut lane = Netdev::new("p1").with_qdisc(qdisc).open(1).unwrap().remove(0);
            let before = counted();
            send(&mut lane, 5);
            while counted() < before + frames {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(counted(), before + frames);
        }
    });
}

/// Sends every frame out of port 2, with the queue's depths in its last two octets.
const PROGRAM: &str = r"
#include <core.p4>
#include <v1model.p4>
header x_t { bit<112> ethernet; bit<16> depth; }
struct H { x_t x; }
struct M { }
parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {
    state start { b.extract(h.x); transition accept; }
}
control V(inout H h, inout M m) { apply { } }
control I(inout H h, inout M m, inout standard_metadata_t s) { apply { s.egress_spec = 2; } }
control E(inout H h, inout M m, inout standard_metadata_t s) { apply { h.x.depth = (bit<16>) s.enq_qdepth; } }
control U(inout H h, inout M m) { apply { } }
control D(packet_out b, in H h) { apply { b.emit(h.x); } }
V1Switch(P(), V(), I(), E(), U(), D()) main;
";

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn packets_for_a_slow_device_wait_in_the_switch_and_programs_see_how_many() {
    with_device(|_| async move {
        run("ip link set lo up");
        run("ip link add p2 type veth peer name g2");
        run("ip link set p2 up");
        run("ip link set g2 up");
        run("tc qdisc add dev p2 root tbf rate 1mbit burst 1600 limit 1mb");
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("program.json");
        let compiled = p4_compiler::compile("program.p4", None, PROGRAM, &p4_compiler::Options::default());
        std::fs::write(&json, compiled.map_err(|d| d.short()).unwrap().json).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_p4-switch"))
            .args(["-i", "1@p1", "-i", "2@p2", "--thrift-port", "9090"])
            .arg(&json)
            .spawn()
            .unwrap();
        let _child = Killed(child);
        let open = |name: &str| Netdev::new(name).open(1).unwrap().remove(0);
        let (mut sender, mut receiver) = (open("g1"), open("g2").rx.unwrap());
        // The switch listens only once its ports are open.
        while std::net::TcpStream::connect("127.0.0.1:9090").is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The switch needs a moment until it has noticed the discipline and runs the program.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut deepest = 0;
        while deepest < 20 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "at most {deepest} packets waited"
            );
            send(&mut sender, 64);
            while let Some(frame) = receiver.next() {
                if frame.starts_with(&[2, 0, 0, 0, 0, 9]) {
                    deepest = deepest.max(u16::from_be_bytes([frame[14], frame[15]]));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
