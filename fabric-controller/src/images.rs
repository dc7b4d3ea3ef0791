//! Images for switches on the disk: uploaded, listed, deleted. The provisioning server serves them from the same directory.
//!
//! | file | what |
//! | --- | --- |
//! | `NAME` | an image |
//! | `SHA256SUMS` | its digest, as `sha256sum` writes it: what is not in the list is not served |
//! | `images.json` | what callers said about the images that they uploaded |
//! | `.upload-N` | an upload that has not ended; removed at the next start |
//!
//! **Invariants.**
//! - An image is listed only when all of it is on the disk and its digest is the one that the caller named. An upload that
//!   breaks off, that is too large or that finds no room leaves nothing.
//! - A name always stands for the same content. Other content needs another name, or the old image must be deleted
//!   first. So a switch that resumes a transfer never joins parts of two images.
//! - All images together, and each one, have a largest size; room is reserved before it is used.
//! - Each list is written aside, flushed and renamed. A digest leaves the list before its file is removed.
//!
//! Files that were copied by hand, with their digests, are listed too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Label;
use vfabric_api::image::{Image, NewImage, digest};

/// Name of the list of digests.
const SUMS: &str = "SHA256SUMS";
/// Name of the file with what callers said.
const INDEX: &str = "images.json";
/// Start of the names of uploads; no image has such a name.
const UPLOAD: &str = ".upload-";
/// Uploads at a time: they share the disk.
const UPLOADS: usize = 4;
/// Most images in the list. The list is read with each request of a switch.
const IMAGES: usize = 1000;

/// How large images may be, in octets.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Each of them.
    pub each: u64,
    /// All together.
    pub total: u64,
}

/// What a caller said about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    software: Option<Label>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    models: Vec<Label>,
    uploaded_ms: u64,
}

/// Uploads that are under way.
#[derive(Debug, Default)]
struct Uploads {
    /// Octets that each upload has reserved, by its number.
    reserved: BTreeMap<u64, (Label, u64)>,
    next: u64,
}

/// The directory.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    bounds: Bounds,
    uploads: Mutex<Uploads>,
    /// Held while the lists are changed.
    lists: Mutex<()>,
}

/// An upload. If it is dropped before its end, nothing is left of it.
pub struct Upload<'a> {
    shelf: &'a Shelf,
    number: u64,
    image: NewImage,
    file: File,
    octets: u64,
    digest: Context,
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "upload of {} with {} octets", self.image.name, self.octets)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the caller sees of a fault of the disk; the log has the file.
fn fault(what: &'static str) -> impl FnOnce(io::Error) -> ApiError {
    move |error| {
        tracing::error!(%error, what, "images");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ApiError::new(
                ErrorCode::Exhausted,
                "the disk of the controller has no room for the image",
            ),
            _ => ApiError::new(ErrorCode::Unavailable, format!("{what}; the log says why")),
        }
    }
}

impl Shelf {
    /// Opens the directory, or makes it. Unfinished uploads of an earlier process are
    /// removed.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(directory: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UPLOAD) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            bounds,
            uploads: Mutex::default(),
            lists: Mutex::default(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        match fs::read_to_string(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        }
    }

    /// Writes a list aside, then puts it in its place.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.path(&format!("{UPLOAD}{name}"));
        let write = || {
            let mut file = readable(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, self.path(name))?;
            File::open(&self.directory)?.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&new)))
    }

    fn said(&self) -> io::Result<BTreeMap<Label, Said>> {
        let text = self.read(INDEX)?;
        if text.is_empty() {
            return Ok(BTreeMap::new());
        }
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Digests by name.
    fn sums(&self) -> io::Result<BTreeMap<Label, String>> {
        let text = self.read(SUMS)?;
        let line = |line: &str| {
            let (sum, name) = line.split_once(' ')?;
            // ` *` is binary mode, which is the same here.
            let name = name.strip_prefix(['*', ' ']).unwrap_or(name);
            let name = name.strip_prefix("./").unwrap_or(name);
            Some((name.parse().ok()?, digest(sum)?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    fn write_sums(&self, sums: &BTreeMap<Label, String>) -> io::Result<()> {
        let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
        self.write(SUMS, &text)
    }

    fn write_said(&self, said: &BTreeMap<Label, Said>) -> io::Result<()> {
        self.write(INDEX, &serde_json::to_string_pretty(said)?)
    }

    fn image(&self, name: &Label, sha256: &str, said: Option<&Said>) -> io::Result<Option<Image>> {
        let octets = match fs::metadata(self.path(name.as_str())) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Image {
            name: name.clone(),
            sha256: sha256.to_owned(),
            octets,
            software: said.and_then(|s| s.software.clone()),
            models: said.map(|s| s.models.clone()).unwrap_or_default(),
            uploaded_ms: said.map(|s| s.uploaded_ms),
            switches: Vec::new(),
        }))
    }

    /// All images that are listed and there, in the order of their names.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ApiError> {
        self.all().map_err(fault("the images cannot be listed"))
    }

    fn all(&self) -> io::Result<Vec<Image>> {
        let (sums, said) = (self.sums()?, self.said()?);
        let images = sums.iter().map(|(name, sum)| self.image(name, sum, said.get(name)));
        images.filter_map(Result::transpose).collect()
    }

    /// An image that is listed, with its content.
    ///
    /// # Errors
    /// `NotFound`, or it cannot be read.
    pub fn content(&self, name: &Label) -> Result<(Image, File), ApiError> {
        let image = self.list()?.into_iter().find(|image| image.name == *name);
        let image = image.ok_or_else(|| ApiError::not_found(format_args!("image `{name}`")))?;
        let content = File::open(self.path(name.as_str())).map_err(fault("the image cannot be read"))?;
        Ok((image, content))
    }

    /// Begins an upload. None: the image is there already.
    ///
    /// # Errors
    /// `Taken`: the name has other content. `TooLarge`, `Exhausted`: there is no room for it. `TooMany`: others are under way.
    pub fn begin(&self, image: NewImage) -> Result<Option<Upload<'_>>, ApiError> {
        let images = self.list()?;
        if let Some(known) = images.iter().find(|known| known.name == image.name) {
            if known.sha256 == image.sha256 {
                return Ok(None);
            }
            let detail = format!(
                "image `{}` has other content: delete it first, or choose another name",
                image.name
            );
            return Err(ApiError::new(ErrorCode::AlreadyExists, detail));
        }
        if images.len() >= IMAGES {
            let detail = format!("there are {IMAGES} images: delete some");
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        if [SUMS, INDEX].contains(&image.name.as_str()) {
            let expected = format!("another name: {SUMS} and {INDEX} are lists of images");
            return Err(ApiError::field(ErrorCode::Invalid, "name", &image.name, expected));
        }
        let stored = images.iter().map(|image| image.octets).sum();
        let number = {
            let mut uploads = lock(&self.uploads);
            if uploads.reserved.values().any(|(name, _)| *name == image.name) {
                let detail = format!("image `{}` is being uploaded", image.name);
                return Err(ApiError::new(ErrorCode::TooMany, detail));
            }
            if uploads.reserved.len() >= UPLOADS {
                let detail = format!("{UPLOADS} uploads are under way: try again later");
                return Err(ApiError::new(ErrorCode::TooMany, detail));
            }
            uploads.next += 1;
            let number = uploads.next;
            uploads.reserved.insert(number, (image.name.clone(), 0));
            number
        };
        let path = self.path(&format!("{UPLOAD}{number}"));
        let opened = readable(&path);
        let upload = opened.map(|file| Upload {
            shelf: self,
            number,
            octets: 0,
            digest: Context::new(&SHA256),
            file,
            image,
        });
        let upload = upload.map_err(|error| {
            lock(&self.uploads).reserved.remove(&number);
            fault("the image cannot be stored")(error)
        })?;
        // An upload that is announced as too large is refused before any of it is read.
        upload.reserve(upload.image.octets.unwrap_or_default(), stored)?;
        Ok(Some(upload))
    }

    /// Deletes an image, if `may` permits that from what is known about it.
    ///
    /// # Errors
    /// `NotFound`, what `may` says, or the directory cannot be written.
    pub fn delete(&self, name: &Label, may: impl FnOnce(&Image) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let what = "the image cannot be deleted";
        let _lists = lock(&self.lists);
        let (mut sums, mut said) = (self.sums().map_err(fault(what))?, self.said().map_err(fault(what))?);
        let missing = || ApiError::not_found(format_args!("image `{name}`"));
        let sum = sums.get(name).ok_or_else(missing)?;
        let image = self.image(name, sum, said.get(name)).map_err(fault(what))?;
        if let Some(image) = image {
            may(&image)?;
        }
        sums.remove(name);
        self.write_sums(&sums).map_err(fault(what))?;
        if said.remove(name).is_some() {
            self.write_said(&said).map_err(fault(what))?;
        }
        match fs::remove_file(self.path(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(what)(error)),
            _ => Ok(()),
        }
    }
}

/// A new file that the provisioning server can read, which runs as another user.
fn readable(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = File::create(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(file)
}

impl Upload<'_> {
    /// Reserves room for `octets` octets in all, of which `stored` are already there.
    fn reserve(&self, octets: u64, stored: u64) -> Result<(), ApiError> {
        let Bounds { each, total } = self.shelf.bounds;
        if octets > each {
            let detail = format!("the image has more than {each} octets, which is the most for one");
            return Err(ApiError::new(ErrorCode::TooLarge, detail));
        }
        let mut uploads = lock(&self.shelf.uploads);
        let others = uploads.reserved.iter().filter(|(number, _)| **number != self.number);
        let others: u64 = others.map(|(_, (_, octets))| octets).sum();
        if stored.saturating_add(others).saturating_add(octets) > total {
            let detail = format!("all images together would have more than {total} octets: delete some");
            return Err(ApiError::new(ErrorCode::Exhausted, detail));
        }
        if let Some(own) = uploads.reserved.get_mut(&self.number) {
            own.1 = own.1.max(octets);
        }
        Ok(())
    }

    /// Takes the next octets. Waits for the disk.
    ///
    /// # Errors
    /// There is no room for them, or the disk fails.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), ApiError> {
        const WHAT: &str = "the image cannot be stored";
        let sum = self
            .octets
            .saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        let reserved = lock(&self.shelf.uploads)
            .reserved
            .get(&self.number)
            .map_or(0, |own| own.1);
        if sum > reserved {
            let stored = self.shelf.all().map_err(fault(WHAT))?;
            self.reserve(sum, stored.iter().map(|image| image.octets).sum())?;
        }
        self.file.write_all(octets).map_err(fault(WHAT))?;
        self.digest.update(octets);
        self.octets = sum;
        Ok(())
    }

    /// Ends the upload: the image is there when this returns.
    ///
    /// # Errors
    /// `Invalid`: it has another digest, or nothing in it. Nothing is left of it then.
    pub fn finish(self) -> Result<Image, ApiError> {
        const WHAT: &str = "the image cannot be stored";
        let (shelf, name) = (self.shelf, &self.image.name);
        let found: String = {
            let digest = self.digest.clone().finish();
            digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
        };
        if self.octets == 0 {
            return Err(ApiError::new(ErrorCode::Invalid, "the image has no content"));
        }
        if found != self.image.sha256 {
            let expected =
                format!("the digest of what arrived, {found}: the file was damaged on its way, or is another one");
            return Err(ApiError::field(
                ErrorCode::Invalid,
                "sha256",
                &self.image.sha256,
                expected,
            ));
        }
        self.file.sync_all().map_err(fault(WHAT))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let said = Said {
            software: self.image.software.clone(),
            models: self.image.models.clone(),
            uploaded_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        let _lists = lock(&shelf.lists);
        let (mut sums, mut all) = (shelf.sums().map_err(fault(WHAT))?, shelf.said().map_err(fault(WHAT))?);
        if sums.contains_key(name) {
            let detail = format!("image `{name}` was stored by another upload");
            return Err(ApiError::new(ErrorCode::AlreadyExists, detail));
        }
        all.insert(name.clone(), said.clone());
        sums.insert(name.clone(), found.clone());
        let place = shelf.path(name.as_str());
        let stored = fs::rename(shelf.path(&format!("{UPLOAD}{}", self.number)), &place)
            .and_then(|()| shelf.write_said(&all))
            // This comes last: from now on the image is served.
            .and_then(|()| shelf.write_sums(&sums));
        if let Err(error) = stored {
            let _ = fs::remove_file(&place);
            return Err(fault(WHAT)(error));
        }
        let image = shelf.image(name, &found, Some(&said)).map_err(fault(WHAT))?;
        image.ok_or_else(|| ApiError::new(ErrorCode::Unavailable, WHAT))
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // After a whole upload the file has another name.
        let _ = fs::remove_file(self.shelf.path(&format!("{UPLOAD}{}", self.number)));
        lock(&self.shelf.uploads).reserved.remove(&self.number);
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
