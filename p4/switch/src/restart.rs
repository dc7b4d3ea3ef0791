//! Restarts that gNOI asks for: the process ends in order, then becomes its own program again.
//!
//! It keeps its process id, so a service manager sees no end. What the kernel has of it, sockets of ports above all, is closed
//! first. If a package has replaced the program meanwhile, the new one runs.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use p4_switch::gnoi::Machine;
use p4_switch::gnoi::system::Restart;
use p4_switch::port::Ports;
use tokio::sync::watch;

/// Environment variable with the restart that a process comes from, as JSON.
const CAME_FROM: &str = "P4_SWITCH_RESTART";
/// What Linux writes behind the path of a program whose file was replaced (proc(5), `/proc/pid/exe`).
const REPLACED: &[u8] = b" (deleted)";

/// This process.
pub(crate) struct Process {
    ports: Arc<Ports>,
    answer: Duration,
    due: watch::Sender<Option<Restart>>,
}

impl Process {
    /// A process with these forwarding threads, which may take this long to reply.
    pub(crate) fn new(ports: Arc<Ports>, answer: Duration) -> Self {
        Self {
            ports,
            answer,
            due: watch::Sender::new(None),
        }
    }

    /// Resolves when it is to restart.
    pub(crate) async fn restarts(&self) {
        // The sender is here.
        let _ = self.due.subscribe().wait_for(Option::is_some).await;
    }

    /// The restart that is to be carried out once everything has ended, if there is one.
    pub(crate) fn due(&self) -> Option<Restart> {
        self.due.borrow().clone()
    }

    /// Asks the threads that forward for a sign of life.
    ///
    /// # Errors
    /// Which of them gave none in time.
    pub(crate) fn ask_threads(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let (ports, answer) = (Arc::downgrade(&self.ports), self.answer);
        let asked = tokio::task::spawn_blocking(move || match ports.upgrade() {
            Some(ports) => ports.answer(answer),
            None => Err("the forwarding threads have ended".into()),
        });
        async { asked.await.unwrap_or_else(|error| Err(error.to_string())) }
    }
}

impl Machine for Process {
    fn is_forwarding(&self) -> BoxFuture<'_, bool> {
        let asked = self.ask_threads();
        async { asked.await.is_ok() }.boxed()
    }

    fn restart(&self, reason: &str) {
        let count = came_from().map_or(0, |restart| restart.count).saturating_add(1);
        let restart = Restart {
            count,
            reason: reason.to_owned(),
        };
        self.due.send_replace(Some(restart));
    }
}

/// The restart that this process comes from, if it comes from one.
pub(crate) fn came_from() -> Option<Restart> {
    serde_json::from_str(&std::env::var(CAME_FROM).ok()?).ok()
}

/// The program of this process.
fn program() -> std::io::Result<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let octets = path.as_os_str().as_bytes();
    let kept = octets.strip_suffix(REPLACED).unwrap_or(octets);
    Ok(OsString::from_vec(kept.to_vec()).into())
}

/// Becomes the same program again, with the same arguments; returns only if that fails.
pub(crate) fn begin_again(restart: &Restart) -> String {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return format!("cannot restart: /proc/self/exe: {error}"),
    };
    let said = serde_json::to_string(restart).unwrap_or_default();
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env(CAME_FROM, said)
        .exec();
    format!("cannot restart: {}: {error}", program.display())
}
