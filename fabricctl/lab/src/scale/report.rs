//! What was measured, beside what was aimed at.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::say;

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Less than this.
    Below(f64),
    /// This or more.
    AtLeast(f64),
    /// It is shown for comparison.
    None,
}

impl Target {
    fn is_met(self, measured: f64) -> Option<bool> {
        match self {
            Self::Below(most) => Some(measured < most),
            Self::AtLeast(least) => Some(measured >= least),
            Self::None => None,
        }
    }
}

struct Row {
    what: String,
    figure: String,
    unit: &'static str,
    measured: f64,
    target: Target,
}

/// Rows in the order in which they were measured; each is shown at once.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure and shows it.
    pub(crate) fn add(&mut self, what: &str, figure: &str, measured: f64, unit: &'static str, target: Target) {
        let row = Row {
            what: what.to_owned(),
            figure: figure.to_owned(),
            unit,
            measured,
            target,
        };
        let (aimed, verdict) = (row.aimed(), row.verdict());
        say!("{what}: {figure} {} {unit}{aimed}{verdict}", rounded(measured));
        self.rows.push(row);
    }

    /// Adds p50 and p99 of times, in milliseconds.
    pub(crate) fn add_times(&mut self, what: &str, times: &Histogram<u64>, p50: Target, p99: Target) {
        self.add(what, "p50", percentile_ms(times, 50.0), "ms", p50);
        self.add(what, "p99", percentile_ms(times, 99.0), "ms", p99);
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["what", "figure", "goal", "measured", "met"]);
        for row in &self.rows {
            let met = row.target.is_met(row.measured);
            let met = met.map_or("", |met| if met { "yes" } else { "NO" });
            let measured = format!("{} {}", rounded(row.measured), row.unit);
            table.add_row([
                row.what.clone(),
                row.figure.clone(),
                row.target_text(),
                measured,
                met.into(),
            ]);
        }
        table.to_string()
    }

    /// A document whose leaves are figures; their names end with the unit.
    pub(crate) fn document(&self) -> Value {
        let mut document = Map::new();
        for row in &self.rows {
            let unit = row.unit.replace('/', "_per_").replace(' ', "_");
            let group = document
                .entry(row.what.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(group) = group else { continue };
            let name = |kind: &str| format!("{}{kind}_{unit}", row.figure);
            group.insert(name(""), json!(row.measured));
            if let Target::Below(target) | Target::AtLeast(target) = row.target {
                group.insert(name(" target"), json!(target));
            }
        }
        document.into()
    }
}

impl Row {
    fn target_text(&self) -> String {
        match self.target {
            Target::Below(most) => format!("< {} {}", rounded(most), self.unit),
            Target::AtLeast(least) => format!(">= {} {}", rounded(least), self.unit),
            Target::None => String::new(),
        }
    }

    fn aimed(&self) -> String {
        match self.target {
            Target::None => String::new(),
            _ => format!(" (target {})", self.target_text()),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.target.is_met(self.measured) {
            Some(false) => ": MISSED",
            _ => "",
        }
    }
}

/// Three digits below a hundred, whole numbers above.
fn rounded(n: f64) -> String {
    match n.abs() {
        a if a == a.trunc() || a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

/// Times, kept to a thousandth.
pub(crate) fn times() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// Adds a time in microseconds.
pub(crate) fn record(times: &mut Histogram<u64>, took: Duration) -> Result<()> {
    times.record(u64::try_from(took.as_micros())?).context("a time")
}

/// The time that `percent` of all do not exceed.
pub(crate) fn percentile_ms(times: &Histogram<u64>, percent: f64) -> f64 {
    times.value_at_percentile(percent) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_shown_with_its_target_and_whether_it_was_met() {
        let mut report = Report::default();
        report.add("load", "time", 70.0, "s", Target::Below(60.0));
        report.add("load", "memory", 900.4, "MiB", Target::Below(1536.0));
        report.add("clients", "ratio", 5.0, "", Target::AtLeast(5.0));
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].contains("< 60 s") && lines[2].contains("NO"), "{table}");
        assert!(lines[3].contains("900 MiB") && lines[3].contains("yes"), "{table}");
        assert!(lines[4].contains(">= 5") && lines[4].contains("yes"), "{table}");
        let document = report.document();
        assert_eq!(document["load"]["time_s"], 70.0);
        assert_eq!(document["load"]["memory target_MiB"], 1536.0);
    }
}
