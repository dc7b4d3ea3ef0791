//! Work inside other network namespaces.
//!
//! `setns(2)` changes only one thread. So a separate thread does this work: it enters the namespace and does the work.
//! It never needs to return, because the next job names its own namespace. A netlink socket that it opens stays in the
//! namespace in which it was opened.
//!
//! If a job does not return in time, only its thread is stuck, not the engine: the thread is left
//! behind and another one takes its place. While the job runs, its namespace gets no other job.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vtep_proto::v1::ErrorCode;

use crate::datapath::StepError;
use crate::error::{NetlinkError, NetnsError};
use crate::netns::Netns;
use crate::watch::Watch;

/// Longest time for one job. The kernel does what a job asks at once; a machine under load
/// takes some tenths of a second.
const DEADLINE: Duration = Duration::from_secs(5);
/// Threads that may be left behind. When there are more, something is wrong with the whole
/// machine, and every job is refused until one returns.
const MAX_STUCK: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// The thread that works at present.
pub(super) struct Worker {
    jobs: Option<mpsc::SyncSender<Job>>,
    watch: Watch,
    deadline: Duration,
}

/// The name of a job in the status.
const PREFIX: &str = "work in netns ";

impl Worker {
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            jobs: None,
            watch,
            deadline: DEADLINE,
        }
    }

    fn thread(&mut self) -> io::Result<mpsc::SyncSender<Job>> {
        if let Some(jobs) = &self.jobs {
            return Ok(jobs.clone());
        }
        // One job at a time: its sender waits for it.
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        thread::Builder::new()
            .name("netns".into())
            .spawn(move || queue.into_iter().for_each(|job| job()))?;
        self.jobs = Some(jobs.clone());
        Ok(jobs)
    }

    /// Does a job about the namespace of that name.
    fn job<T: Send + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetlinkError> {
        let what = format!("{PREFIX}{name}");
        let stuck = |hint: String| NetlinkError {
            what: what.clone(),
            errno: libc::ETIMEDOUT,
            hint: Some(hint),
        };
        if let Some(time) = self.watch.running(&what) {
            return Err(stuck(format!(
                "an earlier call has not returned for {} s",
                time.as_secs()
            )));
        }
        let others = self.watch.count(PREFIX);
        if others >= MAX_STUCK {
            return Err(stuck(format!("calls in {others} other namespaces have not returned")));
        }
        let gone = || NetlinkError::io(&what, &io::Error::other("the thread has ended"));
        let jobs = self.thread().map_err(|e| NetlinkError::io(&what, &e))?;
        let (answer, result) = mpsc::sync_channel(1);
        let busy = self.watch.begin(&what);
        let job: Job = Box::new(move || {
            let done = work();
            drop(busy);
            // After the deadline nobody waits for the result.
            let _ = answer.send(done);
        });
        if jobs.send(job).is_err() {
            self.jobs = None;
            return Err(gone());
        }
        match result.recv_timeout(self.deadline) {
            Ok(done) => Ok(done),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.jobs = None;
                Err(stuck(format!("no answer for {} s", self.deadline.as_secs_f32())))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.jobs = None;
                Err(gone())
            }
        }
    }

    /// Opens a namespace by name and makes sure that it is a network namespace.
    ///
    /// # Errors
    /// [`ErrorCode::NetnsNotFound`] when it does not exist (yet), [`ErrorCode::PlaceRefused`]
    /// when it is something else.
    pub(super) fn open(&mut self, name: &str) -> Result<Netns, StepError> {
        let owned = name.to_owned();
        let open = move || {
            let namespace = Netns::named(&owned)?;
            match namespace.enter() {
                Ok(()) => Ok(namespace),
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(NetnsError::NotANamespace {
                    name: owned,
                    found: "a namespace of another type",
                }),
                Err(source) => Err(NetnsError::Io { name: owned, source }),
            }
        };
        self.job(name, open)?.map_err(|e| {
            let code = match &e {
                NetnsError::Absent { .. } | NetnsError::NotMounted { .. } => ErrorCode::NetnsNotFound,
                NetnsError::NotANamespace { .. } => ErrorCode::PlaceRefused,
                NetnsError::Io { .. } => ErrorCode::Kernel,
            };
            StepError::new(code, crate::chain(&e))
        })
    }

    /// Runs `work` inside the namespace and returns its result.
    ///
    /// # Errors
    /// `work` fails, or does not return in time.
    pub(super) fn run<T, F>(&mut self, namespace: &Netns, name: &str, work: F) -> Result<T, NetlinkError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, NetlinkError> + Send + 'static,
    {
        let fail = |e: io::Error| NetlinkError::io(format!("enter the namespace {name}"), &e);
        let file = namespace.file().try_clone().map_err(fail)?;
        let job = move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .map(|()| work())
        };
        self.job(name, job)?.map_err(fail)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_does_not_return_stops_only_its_own_namespace() {
        let watch = Watch::default();
        let mut worker = Worker::new(watch.clone());
        worker.deadline = Duration::from_millis(20);
        let (release, held) = mpsc::channel::<()>();
        let error = worker.job("a", move || held.recv()).unwrap_err();
        assert_eq!(error.errno, libc::ETIMEDOUT, "{error}");
        worker.deadline = DEADLINE;
        assert_eq!(worker.job("b", || 7), Ok(7), "another namespace waits");
        let error = worker.job("a", || 7).unwrap_err();
        assert!(error.to_string().contains("has not returned"), "{error}");
        assert_eq!(watch.longer_than(Duration::ZERO)[0].what, "work in netns a");
        // It returns after all: the namespace is usable again.
        drop(release);
        while watch.running("work in netns a").is_some() {
            thread::yield_now();
        }
        assert_eq!(worker.job("a", || 7), Ok(7));
    }
}
