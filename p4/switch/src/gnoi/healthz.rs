//! gNOI Healthz: whether the threads that forward reply, now and since the start.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use gnoi_proto::gnoi::healthz::healthz_server::Healthz;
use gnoi_proto::gnoi::healthz::{
    ComponentStatus, GetRequest, GetResponse, ListRequest, ListResponse, Status as Health,
};
use gnoi_proto::gnoi::types::{Path, PathElem};
use tonic::{Request, Response, Status, async_trait};

use super::Machine;

/// How often the threads are asked, so that [`Healthz::list`] has what happened between two calls.
const EVERY: Duration = Duration::from_secs(5);
/// Changes that are remembered.
const CHANGES: usize = 32;
/// The whole switch, and the threads that forward.
const COMPONENTS: [&str; 2] = ["chassis", "pipeline"];

/// Changes of the health, the oldest first.
#[derive(Default)]
struct Changes {
    seen: VecDeque<ComponentStatus>,
    count: u64,
    is_healthy: Option<bool>,
}

impl Changes {
    fn note(&mut self, is_healthy: bool) {
        if self.is_healthy.replace(is_healthy) == Some(is_healthy) {
            return;
        }
        self.count += 1;
        if self.seen.len() == CHANGES {
            self.seen.pop_front();
        }
        self.seen.push_back(ComponentStatus {
            path: Some(path(COMPONENTS[1])),
            status: health(is_healthy).into(),
            id: self.count.to_string(),
            created: Some(SystemTime::now().into()),
            ..ComponentStatus::default()
        });
    }
}

/// The service.
pub struct HealthzService {
    machine: Arc<dyn Machine>,
    changes: Arc<Mutex<Changes>>,
}

fn health(is_healthy: bool) -> Health {
    if is_healthy { Health::Healthy } else { Health::Unhealthy }
}

fn path(component: &str) -> Path {
    let component = PathElem {
        name: "component".into(),
        key: [("name".to_owned(), component.to_owned())].into(),
    };
    let root = PathElem {
        name: "components".into(),
        ..PathElem::default()
    };
    Path {
        origin: "openconfig".into(),
        elem: vec![root, component],
    }
}

/// The component that a path names; none names the whole switch.
///
/// # Errors
/// There is no such component.
fn named(path: Option<&Path>) -> Result<&str, Status> {
    let elem = path.map(|path| path.elem.as_slice()).unwrap_or_default();
    let name = match elem {
        [] => Some(COMPONENTS[0]),
        [root, component] if root.name == "components" && component.name == "component" => {
            component.key.get("name").map(String::as_str)
        }
        _ => None,
    };
    let known = name.filter(|name| COMPONENTS.contains(name));
    known.ok_or_else(|| Status::not_found("no such component: expected /components/component[name=chassis|pipeline]"))
}

fn now(component: &str, is_healthy: bool) -> ComponentStatus {
    ComponentStatus {
        path: Some(path(component)),
        status: health(is_healthy).into(),
        created: Some(SystemTime::now().into()),
        ..ComponentStatus::default()
    }
}

impl HealthzService {
    /// Of a process. Asks its threads from now on, until it is dropped.
    pub fn new(machine: Arc<dyn Machine>) -> Self {
        let changes = Arc::<Mutex<Changes>>::default();
        let (of, weak) = (Arc::clone(&machine), Arc::downgrade(&changes));
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(EVERY);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                clock.tick().await;
                let is_healthy = of.is_forwarding().await;
                let Some(changes) = weak.upgrade() else { return };
                changes.lock().unwrap_or_else(PoisonError::into_inner).note(is_healthy);
            }
        });
        Self { machine, changes }
    }
}

#[async_trait]
impl Healthz for HealthzService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let component = named(request.get_ref().path.as_ref())?;
        let is_healthy = self.machine.is_forwarding().await;
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(is_healthy);
        let mut found = now(component, is_healthy);
        if component == COMPONENTS[0] {
            found.subcomponents.push(now(COMPONENTS[1], is_healthy));
        }
        Ok(Response::new(GetResponse { component: Some(found) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        named(request.get_ref().path.as_ref())?;
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Response::new(ListResponse {
            statuses: changes.seen.iter().cloned().collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;

    struct Wavering(AtomicBool);

    impl Machine for Wavering {
        fn is_forwarding(&self) -> BoxFuture<'_, bool> {
            async { self.0.load(Ordering::SeqCst) }.boxed()
        }

        fn restart(&self, _: &str) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_stops_replying_is_seen_now_and_later() {
        let machine = Arc::new(Wavering(AtomicBool::new(true)));
        let service = HealthzService::new(Arc::clone(&machine) as _);
        let get = async |path: Option<Path>| {
            let found = service.get(Request::new(GetRequest { path })).await?;
            Ok::<_, Status>(found.into_inner().component.unwrap())
        };
        let whole = get(None).await.unwrap();
        assert_eq!((whole.status(), whole.subcomponents.len()), (Health::Healthy, 1));
        machine.0.store(false, Ordering::SeqCst);
        // Nobody asks for the health while it is bad.
        tokio::time::sleep(2 * EVERY).await;
        machine.0.store(true, Ordering::SeqCst);
        assert_eq!(get(Some(path("pipeline"))).await.unwrap().status(), Health::Healthy);
        let listed = service.list(Request::new(ListRequest::default())).await.unwrap();
        let seen: Vec<Health> = listed.get_ref().statuses.iter().map(ComponentStatus::status).collect();
        assert_eq!(seen, [Health::Healthy, Health::Unhealthy, Health::Healthy]);
        assert_eq!(get(Some(path("fan"))).await.unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn a_bounded_number_of_changes_is_remembered() {
        let mut changes = Changes::default();
        (0..100).for_each(|i| changes.note(i % 2 == 0));
        assert_eq!(
            (changes.seen.len(), changes.seen.back().unwrap().id.as_str()),
            (CHANGES, "100")
        );
    }
}
