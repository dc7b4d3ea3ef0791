//! Printing: a table for people (plain when piped), JSON or YAML for programs.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::presets;
use fabric_lab::say;
use serde::Serialize;

/// How to print a result.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// A table
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// A table under construction: the first row brings the headings.
#[derive(Default)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row of (heading, cell) pairs.
    pub(super) fn row<const N: usize>(&mut self, cells: [(&'static str, String); N]) {
        if self.headings.is_empty() {
            self.headings = cells.iter().map(|(h, _)| *h).collect();
        }
        self.rows.push(cells.into_iter().map(|(_, c)| c).collect());
    }
}

impl Table {
    /// Prints the row that came last, its cells a tab apart, and forgets it.
    pub(super) fn line(&mut self) {
        for row in self.rows.drain(..) {
            say!("{}", row.join("\t"));
        }
    }
}

/// An empty table: with lines on a terminal, plain when piped.
pub(super) fn plain_or_lines() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(if std::io::stdout().is_terminal() {
        presets::UTF8_HORIZONTAL_ONLY
    } else {
        presets::NOTHING
    });
    table
}

/// The sign of something that comes (`+`), changes (`~`) or goes (`-`), in its colour if asked for.
pub(super) fn sign(what: char, colour: bool) -> String {
    let code = match what {
        '+' => 32,
        '-' => 31,
        _ => 33,
    };
    if colour {
        format!("\x1b[{code}m{what}\x1b[0m")
    } else {
        what.to_string()
    }
}

impl Format {
    pub(super) fn print<T: Serialize>(self, value: &T, table: impl FnOnce() -> Table) -> Result<ExitCode> {
        match self {
            Self::Json => say!("{}", serde_json::to_string_pretty(value)?),
            Self::Yaml => fabric_lab::out::text(format_args!("{}", serde_saphyr::to_string(value)?)),
            Self::Table => {
                let Table { headings, rows } = table();
                if rows.is_empty() {
                    say!("none");
                    return Ok(ExitCode::SUCCESS);
                }
                let mut shown = plain_or_lines();
                shown.set_header(headings);
                for row in rows {
                    shown.add_row(row);
                }
                say!("{shown}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
