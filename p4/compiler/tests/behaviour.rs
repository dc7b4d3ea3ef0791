//! What compiled programs do with packets: each program of `tests/behaviour` says in comments which frames go in
//! (`// in PORT: HEX`) and which come out for each (`// out PORT: HEX`, none for a drop).

use p4_compiler::{Options, compile_file};
use p4_reference::{Output, Switch};
use std::path::Path;

/// bmv2's port of dropped packets.
const DROP_PORT: u32 = 511;

/// `// in 0: aa bb` as port and octets.
fn frame(line: &str, word: &str) -> Option<(u32, Vec<u8>)> {
    let (port, hex) = line.strip_prefix("// ")?.strip_prefix(word)?.trim().split_once(':')?;
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let octets = digits.chunks(2).map(|c| c.iter().collect::<String>());
    let octets = octets.map(|c| u8::from_str_radix(&c, 16).unwrap()).collect();
    Some((port.trim().parse().unwrap(), octets))
}

#[test]
fn programs_do_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "p4"));
    assert!(!files.is_empty());
    for path in files {
        let compiled = compile_file(&path, &Options::default()).unwrap_or_else(|d| panic!("{}", d.short()));
        let switch = Switch::new(compiled.json.as_bytes(), None, DROP_PORT)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut cases: Vec<(Vec<(u32, Vec<u8>)>, (u32, Vec<u8>))> = Vec::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(given) = frame(line, "in ") {
                cases.push((Vec::new(), given));
            }
            if let Some(want) = frame(line, "out ") {
                cases.last_mut().unwrap().0.push(want);
            }
        }
        assert!(!cases.is_empty(), "{} sends nothing", path.display());
        for (want, (port, octets)) in cases {
            let mut out = Vec::new();
            switch.process(port, &octets, 0, &mut out);
            let frames = out.iter().filter_map(|o| match o {
                Output::Frame { port, data } => Some((*port, hex(data))),
                Output::Digest(..) => None,
            });
            let got: Vec<(u32, String)> = frames.collect();
            let want: Vec<(u32, String)> = want.iter().map(|(p, f)| (*p, hex(f))).collect();
            assert_eq!(got, want, "{} on {}", path.display(), hex(&octets));
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}
