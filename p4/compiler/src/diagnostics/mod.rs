//! Errors and warnings: collected, named, rendered.
//!
//! Phases report into a [`Sink`] and go on where they can, so one run shows several errors. A warning has a
//! [`Lint`] name by which `--Wdisable=<name>` or `@noWarn("<name>")` silences it.

mod json;
mod render;

use crate::source::{SourceMap, Span};
use std::collections::HashSet;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The program is legal but suspicious.
    Warning,
    /// The program is rejected.
    Error,
}

/// Names of the warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lint {
    /// A declaration that nothing uses.
    Unused,
    /// A constant that does not fit its type and is truncated.
    Overflow,
    /// Use of something marked `@deprecated`.
    Deprecated,
    /// A construct the target executes differently or ignores.
    Unsupported,
    /// A value that is read before it is written.
    Uninitialized,
    /// Code or an entry that is never reached.
    Unreachable,
    /// A name that hides another one.
    Shadow,
    /// Two names or annotations that collide.
    Duplicate,
}

impl Lint {
    /// All of them.
    pub const ALL: [Lint; 8] = [
        Lint::Unused,
        Lint::Overflow,
        Lint::Deprecated,
        Lint::Unsupported,
        Lint::Uninitialized,
        Lint::Unreachable,
        Lint::Shadow,
        Lint::Duplicate,
    ];

    /// The name on the command line and in `@noWarn`.
    pub fn name(self) -> &'static str {
        match self {
            Lint::Unused => "unused",
            Lint::Overflow => "overflow",
            Lint::Deprecated => "deprecated",
            Lint::Unsupported => "unsupported",
            Lint::Uninitialized => "uninitialized",
            Lint::Unreachable => "unreachable",
            Lint::Shadow => "shadow",
            Lint::Duplicate => "duplicate",
        }
    }
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The warning's name; `None` for errors.
    pub lint: Option<Lint>,
    /// Where.
    pub span: Span,
    /// What is wrong, in one line.
    pub message: String,
    /// Other places that matter, each with a text.
    pub notes: Vec<(Span, String)>,
    /// Advice without a place.
    pub help: Option<String>,
}

/// A finished list of diagnostics together with the sources they point into.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// In the order they were found.
    pub list: Vec<Diagnostic>,
    /// The files.
    pub sources: SourceMap,
}

impl Diagnostics {
    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Errors beyond this many are counted, not kept: one broken line must not flood the terminal.
pub const MAX_ERRORS: usize = 50;

/// Warnings beyond this many are dropped.
const MAX_WARNINGS: usize = 500;

/// Where phases report.
#[derive(Debug, Default)]
pub struct Sink {
    list: Vec<Diagnostic>,
    errors: usize,
    silenced: HashSet<String>,
    /// Where a warning is silenced by `@noWarn`.
    regions: Vec<(Span, String)>,
    muted: u32,
}

impl Sink {
    /// A sink that drops the warnings of these names.
    pub fn new(silenced: impl IntoIterator<Item = String>) -> Self {
        Sink {
            silenced: silenced.into_iter().collect(),
            ..Sink::default()
        }
    }

    /// Reports an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.error_with(span, message, Vec::new(), None);
    }

    /// Reports an error with a second place.
    pub fn error_note(&mut self, span: Span, message: impl Into<String>, note: Span, text: impl Into<String>) {
        self.error_with(span, message, vec![(note, text.into())], None);
    }

    /// Reports an error with advice.
    pub fn error_help(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.error_with(span, message, Vec::new(), Some(help.into()));
    }

    fn error_with(&mut self, span: Span, message: impl Into<String>, notes: Vec<(Span, String)>, help: Option<String>) {
        if self.muted > 0 {
            return;
        }
        self.errors += 1;
        let message = message.into();
        let duplicate = self.list.iter().any(|d| d.span == span && d.message == message);
        if self.errors <= MAX_ERRORS && !duplicate {
            self.list.push(Diagnostic {
                severity: Severity::Error,
                lint: None,
                span,
                message,
                notes,
                help,
            });
        }
    }

    /// Drops warnings of a name within a span.
    pub fn silence(&mut self, span: Span, name: String) {
        self.regions.push((span, name));
    }

    /// Reports a warning.
    pub fn warn(&mut self, lint: Lint, span: Span, message: impl Into<String>) {
        self.warn_with(lint, span, message, Vec::new());
    }

    /// Reports a warning with a second place.
    pub fn warn_note(
        &mut self,
        lint: Lint,
        span: Span,
        message: impl Into<String>,
        note: Span,
        text: impl Into<String>,
    ) {
        self.warn_with(lint, span, message, vec![(note, text.into())]);
    }

    fn warn_with(&mut self, lint: Lint, span: Span, message: impl Into<String>, notes: Vec<(Span, String)>) {
        if self.muted > 0 || self.silenced.contains(lint.name()) || self.list.len() > MAX_ERRORS + MAX_WARNINGS {
            return;
        }
        let within = |r: &Span| r.file == span.file && r.lo <= span.lo && span.hi <= r.hi;
        if self.regions.iter().any(|(r, name)| name == lint.name() && within(r)) {
            return;
        }
        let message = message.into();
        if self.list.iter().any(|d| d.span == span && d.message == message) {
            return;
        }
        self.list.push(Diagnostic {
            severity: Severity::Warning,
            lint: Some(lint),
            span,
            message,
            notes,
            help: None,
        });
    }

    /// Begins a speculative step: until [`Sink::unmute`], what is reported is neither kept nor counted. Calls nest.
    pub fn mute(&mut self) {
        self.muted += 1;
    }

    /// Ends [`Sink::mute`].
    pub fn unmute(&mut self) {
        self.muted = self.muted.saturating_sub(1);
    }

    /// Number of errors so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Too many errors to go on.
    pub fn is_flooded(&self) -> bool {
        self.errors > MAX_ERRORS
    }

    /// Ends the collection.
    pub fn finish(self, sources: SourceMap) -> Diagnostics {
        let mut list = self.list;
        // Warnings about the embedded files are not for the user. Some `@noWarn` became known only after the warnings that
        // they silence.
        list.retain(|d| {
            let silent = |(region, name): &(Span, String)| {
                d.lint.is_some_and(|l| l.name() == name)
                    && region.file == d.span.file
                    && region.lo <= d.span.lo
                    && d.span.hi <= region.hi
            };
            d.severity == Severity::Error || !(sources.is_system(d.span) || self.regions.iter().any(silent))
        });
        if self.errors > 0 && !list.iter().any(|d| d.severity == Severity::Error) {
            list.push(Diagnostic {
                severity: Severity::Error,
                lint: None,
                span: Span::default(),
                message: "the program has errors".into(),
                notes: Vec::new(),
                help: None,
            });
        }
        Diagnostics { list, sources }
    }
}
