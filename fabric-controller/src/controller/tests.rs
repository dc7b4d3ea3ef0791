//! The controller with fake devices: acknowledged changes arrive on the devices, and failures are named.

pub(super) use std::sync::Arc;
pub(super) use std::time::Duration;

use tokio_util::sync::CancellationToken;
pub(super) use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
pub(super) use vfabric_api::intent::VdcSpec;
use vfabric_api::intent::{AllowedAddress, AttachmentSpec, NetworkSpec, Place, RouterSpec, SubnetSpec};
use vfabric_api::service::Transaction;
pub(super) use vfabric_api::service::{Change, FabricService, Key, Kind, Spec};
use vfabric_api::status::Progress;
pub(super) use vfabric_api::topology::Topology;

use super::fleet::Fleet;
use super::{Controller, Start};
use crate::device::launch::{Hardware, Launch, Launcher, Running};
pub(super) use crate::driver::fake::FakeDevice;
pub(super) use crate::entity::Entity;
use crate::render::FabricRender;
pub(super) use crate::store::{MemoryStore, RedbStore, Store, Versioned};
use crate::store::{Past, Revision, Scanned, StoreError, StoreTransaction, Visit};
pub(super) use crate::testing::topology;

/// Far longer than anything here takes; only a failing test waits this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct World<S> {
    pub(super) controller: Arc<Controller<S>>,
    /// The devices that exist from the start.
    pub(super) devices: Vec<FakeDevice>,
    /// All devices by name, including those added later, which begin empty.
    pub(super) plugged: Plugged,
    _stop: tokio_util::sync::DropGuard,
}

/// Devices in memory by name.
#[derive(Clone, Default)]
pub(super) struct Plugged(Arc<std::sync::Mutex<std::collections::HashMap<Name, FakeDevice>>>);

impl Plugged {
    pub(super) fn plug(&self, name: &Name, device: FakeDevice) {
        self.0.lock().unwrap().insert(name.clone(), device);
    }

    pub(super) fn device(&self, name: &Name) -> FakeDevice {
        let mut all = self.0.lock().unwrap();
        all.entry(name.clone()).or_insert_with(|| FakeDevice::new(true)).clone()
    }
}

impl Launcher for Plugged {
    fn launch(&self, hardware: &Hardware, launch: Launch) -> Result<Running, String> {
        Ok(launch.run(self.device(hardware.name()).driver()))
    }
}

impl<S: Store> World<S> {
    pub(super) async fn over(start: impl Into<Start>, store: S, devices: Vec<FakeDevice>) -> Self {
        let controller = Controller::load(start, store, Arc::new(FabricRender)).await.unwrap();
        let stop = CancellationToken::new();
        let plugged = Plugged::default();
        for (device, fake) in controller.devices().iter().zip(&devices) {
            plugged.plug(&device.name, fake.clone());
        }
        let (fleet, inbox) = Fleet::new(plugged.clone(), stop.child_token());
        controller.start(fleet);
        let (supervising, stopped) = (Arc::clone(&controller), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(supervising.supervise(inbox.frames)).await });
        let (keeping, stopped) = (Arc::clone(&controller), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(keeping.housekeeping()).await });
        let (following, stopped) = (Arc::clone(&controller), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(following.follow(inbox.events)).await });
        Self {
            controller,
            devices,
            plugged,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<u64, vfabric_api::error::ApiError> {
        let changes = changes.into_iter().map(|c| ("here".to_owned(), c)).collect();
        Ok(self
            .controller
            .commit(Transaction {
                changes,
                dry_run: false,
                ..Transaction::default()
            })
            .await?
            .revision)
    }

    pub(super) async fn applied(&self, changes: Vec<Change>) {
        let revision = self.commit(changes).await.unwrap();
        let applied = self.controller.wait_applied(revision, PATIENCE).await;
        assert_eq!(applied.progress, Progress::Applied, "{applied:?}");
    }

    /// Waits until a device holds exactly what it should.
    pub(super) async fn settled(&self, device: usize) {
        let wanted = || {
            let of = self.controller.devices()[device].desired().into_iter();
            of.map(|(e, _)| (e.key(), e))
                .collect::<std::collections::HashMap<_, _>>()
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.devices[device].entities() != wanted() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "device {device} does not come to hold what it should"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(super) fn fakes() -> Vec<FakeDevice> {
    (0..7).map(|_| FakeDevice::new(true)).collect()
}

async fn world() -> World<MemoryStore> {
    World::over(topology(), MemoryStore::default(), fakes()).await
}

pub(super) fn n(name: &str) -> Name {
    name.parse().unwrap()
}

pub(super) fn network(name: &str, cidr: &str) -> Change {
    let subnets = vec![SubnetSpec::new(cidr.parse().unwrap())];
    Change::Create(
        n("v"),
        Spec::Network(NetworkSpec {
            name: n(name),
            subnets,
            mtu: 1500,
            vni: None,
            labels: Default::default(),
        }),
    )
}

pub(super) fn attach(name: &str, network: &str, host: &str) -> AttachmentSpec {
    let place = Place::Host {
        host: n(host),
        netns: name.into(),
        interface: "eth0".into(),
    };
    AttachmentSpec {
        name: n(name),
        network: n(network),
        mac: None,
        ips: Vec::new(),
        place,
        port_security: true,
        allowed_addresses: Vec::new(),
        migration: None,
        labels: Default::default(),
    }
}

pub(super) fn create(spec: AttachmentSpec) -> Change {
    Change::Create(n("v"), Spec::Attachment(spec))
}

pub(super) fn delete(kind: Kind, name: &str) -> Change {
    Change::Delete(Key::new(n("v"), kind, n(name)))
}

pub(super) fn router(networks: &[&str]) -> Spec {
    Spec::Router(RouterSpec::new(n("r"), networks.iter().map(|name| n(name)).collect()))
}

pub(super) fn basics() -> Vec<Change> {
    let vdc = Spec::Vdc(VdcSpec::new(n("v")));
    let router = router(&["red", "blue"]);
    vec![
        Change::Create(n("v"), vdc),
        network("red", "10.1.0.0/24"),
        network("blue", "10.2.0.0/24"),
        Change::Create(n("v"), router),
        create(attach("a1", "red", "host1")),
        create(attach("a3", "blue", "host3")),
    ]
}

#[tokio::test]
async fn what_is_asked_for_arrives_and_goes() {
    let world = world().await;
    let revision = world.commit(basics()).await.unwrap();
    assert_eq!(
        world.controller.wait_applied(revision, PATIENCE).await.progress,
        Progress::Applied
    );
    for device in 0..7 {
        world.settled(device).await;
    }
    assert!(!world.devices[4].entities().is_empty(), "host1 got nothing");
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    assert!(world.devices[4].entities().is_empty(), "host1 keeps what is gone");
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_wait_and_names_device_entity_and_message() {
    let world = world().await;
    world.applied(basics()).await;
    let key = world.devices[4].entities().into_keys().next().unwrap();
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    world.devices[4].refuse(key.clone(), "no room", false);
    let revision = world.commit(vec![create(attach("a1", "red", "host1"))]).await.unwrap();
    // With a timeout that no passing test reaches.
    let applied = world.controller.wait_applied(revision, 100 * PATIENCE).await;
    assert_eq!(applied.progress, Progress::Failed);
    let said = applied.waiting.iter().find(|w| w.device == n("host1")).unwrap();
    assert!(
        said.reason.ends_with("no room") && said.reason.contains(&key.to_string()),
        "{said:?}"
    );
    // The failure does not affect the next change on that host.
    world.applied(vec![create(attach("a2", "blue", "host1"))]).await;
}

#[tokio::test]
async fn a_refusal_that_is_tried_again_is_waited_for_and_says_so() {
    let world = world().await;
    world.applied(basics()).await;
    let key = world.devices[4].entities().into_keys().next().unwrap();
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    world.devices[4].refuse(key, "busy", true);
    let revision = world.commit(vec![create(attach("a1", "red", "host1"))]).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let applied = loop {
        let applied = world.controller.wait_applied(revision, Duration::ZERO).await;
        if applied.progress == Progress::Failed {
            break applied;
        }
        assert!(tokio::time::Instant::now() < deadline, "{applied:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(
        applied
            .waiting
            .iter()
            .any(|w| w.reason.ends_with("busy (is tried again)")),
        "{applied:?}"
    );
    let waiting = world.controller.wait_applied(revision, PATIENCE);
    let (accepted, ()) = tokio::join!(waiting, async { world.devices[4].accept_all() });
    assert_eq!(accepted.progress, Progress::Applied, "{accepted:?}");
}

#[tokio::test]
async fn an_offline_device_is_waited_for_and_named_then_catches_up() {
    let world = world().await;
    world.applied(basics()).await;
    world.devices[4].go_offline();
    let revision = world.commit(vec![create(attach("a2", "red", "host1"))]).await.unwrap();
    let applied = world
        .controller
        .wait_applied(revision, Duration::from_millis(300))
        .await;
    assert_eq!(applied.progress, Progress::Pending);
    assert_eq!(
        applied.waiting.iter().map(|w| w.device.as_str()).collect::<Vec<_>>(),
        ["host1"]
    );
    world.devices[4].go_online();
    assert_eq!(
        world.controller.wait_applied(revision, PATIENCE).await.progress,
        Progress::Applied
    );
    world.settled(4).await;
}

#[tokio::test]
async fn a_restarted_device_is_armed_again_and_strays_are_swept() {
    let world = world().await;
    world.applied(basics()).await;
    world.devices[2].restart_empty();
    world.settled(2).await;
    let stray = world.devices[6].entities().into_values().next().unwrap();
    world.devices[5].meddle_insert(Entity::clone(&stray));
    world.settled(5).await;
}

#[tokio::test]
async fn a_device_that_is_read_slowly_is_written_to_meanwhile() {
    let world = world().await;
    let spread = |n: usize| create(attach(&format!("b{n}"), "blue", "host3"));
    world
        .applied(basics().into_iter().chain((0..8).map(spread)).collect())
        .await;
    let (leaf, device) = (&world.devices[2], &world.controller.devices()[2]);
    leaf.stop_reads();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while leaf.stopped_reads() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the sweep does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What the read-back has not delivered yet is older than each of these changes.
    let (reads, writes) = (leaf.reads(), leaf.writes());
    world.applied(vec![create(attach("a2", "red", "host2"))]).await;
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    world.applied(vec![create(attach("a1", "blue", "host1"))]).await;
    world.applied(vec![delete(Kind::Attachment, "a2")]).await;
    assert!(leaf.writes() > writes);
    assert_eq!(
        (leaf.stopped_reads(), leaf.reads()),
        (1, reads),
        "the read-back has ended"
    );
    leaf.resume_reads();
    while leaf.reads() == reads {
        assert!(tokio::time::Instant::now() < deadline, "the read-back does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Written after the parts of the read-back that have arrived.
    world.applied(vec![create(attach("a4", "red", "host1"))]).await;
    let numbers = device.numbers();
    assert_eq!((numbers.repairs, numbers.failed), (0, 0));
    world.settled(2).await;
}

/// Opens the store of a dropped controller, as soon as the controller's tasks have let go of it.
pub(super) async fn reopened(file: &std::path::Path) -> RedbStore {
    loop {
        match RedbStore::open(file) {
            Ok(store) => return store,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_restart_over_the_same_store_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let before = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    before.applied(basics()).await;
    for device in 0..7 {
        before.settled(device).await;
    }
    let devices = before.devices.clone();
    drop(before);
    let store = reopened(&file).await;
    let writes: Vec<u64> = devices.iter().map(FakeDevice::writes).collect();
    let reads: Vec<u64> = devices.iter().map(FakeDevice::reads).collect();
    let after = World::over(topology(), store, devices).await;
    let revision = after.controller.fabric().await.revision;
    assert_eq!(
        after.controller.wait_applied(revision, PATIENCE).await.progress,
        Progress::Applied
    );
    assert!(
        after.devices.iter().zip(reads).all(|(d, before)| d.reads() > before),
        "not compared with the devices"
    );
    assert_eq!(after.devices.iter().map(FakeDevice::writes).collect::<Vec<_>>(), writes);
    assert!(
        after
            .controller
            .get(&Key::new(n("v"), Kind::Attachment, n("a3")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn errors_name_code_and_field() {
    let world = world().await;
    world.applied(basics()).await;
    let overlap = Spec::Router(RouterSpec::new(n("r2"), vec![n("one"), n("two")]));
    let overlapping = vec![
        network("one", "10.9.0.0/16"),
        network("two", "10.9.1.0/24"),
        Change::Create(n("v"), overlap),
    ];
    let mut mac = attach("b", "red", "host2");
    mac.mac = Some("02:00:00:00:99:01".parse().unwrap());
    let mut again = attach("c", "red", "host2");
    again.mac = mac.mac;
    let mut ip = attach("d", "red", "host2");
    ip.ips = vec!["10.1.0.77".parse().unwrap()];
    let mut ip_again = attach("e", "red", "host2");
    ip_again.ips.clone_from(&ip.ips);
    // Only a name: a path could lead to the host's own namespace.
    let at = |netns: &str| {
        let mut attachment = attach("p", "red", "host2");
        if let Place::Host { netns: name, .. } = &mut attachment.place {
            *name = netns.into();
        }
        (vec![create(attachment)], ErrorCode::Invalid, "place.host.netns")
    };
    let [absolute, relative, parent, escape] =
        ["/proc/self/ns/net", "a/b", "..", "/run/netns/../../proc/1/ns/net"].map(at);
    let cases = [
        absolute,
        relative,
        parent,
        escape,
        (overlapping, ErrorCode::Invalid, "networks[1]"),
        (
            vec![create(attach("x", "red", "host9"))],
            ErrorCode::Invalid,
            "place.host.host",
        ),
        (vec![create(mac), create(again)], ErrorCode::Taken, "mac"),
        (vec![create(ip), create(ip_again)], ErrorCode::Taken, "ips[0]"),
        (vec![delete(Kind::Network, "red")], ErrorCode::InUse, ""),
    ];
    for (changes, code, field) in cases {
        let error = world.commit(changes).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        let named = error.errors.iter().any(|e| e.field == format!("here.{field}"));
        assert!(field.is_empty() || named, "{field} is not named by {error:?}");
    }
    let key = |name| Key::new(n("v"), Kind::Network, n(name));
    assert!(
        world.controller.get(&key("one")).await.is_err(),
        "half of a refused transaction happened"
    );
}

#[tokio::test]
async fn allowed_addresses_are_checked() {
    let world = world().await;
    world.applied(basics()).await;
    let allowed = |ip: Option<&str>, cidr: Option<&str>, mac: Option<&str>| {
        let mut spec = attach("x", "red", "host2");
        spec.allowed_addresses.push(AllowedAddress {
            ip: ip.map(|ip| ip.parse().unwrap()),
            cidr: cidr.map(|cidr| cidr.parse().unwrap()),
            mac: mac.map(|mac| mac.parse().unwrap()),
        });
        vec![create(spec)]
    };
    let cases = [
        (allowed(None, None, None), "allowed_addresses[0]"),
        (
            allowed(Some("10.1.0.9"), Some("10.1.0.0/24"), None),
            "allowed_addresses[0]",
        ),
        (allowed(None, Some("10.1.0.9/24"), None), "allowed_addresses[0].cidr"),
        (allowed(Some("224.0.0.18"), None, None), "allowed_addresses[0].ip"),
        (allowed(Some("::"), None, None), "allowed_addresses[0].ip"),
        (allowed(Some("10.1.0.1"), None, None), "allowed_addresses[0].ip"),
        (
            allowed(Some("10.1.0.9"), None, Some("ff:ff:ff:ff:ff:ff")),
            "allowed_addresses[0].mac",
        ),
    ];
    for (changes, field) in cases {
        let error = world.commit(changes).await.unwrap_err();
        let named = error.errors.iter().any(|e| e.field == format!("here.{field}"));
        assert!(named, "{field} is not named by {error:?}");
    }
    let mac = Some("00:00:5e:00:01:07");
    world.commit(allowed(None, Some("10.1.0.0/16"), mac)).await.unwrap();
}

/// Waits until something is so.
pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not within its time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Commits only while the gate is open.
struct Gated {
    inner: MemoryStore,
    gate: Arc<tokio::sync::Semaphore>,
}

impl Store for Gated {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }

    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        self.inner.scan_range(from, before, visit).await
    }
    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        self.inner.past(from, to, limit).await
    }

    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        let _open = self.gate.acquire().await;
        self.inner.commit_group(transactions).await
    }
}

#[tokio::test]
async fn a_change_comes_to_its_end_when_its_caller_goes_away() {
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let store = Gated {
        inner: MemoryStore::default(),
        gate: Arc::clone(&gate),
    };
    let world = World::over(topology(), store, fakes()).await;
    // The controller has used the permit at its start, to write the inventory.
    gate.forget_permits(1);
    let gone = tokio::time::timeout(Duration::from_millis(100), world.commit(basics())).await;
    assert!(gone.is_err(), "the store was not reached while its gate is closed");
    gate.add_permits(1);
    // The next change finds the abandoned one stored and rendered.
    world.applied(vec![create(attach("a2", "red", "host2"))]).await;
    assert!(
        world
            .controller
            .get(&Key::new(n("v"), Kind::Attachment, n("a1")))
            .await
            .is_ok()
    );
    world.settled(4).await;
    assert!(!world.devices[4].entities().is_empty(), "stored, but never rendered");
}

#[tokio::test]
async fn an_entity_leads_back_to_who_asked_for_it() {
    let world = world().await;
    world.applied(basics()).await;
    world.applied(vec![create(attach("a2", "red", "host1"))]).await;
    let of_host = world.controller.entities(&n("host1")).await.unwrap();
    let asked = |table: &str| -> Vec<Vec<String>> {
        let of_table = of_host.iter().filter(|e| e.table == table);
        of_table.map(|e| e.asked_by.clone()).collect()
    };
    let tables: std::collections::BTreeSet<_> = of_host.iter().map(|e| e.table.clone()).collect();
    assert_eq!(asked("network"), [["network `red` of vdc `v`"]], "of {tables:?}");
    let mut attachments = asked("attachment");
    attachments.sort();
    let both = ["a1", "a2"].map(|a| vec![format!("attachment `{a}` of vdc `v`")]);
    assert_eq!(attachments, both, "of {tables:?}");
    // No device holds anything without a reason.
    for device in world.controller.devices() {
        let entities = world.controller.entities(&device.name).await.unwrap();
        let orphan = entities.iter().find(|e| e.asked_by.is_empty());
        assert_eq!(orphan, None, "on {}", device.name);
    }
}

#[tokio::test]
async fn losses_are_reported_and_devices_that_are_away_are_named() {
    let world = world().await;
    world.applied(basics()).await;
    let loss = |place: &str, reason: &str| crate::device::driver::Loss {
        place: place.into(),
        reason: reason.into(),
        frames: 3,
    };
    // Devices: spine1, spine2, leaf1, leaf2, host1, host2, host3.
    world.devices[2].lose(vec![loss("port 3", "in-discards"), loss("", "punts-lost")]);
    world.devices[4].lose(vec![loss("v/a1", "flood")]);
    world.devices[1].go_offline();
    world.devices[6].go_offline();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let drops = loop {
        let drops = world.controller.drops().await;
        let missing: Vec<&str> = drops.missing.iter().map(|m| m.device.as_str()).collect();
        if missing == ["spine2", "host3"] {
            break drops;
        }
        assert!(tokio::time::Instant::now() < deadline, "{drops:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let reported: Vec<_> = drops
        .counts
        .iter()
        .map(|d| (d.device.as_str(), d.place.as_deref(), d.reason.as_str(), d.packets))
        .collect();
    let expected = [
        ("leaf1", Some("port 3"), "in-discards", 3),
        ("leaf1", None, "punts-lost", 3),
        ("host1", Some("v/a1"), "flood", 3),
    ];
    assert_eq!(reported, expected);
    assert!(drops.missing.iter().all(|m| !m.reason.is_empty()), "{drops:?}");
    let status = world.controller.fabric().await;
    let warned: Vec<&str> = status
        .warnings
        .iter()
        .filter_map(|w| Some(w.device.as_ref()?.as_str()))
        .collect();
    assert_eq!(warned, ["spine2", "host3"], "{status:?}");
}

#[tokio::test]
async fn what_a_device_puts_right_by_itself_is_counted_and_what_it_cannot_is_named() {
    use crate::device::driver::{Event, Warning};
    let world = world().await;
    world.applied(basics()).await;
    let leaf = &world.controller.devices()[2];
    let before = leaf.status().repairs;
    let port = "the switch has no port 9".to_owned();
    world.devices[2].report(Event::Repaired("port 3 (swp3) was disabled".into()));
    world.devices[2].report(Event::Warning(Warning::Ports, Some(port.clone())));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while leaf.status().warnings != [port.clone()] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", leaf.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(leaf.status().repairs, before + 1);
    world.devices[2].report(Event::Warning(Warning::Ports, None));
    while !leaf.status().warnings.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", leaf.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
