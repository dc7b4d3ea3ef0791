//! Which network devices have a queueing discipline that somebody attached (`tc qdisc add`), so that frames must go
//! through it. Frames for all other devices bypass it, which is faster.
//!
//! The kernel's own default has handle 0; an attached one has another handle (tc(8)). That includes `clsact`, whose
//! filters see outgoing frames. Changes are noticed through rtnetlink's group of traffic control: each reads the
//! disciplines of the namespace again, so that a lost message costs nothing.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use rustc_hash::{FxHashMap, FxHashSet};

/// How frames are handed to a device.
#[derive(Clone, Default)]
pub enum Qdisc {
    /// Past its queueing discipline.
    #[default]
    Bypass,
    /// Through it.
    Use,
    /// Through it while one is attached; changes are also reported.
    WhereAttached(Arc<Qdiscs>, Report),
}

/// Called when a discipline is attached to a port's device, and when it is removed.
pub type Report = Arc<dyn Fn(bool) + Send + Sync>;

impl Qdisc {
    /// A flag that always shows whether to bypass a device's discipline.
    pub(super) fn bypass(&self, ifindex: u32) -> Arc<AtomicBool> {
        match self {
            Self::Bypass => Arc::new(AtomicBool::new(true)),
            Self::Use => Arc::default(),
            Self::WhereAttached(all, report) => all.bypass(ifindex, report),
        }
    }
}

#[derive(Default)]
struct State {
    /// Devices with an attached discipline.
    attached: FxHashSet<u32>,
    /// Flags of open ports, by device.
    flags: FxHashMap<u32, Vec<(Weak<AtomicBool>, Report)>>,
}

/// The queueing disciplines of this network namespace.
#[derive(Default)]
pub struct Qdiscs(Mutex<State>);

impl Qdiscs {
    /// Reads them, and follows them for as long as the runtime runs.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub async fn follow() -> io::Result<Arc<Self>> {
        // The group is joined before the first read, so that no change falls between the two.
        let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Tc])?;
        tokio::spawn(connection);
        let this = Arc::<Self>::default();
        this.refresh(&handle).await;
        let follower = Arc::clone(&this);
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                // One read handles all notifications that are already there.
                while let Some(Some(_)) = messages.next().now_or_never() {}
                follower.refresh(&handle).await;
            }
            tracing::error!(
                "the kernel's messages of traffic control ended; disciplines that are attached from now on go unnoticed"
            );
        });
        Ok(this)
    }

    async fn refresh(&self, handle: &Handle) {
        let mut attached = FxHashSet::default();
        let mut found = handle.qdisc().get().execute();
        loop {
            match found.try_next().await {
                Ok(Some(message)) => {
                    if u32::from(message.header.handle) != 0 {
                        attached.extend(u32::try_from(message.header.index));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the queueing disciplines cannot be read");
                    return;
                }
            }
        }
        let mut state = self.lock();
        let State { attached: now, flags } = &mut *state;
        *now = attached;
        flags.retain(|ifindex, flags| {
            flags.retain(|(flag, report)| match flag.upgrade() {
                Some(flag) => {
                    let is_attached = now.contains(ifindex);
                    if flag.swap(!is_attached, Ordering::Relaxed) == is_attached {
                        report(is_attached);
                    }
                    true
                }
                None => false,
            });
            !flags.is_empty()
        });
    }

    /// Whether somebody attached a discipline to a device.
    pub fn is_attached(&self, ifindex: u32) -> bool {
        self.lock().attached.contains(&ifindex)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bypass(&self, ifindex: u32, report: &Report) -> Arc<AtomicBool> {
        let mut state = self.lock();
        let is_attached = state.attached.contains(&ifindex);
        report(is_attached);
        let flag = Arc::new(AtomicBool::new(!is_attached));
        let flags = state.flags.entry(ifindex).or_default();
        flags.push((Arc::downgrade(&flag), Arc::clone(report)));
        flag
    }
}
