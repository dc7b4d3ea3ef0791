//! The one writer of standard output.
//!
//! A reader may go away before everything is written (`fabricctl get drops | head -1`). Then the rest of the output is
//! dropped, but the command finishes its work: it does not leave a half-changed fabric or a sandbox behind, and its
//! exit code is still that of its work. `print!` and `println!` panic instead, so that lints refuse them here.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the reader has gone.
static GONE: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::out::line(format_args!($($words)*)) };
}

/// Writes a line.
pub fn line(words: fmt::Arguments<'_>) {
    text(format_args!("{words}\n"));
}

/// Writes text as it is. Ends the process with a message if standard output cannot be written for another reason than
/// that nobody reads it.
pub fn text(words: fmt::Arguments<'_>) {
    if GONE.load(Ordering::Relaxed) {
        return;
    }
    match write(io::stdout().lock(), words) {
        Ok(true) => {}
        Ok(false) => GONE.store(true, Ordering::Relaxed),
        Err(error) => {
            eprintln!("fabricctl: standard output: {error}");
            std::process::exit(1);
        }
    }
}

/// Whether nobody reads standard output any more. Then an endless command may stop.
pub fn is_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Returns whether there is still a reader.
fn write(mut to: impl Write, words: fmt::Arguments<'_>) -> io::Result<bool> {
    match to.write_fmt(words).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_that_went_away_is_no_error() {
        let words = || write(Vec::new(), format_args!("words"));
        assert!(words().unwrap());
        assert!(!write(Fails(io::ErrorKind::BrokenPipe), format_args!("words")).unwrap());
        assert!(write(Fails(io::ErrorKind::StorageFull), format_args!("words")).is_err());
    }
}
