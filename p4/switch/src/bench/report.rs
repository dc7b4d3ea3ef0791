//! Figures as a table for people and as JSON for programs.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long one figure is measured: long enough to average out other work on the machine.
pub(super) const TIME: Duration = Duration::from_millis(700);

/// One line: a name and figures.
#[derive(Debug, serde::Serialize)]
struct Row {
    name: String,
    figures: serde_json::Map<String, serde_json::Value>,
}

/// All figures of a benchmark.
#[derive(Debug, serde::Serialize)]
pub(super) struct Report {
    bench: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(bench: &'static str) -> Self {
        Self {
            bench,
            rows: Vec::new(),
        }
    }

    /// Adds a line and prints it. The name of a figure ends with its unit.
    pub(super) fn row(&mut self, name: &str, figures: &[(&str, f64)]) {
        print!("{name:<34}");
        for (figure, value) in figures {
            print!("  {figure} {}", readable(*value));
        }
        println!();
        let figures = figures
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()));
        self.rows.push(Row {
            name: name.to_owned(),
            figures: figures.collect(),
        });
    }

    /// Writes the figures to a file, if one is named.
    pub(super) fn finish(self, json: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(path) = json {
            let text = serde_json::to_vec_pretty(&self)?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn readable(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// Operations per second of this thread's processor time. `step` is called for [`TIME`] and returns how many operations
/// it did. Processor time includes the kernel's work for the thread but no waiting, so other work on the machine does
/// not count.
pub(super) fn rate(mut step: impl FnMut() -> usize) -> f64 {
    let (start, busy) = (Instant::now(), processor_time());
    let mut done = 0;
    loop {
        done += step();
        let wall = start.elapsed();
        if wall >= TIME {
            let spent = match (busy, processor_time()) {
                (Some(before), Some(after)) => after.saturating_sub(before),
                _ => wall,
            };
            return done as f64 / spent.as_secs_f64().max(f64::EPSILON);
        }
    }
}

/// Time that this thread has run (proc(5), `schedstat`).
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Time that all threads of this process have run (proc(5), `stat`), in steps of 10 ms.
pub(super) fn process_time() -> Option<Duration> {
    process_time_of("self")
}

/// The same for another process.
pub(super) fn process_time_of(process: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Fields after the command's name, which may contain spaces; user and system time are the 14th and 15th of all.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Resident memory of this process, in bytes.
pub(super) fn resident_bytes() -> usize {
    resident_bytes_of("self")
}

/// The same for another process.
pub(super) fn resident_bytes_of(process: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
