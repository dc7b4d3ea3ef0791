//! Flags that a tree's own Makefile gives to p4c, where they stand there literally.
//!
//! The nearest `Makefile`, from a program's folder up to the folder that is looked through, counts if it calls p4c, or sets a variable
//! for p4c's flags. Words with variables of make are left out: this reads lines, and does not run make.

use std::path::{Path, PathBuf};

/// Flags from a Makefile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MakeFlags {
    pub(super) include: Vec<PathBuf>,
    pub(super) define: Vec<String>,
    /// Flags with variables of make.
    pub(super) unread: Vec<String>,
}

/// The flags of the nearest Makefile that has some.
pub(super) fn flags(program: &Path, top: &Path) -> MakeFlags {
    let folders = program.ancestors().skip(1).take_while(|folder| folder.starts_with(top));
    let mut all = folders.map(|folder| {
        let text = std::fs::read_to_string(folder.join("Makefile")).unwrap_or_default();
        read(&text, folder)
    });
    all.find(|flags| *flags != MakeFlags::default()).unwrap_or_default()
}

fn read(text: &str, folder: &Path) -> MakeFlags {
    let mut flags = MakeFlags::default();
    for line in text.replace("\\\n", " ").lines().filter(|line| is_about_p4c(line)) {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let (kind, rest) = match word.get(..2) {
                Some(kind @ ("-I" | "-D")) => (kind, &word[2..]),
                _ => continue,
            };
            let value = if rest.is_empty() {
                words.next().unwrap_or_default()
            } else {
                rest
            };
            let value = value.trim_matches(['"', '\'']);
            match kind {
                _ if value.contains('$') => flags.unread.push(format!("{kind}{value}")),
                "-I" if folder.join(value).is_dir() => push(&mut flags.include, folder.join(value)),
                "-D" if !value.is_empty() => push(&mut flags.define, value.to_owned()),
                _ => {}
            }
        }
    }
    flags
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Whether a line calls p4c, or sets a variable like `P4C_ARGS` or `P4FLAGS`.
fn is_about_p4c(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with('#') {
        return false;
    }
    if let Some((name, _)) = line.split_once('=')
        && let name = name.trim_end_matches(['+', ':', '?', ' '])
        && !name.contains(char::is_whitespace)
    {
        let name = name.to_uppercase();
        return name.starts_with("P4")
            && ["ARGS", "FLAGS", "OPTS", "OPTIONS"]
                .iter()
                .any(|end| name.ends_with(end));
    }
    let mut words = line.trim_start_matches(['@', '-']).split_whitespace();
    words.any(|word| {
        matches!(
            word.rsplit('/').next(),
            Some("p4c" | "p4c-bm2-ss" | "$(P4C)" | "${P4C}")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_flags_are_read_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        std::fs::create_dir(dir.path().join("inc")).unwrap();
        let text = "CFLAGS = -DNO\nP4C_ARGS += -DA=1 \\\n  -I inc -I$(X) -Igone\n# p4c -DNO\n\
                    all:\n\t@p4c-bm2-ss --arch v1model -DB -o x.json src/main.p4\n\tgcc -DNO x.c\n";
        std::fs::write(dir.path().join("Makefile"), text).unwrap();
        let found = flags(&dir.path().join("src/deep/main.p4"), dir.path());
        assert_eq!(found.define, ["A=1", "B"]);
        assert_eq!(found.include, [dir.path().join("inc")]);
        assert_eq!(found.unread, ["-I$(X)"]);
        // A nearer file wins.
        std::fs::write(dir.path().join("src/Makefile"), "P4FLAGS := -DNEAR\n").unwrap();
        assert_eq!(flags(&dir.path().join("src/deep/main.p4"), dir.path()).define, ["NEAR"]);
    }
}
