//! Release builds that show their progress, how long the rest may take, and where the time went.
//!
//! **Progress.** Cargo reports each finished crate. The weight of a crate is the size of its source files in octets, which is
//! known before anything is built, even on a new machine. The estimate assumes that the rest takes as long per octet as the part
//! that is done. Crates that need no build do not count.
//!
//! **Where the time went.** Cargo writes the time of each crate (`--timings`); the slowest are listed. The processor time is
//! the kernel's count for all processes of the build.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::Deserialize;
use serde_json::Value;

use crate::{cargo, target_dir};

/// How often a line is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// How many crates the list of the slowest has.
const SLOWEST: usize = 10;
/// A build below this is not worth a list.
const WORTH_A_LIST: Duration = Duration::from_secs(20);

/// The fabric's programs: for switches, hosts, controllers and operators.
pub(crate) const PRODUCT: &[&str] = &[
    "fabric-controller",
    "fabric-provision",
    "fabricctl",
    "p4-compiler",
    "p4-switch",
    "vfabric-cni",
    "vfabric-multi",
    "vtep-agent",
];

/// Builds programs of the workspace.
///
/// It always selects the whole workspace: with fewer packages, Cargo would choose other features of their
/// dependencies, and build these again.
pub(crate) fn build(programs: &[&str]) -> Result<()> {
    let started = Instant::now();
    let before = processor_time();
    let mut command = cargo();
    command.args(["build", "--release", "--workspace", "--quiet", "--timings"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    for program in programs {
        command.args(["--bin", program]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut progress = Progress::new(weights()?);
    let output = child.stdout.take().context("cargo without output")?;
    for line in BufReader::new(output).lines() {
        let message: Message = serde_json::from_str(&line?).context("a message of cargo")?;
        if message.reason == "compiler-artifact" {
            progress.done(&message);
        }
    }
    progress.bar.finish_and_clear();
    let status = child.wait()?;
    if !status.success() {
        bail!("the release build ended with {status}");
    }
    let took = started.elapsed();
    if took >= WORTH_A_LIST {
        eprintln!(
            "release build: {} by the clock, {} of processor time",
            minutes(took),
            minutes(processor_time().saturating_sub(before))
        );
        slowest(&target_dir().join("cargo-timings/cargo-timing.html"));
    }
    Ok(())
}

/// A message of Cargo, one per line.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    fresh: bool,
}

/// The progress of a build.
struct Progress {
    /// Octets of source of each package that is not built yet.
    left: HashMap<String, u64>,
    crates: usize,
    fresh: u64,
    built: u64,
    started: Instant,
    said: Instant,
    bar: ProgressBar,
}

impl Progress {
    fn new(left: HashMap<String, u64>) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(left.values().sum())
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("release build [{bar:40.cyan/dim}] {msg} ({elapsed})");
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("█▉ "),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        let now = Instant::now();
        Self {
            crates: left.len(),
            left,
            fresh: 0,
            built: 0,
            started: now,
            said: now,
            bar,
        }
    }

    /// A package may have several artifacts (build script, library, programs): the first one counts.
    fn done(&mut self, message: &Message) {
        let Some(weight) = self.left.remove(&message.package_id) else {
            return;
        };
        let counted = if message.fresh {
            &mut self.fresh
        } else {
            &mut self.built
        };
        *counted += weight;
        self.bar.set_position(self.fresh + self.built);
        let text = format!(
            "{} of {} crates{}",
            self.crates - self.left.len(),
            self.crates,
            self.rest()
                .map_or(String::new(), |r| format!(", about {} left", minutes(r)))
        );
        if self.bar.is_hidden() && self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            eprintln!("   {text} after {}", minutes(self.started.elapsed()));
        }
        self.bar.set_message(text);
    }

    /// Estimate of the remaining time; none while too little is built.
    fn rest(&self) -> Option<Duration> {
        let left: u64 = self.left.values().sum();
        (self.built * 20 > left).then(|| self.started.elapsed().mul_f64(left as f64 / self.built as f64))
    }
}

/// Octets of source of each package that may be built here, by Cargo's name of it.
fn weights() -> Result<HashMap<String, u64>> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--filter-platform"]);
    let output = command.arg(host()?).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata without packages")?;
    let used: Vec<&Value> = metadata["resolve"]["nodes"].as_array().into_iter().flatten().collect();
    let used: std::collections::HashSet<&str> = used.iter().filter_map(|n| n["id"].as_str()).collect();
    let weight = |package: &Value| {
        let id = package["id"].as_str().filter(|id| used.contains(id))?;
        let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
        Some((id.to_owned(), source_octets(&folder.join("src"))))
    };
    Ok(packages.iter().filter_map(weight).collect())
}

fn source_octets(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let octets = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => source_octets(&entry.path()),
        Ok(_) => entry.metadata().map_or(0, |m| m.len()),
        Err(_) => 0,
    };
    entries.map(octets).sum()
}

/// The target triple of this machine, as rustc names it.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc)
        .arg("-vV")
        .output()
        .context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Processor time of all processes that were started from here and have ended.
fn processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return Duration::ZERO;
    };
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

/// Prints the crates that took longest, as Cargo's report of a build has them.
fn slowest(report: &Path) {
    let Some(units) = std::fs::read_to_string(report).ok().as_deref().and_then(units) else {
        eprintln!("   {} does not show where the time went", report.display());
        return;
    };
    let all: f64 = units.values().sum();
    let mut units: Vec<(String, f64)> = units.into_iter().collect();
    units.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, seconds) in units.iter().take(SLOWEST) {
        eprintln!("   {seconds:6.1} s {:4.1} %  {name}", 100.0 * seconds / all);
    }
}

/// Seconds of each crate, its build script and programs included.
fn units(report: &str) -> Option<HashMap<String, f64>> {
    let (_, data) = report.split_once("const UNIT_DATA = ")?;
    let mut values = serde_json::Deserializer::from_str(data).into_iter::<Vec<Value>>();
    let mut seconds = HashMap::new();
    for unit in values.next()?.ok()? {
        *seconds.entry(unit["name"].as_str()?.to_owned()).or_insert(0.0) += unit["duration"].as_f64()?;
    }
    (!seconds.is_empty()).then_some(seconds)
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, fresh: bool) -> Message {
        Message {
            reason: "compiler-artifact".into(),
            package_id: id.into(),
            fresh,
        }
    }

    #[test]
    fn each_package_counts_once_and_fresh_ones_say_nothing_of_the_pace() {
        let packages = [("a", 60), ("b", 30), ("c", 10)];
        let mut progress = Progress::new(packages.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect());
        progress.done(&message("a", true));
        assert!(progress.rest().is_none(), "nothing was built");
        progress.done(&message("b", false));
        progress.done(&message("b", false));
        progress.done(&message("of another workspace", false));
        assert_eq!((progress.fresh, progress.built, progress.left.len()), (60, 30, 1));
        assert!(progress.rest().is_some());
    }

    #[test]
    fn a_crate_is_the_sum_of_its_units() {
        let report = r#"x; const UNIT_DATA = [
            {"name": "a", "duration": 1.5}, {"name": "b", "duration": 1}, {"name": "a", "duration": 2}
        ];
        const CONCURRENCY_DATA = [];"#;
        let units = units(report).unwrap();
        assert_eq!((units["a"], units["b"]), (3.5, 1.0));
        assert!(super::units("<html>").is_none());
    }
}
