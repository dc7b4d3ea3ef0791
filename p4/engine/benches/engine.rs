//! Packets per second of one core (of its processor time), in memory: the engine beside the reference evaluator, on
//! the same programs, entries and frames.
//!
//! `cargo bench -p p4-engine --bench engine [-- --json FILE] [--only NAME] [--engine] [--interpreted]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use p4_engine::tables::store::Choice;
use p4_engine::tables::{ActionCall, FieldMatch, Target, Writer};
use p4_engine::{DigestFields, Pipeline, Sink, Worker};
use p4_reference::{self as reference, Output, Switch};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Frames of a scenario: more than the processor's caches and branch predictors remember.
const FRAMES: usize = 1 << 14;
/// Frames of one burst, which see the same snapshot of the tables.
const BURST: usize = 64;
/// How long each figure is measured, several times; the best one counts, because other work on the machine can only
/// slow it down.
const RUN: Duration = Duration::from_millis(200);
const RUNS: usize = 5;
const CPU: u32 = 510;
const DROP: u32 = 511;
/// Ports of the leaf: bare-metal machines, a host, the spines.
const ACCESS: u32 = 1;
const HOST: u32 = 2;
const SPINES: [u32; 4] = [11, 12, 13, 14];
const ROUTES: u32 = 10_000;
const MACS: u32 = 10_000;
const PERMITS: u32 = 1_000;
const NETWORK: u32 = 100;
const ROUTER: u32 = 200;
const GATEWAY: u64 = 0x0200_0000_00fe;

/// One program in both evaluators.
struct Both {
    program: bmv2_json::Program,
    reference: Switch,
    pipeline: Arc<Pipeline>,
    writer: Writer,
    slots: Vec<u32>,
}

/// An action's arguments: value and octets.
type Args<'a> = &'a [(u128, usize)];

fn octets(value: u128, octets: usize) -> Vec<u8> {
    value.to_be_bytes()[16 - octets..].to_vec()
}

impl Both {
    fn new(path: &Path) -> Result<Self> {
        let compiled = p4_compiler::compile_file(path, &p4_compiler::Options::default())
            .map_err(|diagnostics| diagnostics.short())?;
        let program = compiled.program;
        let (pipeline, writer) = Pipeline::new(&program, Some(CPU), DROP)?;
        if !std::env::args().any(|a| a == "--interpreted") {
            let started = Instant::now();
            let interpreted = pipeline.compile();
            let after = started.elapsed().as_secs_f64() * 1e3;
            println!("machine code after {after:.1} ms; interpreted: {interpreted:?}");
        }
        Ok(Self {
            reference: Switch::from_program(&program, Some(CPU), DROP)?,
            slots: vec![0; program.pipelines.iter().map(|p| p.tables.len()).sum()],
            program,
            pipeline,
            writer,
        })
    }

    fn call(&self, table: usize, action: &str, args: Args) -> Result<(reference::ActionCall, u32, Vec<u64>)> {
        let index = self
            .pipeline
            .action(Some(table), action)
            .ok_or_else(|| format!("no action {action}"))?;
        let bytes: Vec<Vec<u8>> = args.iter().map(|(value, n)| octets(*value, *n)).collect();
        let words = self.pipeline.args(index, bytes.iter().map(Vec::as_slice));
        let call = reference::ActionCall {
            action: index as usize,
            args: args.iter().map(|(value, _)| (*value).into()).collect(),
        };
        Ok((call, index, words))
    }

    /// Puts an entry into both.
    fn put(&mut self, table: &str, key: &[reference::Match], action: &str, args: Args) -> Result<()> {
        let index = self.pipeline.table(table).ok_or_else(|| format!("no table {table}"))?;
        let (call, action, words) = self.call(index, action, args)?;
        let target = Target::Action(ActionCall { action, args: &words });
        self.insert(index, key, reference::Target::Action(call), target)
    }

    /// Puts an entry with a group of members into both.
    fn put_ways(&mut self, table: &str, key: &[reference::Match], action: &str, ways: &[u32]) -> Result<()> {
        let index = self.pipeline.table(table).ok_or_else(|| format!("no table {table}"))?;
        let calls = ways.iter().map(|port| self.call(index, action, &[((*port).into(), 2)]));
        let calls: Vec<_> = calls.collect::<Result<_>>()?;
        let watched = calls
            .iter()
            .zip(ways)
            .map(|((call, ..), port)| (call.clone(), Some(*port)));
        let choices: Vec<Choice<'_>> = calls
            .iter()
            .zip(ways)
            .map(|((_, action, args), port)| Choice {
                call: ActionCall { action: *action, args },
                weight: 1,
                watch: Some(*port),
            })
            .collect();
        let target = reference::Target::OneShot(watched.collect());
        self.insert(index, key, target, Target::OneShot(&choices))
    }

    fn insert(
        &mut self,
        table: usize,
        key: &[reference::Match],
        target: reference::Target,
        engine: Target<'_>,
    ) -> Result<()> {
        let (counter, meter, hit) = Default::default();
        let entry = reference::Entry::new(0, target, &counter, &meter, &hit);
        self.reference.tables_mut().put(table, key, entry);
        let slot = self.slots[table];
        self.slots[table] += 1;
        let matches = key.iter().map(|m| match m {
            reference::Match::Exact(v) => FieldMatch::Exact(v),
            reference::Match::Lpm(v, prefix) => FieldMatch::Lpm(v, *prefix as u32),
            reference::Match::Ternary(v, mask) => FieldMatch::Ternary(v, mask),
            reference::Match::Range(low, high) => FieldMatch::Range(low, high),
        });
        self.writer.write(0, |t| t.insert(table, slot, matches, 0, engine))?;
        Ok(())
    }
}

fn exact(value: u128, n: usize) -> reference::Match {
    reference::Match::Exact(octets(value, n).into())
}

fn mapped(address: u32) -> u128 {
    0xffff << 32 | u128::from(address)
}

/// Address of the attachment with this number, behind one of 250 VTEPs.
fn address(i: u32) -> u32 {
    0x0a00_0000 + i
}

fn mac(i: u32) -> u64 {
    0x0200_0100_0000 + u64::from(i)
}

fn vtep_of(i: u32) -> u32 {
    1 + i % 250
}

fn vtep_address(vtep: u32) -> u32 {
    0xac10_0000 + vtep
}

/// The leaf, full: 10k routes, 10k MAC addresses, 1k permitted networks of a host, paths of 4 links.
fn leaf() -> Result<Both> {
    let mut both = Both::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric/leaf.p4"))?;
    let (port_vlan, host) = ("LeafIngress.admission.port.", "LeafIngress.admission.host.");
    let table = |of: &str, name: &str| format!("{of}{name}");
    let (network, router) = ((NETWORK.into(), 3), (ROUTER.into(), 3));
    both.put(
        &table(port_vlan, "port_vlan"),
        &[exact(ACCESS.into(), 2), exact(0, 2)],
        &table(port_vlan, "set_access"),
        &[network, router, (0x8001, 2)],
    )?;
    both.put(
        &table(port_vlan, "port_vlan"),
        &[exact(HOST.into(), 2), exact(0, 2)],
        &table(port_vlan, "set_host"),
        &[],
    )?;
    for vlan in 1..PERMITS.min(4000) {
        let key = [exact(3, 2), exact(vlan.into(), 2)];
        let args = [(vlan.into(), 3), (0, 3), (0x8000 + u128::from(vlan), 2)];
        both.put(
            &table(port_vlan, "port_vlan"),
            &key,
            &table(port_vlan, "set_access"),
            &args,
        )?;
    }
    let own = mapped(vtep_address(0));
    let source = [exact(HOST.into(), 2), exact(mapped(vtep_address(1000)), 16)];
    both.put(
        &table(host, "host_source"),
        &source,
        &table(host, "set_source_host"),
        &[(1000, 2)],
    )?;
    for i in 0..PERMITS {
        let key = [exact(1000, 2), exact((NETWORK + i).into(), 3)];
        both.put(&table(host, "host_vni"), &key, &table(host, "permit"), &[])?;
        let of = "LeafIngress.termination.";
        both.put(
            &table(of, "vni"),
            &[exact((NETWORK + i).into(), 3)],
            &table(of, "set_network"),
            &[router],
        )?;
    }
    let of = "LeafIngress.own_address.";
    both.put(
        &table(of, "local_address"),
        &[exact(own, 16)],
        &table(of, "set_local"),
        &[],
    )?;
    let of = "LeafIngress.overlay.route.";
    both.put(
        &table(of, "router_mac"),
        &[exact(GATEWAY.into(), 6)],
        &table(of, "set_routed"),
        &[],
    )?;
    for i in 0..ROUTES {
        let key = [exact(ROUTER.into(), 3), exact(address(i).into(), 4)];
        let args = [network, (vtep_of(i).into(), 2), (mac(i).into(), 6), (1500, 2)];
        both.put(&table(of, "ipv4_host"), &key, &table(of, "route_to_vtep"), &args)?;
    }
    let of = "LeafIngress.overlay.bridge.";
    for i in 0..MACS {
        let key = [exact(NETWORK.into(), 3), exact(mac(i).into(), 6)];
        both.put(
            &table(of, "bridge_mac"),
            &key,
            &table(of, "bridge_to_vtep"),
            &[(vtep_of(i).into(), 2)],
        )?;
    }
    let (tunnel, underlay) = ("LeafIngress.overlay.tunnel.", "LeafIngress.underlay.");
    for vtep in 1..=250 {
        let args = [(vtep_address(0).into(), 4), (vtep_address(vtep).into(), 4)];
        let key = [exact(vtep.into(), 2)];
        both.put(
            &table(tunnel, "remote_vtep"),
            &key,
            &table(tunnel, "tunnel_ipv4"),
            &args,
        )?;
        let route = reference::Match::Lpm(octets(mapped(vtep_address(vtep)), 16).into(), 128);
        both.put(
            &table(underlay, "underlay_route"),
            &[route],
            &table(underlay, "to_path"),
            &[(u128::from(vtep % 16), 2)],
        )?;
    }
    for path in 0..16 {
        let key = [exact(path, 2)];
        both.put_ways(
            &table(underlay, "path"),
            &key,
            &table(underlay, "to_fabric_port"),
            &SPINES,
        )?;
    }
    let of = "LeafEgress.link_rewrite.";
    for port in SPINES {
        let args = [(0x02fa_b000_0001, 6), (0x02fa_b000_0000 + u128::from(port), 6)];
        both.put(
            &table(of, "neighbour"),
            &[exact(port.into(), 2)],
            &table(of, "rewrite"),
            &args,
        )?;
    }
    Ok(both)
}

/// The router: 10k routes, 250 next hops, 16 ports.
fn router() -> Result<Both> {
    let mut both = Both::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs/router.p4"))?;
    for i in 0..ROUTES {
        let prefix = [24, 24, 24, 20, 16][i as usize % 5];
        let route = reference::Match::Lpm(octets(route_prefix(i).into(), 4).into(), prefix);
        both.put(
            "RouterIngress.route",
            &[route],
            "RouterIngress.set_next_hop",
            &[(u128::from(i % 250), 2)],
        )?;
    }
    for hop in 0..250 {
        let args = [(u128::from(hop % 16), 2), (mac(hop).into(), 6)];
        both.put(
            "RouterIngress.next_hop",
            &[exact(hop.into(), 2)],
            "RouterIngress.set_port",
            &args,
        )?;
    }
    for port in 0..16 {
        both.put(
            "RouterEgress.port",
            &[exact(port, 2)],
            "RouterEgress.rewrite",
            &[(0x0200_0000_ff00 + port, 6)],
        )?;
    }
    Ok(both)
}

fn route_prefix(i: u32) -> u32 {
    (0x1000_0000 + (i << 8)) & (u32::MAX << (32 - [24, 24, 24, 20, 16][i as usize % 5]))
}

fn ethernet(to: u64, from: u64, kind: u16) -> Vec<u8> {
    [&to.to_be_bytes()[2..], &from.to_be_bytes()[2..], &kind.to_be_bytes()].concat()
}

fn ipv4(from: u32, to: u32, protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    let words = header.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header
}

fn udp(from: u16, to: u16, payload: usize) -> Vec<u8> {
    let length = (8 + payload) as u16;
    [from, to, length, 0].iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// A UDP packet in a frame of 64 octets (with the 4 of the check sequence that ports strip, 60 here).
fn plain(to: u64, from: u64, source: u32, target: u32, rng: &mut StdRng) -> Vec<u8> {
    let mut frame = ethernet(to, from, 0x0800);
    frame.extend(ipv4(source, target, 17, 30));
    frame.extend(udp(rng.random_range(1024..65000), 53, 22));
    frame.resize(64, 0);
    frame
}

/// Half of them routed, half bridged; all into tunnels.
fn leaf_frames(rng: &mut StdRng) -> Vec<(u32, Vec<u8>)> {
    let frames = (0..FRAMES as u32).map(|i| {
        let at = rng.random_range(0..ROUTES);
        let to = if i % 2 == 0 { GATEWAY } else { mac(at) };
        (ACCESS, plain(to, 0x0200_0000_0777, 0x0a63_0001, address(at), rng))
    });
    let mut frames: Vec<_> = frames.collect();
    frames.shuffle(rng);
    frames
}

/// From a host's tunnel, through its gateway, into another tunnel.
fn tunnel_frames(rng: &mut StdRng) -> Vec<(u32, Vec<u8>)> {
    let frame = |_| {
        let at = rng.random_range(0..ROUTES);
        let inner = plain(GATEWAY, 0x0200_0000_0777, 0x0a63_0001, address(at), rng);
        let mut frame = ethernet(0x02fa_b000_0001, 0x0200_0000_0aaa, 0x0800);
        frame.extend(ipv4(vtep_address(1000), vtep_address(0), 17, 16 + inner.len()));
        frame.extend(udp(rng.random_range(0xc000..0xffff), 4789, 8 + inner.len()));
        frame.extend([8, 0, 0, 0]);
        frame.extend((rng.random_range(NETWORK..NETWORK + PERMITS) << 8).to_be_bytes());
        frame.extend(inner);
        (HOST, frame)
    };
    (0..FRAMES).map(frame).collect()
}

fn router_frames(rng: &mut StdRng) -> Vec<(u32, Vec<u8>)> {
    let frame = |_| {
        let target = route_prefix(rng.random_range(0..ROUTES)) + rng.random_range(1..250);
        (
            rng.random_range(0..16),
            plain(GATEWAY, 0x0200_0000_0777, 0x0a63_0001, target, rng),
        )
    };
    (0..FRAMES).map(frame).collect()
}

/// Counts what comes out.
#[derive(Default)]
struct Count {
    frames: u64,
    bytes: u64,
}

impl Sink for Count {
    fn frame(&mut self, _: u32, data: &[u8]) {
        self.frames += 1;
        self.bytes += data.len() as u64;
    }

    fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
}

/// Time that this thread has spent on a processor (proc(5), `schedstat`): what other programs
/// on the machine take does not count.
fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Packets per second of processor time: the best of some runs of a burst.
fn measure(mut burst: impl FnMut(usize)) -> f64 {
    let mut best: f64 = 0.0;
    let started = Instant::now();
    let now = || on_cpu().unwrap_or_else(|| started.elapsed());
    for _ in 0..RUNS {
        let (start, mut packets) = (now(), 0);
        while now() < start + RUN {
            for _ in 0..64 {
                burst(packets % FRAMES);
                packets += BURST;
            }
        }
        let spent = now().saturating_sub(start);
        best = best.max(packets as f64 / spent.as_secs_f64());
    }
    best
}

/// Measures both, and reports frames that they did not forward.
fn scenario(name: &str, both: &Both, frames: &[(u32, Vec<u8>)], target: f64) -> Result<serde_json::Value> {
    let mut worker = Worker::new(&both.pipeline, "bench");
    let mut count = Count::default();
    {
        let mut batch = worker.batch();
        frames
            .iter()
            .for_each(|(port, frame)| batch.process(*port, frame, 1, &mut count));
    }
    if count.frames != frames.len() as u64 {
        return Err(format!("{name}: of {} frames {} came out", frames.len(), count.frames).into());
    }
    let engine = measure(|at| {
        let mut batch = worker.batch();
        for (port, frame) in &frames[at..at + BURST] {
            batch.process(*port, frame, 1, &mut count);
        }
    });
    // For profiles of the engine.
    if std::env::args().any(|a| a == "--engine") {
        println!("{name:<28} {:>7.0} kpps  {:>6.0} ns", engine / 1e3, 1e9 / engine);
        return Ok(serde_json::Value::Null);
    }
    let mut out: Vec<Output> = Vec::new();
    let reference = measure(|at| {
        let tables = both.reference.tables();
        for (port, frame) in &frames[at..at + BURST] {
            both.reference.process_with(&tables, *port, frame, 1, &mut out);
            out.clear();
        }
    });
    let octets = frames.first().map_or(0, |(_, f)| f.len());
    println!(
        "{name:<28} {octets:>4} octets  {:>7.0} kpps  {:>6.0} ns  x{:<5.1} reference {:>5.0} kpps{}",
        engine / 1e3,
        1e9 / engine,
        engine / reference,
        reference / 1e3,
        if target > 0.0 {
            format!("  target {:.0} kpps", target / 1e3)
        } else {
            String::new()
        }
    );
    Ok(serde_json::json!({
        "name": name, "octets": octets, "engine_pps": engine, "reference_pps": reference, "target_pps": target,
    }))
}

/// Several workers at once: packets per second of all.
fn together(name: &str, both: &Both, frames: &[(u32, Vec<u8>)], workers: usize) -> serde_json::Value {
    let each = |_: usize| {
        let mut worker = Worker::new(&both.pipeline, "bench");
        let mut count = Count::default();
        measure(|at| {
            let mut batch = worker.batch();
            for (port, frame) in &frames[at..at + BURST] {
                batch.process(*port, frame, 1, &mut count);
            }
        })
    };
    let total: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|i| scope.spawn(move || each(i))).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).sum()
    });
    println!("{name:<28} {workers} workers    {:>7.0} kpps in all", total / 1e3);
    serde_json::json!({ "name": name, "workers": workers, "engine_pps": total })
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let json = args.iter().position(|a| a == "--json").and_then(|at| args.get(at + 1));
    let only = args.iter().position(|a| a == "--only").and_then(|at| args.get(at + 1));
    let wanted = |name: &str| only.is_none_or(|o| name.contains(o.as_str()));
    let mut rng = StdRng::seed_from_u64(1);
    let mut results = Vec::new();
    let leaf = leaf()?;
    println!(
        "leaf.p4: {ROUTES} routes, {MACS} MAC addresses, {PERMITS} VLANs, networks and permits; {} actions",
        leaf.program.actions.len()
    );
    let frames = leaf_frames(&mut rng);
    if wanted("leaf") {
        results.push(scenario("leaf: port to tunnel", &leaf, &frames, 1.5e6)?);
    }
    if wanted("tunnel") {
        results.push(scenario(
            "leaf: tunnel to tunnel",
            &leaf,
            &tunnel_frames(&mut rng),
            0.0,
        )?);
    }
    let router = router()?;
    let frames_router = router_frames(&mut rng);
    if wanted("router") {
        results.push(scenario("router: 3 tables, 10k routes", &router, &frames_router, 4e6)?);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    if only.is_none() && cores > 1 {
        results.push(together("leaf: port to tunnel", &leaf, &frames, cores));
        results.push(together("router: 3 tables, 10k routes", &router, &frames_router, cores));
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}
