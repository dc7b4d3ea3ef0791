//! Network namespaces by name, as `ip netns` keeps them (ip-netns(8)): files in `/run/netns`
//! upon which namespaces are mounted.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::NetnsError;

/// Where named namespaces are.
const DIRECTORY: &str = "/run/netns";
/// Magic of the file system of namespaces (linux/magic.h).
const NSFS_MAGIC: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);

/// The mount namespace in which names are made and removed; the process's own if unset.
static MOUNTS: OnceLock<File> = OnceLock::new();

/// From now on, names of namespaces are created and removed in the mount namespace of this file, such as `/proc/1/ns/mnt`. A
/// service with its own mount namespace (`ProtectSystem=` and others) sees what the host mounts. But its own mounts
/// would be visible only to itself, and would end with it.
///
/// # Errors
/// The file cannot be opened, or is not a mount namespace that this process may enter.
pub fn set_mounts(path: &Path) -> io::Result<()> {
    let opened = File::open(path)?;
    let file = MOUNTS.get_or_init(|| opened);
    // Try to enter it now, so that a failure shows here and not with the first container.
    in_mounts_of(file, || Ok(()))
}

/// Does `work` in the mount namespace for names.
fn in_mounts<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    match MOUNTS.get() {
        None => work(),
        Some(file) => in_mounts_of(file, work),
    }
}

/// Does `work` on a new thread: only a thread that shares its file system state with no other thread may change its mount
/// namespace (setns(2)).
fn in_mounts_of<T: Send>(file: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let inside = || {
        unshare(CloneFlags::CLONE_FS)?;
        setns(file, CloneFlags::CLONE_NEWNS)?;
        work()
    };
    let ended = || Err(io::Error::other("the thread has ended"));
    thread::scope(|s| s.spawn(inside).join().unwrap_or_else(|_| ended()))
}

/// Distinguishes two namespaces as long as both exist (namespaces(7): st_dev and st_ino).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

/// An open network namespace. It exists for as long as this value does.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
}

/// The file of a named namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// True for a name that stays inside the directory.
pub fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && b != b'/';
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(good)
}

impl Netns {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let id = NetnsId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        Ok(Self { file, id })
    }

    /// The namespace of this thread.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn current() -> io::Result<Self> {
        Self::new(File::open("/proc/thread-self/ns/net")?)
    }

    /// The namespace of the first process of the machine or container.
    ///
    /// # Errors
    /// When it may not be seen.
    pub fn of_init() -> io::Result<Self> {
        Self::new(File::open("/proc/1/ns/net")?)
    }

    /// Opens a namespace by its name. Paths, links and other kinds of files are refused.
    ///
    /// The file is first opened as a mere reference (O_PATH), which never starts a driver and
    /// never waits for the other end of a FIFO; it is opened for use once it is known to be a
    /// namespace. The kernel checks that it is a *network* namespace when it is entered.
    ///
    /// # Errors
    /// When it does not exist, or is something else.
    pub fn named(name: &str) -> Result<Self, NetnsError> {
        if !is_name(name) {
            return Err(NetnsError::NotANamespace {
                name: name.to_owned(),
                found: "a path",
            });
        }
        Self::open(&path(name), libc::O_NOFOLLOW)
    }

    /// Opens a network namespace by any path, as container runtimes name them: `/proc/PID/ns/net`,
    /// `/var/run/netns/...`. It follows symbolic links; otherwise it works like [`Netns::named`].
    ///
    /// # Errors
    /// When it does not exist, or is something else.
    pub fn at(path: &Path) -> Result<Self, NetnsError> {
        let namespace = Self::open(path, 0)?;
        // The kernel refuses to enter a namespace of another kind as a network namespace.
        namespace.within(|| ()).map_err(|_| NetnsError::NotANamespace {
            name: path.display().to_string(),
            found: "a namespace of another kind",
        })?;
        Ok(namespace)
    }

    fn open(path: &Path, flags: libc::c_int) -> Result<Self, NetnsError> {
        let name = path.file_name().filter(|_| path.parent() == Some(Path::new(DIRECTORY)));
        let name = name.map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let fail = |source| NetnsError::Io {
            name: name.clone(),
            source,
        };
        let other = |found| NetnsError::NotANamespace {
            name: name.clone(),
            found,
        };
        let reference = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC | flags)
            .open(path);
        let reference = match reference {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(NetnsError::Absent { path: path.to_owned() }),
            other => other.map_err(fail)?,
        };
        let kind = reference.metadata().map_err(fail)?.file_type();
        if let Some(found) = kind_of(kind) {
            return Err(other(found));
        }
        let system = nix::sys::statfs::fstatfs(&reference).map_err(|e| fail(e.into()))?;
        if system.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotMounted { path: path.to_owned() });
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(format!("/proc/self/fd/{}", reference.as_raw_fd()));
        Self::new(file.map_err(fail)?).map_err(fail)
    }

    /// Makes a namespace of that name.
    ///
    /// # Errors
    /// When the name is taken, or the kernel refuses.
    pub fn create(name: &str) -> Result<Self, NetnsError> {
        let fail = |source| NetnsError::Io {
            name: name.to_owned(),
            source,
        };
        if !is_name(name) {
            return Err(NetnsError::NotANamespace {
                name: name.to_owned(),
                found: "a path",
            });
        }
        let path = path(name);
        let make = || -> io::Result<Self> {
            share_directory()?;
            let new = make_anonymous()?;
            fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
            new.mount_on(&path).inspect_err(|_| drop(fs::remove_file(&path)))?;
            Ok(new)
        };
        in_mounts(make).map_err(fail)
    }

    /// Restores the namespace's name if somebody has removed it.
    ///
    /// # Errors
    /// When something else has the name.
    pub fn keep_name(&self, name: &str) -> Result<bool, NetnsError> {
        match Self::named(name) {
            Ok(there) if there.id == self.id => return Ok(false),
            Ok(_) => {
                return Err(NetnsError::NotANamespace {
                    name: name.to_owned(),
                    found: "another namespace than the one in use",
                });
            }
            Err(NetnsError::Absent { .. } | NetnsError::NotMounted { .. }) => {}
            Err(e) => return Err(e),
        }
        let path = path(name);
        let bind = || {
            share_directory()?;
            File::options().write(true).create(true).truncate(false).open(&path)?;
            self.mount_on(&path)
        };
        in_mounts(bind).map(|()| true).map_err(|source| NetnsError::Io {
            name: name.to_owned(),
            source,
        })
    }

    fn mount_on(&self, path: &Path) -> io::Result<()> {
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(Into::into)
    }

    /// Its identity.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Its file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Moves this thread into it.
    ///
    /// # Errors
    /// It is not a network namespace (EINVAL), or may not be entered.
    pub fn enter(&self) -> io::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(Into::into)
    }

    /// Does `work` on a thread inside it and waits. Only for work that cannot block.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let inside = || self.enter().map(|()| work());
        let ended = || Err(io::Error::other("the thread has ended"));
        thread::scope(|s| s.spawn(inside).join().unwrap_or_else(|_| ended()))
    }
}

/// Removes a name. The namespace ends when nothing uses it any more.
///
/// # Errors
/// When it is mounted and cannot be unmounted, or the file cannot be removed.
pub fn remove(name: &str) -> Result<(), NetnsError> {
    let path = path(name);
    let fail = |source| NetnsError::Io {
        name: name.to_owned(),
        source,
    };
    let unmount = || {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    };
    in_mounts(unmount).map_err(fail)
}

/// A new namespace without a name.
fn make_anonymous() -> io::Result<Netns> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Netns::current()
    };
    let ended = || Err(io::Error::other("the thread has ended"));
    thread::spawn(make).join().unwrap_or_else(|_| ended())
}

/// Makes the directory a shared mount, as `ip netns` does, so that a name that is made here
/// shows in other mount namespaces, too.
fn share_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let none = None::<&str>;
    let share = || mount(none, DIRECTORY, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        // The directory is not a mount point yet.
        Err(nix::errno::Errno::EINVAL) => {
            let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, none, bind, none)?;
            share().map_err(Into::into)
        }
        other => other.map_err(Into::into),
    }
}

/// The type of a file that is neither a plain file nor a namespace, as text.
fn kind_of(kind: fs::FileType) -> Option<&'static str> {
    let known = [
        (kind.is_dir(), "a directory"),
        (kind.is_symlink(), "a symbolic link"),
        (kind.is_fifo(), "a FIFO"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
    ];
    known.iter().find(|(is, _)| *is).map(|(_, what)| *what)
}
