//! `cargo xtask bench`: every benchmark of the project, by name.
//!
//! A benchmark is a subcommand of the program it measures. It prints results while it
//! works, and with `--json FILE` writes a document whose leaves are its figures. The name of a
//! figure ends with its unit (`applied_p50_us`, `resident_mib`, `longest_outage_ms`), and items
//! of a list have a `name`. So this module can combine all benchmarks into one table and one document
//! without knowing any of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::{LAB_PACKAGES, call, cargo, fabricctl, figures, on_path, packages, release, release_dir, root, target_dir};

/// One benchmark and what it measures.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Files) -> Result<()>,
}

const BENCHES: [Bench; 9] = [
    Bench {
        name: "fabric",
        about: "a lab: its start-up, POST attachment to applied, traffic lost at each fault",
        run: fabric,
    },
    Bench {
        name: "controller",
        about: "1, 16 and 64 clients that write; one more attachment with 100, 10,000 and 100,000 networks defined",
        run: |files| {
            let mut command = Command::new(program("fabric-controller"));
            part(files, "", command.args(["--bench", "--dir"]).arg(&files.dir))
        },
    },
    Bench {
        name: "host",
        about: "a lab: ADD, DEL and swap of pods' attachments, beside Debian's bridge and host-local; 5,000 attachments that are exchanged; 1,000 networks on one host; TCP beside links made by hand",
        run: host,
    },
    Bench {
        name: "scale",
        about: "a controller with a million networks and 1,064 devices in another process, beside OVN where it is installed",
        run: scale,
    },
    Bench {
        name: "agent",
        about: "the kernel's VXLAN objects on one host",
        run: |files| part(files, "", Command::new(program("vtep-agent")).arg("bench")),
    },
    Bench {
        name: "switch",
        about: "the software switch: its packet engine, tables, P4Runtime, ports",
        run: switch,
    },
    Bench {
        name: "provision",
        about: "the provisioning server: 5,000 DISCOVERs/s, 64 switches that ask for a lease at once",
        run: |files| {
            let mut command = Command::new(program("fabric-provision"));
            part(files, "", command.args(["bench", "--dir"]).arg(&files.dir))
        },
    },
    Bench {
        name: "ztp",
        about: "blank switches powered on at once until they are in service: 64 in memory, 8 processes; a wrong cable; 5,000 DISCOVERs/s",
        run: ztp,
    },
    Bench {
        name: "compiler",
        about: "the P4 compiler: the fabric's programs, and p4c's where its test data is",
        run: |files| subcommands(files, "p4-compiler", &[]),
    },
];

/// The files in which a benchmark leaves its figures.
struct Files {
    dir: PathBuf,
    /// Whether rows that take minutes are measured with fewer objects.
    short: bool,
}

impl Files {
    /// The file of one part; the part's name is empty for a benchmark that has only one.
    fn of(&self, part: &str) -> PathBuf {
        self.dir.join(format!("{part}.json"))
    }

    /// The figures of all parts.
    fn read(&self) -> Result<Value> {
        let mut all = Map::new();
        let mut names: Vec<PathBuf> = std::fs::read_dir(&self.dir)?
            .map(|e| Ok(e?.path()))
            .collect::<Result<_>>()?;
        names.sort();
        for path in names {
            let text = std::fs::read_to_string(&path)?;
            let value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            match path.file_stem().and_then(|s| s.to_str()) {
                Some(part) if part != ".json" => all.insert(part.to_owned(), value),
                _ => return Ok(value),
            };
        }
        Ok(all.into())
    }
}

/// Runs the benchmark of that name, or all; prints a table, and writes the document and, with `docs`, the figures in `docs/`.
///
/// # Errors
/// No benchmark has that name, or one failed (the others ran, and their figures are shown).
pub(crate) fn run(name: Option<&str>, json: Option<&Path>, docs: bool, short: bool) -> Result<()> {
    let chosen: Vec<&Bench> = BENCHES.iter().filter(|b| name.is_none_or(|n| n == b.name)).collect();
    if chosen.is_empty() {
        let known: Vec<String> = BENCHES
            .iter()
            .map(|b| format!("\n  {:<11} {}", b.name, b.about))
            .collect();
        bail!(
            "no benchmark `{}`; there are{}",
            name.unwrap_or_default(),
            known.concat()
        );
    }
    packages::install(LAB_PACKAGES)?;
    release::build(release::PRODUCT)?;
    let (mut document, mut failed) = (Map::new(), Vec::new());
    for bench in chosen {
        eprintln!("── {}: {}", bench.name, bench.about);
        let files = Files {
            dir: target_dir().join("bench").join(bench.name),
            short,
        };
        // Remove the figures of an earlier run.
        if files.dir.exists() {
            std::fs::remove_dir_all(&files.dir)?;
        }
        std::fs::create_dir_all(&files.dir)?;
        if let Err(error) = (bench.run)(&files) {
            eprintln!("{}: {error:#}", bench.name);
            failed.push(bench.name);
        }
        document.insert(bench.name.to_owned(), files.read()?);
    }
    let document = Value::from(document);
    let rows = rows(&document);
    print!("\n{}", table(&rows));
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&document)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    if docs {
        let named: Vec<(String, f64)> = rows
            .into_iter()
            .filter_map(|row| Some((format!("{} {}", row.name, row.unit).trim_end().to_owned(), row.value?)))
            .collect();
        figures::write(&root().join("docs"), &named)?;
    }
    Ok(())
}

fn program(name: &str) -> PathBuf {
    release_dir().join(name)
}

fn part(files: &Files, part: &str, command: &mut Command) -> Result<()> {
    call(command.arg("--json").arg(files.of(part)))
}

fn fabric(files: &Files) -> Result<()> {
    call(fabricctl().args(["lab", "up", "--no-checks"]))?;
    let measured = part(files, "", fabricctl().args(["lab", "bench", "--faults"]));
    call(fabricctl().args(["lab", "down"]))?;
    measured
}

/// Measures every part, even if another one fails.
fn host(files: &Files) -> Result<()> {
    packages::install(&["containernetworking-plugins"])?;
    let short = files.short.then_some("--short");
    let pods = call(fabricctl().args(["lab", "up", "--no-checks"])).and_then(|()| {
        let measured = part(files, "pods", fabricctl().args(["lab", "bench", "--pods"]).args(short));
        measured.and(call(fabricctl().args(["lab", "down"])))
    });
    let agent = |args: &[&str]| {
        let mut command = Command::new(program("vtep-agent"));
        command.arg("bench").args(args);
        command
    };
    let (size, rounds): (&[&str], _) = match files.short {
        true => (&["--networks", "100", "--attachments", "20"], "2"),
        false => (&[], "9"),
    };
    let networks = part(files, "networks", &mut agent(size));
    let tcp = part(files, "tcp", &mut agent(&["--tcp", rounds]));
    pods.and(networks).and(tcp)
}

/// The store and its log take gigabytes, so they are deleted after a complete run. After a failure they stay.
fn scale(files: &Files) -> Result<()> {
    let dir = target_dir().join("bench").join("scale-fabric");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    part(files, "", fabricctl().args(["lab", "scale", "--dir"]).arg(&dir))?;
    Ok(std::fs::remove_dir_all(&dir)?)
}

/// Measures a blank fabric that is powered on. After a failure the directory with its logs stays.
fn ztp(files: &Files) -> Result<()> {
    let dir = target_dir().join("bench").join("ztp-fabric");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let boot = part(files, "boot", fabricctl().args(["lab", "boot", "--dir"]).arg(&dir));
    let mut discovers = Command::new(program("fabric-provision"));
    let discovers = part(files, "dhcp", discovers.args(["bench", "--dir"]).arg(&files.dir));
    boot.and(discovers)?;
    Ok(std::fs::remove_dir_all(&dir)?)
}

/// The engine is measured from inside, by a bench target of its crate; the rest by the
/// programs' own subcommands.
fn switch(files: &Files) -> Result<()> {
    eprintln!("── engine");
    let file = absolute(&files.of("engine"))?;
    let engine = call(
        cargo()
            .args(["bench", "--workspace", "--bench", "engine", "--", "--json"])
            .arg(file),
    );
    let leaf = compiled_leaf()?;
    let mut ports = vec!["--leaf".to_owned(), leaf.display().to_string()];
    let mut updates = Vec::new();
    if on_path("simple_switch_grpc") {
        ports.push("--peer".into());
        updates.push("--peer".to_owned());
    }
    // Both benchmarks start switches with the leaf's program.
    let more: [(&str, &[String]); 3] = [("ports", &ports), ("startup", &ports), ("p4runtime", &updates)];
    let rest = subcommands(files, "p4-switch", &more);
    engine.and(rest)
}

/// The fabric's leaf as BMv2 JSON.
fn compiled_leaf() -> Result<PathBuf> {
    let dir = target_dir().join("bench").join("programs");
    let program_dir = root().join("p4/fabric");
    let mut compiler = Command::new(program("p4-compiler"));
    compiler.arg(program_dir.join("leaf.p4")).arg("-I").arg(program_dir);
    call(compiler.arg("--output").arg(&dir))?;
    Ok(dir.join("leaf.json"))
}

/// Cargo runs a bench target in its crate's folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// Runs every benchmark that the help of `PROGRAM bench` lists, so that new ones are measured without a change here.
/// Some get more arguments.
fn subcommands(files: &Files, name: &str, more: &[(&str, &[String])]) -> Result<()> {
    let help = help(name, &["bench"])?;
    if !help.lines().any(|l| l.starts_with("Usage: ") && l.contains(" bench")) {
        eprintln!("{name} has no benchmarks");
        return Ok(());
    }
    let names = listed(&help);
    if names.is_empty() {
        return part(files, "", Command::new(program(name)).arg("bench"));
    }
    let mut failed = Vec::new();
    for sub in names {
        // A benchmark without `--json` is only a helper of another one.
        if !self::help(name, &["bench", sub])?.contains("--json") {
            continue;
        }
        eprintln!("── {name} bench {sub}");
        let mut command = Command::new(program(name));
        command.args(["bench", sub]);
        let with = more.iter().filter(|(of, _)| *of == sub);
        with.for_each(|(_, args)| {
            command.args(*args);
        });
        if let Err(error) = part(files, sub, &mut command) {
            eprintln!("{error:#}");
            failed.push(sub);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The help text of a program's subcommand.
fn help(name: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program(name))
        .args(words)
        .arg("--help")
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The names in the `Commands:` part of a help text.
fn listed(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let names = lines.take_while(|l| l.starts_with(' ')).filter_map(|l| {
        // A command stands two columns in; the rest of its description further.
        let line = l.strip_prefix("  ")?;
        (!line.starts_with(' ')).then(|| line.split(' ').next())?
    });
    names.filter(|n| *n != "help").collect()
}

/// A leaf of the document.
struct Row {
    name: String,
    figure: String,
    unit: String,
    /// The value, if the leaf is a number.
    value: Option<f64>,
}

/// Every leaf of the document, in its order.
fn rows(document: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    collect(document, &mut Vec::new(), &mut rows);
    rows
}

fn collect<'a>(value: &'a Value, path: &mut Vec<&'a str>, rows: &mut Vec<Row>) {
    match value {
        Value::Object(members) => {
            // An item of a list is labelled with its name.
            let called = members.get("name").and_then(Value::as_str);
            path.extend(called);
            for (name, member) in members.iter().filter(|(n, _)| called.is_none() || *n != "name") {
                // These names only group figures.
                let groups = matches!(member, Value::Object(_) | Value::Array(_));
                if groups && ["rows", "figures"].contains(&name.as_str()) {
                    collect(member, path, rows);
                    continue;
                }
                path.push(name);
                collect(member, path, rows);
                path.pop();
            }
            path.truncate(path.len() - usize::from(called.is_some()));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, rows)),
        Value::Null => {}
        leaf => {
            let last = path.last().copied().unwrap_or_default();
            let (what, unit) = split(last);
            let figure = match leaf {
                Value::Number(n) => number(n.as_f64().unwrap_or(f64::NAN)),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let groups = path.get(..path.len().saturating_sub(1)).unwrap_or_default();
            let name: Vec<&str> = groups.iter().copied().chain([what]).filter(|n| !n.is_empty()).collect();
            rows.push(Row {
                name: name.join(": ").replace('_', " "),
                figure,
                unit,
                value: leaf.as_f64(),
            });
        }
    }
}

/// Name and unit of `<name>_<unit>` or `<name>_<unit>_per_<unit>`.
fn split(name: &str) -> (&str, String) {
    let (name, per) = match name.split_once("_per_") {
        Some((name, per)) => (name, format!("/{per}")),
        None => (name, String::new()),
    };
    let (name, unit) = name.rsplit_once('_').unwrap_or((name, ""));
    (name, format!("{unit}{per}"))
}

/// Three significant digits below a hundred, whole numbers above.
fn number(n: f64) -> String {
    match n.abs() {
        a if a == a.trunc() || a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        a if a >= 1.0 => format!("{n:.2}"),
        _ => format!("{n:.3}"),
    }
}

fn table(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> &str| rows.iter().map(|r| column(r).chars().count()).max().unwrap_or(0);
    let (names, figures) = (width(|r| &r.name), width(|r| &r.figure));
    let line = |r: &Row| format!("{:<names$}  {:>figures$} {}\n", r.name, r.figure, r.unit);
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_a_row_with_its_unit() {
        let document = serde_json::json!({
            "fabric": { "POST attachment": { "p50_ms": 1.234_5, "samples": 200 } },
            "controller": { "10000 networks": { "applied_p50_us": 123.4 } },
            "switch": { "ports": { "rows": [ { "name": "leaf", "figures": { "latency_p50_us": 9 } } ] } },
        });
        let rows = rows(&document);
        let row = |name: &str| {
            let row = rows.iter().find(|r| r.name == name)?;
            Some((row.figure.as_str(), row.unit.as_str()))
        };
        assert_eq!(row("fabric: POST attachment: p50"), Some(("1.23", "ms")));
        assert_eq!(row("fabric: POST attachment: samples"), Some(("200", "")));
        assert_eq!(row("switch: ports: leaf: latency p50"), Some(("9", "us")));
        assert_eq!(row("controller: 10000 networks: applied p50"), Some(("123", "us")));
    }

    #[test]
    fn a_name_ends_with_its_unit() {
        assert_eq!(split("applied_p50_us"), ("applied_p50", "us".to_owned()));
        assert_eq!(split("lpm_inserts_per_s"), ("lpm", "inserts/s".to_owned()));
        assert_eq!(split("samples"), ("samples", String::new()));
    }

    #[test]
    fn subcommands_are_those_of_the_help() {
        let help = "Measures\n\nUsage: x bench\n\nCommands:\n  engine  Packets\n          and more\n  ports   Ports\n  help    Print\n\nOptions:\n  -h, --help\n";
        assert_eq!(listed(help), ["engine", "ports"]);
        assert!(listed("Usage: x bench\n\nOptions:\n  -h, --help\n").is_empty());
    }
}
