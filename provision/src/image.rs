//! Installer images: the files of one directory whose digests were verified.
//!
//! The directory has a file `SHA256SUMS`, as `sha256sum * > SHA256SUMS` writes it. A file that is not in it, or whose
//! SHA-256 digest differs, is not served. A file is hashed when it is first requested, and again after it has changed.
//! The server sends exactly the file that was hashed, through the same descriptor.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{Context, SHA256};
use vfabric_api::ident::Label;

/// Name of the list of digests.
pub const SUMS: &str = "SHA256SUMS";
/// The list is read up to this size: some thousands of lines.
const LARGEST_LIST: u64 = 1 << 20;
/// Octets that are hashed at a time.
const CHUNK: usize = 1 << 20;

/// Why an image is not served.
#[derive(Debug, thiserror::Error)]
pub enum NoImage {
    /// There is no directory of images.
    #[error("the settings name no directory of images")]
    NoDirectory,
    /// The list of digests cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    NoSums {
        /// The list.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The list of digests does not name the image.
    #[error("`{0}` is not in {SUMS}")]
    NotListed(String),
    /// The file cannot be read.
    #[error("`{name}` cannot be read: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Its digest differs.
    #[error("`{name}` is damaged: its SHA-256 digest is {found}, {SUMS} has {expected}")]
    Damaged {
        /// The file.
        name: String,
        /// Its digest.
        found: String,
        /// What the list has.
        expected: String,
    },
    /// It was changed while it was hashed.
    #[error("`{0}` was changed while it was read")]
    Changed(String),
}

/// Distinguishes one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for State {
    fn from(m: &Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

/// The images.
#[derive(Debug)]
pub struct Images {
    directory: Option<PathBuf>,
    /// Computed digests by name; at most as many as the list has names.
    known: Mutex<HashMap<Label, Arc<Mutex<Option<(State, String)>>>>>,
}

/// An image whose digest is right.
#[derive(Debug)]
pub struct Image {
    /// The file, opened.
    pub file: File,
    /// Its digest, in hexadecimal.
    pub sha256: String,
    /// Its size in octets.
    pub size: u64,
}

impl Images {
    /// The images of a directory; without one there are none.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            known: Mutex::default(),
        }
    }

    /// The digest that the list has for a file.
    ///
    /// # Errors
    /// There is none.
    pub fn listed(&self, name: &Label) -> Result<String, NoImage> {
        let directory = self.directory.as_deref().ok_or(NoImage::NoDirectory)?;
        let path = directory.join(SUMS);
        let read = || {
            let mut text = String::new();
            File::open(&path)?.take(LARGEST_LIST).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| NoImage::NoSums {
            path: path.clone(),
            source,
        })?;
        let found = text.lines().find_map(|line| {
            let (digest, file) = line.split_once(' ')?;
            // ` *` marks binary mode, which makes no difference here.
            let file = file.strip_prefix(['*', ' ']).unwrap_or(file);
            let file = file.strip_prefix("./").unwrap_or(file);
            let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            (file == name.as_str() && is_digest).then(|| digest.to_ascii_lowercase())
        });
        found.ok_or_else(|| NoImage::NotListed(name.to_string()))
    }

    /// Opens an image and checks its digest, if that is not known yet. Blocks while the file is read; other requests for the same file
    /// wait for the same result.
    ///
    /// # Errors
    /// Why it is not served.
    pub fn open(&self, name: &Label) -> Result<Image, NoImage> {
        let expected = self.listed(name)?;
        let directory = self.directory.as_deref().ok_or(NoImage::NoDirectory)?;
        let unreadable = |source| NoImage::Unreadable {
            name: name.to_string(),
            source,
        };
        let mut file = open(&directory.join(name.as_str())).map_err(unreadable)?;
        let entry = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.clone()).or_default())
        };
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let state = State::from(&file.metadata().map_err(unreadable)?);
        let found = match &*entry {
            Some((known, digest)) if *known == state => digest.clone(),
            _ => {
                let digest = hash(&mut file).map_err(unreadable)?;
                if State::from(&file.metadata().map_err(unreadable)?) != state {
                    return Err(NoImage::Changed(name.to_string()));
                }
                *entry = Some((state, digest.clone()));
                digest
            }
        };
        if found != expected {
            return Err(NoImage::Damaged {
                name: name.to_string(),
                found,
                expected,
            });
        }
        Ok(Image {
            file,
            sha256: found,
            size: state.size,
        })
    }
}

/// A plain file; a pipe or device of that name would block for ever.
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "it is not a plain file",
        ));
    }
    Ok(file)
}

fn hash(file: &mut File) -> std::io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        context.update(chunk.get(..length).unwrap_or_default());
    }
    let digest = context.finish();
    Ok(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a file and its line of the list.
    pub(crate) fn add(directory: &Path, name: &str, content: &[u8]) {
        std::fs::write(directory.join(name), content).unwrap();
        let digest = ring::digest::digest(&SHA256, content);
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let sums = directory.join(SUMS);
        let before = std::fs::read_to_string(&sums).unwrap_or_default();
        std::fs::write(sums, format!("{before}{hex}  {name}\n")).unwrap();
    }

    fn said(images: &Images, name: &str) -> String {
        match images.open(&name.parse().unwrap()) {
            Ok(image) => format!("{} octets", image.size),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_listed_files_with_the_right_digest_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::new(Some(dir.path().to_owned()));
        assert!(said(&images, "nos.bin").contains(SUMS));
        add(dir.path(), "nos.bin", b"content");
        std::fs::write(dir.path().join("other.bin"), b"x").unwrap();
        assert_eq!(said(&images, "nos.bin"), "7 octets");
        assert!(said(&images, "other.bin").contains("is not in SHA256SUMS"));
        // Changed without a new line in the list, to the same size.
        std::fs::write(dir.path().join("nos.bin"), b"CONTENT").unwrap();
        assert!(said(&images, "nos.bin").contains("is damaged"));
        std::fs::remove_file(dir.path().join(SUMS)).unwrap();
        add(dir.path(), "nos.bin", b"CONTENT");
        assert_eq!(said(&images, "nos.bin"), "7 octets");
        std::fs::remove_file(dir.path().join("nos.bin")).unwrap();
        assert!(said(&images, "nos.bin").contains("cannot be read"));
        std::fs::create_dir(dir.path().join("nos.bin")).unwrap();
        assert!(said(&images, "nos.bin").contains("not a plain file"));
        assert!(said(&Images::new(None), "nos.bin").contains("no directory"));
    }

    #[test]
    fn what_sha256sum_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.bin"), b"abc").unwrap();
        std::fs::write(dir.path().join("b.bin"), b"").unwrap();
        let sum = |args: &[&str]| {
            let output = std::process::Command::new("sha256sum")
                .args(args)
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(output.status.success());
            output.stdout
        };
        let list = [sum(&["./a.bin"]), sum(&["--binary", "b.bin"])].concat();
        std::fs::write(dir.path().join(SUMS), list).unwrap();
        let images = Images::new(Some(dir.path().to_owned()));
        assert_eq!(
            (said(&images, "a.bin"), said(&images, "b.bin")),
            ("3 octets".into(), "0 octets".into())
        );
    }
}
