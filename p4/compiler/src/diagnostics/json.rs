//! Diagnostics as JSON for editors.

use super::{Diagnostics, Severity};
use crate::source::Span;
use serde_json::{Value, json};

impl Diagnostics {
    /// An array with one object per diagnostic: severity, name, message, place, notes, help. The place is `null` if the
    /// message is not about a place in a file, for example if a file cannot be read.
    pub fn to_json(&self) -> Value {
        let place = |span: Span| {
            if self.sources.file(span.file).is_none() {
                return Value::Null;
            }
            let (line, column) = self.sources.line_col(span);
            let end = Span {
                lo: span.hi,
                hi: span.hi,
                ..span
            };
            let (end_line, end_column) = self.sources.line_col(end);
            json!({"file": self.sources.name(span), "line": line, "column": column,
                   "end_line": end_line, "end_column": end_column})
        };
        Value::Array(
            self.list
                .iter()
                .map(|d| {
                    json!({
                        "severity": if d.severity == Severity::Error { "error" } else { "warning" },
                        "name": d.lint.map(|l| l.name()),
                        "message": d.message,
                        "place": place(d.span),
                        "notes": d.notes.iter().map(|(s, t)| json!({"message": t, "place": place(*s)})).collect::<Vec<_>>(),
                        "help": d.help,
                    })
                })
                .collect(),
        )
    }
}
