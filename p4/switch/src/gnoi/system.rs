//! gNOI System: the clock, and restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gnoi_proto::gnoi::system::reboot_status::Status as Outcome;
use gnoi_proto::gnoi::system::system_server::System;
use gnoi_proto::gnoi::system::{
    CancelRebootRequest, CancelRebootResponse, RebootMethod, RebootRequest, RebootResponse, RebootStatus,
    RebootStatusRequest, RebootStatusResponse, TimeRequest, TimeResponse,
};
use gnoi_proto::gnoi::types::Path;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tonic::{Request, Response, Status, async_trait};

use super::Machine;

/// A restart begins this long after its call at the earliest, so that the reply leaves first.
const REPLY: Duration = Duration::from_millis(100);
/// Longest delay of a restart.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// Longest reason that is kept, in characters.
const REASON: usize = 300;

/// A restart that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// How many there were since the process was first started.
    pub count: u32,
    /// Why.
    pub reason: String,
}

/// A restart that has not begun.
struct Pending {
    method: RebootMethod,
    /// In nanoseconds since 1970.
    when: u64,
    reason: String,
    task: AbortHandle,
}

/// The service.
#[derive(Clone)]
pub struct SystemService {
    machine: Arc<dyn Machine>,
    came_from: Option<Restart>,
    pending: Arc<Mutex<Option<Pending>>>,
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// # Errors
/// Parts are named: none restarts alone.
fn expect_whole(parts: &[Path]) -> Result<(), Status> {
    if parts.is_empty() {
        return Ok(());
    }
    Err(Status::unimplemented(
        "subcomponents: no part of this switch restarts alone",
    ))
}

impl SystemService {
    /// Of a process, which may have come from a restart.
    pub fn new(machine: Arc<dyn Machine>, came_from: Option<Restart>) -> Self {
        Self {
            machine,
            came_from,
            pending: Arc::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl System for SystemService {
    async fn time(&self, _: Request<TimeRequest>) -> Result<Response<TimeResponse>, Status> {
        Ok(Response::new(TimeResponse { time: now_ns() }))
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Result<Response<RebootResponse>, Status> {
        let request = request.into_inner();
        let method = match request.method() {
            method @ (RebootMethod::Cold | RebootMethod::Warm) => method,
            RebootMethod::Unknown => return Err(Status::invalid_argument("method: expected COLD or WARM")),
            other => {
                let words = format!("method {}: expected COLD or WARM", other.as_str_name());
                return Err(Status::unimplemented(words));
            }
        };
        expect_whole(&request.subcomponents)?;
        let delay = Duration::from_nanos(request.delay);
        if delay > LONGEST {
            let words = format!("delay: {} ns: expected at most {} s", request.delay, LONGEST.as_secs());
            return Err(Status::invalid_argument(words));
        }
        let reason: String = request
            .message
            .chars()
            .filter(|c| !c.is_control())
            .take(REASON)
            .collect();
        let mut pending = self.pending();
        if pending.is_some() {
            return Err(Status::failed_precondition("a restart is pending already"));
        }
        tracing::warn!(?delay, reason, "restarting, as gNOI asks");
        let machine = Arc::clone(&self.machine);
        let why = reason.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay.max(REPLY)).await;
            machine.restart(&why);
        });
        *pending = Some(Pending {
            method,
            when: now_ns().saturating_add(u64::try_from(delay.max(REPLY).as_nanos()).unwrap_or(u64::MAX)),
            reason,
            task: task.abort_handle(),
        });
        Ok(Response::new(RebootResponse {}))
    }

    async fn cancel_reboot(
        &self,
        request: Request<CancelRebootRequest>,
    ) -> Result<Response<CancelRebootResponse>, Status> {
        expect_whole(&request.get_ref().subcomponents)?;
        if let Some(pending) = self.pending().take() {
            pending.task.abort();
            tracing::info!("the restart was cancelled");
        }
        Ok(Response::new(CancelRebootResponse {}))
    }

    async fn reboot_status(
        &self,
        request: Request<RebootStatusRequest>,
    ) -> Result<Response<RebootStatusResponse>, Status> {
        expect_whole(&request.get_ref().subcomponents)?;
        let count = self.came_from.as_ref().map_or(0, |restart| restart.count);
        let pending = self.pending();
        let status = match (pending.as_ref(), &self.came_from) {
            (Some(pending), _) => RebootStatusResponse {
                active: true,
                wait: pending.when.saturating_sub(now_ns()),
                when: pending.when,
                reason: pending.reason.clone(),
                count,
                method: pending.method.into(),
                status: None,
            },
            (None, Some(restart)) => RebootStatusResponse {
                reason: restart.reason.clone(),
                count,
                status: Some(RebootStatus {
                    status: Outcome::Success.into(),
                    message: "the process began again".into(),
                }),
                ..RebootStatusResponse::default()
            },
            (None, None) => RebootStatusResponse::default(),
        };
        Ok(Response::new(status))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use tonic::Code;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Machine for Counted {
        fn is_forwarding(&self) -> BoxFuture<'_, bool> {
            async { true }.boxed()
        }

        fn restart(&self, _: &str) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn request(method: RebootMethod, delay: Duration) -> Request<RebootRequest> {
        Request::new(RebootRequest {
            method: method.into(),
            delay: u64::try_from(delay.as_nanos()).unwrap(),
            message: "new\nkernel".into(),
            ..RebootRequest::default()
        })
    }

    async fn status(service: &SystemService) -> RebootStatusResponse {
        let status = service.reboot_status(Request::new(RebootStatusRequest::default()));
        status.await.unwrap().into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_comes_after_its_delay_unless_it_is_cancelled() {
        let machine = Arc::new(Counted::default());
        let service = SystemService::new(Arc::clone(&machine) as _, None);
        assert_eq!(status(&service).await, RebootStatusResponse::default());
        let minute = Duration::from_secs(60);
        service.reboot(request(RebootMethod::Cold, minute)).await.unwrap();
        let pending = status(&service).await;
        assert!(pending.active && pending.method() == RebootMethod::Cold && pending.reason == "newkernel");
        let second = service.reboot(request(RebootMethod::Cold, minute)).await.unwrap_err();
        assert_eq!(second.code(), Code::FailedPrecondition);
        let cancel = || service.cancel_reboot(Request::new(CancelRebootRequest::default()));
        cancel().await.unwrap();
        cancel().await.unwrap();
        tokio::time::sleep(2 * minute).await;
        assert!(!status(&service).await.active && machine.0.load(Ordering::SeqCst) == 0);
        service
            .reboot(request(RebootMethod::Warm, Duration::ZERO))
            .await
            .unwrap();
        tokio::time::sleep(minute).await;
        assert_eq!(machine.0.load(Ordering::SeqCst), 1);
        let restart = Restart {
            count: 3,
            reason: "new kernel".into(),
        };
        let after = status(&SystemService::new(machine, Some(restart))).await;
        assert_eq!(
            (after.count, after.reason.as_str(), after.active),
            (3, "new kernel", false)
        );
        assert_eq!(after.status.unwrap().status(), Outcome::Success);
    }

    #[tokio::test]
    async fn what_it_cannot_do_is_refused() {
        let service = SystemService::new(Arc::new(Counted::default()), None);
        for (method, delay, code) in [
            (RebootMethod::Unknown, 0, Code::InvalidArgument),
            (RebootMethod::Powerdown, 0, Code::Unimplemented),
            (RebootMethod::Nsf, 0, Code::Unimplemented),
            (RebootMethod::Cold, u64::MAX, Code::InvalidArgument),
        ] {
            let refused = service
                .reboot(request(method, Duration::from_nanos(delay)))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), code, "{method:?}");
        }
        let mut part = request(RebootMethod::Cold, Duration::ZERO);
        part.get_mut().subcomponents.push(Path::default());
        assert_eq!(service.reboot(part).await.unwrap_err().code(), Code::Unimplemented);
        assert!(!status(&service).await.active);
    }
}
