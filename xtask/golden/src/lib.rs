//! Golden files: generated text, compared with files in the repository.
//!
//! **Problem.** A generated text (a compiled program, the OpenAPI document, the entities of a fabric) may change with code that
//! seems unrelated. Reviewers must see the change, and one command must accept all of them.
//!
//! **Model.** A [`Golden`] is one folder. A test calls [`Golden::check`] for each file that the folder should hold and then
//! [`Golden::finish`]. `cargo xtask bless` runs the same tests with the variable [`BLESS`]: they write the files instead of
//! comparing them, and `git diff` shows what changed.
//!
//! **Invariants.** A test fails if a file differs, is missing, or is not expected. It writes only when blessing.
//!
//! **Cost.** Each file of the folder is read once.
//!
//! ```no_run
//! let mut golden = golden::Golden::folder("golden");
//! golden.check("answer.txt", "42\n");
//! golden.finish();
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// With this variable set, files are written instead of compared.
pub const BLESS: &str = "BLESS";

/// Lines of a difference that are shown: enough to see what it is about.
const SHOWN_LINES: usize = 40;

/// The golden files of one folder.
#[derive(Debug)]
pub struct Golden {
    folder: PathBuf,
    bless: bool,
    checked: BTreeSet<String>,
    wrong: String,
}

impl Golden {
    /// The files of a folder. When blessing, the folder is made if it does not exist.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self::of(folder.into(), std::env::var_os(BLESS).is_some())
    }

    fn of(folder: PathBuf, bless: bool) -> Self {
        Self {
            folder,
            bless,
            checked: BTreeSet::new(),
            wrong: String::new(),
        }
    }

    /// Compares a text with the file of that name, or writes the file when blessing. A difference is reported by
    /// [`finish`](Self::finish), so that one run shows all of them.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn check(&mut self, name: &str, text: &str) {
        self.checked.insert(name.to_owned());
        let path = self.folder.join(name);
        if self.bless {
            write(&path, text);
            return;
        }
        match std::fs::read_to_string(&path) {
            Ok(golden) if golden == text => {}
            Ok(golden) => self.report(&path, &difference(&golden, text)),
            Err(error) => self.report(&path, &format!("{error}\n")),
        }
    }

    fn report(&mut self, path: &Path, what: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.wrong, "{}\n{what}", path.display());
    }

    /// Ends the comparison. A file of the folder that was not checked is removed when blessing, and reported otherwise.
    ///
    /// # Panics
    /// With all differences, if there are any; or the folder cannot be read.
    pub fn finish(mut self) {
        let entries = std::fs::read_dir(&self.folder).unwrap_or_else(|e| panic!("{}: {e}", self.folder.display()));
        for entry in entries {
            let path = entry
                .unwrap_or_else(|e| panic!("{}: {e}", self.folder.display()))
                .path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if self.checked.contains(name) {
                continue;
            }
            if self.bless {
                std::fs::remove_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            } else {
                self.report(&path, "nothing generates this file\n");
            }
        }
        assert!(
            self.wrong.is_empty(),
            "golden files differ (`cargo xtask bless` accepts this):\n{}",
            self.wrong
        );
    }
}

/// Compares a text with one file in a folder that also has other files, or writes the file when blessing.
///
/// # Panics
/// They differ, or the file cannot be written.
pub fn check_file(path: &Path, text: &str) {
    if std::env::var_os(BLESS).is_some() {
        write(path, text);
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        golden == text,
        "{} differs (`cargo xtask bless` accepts this):\n{}",
        path.display(),
        difference(&golden, text)
    );
}

fn write(path: &Path, text: &str) {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = written.and_then(|()| std::fs::write(path, text));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A unified difference, cut after [`SHOWN_LINES`].
fn difference(golden: &str, now: &str) -> String {
    let diff = similar::TextDiff::from_lines(golden, now);
    let text = diff
        .unified_diff()
        .context_radius(2)
        .header("golden", "now")
        .to_string();
    let mut lines = text.lines();
    let mut shown: String = lines
        .by_ref()
        .take(SHOWN_LINES)
        .map(|line| format!("{line}\n"))
        .collect();
    let more = lines.count();
    if more > 0 {
        // Writing to a string does not fail.
        let _ = writeln!(shown, "... and {more} more lines");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of a panic.
    fn message(of: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(of).unwrap_err();
        *panic.downcast::<String>().unwrap()
    }

    #[test]
    fn blessed_files_pass_and_others_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("golden");
        let run = |bless, files: &[(&str, &str)]| {
            let mut golden = Golden::of(folder.clone(), bless);
            files.iter().for_each(|(name, text)| golden.check(name, text));
            golden.finish();
        };
        run(true, &[("a", "one\ntwo\n"), ("b", "three\n")]);
        run(false, &[("a", "one\ntwo\n"), ("b", "three\n")]);
        let said = message(|| run(false, &[("a", "one\n2\n"), ("c", "")]));
        for part in ["-two", "+2", "c\nNo such file", "b\nnothing generates this file"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        run(true, &[("a", "one\n2\n")]);
        assert!(!folder.join("b").exists());
        run(false, &[("a", "one\n2\n")]);
    }

    #[test]
    fn a_long_difference_is_cut() {
        let many: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let shown = difference("", &many);
        assert_eq!(shown.lines().count(), SHOWN_LINES + 1);
        assert!(shown.contains("more lines"), "{shown}");
    }
}
