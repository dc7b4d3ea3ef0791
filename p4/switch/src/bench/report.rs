//! Figures as a table for people and as JSON for programs.

use std::path::Path;

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

    /// Adds a line and prints it; units are last in the names of figures.
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

    /// Writes it to a file, if there is one.
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
