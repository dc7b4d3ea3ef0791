//! Source files and positions in them.
//!
//! Every token, node and diagnostic carries a [`Span`]: a file and a byte range. Files are kept whole for the
//! lifetime of a compilation; embedded headers and command-line definitions are files like any other.

use std::path::{Path, PathBuf};

/// Index of a file in the [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId(pub u16);

/// A byte range `[lo, hi)` of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub lo: u32,
    /// One past the last byte.
    pub hi: u32,
}

impl Span {
    /// The smallest span that covers both, if they are in one file; else `self`.
    pub fn to(self, other: Span) -> Span {
        if self.file == other.file {
            Span {
                file: self.file,
                lo: self.lo.min(other.lo),
                hi: self.hi.max(other.hi),
            }
        } else {
            self
        }
    }
}

/// One file's text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The name shown to the user.
    pub name: String,
    /// Where `#include "..."` of this file looks first; `None` for embedded files.
    pub dir: Option<PathBuf>,
    /// The text.
    pub text: String,
    line_starts: Vec<u32>,
    /// Embedded in the compiler: its declarations raise no "unused" warnings.
    pub system: bool,
}

/// All files of one compilation.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
    /// The file that holds the texts made by the preprocessor.
    made: Option<FileId>,
}

/// Most octets that the preprocessor may produce by pasting, quoting and splicing.
const MAX_MADE: usize = 64 << 20;

/// Upper bound on files per compilation; a cycle of includes ends here at the latest.
pub const MAX_FILES: usize = 4096;

/// Longest line whose columns are counted in characters, because counting reads the line once for each place in a
/// message.
const MAX_COUNTED_LINE: usize = 4096;

impl SourceMap {
    /// Adds a file. Returns `None` when [`MAX_FILES`] is reached or the text is larger than 4 GiB.
    pub fn add(&mut self, name: &str, dir: Option<&Path>, text: &str, system: bool) -> Option<FileId> {
        if self.files.len() >= MAX_FILES || u32::try_from(text.len()).is_err() {
            return None;
        }
        let id = FileId(u16::try_from(self.files.len()).ok()?);
        let mut line_starts = vec![0];
        line_starts.extend(
            text.bytes()
                .enumerate()
                .filter(|(_, b)| *b == b'\n')
                .map(|(i, _)| i as u32 + 1),
        );
        self.files.push(SourceFile {
            name: name.to_string(),
            dir: dir.map(Path::to_path_buf),
            text: text.to_string(),
            line_starts,
            system,
        });
        Some(id)
    }

    /// Adds a text that is not contiguous in any file: made by a macro, or broken over lines in its source. `None` if
    /// there are too many of them.
    pub fn make(&mut self, text: &str) -> Option<Span> {
        let id = match self.made {
            Some(id) => id,
            None => {
                let id = self.add("<macro>", None, "", false)?;
                self.made = Some(id);
                id
            }
        };
        let file = self.files.get_mut(usize::from(id.0))?;
        if file.text.len() + text.len() > MAX_MADE {
            return None;
        }
        let lo = file.text.len() as u32;
        let hi = lo + text.len() as u32;
        file.text.push_str(text);
        // A line of its own for each, so that its place can be shown.
        file.text.push('\n');
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        file.line_starts.extend(breaks.map(|(i, _)| lo + i as u32 + 1));
        file.line_starts.push(hi + 1);
        Some(Span { file: id, lo, hi })
    }

    /// The file, if the id belongs to this map.
    pub fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(usize::from(id.0))
    }

    /// The text of a span; empty if it is out of range.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file)
            .and_then(|f| f.text.get(span.lo as usize..span.hi as usize))
            .unwrap_or("")
    }

    /// Line and column, both from 1, columns in characters.
    pub fn line_col(&self, span: Span) -> (u32, u32) {
        let Some(file) = self.file(span.file) else {
            return (0, 0);
        };
        let line = file.line_starts.partition_point(|s| *s <= span.lo);
        let start = file.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = file.text.get(start as usize..span.lo as usize).unwrap_or("");
        // In a longer line, columns are counted in octets.
        let col = if before.len() > MAX_COUNTED_LINE {
            before.len()
        } else {
            before.chars().count()
        };
        (line as u32, col as u32 + 1)
    }

    /// Name of the file that contains a span.
    pub fn name(&self, span: Span) -> &str {
        self.file(span.file).map_or("<unknown>", |f| f.name.as_str())
    }

    /// Whether a span is in a file that ships with the compiler.
    pub fn is_system(&self, span: Span) -> bool {
        self.file(span.file).is_some_and(|f| f.system)
    }
}

impl SourceMap {
    /// All files, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }
}
