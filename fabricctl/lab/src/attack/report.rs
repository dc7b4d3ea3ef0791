//! The table of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use comfy_table::{Cell, Color, Table, presets};
use serde::Serialize;

use crate::Lab;
use crate::counters::Counts;

/// How to print a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Table,
    /// JSON
    Json,
}

/// The result of one attack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The attack.
    pub name: String,
    /// Frames (or calls) sent.
    pub sent: u32,
    /// Where they ended.
    pub ended: String,
    /// Counters that moved, by kind of device and reason.
    pub counted: String,
    /// Packets of the legitimate traffic beside it.
    pub legitimate_sent: usize,
    /// How many of these packets were lost.
    pub legitimate_lost: usize,
    /// What is wrong; empty when all is well.
    pub faults: Vec<String>,
}

/// All rows of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// One for each attack, in order.
    pub rows: Vec<Row>,
    /// The seed of random frames, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Report {
    /// Whether every attack was withstood (and any was tried).
    pub fn all_withstood(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|r| r.faults.is_empty())
    }
}

impl Row {
    /// One line for the table of all checks.
    pub fn line(&self) -> String {
        match self.sent {
            0 => self.ended.clone(),
            sent => format!("{sent} frames, {}", self.ended),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        table.load_style(if terminal {
            presets::UTF8_HORIZONTAL_ONLY
        } else {
            presets::NOTHING
        });
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_header(["ATTACK", "", "SENT", "ENDED", "COUNTED AS"]);
        for row in &self.rows {
            let (word, color) = match row.faults.is_empty() {
                true => ("withstood", Color::Green),
                false => ("FAILED", Color::Red),
            };
            let ended = std::iter::once(&row.ended).chain(&row.faults);
            let ended: Vec<&str> = ended.map(String::as_str).filter(|t| !t.is_empty()).collect();
            table.add_row([
                Cell::new(&row.name),
                Cell::new(word).fg(color),
                Cell::new(row.sent),
                Cell::new(ended.join("\n")),
                Cell::new(&row.counted),
            ]);
        }
        let withstood = self.rows.iter().filter(|r| r.faults.is_empty()).count();
        let (sent, lost) = self.rows.iter().fold((0, 0), |(sent, lost), r| {
            (sent + r.legitimate_sent, lost + r.legitimate_lost)
        });
        write!(
            f,
            "{}\n{withstood} withstood, {} failed; {lost} of {sent} packets of the legitimate traffic beside them lost",
            table.trim_fmt(),
            self.rows.len() - withstood
        )?;
        if let Some(seed) = self.seed {
            write!(f, "; seed {seed}")?;
        }
        Ok(())
    }
}

/// Counters by kind of device and reason: `hosts source-mac 30, leaves martian 6`.
pub(super) fn summary(lab: &Lab, counted: &Counts) -> String {
    let kind = |device: &str| {
        let switch = lab.topology.switches.iter().find(|s| s.name.as_str() == device);
        switch.map_or("hosts", |s| match s.role {
            vfabric_api::topology::Role::Leaf => "leaves",
            vfabric_api::topology::Role::Spine => "spines",
        })
    };
    let mut by_kind: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (counter, n) in counted {
        *by_kind.entry((kind(&counter.device), &counter.reason)).or_default() += n;
    }
    let each: Vec<String> = by_kind
        .iter()
        .map(|((kind, why), n)| format!("{kind} {why} {n}"))
        .collect();
    each.join(", ")
}
