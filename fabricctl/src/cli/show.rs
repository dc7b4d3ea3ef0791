//! Printing: a table for people (plain when piped), JSON or YAML for programs, names for other commands.

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

/// How to print a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// A table
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names, in the form that other commands accept
    Name,
}

/// Things to print.
pub(super) struct Listing<'a, T> {
    pub(super) items: &'a [T],
    /// Whether a single item was requested by name; then the document is that item and not a list.
    pub(super) is_one: bool,
    pub(super) format: ListFormat,
}

impl<T: Serialize> Listing<'_, T> {
    /// Prints them. `name` returns the name for other commands, `row` adds a row to a table.
    pub(super) fn print(&self, name: impl Fn(&T) -> String, row: impl Fn(&mut Table, &T)) -> Result<ExitCode> {
        let document = match self.format {
            ListFormat::Name => {
                self.items.iter().for_each(|item| say!("{}", name(item)));
                return Ok(ExitCode::SUCCESS);
            }
            ListFormat::Table | ListFormat::Wide => {
                let mut table = Table {
                    is_wide: self.format == ListFormat::Wide,
                    ..Table::default()
                };
                self.items.iter().for_each(|item| row(&mut table, item));
                table.show();
                return Ok(ExitCode::SUCCESS);
            }
            ListFormat::Json => Format::Json,
            ListFormat::Yaml => Format::Yaml,
        };
        match self.items {
            [item] if self.is_one => document.print(item, Table::default),
            items => document.print(&items, Table::default),
        }
    }
}

/// A table under construction. The first row determines the headings.
#[derive(Default)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    is_wide: bool,
}

impl Table {
    /// Adds a row of (heading, cell) pairs.
    pub(super) fn row<const N: usize>(&mut self, cells: [(&'static str, String); N]) {
        self.row_with([], cells);
    }

    /// As [`Self::row`], with optional cells in front.
    pub(super) fn row_with<const N: usize>(
        &mut self,
        first: impl IntoIterator<Item = (&'static str, String)>,
        cells: [(&'static str, String); N],
    ) {
        let (headings, row): (Vec<_>, Vec<_>) = first.into_iter().chain(cells).unzip();
        if self.rows.is_empty() && self.headings.is_empty() {
            self.headings = headings;
        }
        self.rows.push(row);
    }

    /// Adds cells to the last row, if the table is a wide one.
    pub(super) fn wide<const N: usize>(&mut self, cells: [(&'static str, String); N]) {
        if !self.is_wide {
            return;
        }
        let is_first = self.rows.len() == 1;
        let Some(row) = self.rows.last_mut() else { return };
        for (heading, cell) in cells {
            if is_first {
                self.headings.push(heading);
            }
            row.push(cell);
        }
    }

    /// Prints the last row, with tabs between its cells, and removes it.
    pub(super) fn line(&mut self) {
        for row in self.rows.drain(..) {
            say!("{}", row.join("\t"));
        }
    }

    /// Prints the table.
    pub(super) fn show(self) {
        if self.rows.is_empty() {
            say!("none");
            return;
        }
        let mut shown = plain_or_lines();
        shown.set_header(self.headings);
        for row in self.rows {
            shown.add_row(row);
        }
        say!("{shown}");
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

/// The sign of an addition (`+`), change (`~`) or removal (`-`), with its colour if requested.
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
            Self::Table => table().show(),
        }
        Ok(ExitCode::SUCCESS)
    }
}
