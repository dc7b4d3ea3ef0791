//! Two copies of one value: readers use one while a writer changes the other (*left-right*, Ramalhete and Correia, 2015).
//!
//! ```text
//! reader  : mark which copy is live -> check that it still is -> read -> unmark
//! writer  : wait until nobody marks the other copy -> change it -> make it live
//! ```
//!
//! - A reader never waits: it marks its copy in a cache line of its own, and tries again only if a writer exchanged the
//!   copies at that very moment.
//! - A writer waits for readers that have been inside since before the last exchange, which takes as long as they stay:
//!   a batch of packets. It waits *before* it changes anything. A reader that does not come out within the writer's
//!   patience therefore makes that write fail as a whole, with the reader's name, and the next one may try again;
//!   packets go on reading the live copy. A reader that is dropped, or whose thread panics, counts as gone.
//! - The writer must bring both copies to the same state: it repeats its changes on the second one.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pauses of a waiting writer: spinning, for readers that are about to leave.
const SPINS: u32 = 200;

/// Then yielding to other threads, because a reader may need the same core.
const YIELDS: u32 = 200;

/// Then sleeping.
const NAP: Duration = Duration::from_micros(100);

/// A reader stayed inside too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("packet thread {reader:?} has not finished its packets for {} ms", waited.as_millis())]
pub struct Stalled {
    /// Its name.
    pub reader: String,
    /// How long the writer waited.
    pub waited: Duration,
}

/// A reader's mark, on cache lines of its own (two, as processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Mark {
    /// 0, or 1 + the copy that it reads.
    copy: AtomicUsize,
    name: String,
}

struct Shared<T> {
    copies: [UnsafeCell<T>; 2],
    live: AtomicUsize,
    marks: Mutex<Vec<Arc<Mark>>>,
}

// SAFETY: `copies` is only reached through `Guard` (shared access to a copy that its reader has marked) and through
// `Writer` (exclusive access to the other copy once no reader marks it, or shared access), see there. So threads share
// `&T` and pass `T`, which needs `T: Send + Sync`. The other fields are `Sync` themselves.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

/// Makes readers.
pub struct Snapshots<T>(Arc<Shared<T>>);

impl<T> Clone for Snapshots<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Changes the copies; there is one.
pub struct Writer<T>(Arc<Shared<T>>);

/// Reads, on behalf of one thread.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    mark: Arc<Mark>,
}

/// A copy that does not change while this lives.
pub struct Guard<'a, T> {
    value: &'a T,
    mark: &'a Mark,
}

/// Two copies, which must be equal.
pub fn new<T: Send + Sync>(copies: [T; 2]) -> (Snapshots<T>, Writer<T>) {
    let shared = Arc::new(Shared {
        copies: copies.map(UnsafeCell::new),
        live: AtomicUsize::new(0),
        marks: Mutex::default(),
    });
    (Snapshots(Arc::clone(&shared)), Writer(shared))
}

impl<T: Send + Sync> Snapshots<T> {
    /// A reader; its name appears in the error if it holds up a writer.
    pub fn reader(&self, name: &str) -> Reader<T> {
        let mark = Arc::new(Mark {
            copy: AtomicUsize::new(0),
            name: name.to_owned(),
        });
        let mut marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push(Arc::clone(&mark));
        Reader {
            shared: Arc::clone(&self.0),
            mark,
        }
    }
}

impl<T: Send + Sync> Reader<T> {
    /// The live copy. Keep it for a batch of packets, not longer: writers wait for it.
    #[inline]
    pub fn pin(&mut self) -> Guard<'_, T> {
        let shared = &*self.shared;
        let mut live = shared.live.load(Ordering::SeqCst);
        loop {
            self.mark.copy.store(1 + live, Ordering::SeqCst);
            let now = shared.live.load(Ordering::SeqCst);
            if now == live {
                break;
            }
            live = now;
        }
        // SAFETY: the mark is set and `live` was still this copy afterwards. A writer takes exclusive access to a copy
        // only after it made the other one live, and then only when it sees no mark on it. All of these accesses are
        // sequentially consistent: as this thread saw the copy live after marking it, a writer that exchanges the
        // copies later looks at the mark later still, and waits. `&mut self` keeps a reader from being pinned twice,
        // so the mark stays until this guard is dropped. If it is leaked, the mark outlives it, which is harmless.
        let value = unsafe { &*shared.copies[live].get() };
        Guard {
            value,
            mark: &self.mark,
        }
    }
}

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Release ordering: all reads happen before a writer sees this.
        self.mark.copy.store(0, Ordering::Release);
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut marks = self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|m| !Arc::ptr_eq(m, &self.mark));
    }
}

impl<T: Send + Sync> Writer<T> {
    /// The copy that readers use.
    pub fn live(&self) -> &T {
        let live = self.0.live.load(Ordering::SeqCst);
        // SAFETY: copies only change through the `&mut T` that `stale` gives, which borrows this writer mutably, and
        // that is never the live one.
        unsafe { &*self.0.copies[live].get() }
    }

    /// The copy that no reader uses, to change.
    ///
    /// # Errors
    /// A reader that came before the last [`Self::publish`] is still inside after `patience`.
    pub fn stale(&mut self, patience: Duration) -> Result<&mut T, Stalled> {
        let stale = 1 - self.0.live.load(Ordering::SeqCst);
        self.wait_for_readers_of(stale, patience)?;
        // SAFETY: there is one writer and it is borrowed mutably, so there is no other reference from a writer. `stale`
        // is not live, and stays so until `publish`, which needs `&mut self` again: a reader that marks it from now on
        // finds it not live and does not touch it. Readers that marked it while it was live have unmarked it, as was
        // just seen (acquiring what they released).
        Ok(unsafe { &mut *self.0.copies[stale].get() })
    }

    fn wait_for_readers_of(&self, copy: usize, patience: Duration) -> Result<(), Stalled> {
        let mut since = None;
        for tries in 0_u32.. {
            let marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let inside = marks.iter().find(|m| m.copy.load(Ordering::SeqCst) == 1 + copy);
            let Some(name) = inside.map(|m| &m.name) else { break };
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            if waited > patience {
                let reader = name.clone();
                return Err(Stalled { reader, waited });
            }
            // Readers that come or go need the list.
            drop(marks);
            if tries < SPINS {
                std::hint::spin_loop();
            } else if tries < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        }
        Ok(())
    }

    /// Lets readers use the changed [`Self::stale`] copy.
    pub fn publish(&mut self) {
        let stale = 1 - self.0.live.load(Ordering::SeqCst);
        self.0.live.store(stale, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// The halves of a value always agree for readers, although they are written one after the other.
    #[test]
    fn readers_never_see_half_a_change() {
        let (snapshots, mut writer) = new([[0_u64; 64], [0; 64]]);
        let stop = AtomicBool::new(false);
        let seen = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for n in 0..3 {
                let (snapshots, stop, seen) = (&snapshots, &stop, &seen);
                scope.spawn(move || {
                    let mut reader = snapshots.reader(&format!("reader {n}"));
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let value = reader.pin();
                        let first = value[0];
                        assert!(value.iter().all(|v| std::hint::black_box(*v) == first));
                        assert!(first >= last, "changes go forward");
                        if first != last {
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                        last = first;
                        drop(value);
                        std::thread::yield_now();
                    }
                });
            }
            let mut step = 0;
            while step < 200 || (seen.load(Ordering::Relaxed) < 20 && step < 20_000) {
                step += 1;
                let stale = writer.stale(Duration::from_secs(60)).unwrap();
                stale.iter_mut().for_each(|v| *std::hint::black_box(v) = step);
                writer.publish();
                if step % 64 == 0 {
                    std::thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(seen.load(Ordering::Relaxed) > 0, "readers saw changes");
    }

    #[test]
    fn a_reader_that_stays_fails_the_second_write_and_is_named() {
        let (snapshots, mut writer) = new([0, 0]);
        let patience = Duration::from_millis(5);
        let mut reader = snapshots.reader("port 7");
        let guard = reader.pin();
        *writer.stale(patience).unwrap() = 1;
        writer.publish();
        assert_eq!(*writer.live(), 1);
        assert_eq!(*guard, 0, "what was pinned does not change");
        assert_eq!(writer.stale(patience).unwrap_err().reader, "port 7");
        drop(guard);
        assert_eq!(*reader.pin(), 1);
        *writer.stale(patience).unwrap() = 1;
        let guard = reader.pin();
        *writer.stale(patience).unwrap() = 2;
        writer.publish();
        std::mem::forget(guard);
        assert!(writer.stale(patience).is_err());
        drop(reader);
        assert!(writer.stale(patience).is_ok(), "a reader that is gone holds up nobody");
    }
}
