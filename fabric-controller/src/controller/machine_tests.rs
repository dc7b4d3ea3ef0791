//! Switches as machines over fake devices: restarts, troubles, certificates.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::image::NewImage;
use vfabric_api::inventory::ItemState;
use vfabric_api::machine::{InstallSpec, MachineStatus, Reboot, RebootSpec};
use vfabric_api::provisioning::BootStep;
use vfabric_api::service::Origin;
use vfabric_api::topology::Switch;

use super::link_tests::cabled;
use super::tests::*;
use crate::device::machine::{MachineError, Maintenance, Package};
use crate::images::{Bounds, Shelf};

/// Fake machines: they do as they are asked, or have no services, or have a trouble.
#[derive(Default)]
struct Access {
    missing: Vec<String>,
    trouble: std::sync::Mutex<Option<String>>,
    looks: AtomicUsize,
    /// Restarts, each with its switch and reason.
    restarts: std::sync::Mutex<Vec<(String, String)>>,
}

impl Maintenance for Access {
    fn look<'a>(&'a self, _: &'a Switch) -> BoxFuture<'a, Result<MachineStatus, MachineError>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let has = |service: &str| !self.missing.iter().any(|missing| missing == service);
        let status = MachineStatus {
            asked_ms: 7,
            clock_ahead_ms: has("gnoi.system").then_some(0),
            started_ms: has("gnoi.system").then_some(5),
            missing: self.missing.clone(),
            troubles: self.trouble.lock().unwrap().iter().cloned().collect(),
            ..MachineStatus::default()
        };
        async { Ok(status) }.boxed()
    }

    fn reboot<'a>(&'a self, switch: &'a Switch, reason: &'a str) -> BoxFuture<'a, Result<(), MachineError>> {
        let restart = (switch.name.to_string(), reason.to_owned());
        self.restarts.lock().unwrap().push(restart);
        async { Ok(()) }.boxed()
    }

    fn install<'a>(&'a self, switch: &'a Switch, package: Package) -> BoxFuture<'a, Result<(), MachineError>> {
        let missing = self.missing.iter().any(|missing| missing == "gnoi.os");
        let (name, mut content) = (switch.name.to_string(), package.content);
        async move {
            if missing {
                return Err(MachineError::Missing("gnoi.os"));
            }
            let mut octets = Vec::new();
            std::io::Read::read_to_end(&mut content, &mut octets).unwrap();
            assert_eq!(octets.len() as u64, package.octets);
            self.restarts
                .lock()
                .unwrap()
                .push((name, format!("installs {}", package.version)));
            Ok(())
        }
        .boxed()
    }

    fn activate<'a>(&'a self, switch: &'a Switch, version: &'a str) -> BoxFuture<'a, Result<(), MachineError>> {
        let restart = (switch.name.to_string(), format!("runs {version}"));
        self.restarts.lock().unwrap().push(restart);
        async { Ok(()) }.boxed()
    }

    fn renews(&self) -> bool {
        false
    }

    fn renew<'a>(&'a self, _: &'a Switch) -> BoxFuture<'a, Result<i64, MachineError>> {
        async { Err(MachineError::Missing("gnsi.certz")) }.boxed()
    }
}

async fn world(access: &Arc<Access>) -> World<MemoryStore> {
    let world = World::over(topology(), MemoryStore::default(), cabled()).await;
    world.controller.set_maintenance(Arc::clone(access) as _);
    world.applied(basics()).await;
    world
}

impl<S: Store> World<S> {
    async fn restart(&self, switch: &str, spec: RebootSpec) -> Result<Reboot, ApiError> {
        FabricService::reboot(self.controller.as_ref(), &n(switch), spec, Origin::default()).await
    }

    async fn state_of(&self, switch: &str) -> ItemState {
        let all = self.controller.inventory().await.switches;
        all.into_iter()
            .find(|item| item.spec.name.as_str() == switch)
            .unwrap()
            .state
    }

    fn noted(&self, reason: EventReason) -> Vec<(String, String)> {
        let events = self.controller.events(None, 1000, &|_| true).items;
        let found = events.into_iter().filter(|event| event.reason == reason);
        found
            .map(|event| (event.device.map(|d| d.to_string()).unwrap_or_default(), event.detail))
            .collect()
    }
}

#[tokio::test]
async fn a_switch_is_drained_before_it_restarts_unless_the_operator_wants_it_now() {
    let access = Arc::new(Access::default());
    let world = world(&access).await;
    let spec = |now: bool, reason: &str| RebootSpec {
        now,
        reason: reason.into(),
        ..RebootSpec::default()
    };
    let reboot = world.restart("spine1", spec(false, "new memory")).await.unwrap();
    assert!(reboot.drained && reboot.started_ms == Some(5), "{reboot:?}");
    assert_eq!(world.state_of("spine1").await, ItemState::Drained);
    let reboot = world.restart("spine2", spec(true, "")).await.unwrap();
    assert!(!reboot.drained);
    assert_eq!(world.state_of("spine2").await, ItemState::InService);
    // A switch that somebody else drained stays drained.
    assert!(!world.restart("spine1", spec(false, "")).await.unwrap().drained);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let restarts = access.restarts.lock().unwrap().clone();
    assert_eq!(
        restarts,
        [pair("spine1", "new memory"), pair("spine2", ""), pair("spine1", "")]
    );
    let noted = world.noted(EventReason::Rebooting);
    assert!(noted.contains(&pair("spine2", "restarted")), "{noted:?}");
    let all = world.controller.provisioning().await;
    let line = all.iter().find(|line| line.switch.as_str() == "spine1").unwrap();
    let step = line.steps.iter().find(|step| step.step == BootStep::Rebooting).unwrap();
    assert_eq!(step.detail, "drained, then restarted: new memory");
}

#[tokio::test]
async fn a_switch_that_cannot_be_restarted_is_not_drained_for_it() {
    let access = Arc::new(Access {
        missing: vec!["gnoi.system".into()],
        ..Access::default()
    });
    let world = world(&access).await;
    let error = world.restart("spine1", RebootSpec::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PreconditionFailed);
    assert!(
        error.detail.contains("`spine1`") && error.detail.contains("gnoi.system"),
        "{}",
        error.detail
    );
    assert_eq!(world.state_of("spine1").await, ItemState::InService);
    assert!(access.restarts.lock().unwrap().is_empty());
    let error = world.restart("host1", RebootSpec::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn switches_in_sync_are_asked_and_their_troubles_are_events() {
    let access = Arc::new(Access::default());
    *access.trouble.lock().unwrap() = Some("component `fan1` is unhealthy".into());
    let world = world(&access).await;
    let tending = Arc::clone(&world.controller);
    let asked = async {
        loop {
            let all = world.controller.inventory().await.switches;
            if all.iter().all(|item| item.machine.is_some()) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = tokio::select! {
        () = tending.tend_machines() => panic!("it runs for good"),
        all = tokio::time::timeout(PATIENCE, asked) => all.unwrap(),
    };
    assert!(
        all.iter()
            .all(|item| item.machine.as_ref().unwrap().started_ms == Some(5))
    );
    let noted = world.noted(EventReason::MachineTrouble);
    assert_eq!(noted.len(), all.len(), "one for each switch: {noted:?}");
    assert!(noted.iter().all(|(_, detail)| detail.contains("fan1")), "{noted:?}");
    assert_eq!(access.looks.load(Ordering::SeqCst), all.len(), "each was asked once");
}

#[tokio::test]
async fn software_is_installed_before_the_switch_is_drained_and_a_refusal_is_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        each: 1 << 20,
        total: 1 << 20,
    };
    let shelf = Shelf::open(dir.path(), bounds).unwrap();
    let put = |name: &str, software: Option<&str>| {
        let content = b"an image";
        let digest = ring::digest::digest(&ring::digest::SHA256, content);
        let new = NewImage {
            name: name.parse().unwrap(),
            sha256: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
            software: software.map(|software| software.parse().unwrap()),
            models: Vec::new(),
            octets: None,
        };
        let mut upload = shelf.begin(new).unwrap().unwrap();
        upload.write(content).unwrap();
        upload.finish().unwrap();
    };
    put("nos.bin", Some("nos-2"));
    put("nameless.bin", None);
    for is_missing in [false, true] {
        let access = Arc::new(Access {
            missing: is_missing.then(|| "gnoi.os".to_owned()).into_iter().collect(),
            ..Access::default()
        });
        let world = world(&access).await;
        let shelf = Shelf::open(dir.path(), bounds).unwrap();
        world.controller.set_images(Arc::new(shelf));
        let install = async |image: &str| {
            let spec = InstallSpec {
                image: image.parse().unwrap(),
                reboot: RebootSpec::default(),
            };
            FabricService::install(world.controller.as_ref(), &n("spine1"), spec, Origin::default()).await
        };
        let error = install("nameless.bin").await.unwrap_err();
        assert!(error.detail.contains("names no software"), "{}", error.detail);
        assert_eq!(install("absent.bin").await.unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(install("nos.bin").await.unwrap().software.as_str(), "nos-2");
        let reason = match is_missing {
            true => EventReason::SoftwareRefused,
            false => EventReason::SoftwareInstalled,
        };
        let done = async {
            while world.noted(reason).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = world.controller.tend_machines() => panic!("it runs for good"),
            done = tokio::time::timeout(PATIENCE, done) => done.unwrap(),
        }
        let (device, words) = world.noted(reason).remove(0);
        assert!(device == "spine1" && words.contains("nos-2"), "{words}");
        let restarts = access.restarts.lock().unwrap().clone();
        let pair = |what: &str| ("spine1".to_owned(), what.to_owned());
        if is_missing {
            assert!(words.contains("no gnoi.os"), "{words}");
            assert!(restarts.is_empty(), "{restarts:?}");
            assert_eq!(world.state_of("spine1").await, ItemState::InService);
        } else {
            assert_eq!(restarts, [pair("installs nos-2"), pair("runs nos-2")]);
            assert_eq!(world.state_of("spine1").await, ItemState::Drained);
        }
    }
}
