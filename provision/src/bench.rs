//! Measures the DHCP server over real sockets of this machine. The sender acts as a relay, so it needs no root.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use clap::Args;
use hdrhistogram::Histogram;
use vfabric_api::ident::Mac;
use vfabric_api::topology::{Role, Switch, Topology};

use crate::board::Board;
use crate::dhcp::journal::Journal;
use crate::dhcp::leases::Leases;
use crate::dhcp::run::{Shell, open};
use crate::dhcp::server::Server;
use crate::directory::Directory;
use crate::settings::Settings;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const RELAY: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// DISCOVERs in a second
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Switches in the inventory; they ask in turn
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    switches: u16,
    /// Switches that ask for a lease at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    at_once: u16,
    /// Directory for the file of leases: the disk that is measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn mac(i: u16) -> Mac {
    let [hi, lo] = i.to_be_bytes();
    Mac([2, 0xaa, 0, 0, hi, lo])
}

fn inventory(switches: u16) -> Result<Directory> {
    let mut topology = Topology::from_yaml("fabric: { name: bench }\nswitches: []\n")?;
    for i in 1..=switches {
        let [hi, lo] = i.to_be_bytes();
        topology.switches.push(Switch {
            name: format!("s{i}").parse()?,
            role: Role::Leaf,
            device_id: i,
            loopback_ipv4: [10, 255, hi, lo].into(),
            loopback_ipv6: [0xfd00, 0, 0, 0, 0, 0, 0, i].into(),
            p4runtime: SocketAddr::from(([127, 1, hi, lo], 9559)),
            access_ports: Vec::new(),
            serial: None,
            mac: Some(mac(i)),
            model: None,
            software: None,
            ports: Vec::new(),
            breakouts: Vec::new(),
        });
    }
    Ok(Directory::new(topology))
}

/// A request of ONIE through a relay that has a port of its own (RFC 8357).
fn request(kind: u8, xid: u32, mac: Mac, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut octets = vec![0; 236];
    octets[..4].copy_from_slice(&[1, 1, 6, 1]);
    octets[4..8].copy_from_slice(&xid.to_be_bytes());
    octets[24..28].copy_from_slice(&RELAY.octets());
    octets[28..34].copy_from_slice(&mac.0);
    octets.extend(dhcproto::v4::MAGIC);
    octets.extend([53, 1, kind, 82, 2, 19, 0]);
    let class = b"onie_vendor:x86_64-acme_s1-r0";
    let parameters = [1, 3, 6, 7, 12, 15, 42, 54, 66, 67, 72, 114, 150];
    for (code, value) in [(60, &class[..]), (55, &parameters[..])].iter().chain(options) {
        octets.push(*code);
        octets.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        octets.extend(*value);
    }
    octets.push(255);
    octets
}

/// Transaction id, address, and message type (OFFER or ACK).
fn answer(octets: &[u8]) -> Option<(u32, [u8; 4], u8)> {
    let xid = u32::from_be_bytes(octets.get(4..8)?.try_into().ok()?);
    let address = octets.get(16..20)?.try_into().ok()?;
    let kind = dhcproto::v4::borrowed::Message::new(octets).ok()?;
    let kind = kind.opts().find(|o| u8::from(o.code()) == 53)?;
    Some((xid, address, *kind.data().first()?))
}

/// Runs the benchmark.
///
/// # Errors
/// The server cannot be started, or answers are missing.
pub fn run(bench: &Bench) -> Result<()> {
    let dir = bench.dir.join(format!("provision-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let done = measure(bench, &dir);
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    done
}

fn measure(bench: &Bench, dir: &std::path::Path) -> Result<()> {
    let text = format!(
        "address: {RELAY}\ndhcp_port: 0\nstate: {}\nsubnets: [{{ subnet: 127.0.0.0/8 }}]\n",
        serde_json::to_string(&dir.display().to_string())?
    );
    let path = dir.join("settings.yaml");
    std::fs::write(&path, text)?;
    let settings = Arc::new(Settings::load(&path)?);
    let ports = open(&settings)?;
    let to = ports.first().context("no socket")?.local_addr()?;
    let (board, stop) = (Arc::<Board>::default(), Arc::new(AtomicBool::new(false)));
    let shell = Shell {
        ports,
        server: Server::new(Arc::clone(&settings), Leases::default()),
        keeper: Box::new(Journal::open::<Ipv4Addr>(dir)?.journal),
        directory: Arc::new(ArcSwap::from_pointee(inventory(bench.switches)?)),
        board,
        stop: Arc::clone(&stop),
    };
    let server = std::thread::spawn(move || shell.run());
    let measured = discovers(bench, to).and_then(|(p50, p99, max, lost)| {
        let (leases_ms, leased) = leases(bench, to)?;
        Ok((p50, p99, max, lost, leases_ms, leased))
    });
    stop.store(true, Ordering::Relaxed);
    match server.join() {
        Ok(ended) => ended?,
        Err(_) => bail!("the server panicked"),
    }
    let (p50, p99, max, lost, leases_ms, leased) = measured?;
    let sent = u64::from(bench.rate) * u64::from(bench.seconds);
    println!(
        "{} DISCOVERs/s for {} s, {} switches: p50 {p50} us, p99 {p99} us, longest {max} us, {lost} of {sent} lost",
        bench.rate, bench.seconds, bench.switches
    );
    println!("{leased} switches at once, DISCOVER to ACK on the disk: {leases_ms:.1} ms");
    if let Some(path) = &bench.json {
        let document = serde_json::json!({
            "discover": {
                "rate_per_s": bench.rate, "answer_p50_us": p50, "answer_p99_us": p99, "answer_max_us": max,
                "lost_messages": lost,
            },
            "leases": { "at_once_switches": leased, "all_leased_ms": leases_ms },
        });
        std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n")
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Sends requests at a steady rate. Returns percentiles of the time to the answer in microseconds, and how many answers
/// are missing.
fn discovers(bench: &Bench, to: SocketAddr) -> Result<(u64, u64, u64, u64)> {
    let socket = UdpSocket::bind((RELAY, 0))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let all = bench.rate * bench.seconds;
    let sent_at: Arc<Vec<AtomicU64>> = Arc::new((0..all).map(|_| AtomicU64::new(0)).collect());
    let began = Instant::now();
    let sender = {
        let (socket, sent_at) = (socket.try_clone()?, Arc::clone(&sent_at));
        let (rate, switches) = (bench.rate, u32::from(bench.switches));
        std::thread::spawn(move || -> std::io::Result<()> {
            for i in 0..all {
                let due = Duration::from_secs_f64(f64::from(i) / f64::from(rate));
                // Time counts from the moment at which the request was due, so that a late sender does not hide a slow
                // server.
                if let Some(early) = due.checked_sub(began.elapsed()) {
                    std::thread::sleep(early);
                }
                if let Some(at) = sent_at.get(i as usize) {
                    at.store(
                        u64::try_from(due.as_nanos()).unwrap_or(u64::MAX).max(1),
                        Ordering::Relaxed,
                    );
                }
                let who = u16::try_from(i % switches).unwrap_or_default() + 1;
                socket.send_to(&request(1, i, mac(who), &[]), to)?;
            }
            Ok(())
        })
    };
    let mut times = Histogram::<u64>::new(3).context("histogram")?;
    let mut octets = [0; 1500];
    let mut last = Instant::now();
    while times.len() < u64::from(all) && last.elapsed() < PATIENCE {
        let Ok(length) = socket.recv(&mut octets) else { continue };
        let Some((xid, ..)) = octets.get(..length).and_then(answer) else {
            continue;
        };
        last = Instant::now();
        let Some(at) = sent_at.get(xid as usize) else { continue };
        let due = Duration::from_nanos(at.load(Ordering::Relaxed));
        let took = began.elapsed().saturating_sub(due);
        times.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))?;
    }
    match sender.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("the sender panicked"),
    }
    let lost = u64::from(all) - times.len();
    Ok((
        times.value_at_quantile(0.5),
        times.value_at_quantile(0.99),
        times.max(),
        lost,
    ))
}

/// Lets many switches ask at the same time. Returns how long it took until the last one had its lease, in milliseconds.
fn leases(bench: &Bench, to: SocketAddr) -> Result<(f64, usize)> {
    let socket = UdpSocket::bind((RELAY, 0))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let all = bench.at_once.min(bench.switches);
    let began = Instant::now();
    for i in 1..=all {
        socket.send_to(&request(1, u32::from(i), mac(i), &[]), to)?;
    }
    let mut leased = 0;
    let mut octets = [0; 1500];
    while leased < usize::from(all) {
        let length = socket
            .recv(&mut octets)
            .with_context(|| format!("{leased} of {all} switches have a lease"))?;
        match octets.get(..length).and_then(answer) {
            Some((xid, address, 2)) => {
                let who = mac(u16::try_from(xid).unwrap_or_default());
                let options: [(u8, &[u8]); 2] = [(54, &RELAY.octets()), (50, &address)];
                socket.send_to(&request(3, xid, who, &options), to)?;
            }
            Some((_, _, 5)) => leased += 1,
            other => bail!("an answer that is neither OFFER nor ACK: {other:?}"),
        }
    }
    Ok((began.elapsed().as_secs_f64() * 1000.0, leased))
}
