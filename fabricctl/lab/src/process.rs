//! The daemons of a lab: started in their namespace, found again later, stopped.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::expect::sandbox;
use super::{STATE_DIR, netns};

/// Name of the environment variable that every process of a lab carries, so that it is found
/// again wherever it runs; its value is the lab's directory with the number of its file system, or, inside a run of
/// `fabricctl check`, the run's name. So the end of one lab does not touch another: the processes of a lab in a
/// container, which has a `/run` of its own, are visible on the machine around it.
const MARK: &str = "VFABRIC_LAB";

fn mark() -> String {
    sandbox::run().unwrap_or_else(|| mark_of(Path::new(STATE_DIR)))
}

fn mark_of(lab: &Path) -> String {
    let above = lab.parent().unwrap_or(Path::new("/"));
    let file_system = std::fs::metadata(above).map_or(0, |m| m.dev());
    format!("{}@{file_system}", lab.display())
}

/// Time for a daemon to end after SIGTERM, and again after SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often to look whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A command of a lab; [`marked`] finds its process again.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(MARK, mark());
    command
}

/// Processes that a lab started, in any namespace, without the calling process.
pub fn marked() -> Vec<i32> {
    carrying(&mark())
}

fn carrying(mark: &str) -> Vec<i32> {
    let mark = format!("{MARK}={mark}").into_bytes();
    let carries = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|variable| variable == mark)
    };
    let me = std::process::id().cast_signed();
    netns::all_processes()
        .filter(|pid| *pid != me && carries(pid))
        .collect()
}

/// The daemons' pid files and logs.
#[derive(Debug, Clone)]
pub struct Daemons {
    dir: PathBuf,
}

impl Daemons {
    /// Keeps its files below `dir`.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The log of a daemon: everything that it wrote in this lab.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pid"))
    }

    /// Starts a daemon in a namespace (or outside of any), in the background.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(&self, name: &str, namespace: Option<&str>, mut command: Command) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let log = File::options().create(true).append(true).open(self.log(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut spawn = || command.spawn().with_context(|| format!("cannot run {program}"));
        let mut child = match namespace {
            Some(namespace) => netns::within(namespace, spawn)?,
            None => spawn()?,
        };
        std::fs::write(self.pid_file(name), child.id().to_string())?;
        // Collects the exit status, so that no zombie looks like a living daemon.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Process id of a daemon that runs.
    pub fn pid(&self, name: &str) -> Option<Pid> {
        let pid = std::fs::read_to_string(self.pid_file(name)).ok()?.trim().parse().ok()?;
        let pid = Pid::from_raw(pid);
        is_alive(pid).then_some(pid)
    }

    /// Kills a daemon at once, as a crash would.
    ///
    /// # Errors
    /// It does not run.
    pub fn crash(&self, name: &str) -> Result<()> {
        let pid = self.pid(name).with_context(|| format!("{name} does not run"))?;
        kill(pid, Signal::SIGKILL)?;
        if !wait_gone(&[pid], STOP_GRACE) {
            bail!("{name} is still there {} s after SIGKILL", STOP_GRACE.as_secs());
        }
        Ok(())
    }

    /// Sends a signal to a daemon.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let pid = self.pid(name).with_context(|| format!("{name} does not run"))?;
        Ok(kill(pid, signal)?)
    }

    /// The last lines of a daemon's log, to show beside an error.
    pub fn last_words(&self, name: &str, lines: usize) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Fails if a daemon has ended, with the end of its log.
    ///
    /// # Errors
    /// It does not run.
    pub fn expect_alive(&self, name: &str) -> Result<()> {
        if self.pid(name).is_none() {
            bail!(
                "{name} has ended; its log ({}) closes with\n{}",
                self.log(name).display(),
                self.last_words(name, 12)
            );
        }
        Ok(())
    }
}

/// Ends processes: SIGTERM, then SIGKILL for those that are still there.
pub fn stop_all(pids: &[i32]) {
    let pids: Vec<Pid> = pids.iter().map(|p| Pid::from_raw(*p)).collect();
    for (signal, patience) in [(Signal::SIGTERM, STOP_GRACE), (Signal::SIGKILL, STOP_GRACE)] {
        for pid in pids.iter().filter(|p| is_alive(**p)) {
            // A stopped process does not react before it is continued.
            let _ = kill(*pid, signal);
            let _ = kill(*pid, Signal::SIGCONT);
        }
        if wait_gone(&pids, patience) {
            return;
        }
    }
}

fn wait_gone(pids: &[Pid], patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while pids.iter().any(|p| is_alive(*p)) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// A zombie counts as dead once all its threads have ended: a thread inside the kernel keeps the process's files and locks
/// until it has returned.
fn is_alive(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process with a mark; it ends with the test.
    struct Marked(std::process::Child);

    impl Marked {
        fn with(mark: &str) -> Self {
            let mut sleep = Command::new("sleep");
            Self(sleep.arg("600").env(MARK, mark).spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }
    }

    impl Drop for Marked {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_lab_finds_its_own_processes_only() {
        let own = format!("/run/lab-{}@1", std::process::id());
        let (mine, other) = (Marked::with(&own), Marked::with(&format!("{own}1")));
        // A process carries its environment from exec on, and spawn returns after exec.
        assert_eq!(carrying(&own), [mine.pid()]);
        stop_all(&carrying(&own));
        assert!(carrying(&own).is_empty());
        assert!(is_alive(Pid::from_raw(other.pid())));
    }

    #[test]
    fn a_lab_under_another_file_system_is_another_lab() {
        // /proc is never of the file system that / is of.
        let [here, there] = ["/lab", "/proc/lab"].map(|lab| mark_of(Path::new(lab)));
        assert_ne!(here.rsplit('@').next(), there.rsplit('@').next());
        assert_eq!(here, mark_of(Path::new("/lab")));
    }
}
