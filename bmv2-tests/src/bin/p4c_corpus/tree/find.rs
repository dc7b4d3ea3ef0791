//! Finds the programs of a folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::source::Source;

/// The architecture that the compiler knows.
const V1MODEL: &str = "v1model.p4";

/// The programs of a folder, and how many files are none.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Programs for v1model, in order.
    pub(super) programs: Vec<Program>,
    /// Programs that do not include v1model.p4, each with the architectures that it includes instead.
    pub(super) elsewhere: Vec<(PathBuf, String)>,
    /// Files without `main`: parts of programs, and programs in P4_14.
    pub(super) parts: usize,
    /// Files with a `main` that a program includes.
    pub(super) included: usize,
}

/// A program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// A hash of the texts of the file and of all that it includes.
    pub(super) digest: u64,
}

/// A file with what it includes.
struct File {
    source: Source,
    digest: u64,
    /// Files of the tree that it includes.
    next: Vec<PathBuf>,
    /// The names of the others.
    foreign: Vec<String>,
}

/// Reads files once.
struct Files<'a> {
    include_paths: &'a [PathBuf],
    read: HashMap<PathBuf, File>,
}

impl Files<'_> {
    fn get(&mut self, path: &Path) -> Result<&File> {
        if !self.read.contains_key(path) {
            let octets = std::fs::read(path).with_context(|| path.display().to_string())?;
            let mut hasher = DefaultHasher::new();
            octets.hash(&mut hasher);
            let source = Source::read(&String::from_utf8_lossy(&octets));
            let (mut next, mut foreign) = (Vec::new(), Vec::new());
            for (name, quoted) in &source.includes {
                let beside = path.parent().filter(|_| *quoted);
                let folders = beside
                    .into_iter()
                    .chain(self.include_paths.iter().map(PathBuf::as_path));
                let mut candidates = folders.map(|folder| folder.join(name));
                let found = candidates.find(|file| file.is_file());
                let found = found.and_then(|file| std::fs::canonicalize(file).ok());
                match found {
                    Some(file) => next.push(file),
                    None => foreign.push(name.clone()),
                }
            }
            let file = File {
                source,
                digest: hasher.finish(),
                next,
                foreign,
            };
            self.read.insert(path.to_owned(), file);
        }
        self.read.get(path).context("a file that was just read")
    }

    /// A file with all that it includes: whether there is a `main`, the other files, names of files outside, and a hash.
    fn whole(&mut self, path: &Path) -> Result<Whole> {
        let mut whole = Whole::default();
        let mut hasher = DefaultHasher::new();
        let mut todo = vec![path.to_owned()];
        while let Some(at) = todo.pop() {
            if !whole.files.insert(at.clone()) {
                continue;
            }
            let file = self.get(&at)?;
            file.digest.hash(&mut hasher);
            whole.has_main |= file.source.has_main;
            whole.foreign.extend(file.foreign.iter().cloned());
            let own = file
                .next
                .iter()
                .filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned()));
            whole.foreign.extend(own.filter(|name| name == V1MODEL));
            todo.extend(file.next.iter().cloned());
        }
        whole.digest = hasher.finish();
        Ok(whole)
    }
}

#[derive(Default)]
struct Whole {
    has_main: bool,
    files: BTreeSet<PathBuf>,
    foreign: BTreeSet<String>,
    digest: u64,
}

/// Looks for programs below a folder: files ending in `.p4` that instantiate `main`, themselves or in a file that they include. One that
/// another program includes is not a program of its own.
pub(super) fn programs(dir: &Path, include_paths: &[PathBuf]) -> Result<Found> {
    let dir = std::fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
    let mut files = Files {
        include_paths,
        read: HashMap::new(),
    };
    let mut found = Found::default();
    let mut all = BTreeMap::new();
    for path in sources(&dir)? {
        let whole = files.whole(&path)?;
        if whole.has_main {
            all.insert(path, whole);
        } else {
            found.parts += 1;
        }
    }
    let included: BTreeSet<PathBuf> = all
        .iter()
        .flat_map(|(path, whole)| whole.files.iter().filter(move |file| *file != path).cloned())
        .collect();
    for (path, whole) in all {
        let is_v1model = whole.foreign.iter().any(|f| f.rsplit('/').next() == Some(V1MODEL));
        if included.contains(&path) {
            found.included += 1;
        } else if is_v1model {
            found.programs.push(Program {
                path,
                digest: whole.digest,
            });
        } else {
            let others = whole.foreign.iter().filter(|f| f.as_str() != "core.p4");
            let others: Vec<&str> = others.map(String::as_str).collect();
            found.elsewhere.push((path, others.join(", ")));
        }
    }
    Ok(found)
}

/// All files ending in `.p4` below a folder, in order. Hidden folders are left out, and links are not followed.
fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if is_hidden || entry.file_type()?.is_symlink() {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "p4") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_files_with_a_main_that_no_other_program_includes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "one.p4",
            "#include <v1model.p4>\n#include \"parts/headers.p4\"\nS() main;",
        );
        write("parts/headers.p4", "header h_t {}");
        write("body.p4", "#include <v1model.p4>\nS() main;");
        write("profile.p4", "#define X\n#include \"body.p4\"\n");
        write("far/two.p4", "#include \"common.p4\"\nS() main;");
        write("inc/common.p4", "#include <v1model.p4>\n");
        write("other.p4", "#include <core.p4>\n#include <psa.p4>\nS() main;");
        write(".hidden/three.p4", "#include <v1model.p4>\nS() main;");
        let programs = |include: &[PathBuf]| {
            let found = programs(dir.path(), include).unwrap();
            let root = std::fs::canonicalize(dir.path()).unwrap();
            let names = found
                .programs
                .iter()
                .map(|p| p.path.strip_prefix(&root).unwrap().display().to_string());
            (
                names.collect::<Vec<_>>(),
                found.elsewhere.len(),
                found.parts,
                found.included,
            )
        };
        let with = programs(&[dir.path().join("inc")]);
        assert_eq!(
            with,
            (vec!["far/two.p4".into(), "one.p4".into(), "profile.p4".into()], 1, 2, 1)
        );
        let (without, elsewhere, ..) = programs(&[]);
        assert_eq!(
            (without.len(), elsewhere),
            (2, 2),
            "nothing says that far/two.p4 is for v1model"
        );
    }

    #[test]
    fn the_hash_of_a_program_covers_what_it_includes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.p4"),
            "#include <v1model.p4>\n#include \"b.p4\"\nS() main;",
        )
        .unwrap();
        let digest = |text: &str| {
            std::fs::write(dir.path().join("b.p4"), text).unwrap();
            programs(dir.path(), &[]).unwrap().programs[0].digest
        };
        assert_eq!(digest("1"), digest("1"));
        assert_ne!(digest("1"), digest("2"));
    }
}
