//! The measured figures, each beside its goal.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::say;

/// The goal of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Less than this.
    Below(f64),
    /// This or more.
    AtLeast(f64),
    /// No goal: the figure is shown for comparison.
    None,
}

impl Goal {
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
    goal: Goal,
}

/// Rows in the order in which they were measured; each is shown at once.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// What could not be measured, and why.
    failed: Vec<(String, String)>,
}

impl Report {
    /// Adds a figure and shows it.
    pub(crate) fn add(&mut self, what: &str, figure: &str, measured: f64, unit: &'static str, goal: Goal) {
        let row = Row {
            what: what.to_owned(),
            figure: figure.to_owned(),
            unit,
            measured,
            goal,
        };
        let (aimed, verdict) = (row.aimed(), row.verdict());
        say!("{what}: {figure} {} {unit}{aimed}{verdict}", rounded(measured));
        self.rows.push(row);
    }

    /// Adds p50 and p99 of times, in milliseconds.
    pub(crate) fn add_times(&mut self, what: &str, times: &Histogram<u64>, p50: Goal, p99: Goal) {
        self.add(what, "p50", percentile_ms(times, 50.0), "ms", p50);
        self.add(what, "p99", percentile_ms(times, 99.0), "ms", p99);
    }

    /// Notes how a measurement ended, and shows it if it failed.
    pub(super) fn measured(&mut self, what: &str, done: anyhow::Result<()>) {
        if let Err(error) = done {
            let why = format!("{error:#}");
            say!("{what}: FAILED: {why}");
            self.failed.push((what.to_owned(), why));
        }
    }

    /// What could not be measured, and why.
    pub(super) fn failed(&self) -> &[(String, String)] {
        &self.failed
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["what", "figure", "goal", "measured", "met"]);
        for row in &self.rows {
            let met = row.goal.is_met(row.measured);
            let met = met.map_or("", |met| if met { "yes" } else { "NO" });
            let measured = format!("{} {}", rounded(row.measured), row.unit);
            table.add_row([
                row.what.clone(),
                row.figure.clone(),
                row.goal_text(),
                measured,
                met.into(),
            ]);
        }
        for (what, why) in &self.failed {
            table.add_row([what, "FAILED", "", why, "NO"]);
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
            if let Goal::Below(goal) | Goal::AtLeast(goal) = row.goal {
                group.insert(name(" goal"), json!(goal));
            }
        }
        document.into()
    }
}

impl Row {
    fn goal_text(&self) -> String {
        match self.goal {
            Goal::Below(most) => format!("< {} {}", rounded(most), self.unit),
            Goal::AtLeast(least) => format!(">= {} {}", rounded(least), self.unit),
            Goal::None => String::new(),
        }
    }

    fn aimed(&self) -> String {
        match self.goal {
            Goal::None => String::new(),
            _ => format!(" (goal {})", self.goal_text()),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.goal.is_met(self.measured) {
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
    fn a_figure_is_shown_with_its_goal_and_whether_it_was_met() {
        let mut report = Report::default();
        report.add("load", "time", 70.0, "s", Goal::Below(60.0));
        report.add("load", "memory", 900.4, "MiB", Goal::Below(1536.0));
        report.add("clients", "ratio", 5.0, "", Goal::AtLeast(5.0));
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].contains("< 60 s") && lines[2].contains("NO"), "{table}");
        assert!(lines[3].contains("900 MiB") && lines[3].contains("yes"), "{table}");
        assert!(lines[4].contains(">= 5") && lines[4].contains("yes"), "{table}");
        assert_eq!(report.failed().len(), 0);
        report.measured("spine", Ok(()));
        report.measured("leaf", Err(anyhow::anyhow!("gone").context("no leaf")));
        assert_eq!(report.failed(), [("leaf".to_owned(), "no leaf: gone".to_owned())]);
        let table = report.table();
        let last = table.lines().last().unwrap();
        assert!(
            last.contains("leaf") && last.contains("FAILED") && last.contains("no leaf: gone"),
            "{table}"
        );
        let document = report.document();
        assert_eq!(document["load"]["time_s"], 70.0);
        assert_eq!(document["load"]["memory goal_MiB"], 1536.0);
    }
}
