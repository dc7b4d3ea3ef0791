//! Targets of the P4 tools.

use super::{Target, generate};
use crate::stf::target::all_compiled;
use p4_compiler::{Dump, Options, compile, dump};
use p4_engine::{DigestFields, Pipeline, Sink, Worker};
use p4_reference::{Output, Switch};
use std::sync::{Arc, OnceLock};

/// The targets.
pub(super) const TARGETS: [Target; 4] = [
    Target {
        name: "parser",
        about: "any text gives a tree or errors, and a tree that is printed and parsed again is the same tree",
        seeds: sources,
        body: parser,
    },
    Target {
        name: "compiler",
        about: "any text gives a program or errors; the output can be loaded and read back",
        seeds: sources,
        body: compiler,
    },
    Target {
        name: "bmv2_json",
        about: "any document is loaded or refused; a loaded one forwards packets, and machine code does the same as \
            the interpreter",
        seeds: documents,
        body: bmv2_json,
    },
    Target {
        name: "packet",
        about: "any packet goes through the leaf's pipeline, the same way wherever it runs",
        seeds: packets,
        body: packet,
    },
];

/// The message after a panic in the compiler's thread.
const INTERNAL: &str = "failed internally";

fn sources() -> Vec<Vec<u8>> {
    let mut all = vec![
        include_bytes!("../../../p4/compiler/tests/programs/router.p4").to_vec(),
        include_bytes!("../../../p4/compiler/tests/programs/control_plane.p4").to_vec(),
        include_bytes!("../../../p4/compiler/include/v1model.p4").to_vec(),
    ];
    all.extend((0..4).map(|seed| generate::program(seed).into_bytes()));
    all
}

fn parser(data: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(data);
    let tree = |text: &str| dump("fuzz.p4", None, text, &Options::default(), Dump::Ast);
    match tree(&text) {
        Err(d) if d.short().contains(INTERNAL) => Err(d.short()),
        Err(_) => Ok(()),
        // Only whole programs are compared: the tree of part of one may need names that are not printed with it.
        Ok((first, _)) if text.contains("#include <v1model.p4>") => {
            let again = format!("#include <v1model.p4>\n{first}");
            match tree(&again) {
                Ok((second, _)) if second == first => Ok(()),
                Ok((second, _)) => Err(format!("printed\n{first}\nprinted again\n{second}")),
                Err(d) if d.short().contains(INTERNAL) => Err(d.short()),
                Err(_) => Ok(()),
            }
        }
        Ok(_) => Ok(()),
    }
}

fn compiler(data: &[u8]) -> Result<(), String> {
    match compile("fuzz.p4", None, &String::from_utf8_lossy(data), &Options::default()) {
        Err(d) if d.short().contains(INTERNAL) => Err(d.short()),
        Err(_) => Ok(()),
        Ok(c) => {
            let read = ::bmv2_json::Program::from_slice(c.json.as_bytes()).map_err(|e| e.to_string())?;
            if read != c.program {
                return Err("the document is read back differently".into());
            }
            // The switch may refuse programs that it cannot run, but must not panic.
            let _ = Switch::from_program(&c.program, None, DROP_PORT);
            Ok(())
        }
    }
}

/// bmv2's default.
const DROP_PORT: u32 = 511;
const CPU_PORT: u32 = 510;

fn documents() -> Vec<Vec<u8>> {
    let sources = sources().into_iter().filter_map(|s| String::from_utf8(s).ok());
    let compiled = sources.filter_map(|s| compile("seed.p4", None, &s, &Options::default()).ok());
    compiled.map(|c| c.json.into_bytes()).collect()
}

fn bmv2_json(data: &[u8]) -> Result<(), String> {
    if let Ok(switch) = Switch::new(data, Some(CPU_PORT), DROP_PORT) {
        let mut out = Vec::new();
        for length in LENGTHS {
            switch.process(1, &vec![0x45; length], 1, &mut out);
        }
    }
    let Ok(program) = ::bmv2_json::Program::from_slice(data) else {
        return Ok(());
    };
    if Pipeline::new(&program, Some(CPU_PORT), DROP_PORT).is_err() {
        return Ok(());
    }
    // Machine code must do the same as the interpreter.
    let (interpreted, compiled) = engines(&program)?;
    for length in LENGTHS {
        let frame = vec![0x45; length];
        let (a, b) = (frames(&interpreted, 1, &frame, 1), frames(&compiled, 1, &frame, 1));
        if a != b {
            return Err(format!("interpreted: {a:02x?}, as machine code: {b:02x?}"));
        }
    }
    Ok(())
}

/// Lengths of frames that a document's program gets.
const LENGTHS: [usize; 5] = [0, 1, 14, 64, 200];

/// The packet engine with a program that it interprets, and with machine code for it.
fn engines(program: &::bmv2_json::Program) -> Result<(Arc<Pipeline>, Arc<Pipeline>), String> {
    let engine = || Pipeline::new(program, Some(CPU_PORT), DROP_PORT).map_err(|e| e.to_string());
    let ((interpreted, _), (compiled, _)) = (engine()?, engine()?);
    all_compiled(&compiled)?;
    Ok((interpreted, compiled))
}

#[derive(Default)]
struct Frames(Vec<(u32, Vec<u8>)>);

impl Sink for Frames {
    fn frame(&mut self, port: u32, data: &[u8]) {
        self.0.push((port, data.to_vec()));
    }

    fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
}

/// The output of an engine, sorted.
fn frames(pipeline: &Arc<Pipeline>, port: u32, frame: &[u8], now_ns: u64) -> Vec<(u32, Vec<u8>)> {
    let mut found = Frames::default();
    let mut worker = Worker::new(pipeline, "fuzz");
    worker.batch().process(port, frame, now_ns, &mut found);
    found.0.sort();
    found.0
}

/// Frames as the leaf meets them: ARP, IPv4, IPv6, VXLAN, with VLAN tags and cut short.
fn packets() -> Vec<Vec<u8>> {
    let ethernet = |ether_type: u16, rest: &[u8]| {
        let mut f = vec![0xff; 6];
        f.extend([2, 0, 0, 0, 0, 1]);
        f.extend(ether_type.to_be_bytes());
        f.extend(rest);
        f
    };
    let ipv4 = |protocol: u8, rest: &[u8]| {
        let mut p = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let total = (p.len() + rest.len()) as u16;
        if let Some(l) = p.get_mut(2..4) {
            l.copy_from_slice(&total.to_be_bytes());
        }
        p.extend(rest);
        p
    };
    let udp = |to: u16, rest: &[u8]| {
        let mut u = vec![0xc0, 0];
        u.extend(to.to_be_bytes());
        u.extend(((8 + rest.len()) as u16).to_be_bytes());
        u.extend([0, 0]);
        u.extend(rest);
        u
    };
    let arp = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
    ipv6.extend([0xfd; 32]);
    ipv6.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    let inner = ethernet(0x0800, &ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1]));
    let mut vxlan = vec![8, 0, 0, 0, 0, 0, 100, 0];
    vxlan.extend(&inner);
    let mut tagged = vec![0, 100, 8, 0];
    tagged.extend(ipv4(17, &udp(53, b"query")));
    vec![
        ethernet(0x0806, &arp),
        ethernet(0x0800, &ipv4(6, &[0; 20])),
        ethernet(0x86dd, &ipv6),
        ethernet(0x0800, &ipv4(17, &udp(4789, &vxlan))),
        ethernet(0x8100, &tagged),
        ethernet(0x0800, &[0x45]),
        inner,
    ]
}

/// The leaf's program on every switch that runs in this process.
struct Leaf {
    reference: Switch,
    interpreted: Arc<Pipeline>,
    compiled: Arc<Pipeline>,
}

impl Leaf {
    fn new() -> Result<Self, String> {
        let json = fabric_pipeline::Pipeline::LEAF.json;
        let program = ::bmv2_json::Program::from_slice(json).map_err(|e| e.to_string())?;
        let (interpreted, compiled) = engines(&program)?;
        Ok(Self {
            reference: Switch::new(json, Some(CPU_PORT), DROP_PORT).map_err(|e| e.to_string())?,
            interpreted,
            compiled,
        })
    }

    /// Each gives the same output.
    fn process(&self, port: u32, frame: &[u8], now_ns: u64) -> Result<(), String> {
        let mut out = Vec::new();
        self.reference.process(port, frame, now_ns, &mut out);
        let of_reference = out.into_iter().filter_map(|o| match o {
            Output::Frame { port, data } => Some((port, data)),
            Output::Digest(..) => None,
        });
        let mut expected: Vec<_> = of_reference.collect();
        expected.sort();
        for (name, pipeline) in [("interpreted", &self.interpreted), ("machine code", &self.compiled)] {
            let found = frames(pipeline, port, frame, now_ns);
            if found != expected {
                return Err(format!("port {port}, {name}: {found:02x?}, expected {expected:02x?}"));
            }
        }
        Ok(())
    }
}

fn packet(data: &[u8]) -> Result<(), String> {
    static LEAF: OnceLock<Result<Leaf, String>> = OnceLock::new();
    let leaf = LEAF.get_or_init(Leaf::new).as_ref().map_err(Clone::clone)?;
    // The first octet chooses the port; the CPU port has a header of its own.
    let (port, frame) = data.split_first().map_or((0, data), |(p, f)| (u32::from(*p) * 2, f));
    leaf.process(port, frame, 1)?;
    leaf.process(1, data, 2)
}
