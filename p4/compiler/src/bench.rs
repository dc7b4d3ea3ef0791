//! `p4-compiler bench`: how fast the compiler is, and how much memory it takes.
//!
//! Measures whole compilations (read, compile, all outputs as text) of the fabric's pipelines, or of the files given.
//! With `P4C_TESTDATA` naming p4c's `testdata`, also every v1model program of it, one after the other on one core.
//! Where `p4c-bm2-ss` is installed it compiles the same files in the same run, and the ratio is printed.

use clap::Parser;
use hdrhistogram::Histogram;
use p4_compiler::{Options, compile_file};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Measure the compiler.
#[derive(Parser)]
#[command(name = "p4-compiler bench", bin_name = "p4-compiler bench")]
pub(crate) struct Args {
    /// Programs [default: the fabric's leaf and spine, from where this was built]
    files: Vec<PathBuf>,
    /// Compilations of each program
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Compilations of each program by p4c: it is there for the ratio only.
const PEER_RUNS: usize = 5;

/// Runs the benchmark.
pub(crate) fn run(args: &Args) -> ExitCode {
    let fabric = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric");
    let files = if args.files.is_empty() {
        vec![fabric.join("leaf.p4"), fabric.join("spine.p4")]
    } else {
        args.files.clone()
    };
    let mut figures = Map::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match program(file, args.runs) {
            Ok(value) => {
                show(&name, &value);
                figures.insert(name, value);
            }
            Err(why) => {
                eprintln!("error: {}: {why}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(dir) = std::env::var_os("P4C_TESTDATA") {
        match corpus(Path::new(&dir)) {
            Ok(value) => {
                show("corpus", &value);
                figures.insert("corpus".into(), value);
            }
            Err(e) => {
                eprintln!("error: P4C_TESTDATA: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(kib) = peak_memory_kib() {
        let value = json!(kib as f64 / 1024.0);
        println!("peak memory: {:.1} MiB", kib as f64 / 1024.0);
        figures.insert("peak_memory_mib".into(), value);
    }
    if let Some(file) = &args.json
        && let Err(e) = std::fs::write(file, format!("{:#}\n", Value::from(figures)))
    {
        eprintln!("error: {}: {e}", file.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints the figures of one row.
fn show(name: &str, figures: &Value) {
    println!("{name}:");
    for (figure, value) in figures.as_object().into_iter().flatten() {
        match value.as_f64() {
            Some(v) if value.is_f64() => println!("  {figure:<22}{v:>10.1}"),
            _ => println!("  {figure:<22}{value:>10}"),
        }
    }
}

fn program(file: &Path, runs: usize) -> Result<Value, String> {
    let mut times = Times::new()?;
    let mut size = 0;
    for _ in 0..runs.max(1) {
        let started = Instant::now();
        let compiled = compile_file(file, &Options::default()).map_err(|d| d.short())?;
        times.record(started);
        size = compiled.json.len();
    }
    let p50 = times.percentile_ms(50.0);
    let mut figures = json!({
        "compile_p50_ms": p50,
        "compile_p99_ms": times.percentile_ms(99.0),
        "json_octets": size,
        "samples": times.0.len(),
    });
    if let Some(peer) = peer(file)? {
        figures["p4c_p50_ms"] = json!(peer);
        figures["p4c_time_ratio"] = json!(peer / p50);
    }
    Ok(figures)
}

/// Times of compilations, in microseconds.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Result<Self, String> {
        // Three significant digits; times over an hour count as an hour.
        Histogram::new_with_max(3_600_000_000, 3)
            .map(Self)
            .map_err(|e| e.to_string())
    }

    /// Adds the time since `started`.
    fn record(&mut self, started: Instant) {
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros);
    }

    fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }
}

/// Median milliseconds of `p4c-bm2-ss`; `None` where it is not installed or does not compile the program.
fn peer(file: &Path) -> Result<Option<f64>, String> {
    let out = std::env::temp_dir().join(format!("p4-compiler-bench-{}.json", std::process::id()));
    let mut times = Times::new()?;
    for _ in 0..PEER_RUNS {
        let started = Instant::now();
        let status = Command::new("p4c-bm2-ss")
            .args(["--arch", "v1model", "-o"])
            .arg(&out)
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !status.is_ok_and(|s| s.success()) {
            return Ok(None);
        }
        times.record(started);
    }
    let _ = std::fs::remove_file(&out);
    Ok(Some(times.percentile_ms(50.0)))
}

fn corpus(dir: &Path) -> std::io::Result<Value> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join("p4_16_samples"))? {
        let path = entry?.path();
        let is_program = path.extension().is_some_and(|e| e == "p4");
        if is_program && String::from_utf8_lossy(&std::fs::read(&path)?).contains("v1model.p4") {
            files.push(path);
        }
    }
    let started = Instant::now();
    let compiled = files
        .iter()
        .filter(|f| compile_file(f, &Options::default()).is_ok())
        .count();
    let elapsed = started.elapsed().as_secs_f64();
    Ok(json!({
        "programs": files.len(),
        "compiled": compiled,
        "rate_programs_per_s": files.len() as f64 / elapsed.max(1e-9),
    }))
}

/// The peak resident memory of this process so far (`proc(5)`, `VmHWM`).
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_its_own_percentile() {
        let mut times = Times::new().unwrap();
        let long = Duration::from_secs(90);
        times.record(Instant::now().checked_sub(long).unwrap());
        assert!(times.percentile_ms(50.0) >= 90_000.0, "{}", times.percentile_ms(50.0));
    }
}
