//! Diagnostics as text: `file:line:col`, the source line, a caret.

use super::{Diagnostics, Severity};
use crate::source::{FileId, SourceMap, Span};
use ariadne::{Config, IndexType, Label, Report, ReportKind, Source};
use std::collections::HashMap;

impl ariadne::Span for Span {
    type SourceId = FileId;
    fn source(&self) -> &FileId {
        &self.file
    }
    fn start(&self) -> usize {
        self.lo as usize
    }
    fn end(&self) -> usize {
        self.hi.max(self.lo) as usize
    }
}

struct Files<'a> {
    map: &'a SourceMap,
    cache: HashMap<FileId, Source<String>>,
}

impl ariadne::Cache<FileId> for Files<'_> {
    type Storage = String;
    fn fetch(&mut self, id: &FileId) -> Result<&Source<String>, impl std::fmt::Debug> {
        let text = self.map.file(*id).map(|f| f.text.to_string());
        let entry = self
            .cache
            .entry(*id)
            .or_insert_with(|| Source::from(text.unwrap_or_default()));
        Ok::<_, String>(entry)
    }
    fn display<'a>(&self, id: &'a FileId) -> Option<impl std::fmt::Display + 'a> {
        Some(
            self.map
                .file(*id)
                .map_or_else(|| "<unknown>".to_string(), |f| f.name.clone()),
        )
    }
}

impl Diagnostics {
    /// All diagnostics as text for a terminal, with colours if asked.
    pub fn render(&self, color: bool) -> String {
        let mut files = Files {
            map: &self.sources,
            cache: HashMap::new(),
        };
        let mut out = Vec::new();
        for d in &self.list {
            let kind = match d.severity {
                Severity::Error => ReportKind::Error,
                Severity::Warning => ReportKind::Warning,
            };
            if self.sources.file(d.span.file).is_none() {
                out.extend_from_slice(format!("{kind}: {}\n", d.message).as_bytes());
                continue;
            }
            let config = Config::default().with_color(color).with_index_type(IndexType::Byte);
            let mut report = Report::build(kind, d.span).with_config(config).with_message(&d.message);
            let label = d.lint.map_or_else(|| "here".to_string(), |l| format!("[{}]", l.name()));
            report = report.with_label(Label::new(d.span).with_message(label));
            for (span, text) in &d.notes {
                report = report.with_label(Label::new(*span).with_message(text));
            }
            if let Some(help) = &d.help {
                report = report.with_help(help);
            }
            if report.finish().write(&mut files, &mut out).is_err() {
                out.extend_from_slice(d.message.as_bytes());
                out.push(b'\n');
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// One line per diagnostic: `file:line:col: error: message`, or without the place if it has none.
    pub fn short(&self) -> String {
        let mut out = String::new();
        for d in &self.list {
            let word = match d.severity {
                Severity::Error => "error".to_string(),
                Severity::Warning => format!("warning[{}]", d.lint.map_or("", |l| l.name())),
            };
            if self.sources.file(d.span.file).is_some() {
                let (line, col) = self.sources.line_col(d.span);
                out.push_str(&format!("{}:{line}:{col}: ", self.sources.name(d.span)));
            }
            out.push_str(&format!("{word}: {}\n", d.message));
        }
        out
    }
}
