//! `#include`, `#include_next`, `#import`: finding files.

use super::{MAX_INCLUDE_DEPTH, Preprocessor};
use crate::lex::{Tok, Token};
use crate::source::{FileId, Span};
use std::path::{Path, PathBuf};

/// Finds included files.
pub struct Includes<'a> {
    /// Directories of `-I`, in order.
    pub paths: &'a [PathBuf],
    /// Files that ship with the compiler: name, text. They come after all directories.
    pub embedded: &'a [(&'a str, &'a str)],
}

/// Which file is wanted, and where the search begins.
pub(super) struct Wanted {
    name: String,
    /// Written in quotes: the directory of the including file comes first.
    local: bool,
    /// The first directory of the search path to look into.
    from: usize,
}

impl Preprocessor<'_> {
    /// Identifies a file under any path.
    pub(super) fn identity(&self, file: FileId) -> PathBuf {
        let name = self.map.file(file).map_or("", |f| f.name.as_str());
        std::fs::canonicalize(name).unwrap_or_else(|_| PathBuf::from(name))
    }

    /// A directive's file; `raw` is the rest of its line as written.
    pub(super) fn include(&mut self, word: &str, rest: &[Token], raw: &str, span: Span) {
        let from = if word == "include_next" {
            // The directory after the one in which this file was found.
            self.found.get(&span.file).map_or(0, |d| d + 1)
        } else {
            0
        };
        let Some((name, quoted)) = self.file_name(rest, raw, span) else {
            return;
        };
        let wanted = Wanted {
            name,
            local: quoted && word != "include_next",
            from,
        };
        if self.builtins.level >= MAX_INCLUDE_DEPTH {
            let name = &wanted.name;
            self.sink.error(
                span,
                format!("includes are nested more than {MAX_INCLUDE_DEPTH} deep: does \"{name}\" include itself?"),
            );
            return;
        }
        let Some(file) = self.find(&wanted, span) else { return };
        let identity = self.identity(file);
        if self.once.contains(&identity) {
            return;
        }
        if word == "import" {
            self.once.insert(identity);
        }
        self.builtins.level += 1;
        let outer = (self.builtins.line_shift, self.builtins.file.take());
        self.builtins.line_shift = 0;
        self.file(file);
        (self.builtins.line_shift, self.builtins.file) = outer;
        self.builtins.level -= 1;
    }

    /// `"name"` and `<name>` as written; anything else after its macros are expanded. The flag is set for quotes.
    pub(super) fn file_name(&mut self, rest: &[Token], raw: &str, span: Span) -> Option<(String, bool)> {
        let delimited = |text: &str, open: char, close: char| {
            let body = text.strip_prefix(open)?;
            let end = body.find(close)?;
            body.get(..end).map(str::to_string)
        };
        let raw = raw.trim_start();
        if let Some(name) = delimited(raw, '"', '"') {
            return Some((name, true));
        }
        if let Some(name) = delimited(raw, '<', '>') {
            return Some((name, false));
        }
        let mut line = Vec::new();
        self.expander().run(rest, false, &mut line);
        match line.first().map(|t| t.tok) {
            Some(Tok::Str) => {
                let text = line.first().map_or("", |t| self.map.text(t.text));
                return Some((text.trim_matches('"').to_string(), true));
            }
            Some(Tok::Lt) => {
                if let Some(end) = line.iter().position(|t| t.tok == Tok::Gt) {
                    let mut name = String::new();
                    for t in line.get(1..end).unwrap_or(&[]) {
                        if t.after_space && !name.is_empty() {
                            name.push(' ');
                        }
                        name.push_str(self.map.text(t.text));
                    }
                    // Elsewhere the text from a macro does not join with its neighbours; in a file's name it does.
                    return Some((name.replace(' ', ""), false));
                }
            }
            _ => {}
        }
        self.sink.error(span, "a file's name is missing: \"file\" or <file>");
        None
    }

    /// The places where a file may be: path, and its number in the search path.
    fn candidates(&self, wanted: &Wanted, span: Span) -> Vec<(PathBuf, usize)> {
        let mut out = Vec::new();
        let own = self.map.file(span.file).and_then(|f| f.dir.clone());
        if let Some(dir) = own.filter(|_| wanted.local) {
            let at = self.found.get(&span.file).copied().unwrap_or(0);
            out.push((dir.join(&wanted.name), at));
        }
        let paths = self.includes.paths.iter().enumerate().skip(wanted.from);
        out.extend(paths.map(|(i, dir)| (dir.join(&wanted.name), i)));
        out
    }

    /// Whether the operator `__has_include` finds a file.
    pub(super) fn has_include(&self, name: &str, local: bool, next: bool, span: Span) -> bool {
        let from = if next {
            self.found.get(&span.file).map_or(0, |d| d + 1)
        } else {
            0
        };
        let wanted = Wanted {
            name: name.to_string(),
            local: local && !next,
            from,
        };
        let embedded = || from <= self.includes.paths.len() && self.includes.embedded.iter().any(|(n, _)| *n == name);
        self.candidates(&wanted, span).iter().any(|(p, _)| p.is_file()) || embedded()
    }

    fn find(&mut self, wanted: &Wanted, span: Span) -> Option<FileId> {
        let name = &wanted.name;
        // The files that ship with the compiler form one directory: if one of them includes another, that is the one
        // meant.
        let from_embedded = self.map.is_system(span) && wanted.local;
        if !from_embedded {
            for (path, at) in self.candidates(wanted, span) {
                match std::fs::read(&path) {
                    Ok(bytes) => return self.add_found(path, &bytes, at, span),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound || !path.is_file() => {}
                    Err(e) => {
                        self.sink.error(span, format!("cannot read {}: {e}", path.display()));
                        return None;
                    }
                }
            }
        }
        let last = self.includes.paths.len();
        let embedded = self.includes.embedded.iter().find(|(n, _)| n == name);
        if let Some((n, text)) = embedded.filter(|_| wanted.from <= last) {
            let id = self.map.add(&format!("<{n}>"), None, text, true);
            return self.noted(id, last, span);
        }
        self.sink
            .error(span, format!("cannot find \"{name}\" in the include path"));
        None
    }

    fn add_found(&mut self, path: PathBuf, bytes: &[u8], at: usize, span: Span) -> Option<FileId> {
        let text = String::from_utf8_lossy(bytes);
        let dir = path.parent().unwrap_or(Path::new(""));
        let id = self.map.add(&path.to_string_lossy(), Some(dir), &text, false);
        self.dependencies.push(path);
        self.noted(id, at, span)
    }

    fn noted(&mut self, id: Option<FileId>, at: usize, span: Span) -> Option<FileId> {
        match id {
            Some(id) => {
                self.found.insert(id, at);
            }
            None => self.sink.error(span, "too many files are included"),
        }
        id
    }
}
