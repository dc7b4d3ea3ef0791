//! Follows the catalog and changes running pods ([`change`]).
//!
//! The folders of pods, of configurations and of the journal are watched (inotify(7)); everything is compared when one of them
//! changes, and from time to time, because a notification may be lost. A sandbox has at most one worker, so that a
//! hanging plugin only delays its own pod.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::catalog::Folder;
use super::change::{self, Event, Failed, Need};
use super::journal::{Attachment, Journal, Sandbox, State};
use super::plan;
use super::settings::Settings;
use super::work::Work;
use crate::error::{self, Error};
use crate::protocol::Slot;

/// How often everything is compared without a notification.
const SWEEP: Duration = Duration::from_secs(30);
/// Sandboxes that are worked on at once.
const WORKERS: usize = 16;
/// First and longest pause before a change that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Events of a changed folder: a written file is closed, or a new one is moved into place.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);

/// A change that could not be made, and when it may be tried again.
struct Failure {
    failed: Failed,
    pause: Duration,
    /// When it may be tried again; `None`: never, while the same attachment is wanted.
    again: Option<Instant>,
}

/// What is remembered of one sandbox between rounds.
#[derive(Default)]
struct Known {
    failures: BTreeMap<String, Failure>,
    /// The last logged message about it, so that it is logged once.
    said: Option<String>,
}

/// Failed changes that must not be retried yet: the wanted attachment (none for a removal), by the name of the
/// interface.
struct Closed(Vec<(Option<Attachment>, String)>);

impl Closed {
    fn is_none_of(&self, wanted: Option<&Attachment>, interface: &str) -> bool {
        let same = |failed: &Option<Attachment>| match (failed, wanted) {
            (Some(a), Some(b)) => plan::is_same(a, b),
            (None, None) => true,
            _ => false,
        };
        !self.0.iter().any(|(failed, name)| name == interface && same(failed))
    }
}

struct Follower {
    work: Arc<Work>,
    known: BTreeMap<Slot, Known>,
    busy: BTreeSet<Slot>,
}

impl Known {
    fn is_open(&self, wanted: Option<&Attachment>, interface: &str, now: Instant) -> bool {
        self.closed(now).is_none_of(wanted, interface)
    }

    /// Changes that must not be tried now.
    fn closed(&self, now: Instant) -> Closed {
        let due = |f: &Failure| f.again.is_some_and(|at| at <= now);
        let closed = self.failures.iter().filter(|(_, f)| !due(f));
        Closed(
            closed
                .map(|(interface, f)| (f.failed.wanted.clone(), interface.clone()))
                .collect(),
        )
    }

    fn note(&mut self, event: &Event, now: Instant) {
        let Some(failed) = event.failed.clone() else {
            self.failures.remove(&event.interface);
            return;
        };
        let before = self.failures.get(&event.interface).map(|f| f.pause * 2);
        let pause = before.unwrap_or(RETRY.0).min(RETRY.1);
        let again = (!failed.disturbs).then_some(now + pause);
        self.failures
            .insert(event.interface.clone(), Failure { failed, pause, again });
    }
}

/// The result of a worker.
type Done = (Slot, Result<Vec<Event>, Error>);

fn failed(what: &str, e: impl std::fmt::Display) -> Error {
    Error::io(format!("{what}: {e}"))
}

/// Follows until the process ends. `alive` is called whenever everything has been compared: first when the folders have
/// been read and are watched, and then at least once in the usual interval of comparisons. It is never called by a
/// timer alone.
///
/// # Errors
/// When the folders cannot be watched or read at the start.
pub fn follow(settings: Settings, every: Duration, mut alive: impl FnMut()) -> Result<(), Error> {
    let longest = SWEEP.min(every);
    let journal = Journal::open(&settings.state_dir)?;
    let work = Arc::new(Work { settings, journal });
    let folders = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| failed("inotify", e))?;
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|e| failed("eventfd", e))?;
    let wake = Arc::new(wake);
    let (send, done) = mpsc::channel::<Done>();
    let mut follower = Follower {
        work,
        known: BTreeMap::new(),
        busy: BTreeSet::new(),
    };
    // Watch first, then read, so that no change in between is missed.
    follower.watch(&folders)?;
    Folder::read(&follower.work.settings.pods)?;
    loop {
        while let Ok((slot, result)) = done.try_recv() {
            follower.finished(&slot, result);
        }
        let next = match follower.round(&send, &wake) {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "cannot compare");
                None
            }
        };
        alive();
        let pause = next.map_or(longest, |at| at.saturating_duration_since(Instant::now()).min(longest));
        wait(&folders, &wake, pause)?;
        if let Err(error) = follower.watch(&folders) {
            tracing::error!(%error, "cannot watch");
        }
    }
}

/// Waits for a notification or a worker.
fn wait(folders: &OwnedFd, wake: &EventFd, pause: Duration) -> Result<(), Error> {
    let mut fds = [
        PollFd::new(folders.as_fd(), PollFlags::POLLIN),
        PollFd::new(wake.as_fd(), PollFlags::POLLIN),
    ];
    let pause = PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, pause) {
        Err(nix::errno::Errno::EINTR) | Ok(_) => {}
        Err(e) => return Err(failed("poll", e)),
    }
    let _ = wake.read();
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = inotify::Reader::new(folders, &mut buffer);
    // It does not matter which file it was.
    while reader.next().is_ok() {}
    Ok(())
}

impl Follower {
    /// Watches the folders. Folders that are already watched stay watched.
    fn watch(&self, folders: &OwnedFd) -> Result<(), Error> {
        let settings = &self.work.settings;
        for path in [&settings.pods, &settings.state_dir, &settings.conf_dir] {
            let watched = inotify::add_watch(folders, path, CHANGES);
            // If the folder of configurations does not exist, there are none.
            if *path != settings.conf_dir || path.exists() {
                watched.map_err(|e| failed(&path.display().to_string(), e))?;
            }
        }
        Ok(())
    }

    /// Compares all sandboxes and starts workers. Returns when the next attempt is due.
    fn round(&mut self, send: &mpsc::Sender<Done>, wake: &Arc<EventFd>) -> Result<Option<Instant>, Error> {
        let catalog = Arc::new(Folder::read(&self.work.settings.pods)?);
        let sandboxes = self.work.journal.all()?;
        let slots: BTreeSet<&Slot> = sandboxes.iter().map(|s| &s.slot).collect();
        self.known.retain(|slot, _| slots.contains(slot));
        let now = Instant::now();
        for sandbox in &sandboxes {
            if sandbox.cni_network != self.work.settings.name || self.busy.contains(&sandbox.slot) {
                continue;
            }
            let known = self.known.entry(sandbox.slot.clone()).or_default();
            let need = match change::need(&self.work, &*catalog, sandbox) {
                Ok(need) => need,
                Err(error) => {
                    known.say(sandbox, "InterfaceAddRejected", error.message);
                    continue;
                }
            };
            // After a failure that does not concern one interface, the whole sandbox waits.
            let waits = need == Need::Nothing || self.busy.len() >= WORKERS || !known.is_open(None, "", now);
            if waits {
                continue;
            }
            let open = |w: Option<&Attachment>, interface: &str| known.is_open(w, interface, now);
            if let Need::Networks(wanted) = &need
                && !has_open(sandbox, wanted, open)
            {
                continue;
            }
            let closed = known.closed(now);
            self.busy.insert(sandbox.slot.clone());
            let (work, catalog, slot) = (Arc::clone(&self.work), Arc::clone(&catalog), sandbox.slot.clone());
            let (send, wake) = (send.clone(), Arc::clone(wake));
            thread::spawn(move || {
                let result = one(&work, &catalog, &slot, &closed);
                let _ = send.send((slot, result));
                let _ = wake.write(1);
            });
        }
        Ok(self
            .known
            .values()
            .flat_map(|k| k.failures.values())
            .filter_map(|f| f.again)
            .min())
    }

    fn finished(&mut self, slot: &Slot, result: Result<Vec<Event>, Error>) {
        self.busy.remove(slot);
        let (known, now) = (self.known.entry(slot.clone()).or_default(), Instant::now());
        let container = &slot.container;
        match result {
            Ok(events) => {
                known.failures.remove("");
                if events.is_empty() {
                    // Work without effect, or without a lasting difference, must not be repeated at once.
                    known.note(&nothing(String::new()), now);
                }
                for event in events {
                    let Event {
                        reason,
                        interface,
                        message,
                        ..
                    } = &event;
                    if event.failed.is_some() {
                        tracing::warn!(container, interface, message, "{reason}");
                    } else {
                        tracing::info!(container, interface, message, "{reason}");
                    }
                    known.note(&event, now);
                }
            }
            Err(error) => {
                if error.code == error::TRY_AGAIN {
                    // A plugin is still working. That is not a failure, so the pauses do not grow.
                    known.failures.remove("");
                } else {
                    tracing::warn!(container, %error, "not changed yet");
                }
                known.note(&nothing(error.message), now);
            }
        }
    }
}

impl Known {
    fn say(&mut self, sandbox: &Sandbox, reason: &str, message: String) {
        if self.said.as_ref() != Some(&message) {
            let (pod, container) = (
                format!("{}/{}", sandbox.pod.namespace, sandbox.pod.name),
                &sandbox.slot.container,
            );
            tracing::warn!(pod, container, message, "{reason}");
            self.said = Some(message);
        }
    }
}

/// A failure that does not concern one interface.
fn nothing(message: String) -> Event {
    Event {
        reason: "FailedRemovingInterface",
        interface: String::new(),
        message,
        failed: Some(Failed {
            wanted: None,
            disturbs: false,
        }),
    }
}

/// True when something can be done now. Leaving attachments come first, because their names are taken until then.
fn has_open(sandbox: &Sandbox, wanted: &[Attachment], open: impl Fn(Option<&Attachment>, &str) -> bool) -> bool {
    let others = || sandbox.attachments.iter().filter(|a| !a.default);
    let named = |a: &Attachment| wanted.iter().find(|w| w.interface == a.interface);
    let mut stale = others()
        .filter(|a| a.state != State::Held || named(a).is_none())
        .peekable();
    let missing = |w: &&Attachment| match others().find(|a| a.interface == w.interface) {
        Some(held) => held.state == State::Held && !plan::is_same(held, w),
        None => true,
    };
    let mut missing = wanted.iter().filter(missing).peekable();
    // If nothing differs, only the status needs work.
    (stale.peek().is_none() && missing.peek().is_none())
        || stale.any(|a| open(None, &a.interface))
        || missing.any(|w| open(Some(w), &w.interface))
}

/// Makes the changes that one sandbox needs.
fn one(work: &Work, catalog: &Folder, slot: &Slot, closed: &Closed) -> Result<Vec<Event>, Error> {
    let busy = || Error::new(error::TRY_AGAIN, "the sandbox is being worked on");
    let turn = work.journal.turn(slot, true)?.ok_or_else(busy)?;
    let Some(mut sandbox) = work.journal.get(slot)? else {
        turn.end();
        return Ok(Vec::new());
    };
    let need = change::need(work, catalog, &sandbox)?;
    let is_open = |wanted: Option<&Attachment>, interface: &str| closed.is_none_of(wanted, interface);
    let events = change::make(work, &turn, &mut sandbox, &need, is_open)?;
    if need == Need::End {
        turn.end();
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi::journal::tests::{attachment, sandbox};

    #[test]
    fn nothing_is_tried_that_cannot_have_an_effect() {
        let (a, b) = (attachment("a", "net1"), attachment("b", "net1"));
        let with = |attachment: &Attachment, state: State| {
            let mut sandbox = sandbox("c1");
            sandbox.attachments = vec![Attachment {
                state,
                ..attachment.clone()
            }];
            sandbox
        };
        let closed = |of: Option<&Attachment>| Closed(vec![(of.cloned(), "net1".to_owned())]);
        let can = |sandbox: &Sandbox, wanted: &[Attachment], closed: &Closed| {
            has_open(sandbox, wanted, |w, interface| closed.is_none_of(w, interface))
        };
        let open = Closed(Vec::new());
        // It is leaving, and its DEL is retried later: anything wanted under its name waits.
        for wanted in [&[][..], std::slice::from_ref(&a), std::slice::from_ref(&b)] {
            let leaving = with(&a, State::Leaving);
            assert!(can(&leaving, wanted, &open));
            assert!(!can(&leaving, wanted, &closed(None)), "{wanted:?}");
        }
        // A failed swap waits until something else is wanted.
        let held = with(&a, State::Held);
        assert!(!can(&held, std::slice::from_ref(&b), &closed(Some(&b))));
        assert!(can(&held, std::slice::from_ref(&b), &closed(Some(&a))));
        // Nothing differs, so it is the status.
        assert!(can(&held, std::slice::from_ref(&a), &closed(Some(&b))));
    }

    #[test]
    fn pauses_grow_and_end_with_success() {
        let mut known = Known::default();
        let now = Instant::now();
        let failed = nothing("x".into());
        for pause in [2, 4, 8] {
            known.note(&failed, now);
            assert!(!known.is_open(None, "", now + Duration::from_secs(pause) - Duration::from_millis(1)));
            assert!(known.is_open(None, "", now + Duration::from_secs(pause)));
        }
        for _ in 0..20 {
            known.note(&failed, now);
        }
        assert_eq!(known.failures[""].pause, RETRY.1);
        let good = Event { failed: None, ..failed };
        known.note(&good, now);
        assert!(known.is_open(None, "", now));
    }
}
