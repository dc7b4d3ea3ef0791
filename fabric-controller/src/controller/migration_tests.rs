//! Attachments that migrate, over fake devices.

use serde_json::json;
use vfabric_api::error::ApiError;
use vfabric_api::event::EventReason;
use vfabric_api::intent::{AttachmentSpec, MigrationPhase, Place};
use vfabric_api::inventory::ItemKey;
use vfabric_api::kind::View;
use vfabric_api::service::{Origin, Transaction};
use vtep_proto::{HostEntity, Mode};

use super::inventory_tests::remove;
use super::tests::*;
use crate::device::driver::Event;
use crate::driver::vtep::{Ask, Spot};

type Fast = World<MemoryStore>;

/// Hosts 1 to 3 are devices 4 to 6.
const SOURCE: usize = 4;
const TARGET: usize = 5;
const OTHER: usize = 6;

fn a1() -> Key {
    Key::new(n("v"), Kind::Attachment, n("a1"))
}

/// a1 on host1, a neighbour of it on host3.
async fn world() -> Fast {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    let mut changes = basics();
    changes.push(Change::Create(n("v"), Spec::Attachment(attach("b1", "red", "host3"))));
    world.applied(changes).await;
    world
}

async fn patch(world: &Fast, patch: serde_json::Value) -> Result<u64, ApiError> {
    world.commit(vec![Change::Patch(a1(), patch)]).await
}

async fn spec(world: &Fast) -> AttachmentSpec {
    match world.controller.get(&a1()).await.unwrap() {
        View::Attachment(a) => a.spec,
        other => panic!("{other:?}"),
    }
}

/// The part that a device has in an attachment.
fn mode(device: &FakeDevice) -> Option<Mode> {
    device.entities().values().find_map(|entity| match entity.as_ref() {
        Entity::Host(HostEntity::Attachment(a)) if a.id == "v/a1" => Some(a.mode),
        _ => None,
    })
}

/// Where a host sends frames for a1.
fn sends_to(world: &Fast, device: usize, mac: vfabric_api::ident::Mac) -> Option<std::net::IpAddr> {
    world.devices[device]
        .entities()
        .values()
        .find_map(|entity| match entity.as_ref() {
            Entity::Host(HostEntity::Fdb(fdb)) if fdb.mac.octets() == mac.0 => Some(fdb.vtep),
            _ => None,
        })
}

fn modes(world: &Fast) -> [Option<Mode>; 3] {
    [SOURCE, TARGET, OTHER].map(|device| mode(&world.devices[device]))
}

async fn prepared(world: &Fast) {
    let change = Change::Patch(a1(), json!({"migration": {"host": "host2"}}));
    world.applied(vec![change]).await;
    assert_eq!(modes(world), [Some(Mode::Serving), Some(Mode::Standby), None]);
}

fn announce(world: &Fast, device: usize) {
    world.devices[device].report(Event::Announced {
        attachment: "v/a1".into(),
        by: "RARP".into(),
    });
}

fn reasons(world: &Fast) -> Vec<EventReason> {
    let all = world.controller.events.page(None, 1000, &|vdc| vdc == Some(&n("v")));
    all.items.iter().map(|event| event.reason).collect()
}

#[tokio::test]
async fn an_announcement_at_the_target_moves_the_attachment_once() {
    let world = world().await;
    let View::Attachment(before) = world.controller.get(&a1()).await.unwrap() else {
        panic!("no attachment")
    };
    prepared(&world).await;
    let old = sends_to(&world, OTHER, before.mac).unwrap();
    assert_eq!(
        sends_to(&world, TARGET, before.mac),
        Some(old),
        "the target sends to the source"
    );
    // From elsewhere it means nothing.
    announce(&world, OTHER);
    announce(&world, SOURCE);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(spec(&world).await.migration.unwrap().phase, MigrationPhase::Prepared);
    for _ in 0..5 {
        announce(&world, TARGET);
    }
    until("active", async || mode(&world.devices[SOURCE]) == Some(Mode::Leaving)).await;
    until("everybody knows", async || {
        let at = sends_to(&world, OTHER, before.mac);
        at.is_some_and(|at| at != old) && sends_to(&world, SOURCE, before.mac) == at
    })
    .await;
    assert_eq!(mode(&world.devices[TARGET]), Some(Mode::Serving));
    assert_eq!(sends_to(&world, TARGET, before.mac), None);
    until("finished", async || spec(&world).await.migration.is_none()).await;
    announce(&world, TARGET);
    until("gone", async || modes(&world) == [None, Some(Mode::Serving), None]).await;
    let View::Attachment(after) = world.controller.get(&a1()).await.unwrap() else {
        panic!("no attachment")
    };
    assert!(matches!(&after.spec.place, Place::Host { host, .. } if *host == n("host2")));
    assert_eq!(
        (after.mac, &after.ips, &after.owner),
        (before.mac, &before.ips, &before.owner)
    );
    until("events", async || {
        let seen = reasons(&world);
        seen.ends_with(&[EventReason::MigrationActive, EventReason::MigrationFinished])
    })
    .await;
    for device in 0..7 {
        world.settled(device).await;
    }
}

async fn mac(world: &Fast) -> vfabric_api::ident::Mac {
    match world.controller.get(&a1()).await.unwrap() {
        View::Attachment(a) => a.mac,
        other => panic!("{other:?}"),
    }
}

/// A target that is away does not serve, however long it is away. All that time frames go to the source, and none to
/// the target, which would drop them.
#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_confirm_gets_no_frames() {
    let world = world().await;
    prepared(&world).await;
    let mac = mac(&world).await;
    let old = sends_to(&world, OTHER, mac);
    let leaves = [0, 1, 2, 3].map(|device| world.devices[device].entities());
    world.devices[TARGET].go_offline();
    patch(&world, json!({"migration": {"phase": "active"}})).await.unwrap();
    for seconds in [1, 5, 30, 600] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(
            modes(&world),
            [Some(Mode::Serving), Some(Mode::Standby), None],
            "{seconds} s"
        );
        assert_eq!(sends_to(&world, OTHER, mac), old, "{seconds} s");
        for (device, before) in leaves.iter().enumerate() {
            assert_eq!(
                world.devices[device].entities(),
                *before,
                "{seconds} s, device {device}"
            );
        }
    }
    assert_eq!(spec(&world).await.migration.unwrap().phase, MigrationPhase::Active);
    // The target comes back: it serves first, and then all devices send to it.
    world.devices[TARGET].go_online();
    until("moved", async || modes(&world) == [None, Some(Mode::Serving), None]).await;
    assert_ne!(sends_to(&world, OTHER, mac), old);
    for device in 0..7 {
        world.settled(device).await;
    }
}

/// The same when the migration is called off: nothing waits for the target any more.
#[tokio::test(start_paused = true)]
async fn a_migration_to_a_target_that_is_away_can_be_called_off() {
    let world = world().await;
    let before = world.devices[SOURCE].entities();
    prepared(&world).await;
    world.devices[TARGET].go_offline();
    patch(&world, json!({"migration": {"phase": "active"}})).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    patch(&world, json!({"migration": null})).await.unwrap();
    for device in [0, 1, 2, 3, SOURCE, OTHER] {
        world.settled(device).await;
    }
    assert_eq!(world.devices[SOURCE].entities(), before);
    world.devices[TARGET].go_online();
    until("gone", async || modes(&world) == [Some(Mode::Serving), None, None]).await;
}

/// The host that begins to serve has that before anybody sends to it.
#[tokio::test]
async fn nobody_sends_to_the_target_before_it_serves() {
    let world = world().await;
    prepared(&world).await;
    let mac = mac(&world).await;
    let old = sends_to(&world, OTHER, mac);
    let entity = world.devices[TARGET].entities().into_values();
    let key = entity
        .filter(|e| matches!(e.as_ref(), Entity::Host(HostEntity::Attachment(a)) if a.id == "v/a1"))
        .map(|e| e.key())
        .next()
        .unwrap();
    world.devices[TARGET].refuse(key, "busy", true);
    patch(&world, json!({"migration": {"phase": "active"}})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(modes(&world), [Some(Mode::Serving), Some(Mode::Standby), None]);
    assert_eq!(sends_to(&world, OTHER, mac), old);
    world.devices[TARGET].accept_all();
    until("moved", async || sends_to(&world, OTHER, mac) != old).await;
    assert_eq!(mode(&world.devices[TARGET]), Some(Mode::Serving));
}

#[tokio::test]
async fn a_migration_that_is_cancelled_leaves_the_source_as_it_was() {
    let world = world().await;
    let before = world.devices[SOURCE].entities();
    prepared(&world).await;
    world
        .applied(vec![Change::Patch(a1(), json!({"migration": null}))])
        .await;
    until("gone", async || modes(&world) == [Some(Mode::Serving), None, None]).await;
    assert_eq!(world.devices[SOURCE].entities(), before);
    assert!(
        world.devices[TARGET].entities().is_empty(),
        "the target keeps something"
    );
    until("event", async || {
        reasons(&world).ends_with(&[EventReason::MigrationRolledBack])
    })
    .await;
    // And from the other side, before it is finished.
    prepared(&world).await;
    patch(&world, json!({"migration": {"phase": "active"}})).await.unwrap();
    patch(&world, json!({"migration": null})).await.unwrap();
    until("back", async || modes(&world) == [Some(Mode::Serving), None, None]).await;
    for device in 0..7 {
        world.settled(device).await;
    }
    assert_eq!(world.devices[SOURCE].entities(), before);
}

#[tokio::test]
async fn a_target_that_is_not_ready_is_not_sent_to() {
    let world = world().await;
    world.devices[TARGET].go_offline();
    until("away", async || {
        world.controller.devices()[TARGET].state() == vfabric_api::status::DeviceState::Disconnected
    })
    .await;
    patch(&world, json!({"migration": {"host": "host2"}})).await.unwrap();
    let error = patch(&world, json!({"migration": {"phase": "active"}}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse, "{error}");
    assert_eq!(error.errors[0].field, "migration.phase");
    world.devices[TARGET].go_online();
    until("ready", async || mode(&world.devices[TARGET]) == Some(Mode::Standby)).await;
    until("accepted", async || {
        let activated = patch(&world, json!({"migration": {"phase": "active"}})).await;
        activated.is_ok()
    })
    .await;
    until("moved", async || mode(&world.devices[SOURCE]) == Some(Mode::Leaving)).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let world = world().await;
    for (wrong, field, code) in [
        (json!({"host": "nope"}), "here.migration.host", ErrorCode::Invalid),
        (json!({"host": "host1"}), "here.migration.host", ErrorCode::Invalid),
        (
            json!({"host": "host2", "phase": "active"}),
            "here.migration.phase",
            ErrorCode::Invalid,
        ),
        (
            json!({"host": "host2", "timeout_s": 5}),
            "here.migration.timeout_s",
            ErrorCode::Invalid,
        ),
        (
            json!({"host": "host2", "interface": "lo"}),
            "here.migration.interface",
            ErrorCode::Invalid,
        ),
        (
            json!({"host": "host2", "netns": "../x"}),
            "here.migration.netns",
            ErrorCode::Invalid,
        ),
    ] {
        let error = patch(&world, json!({"migration": wrong})).await.unwrap_err();
        assert_eq!((error.code, error.errors[0].field.as_str()), (code, field), "{error}");
    }
    prepared(&world).await;
    for (wrong, code) in [
        (json!({"network": "blue"}), ErrorCode::InUse),
        (json!({"place": attach("x", "red", "host3").place}), ErrorCode::InUse),
    ] {
        let error = patch(&world, wrong).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
    // The interface at the target is taken.
    let Place::Host { netns, .. } = spec(&world).await.place else {
        panic!("not on a host")
    };
    let mut other = attach("a9", "red", "host2");
    if let Place::Host { netns: its, .. } = &mut other.place {
        *its = netns;
    }
    let error = world
        .commit(vec![Change::Create(n("v"), Spec::Attachment(other))])
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Taken, "{error}");
}

#[tokio::test]
async fn a_host_that_is_removed_takes_along_only_what_it_serves() {
    let world = world().await;
    let host = |name| ItemKey::Host(n(name));
    prepared(&world).await;
    // The target goes: the attachment stays where it is.
    world.commit(vec![remove(host("host2"), true)]).await.unwrap();
    let now = spec(&world).await;
    assert_eq!(now.migration, None);
    assert!(matches!(&now.place, Place::Host { host, .. } if *host == n("host1")));

    let world = self::world().await;
    prepared(&world).await;
    patch(&world, json!({"migration": {"phase": "active"}})).await.unwrap();
    // The source goes: the attachment is at the target.
    world.commit(vec![remove(host("host1"), true)]).await.unwrap();
    let now = spec(&world).await;
    assert_eq!(now.migration, None);
    assert!(matches!(&now.place, Place::Host { host, .. } if *host == n("host2")));
}

/// Restarted in each phase, the controller goes on from there.
#[tokio::test]
async fn a_restart_at_any_step_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let mut world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    world.applied(basics()).await;
    let steps = [
        (
            json!({"migration": {"host": "host2"}}),
            [Some(Mode::Serving), Some(Mode::Standby), None],
        ),
        (
            json!({"migration": {"phase": "active"}}),
            [Some(Mode::Leaving), Some(Mode::Serving), None],
        ),
    ];
    for (patch, expected) in steps {
        until("accepted", async || {
            world.commit(vec![Change::Patch(a1(), patch.clone())]).await.is_ok()
        })
        .await;
        let devices = world.devices.clone();
        drop(world);
        world = World::over(topology(), reopened(&file).await, devices).await;
        let seen = async || [SOURCE, TARGET, OTHER].map(|d| mode(&world.devices[d])) == expected;
        until("as the phase says", seen).await;
    }
    until("finished", async || {
        [SOURCE, TARGET, OTHER].map(|d| mode(&world.devices[d])) == [None, Some(Mode::Serving), None]
    })
    .await;
    for device in 0..7 {
        world.settled(device).await;
    }
}

/// After a restart, too, everybody waits for a target that is away.
#[tokio::test]
async fn a_restarted_controller_still_waits_for_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    let mut changes = basics();
    changes.push(Change::Create(n("v"), Spec::Attachment(attach("b1", "red", "host3"))));
    world.applied(changes).await;
    let change = |patch| vec![Change::Patch(a1(), json!({"migration": patch}))];
    world.applied(change(json!({"host": "host2"}))).await;
    world.devices[TARGET].go_offline();
    let phase = json!({"phase": "active"});
    until("accepted", async || world.commit(change(phase.clone())).await.is_ok()).await;
    let (devices, before) = (world.devices.clone(), world.devices[OTHER].entities());
    drop(world);
    let world = World::over(topology(), reopened(&file).await, devices).await;
    let modes = || [SOURCE, TARGET, OTHER].map(|d| mode(&world.devices[d]));
    let is_read = |device: usize| world.controller.devices()[device].was_read_back();
    until("read", async || [0, 1, 2, 3, SOURCE, OTHER].into_iter().all(is_read)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(modes(), [Some(Mode::Serving), Some(Mode::Standby), None]);
    assert_eq!(world.devices[OTHER].entities(), before);
    world.devices[TARGET].go_online();
    until("moved", async || modes() == [None, Some(Mode::Serving), None]).await;
    for device in 0..7 {
        world.settled(device).await;
    }
}

/// A pod's attachment that host1 has asked for, and its name on that host.
async fn pod() -> (Fast, Key, Ask) {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    let mut changes = basics();
    let Change::Create(_, Spec::Vdc(vdc)) = &mut changes[0] else {
        panic!("no vDC")
    };
    vdc.hosts = vec![n("host1"), n("host2")];
    world.applied(changes).await;
    let ask = Ask {
        spot: Spot {
            vdc: n("v"),
            netns: "vfpod-a".into(),
            interface: "eth0".into(),
            workload: None,
        },
        network: n("red"),
        mac: None,
        ips: Vec::new(),
    };
    let below = Arc::clone(&world.controller).below();
    let id = below.attach(n("host1"), ask.clone()).await.unwrap();
    let key = Key::new(n("v"), Kind::Attachment, n(id.split_once('/').unwrap().1));
    (world, key, ask)
}

async fn attached(world: &Fast, key: &Key) -> AttachmentSpec {
    match world.controller.get(key).await.unwrap() {
        View::Attachment(a) => a.spec,
        other => panic!("{other:?}"),
    }
}

/// Changes the migration of an attachment that its host owns.
async fn force(world: &Fast, key: &Key, migration: serde_json::Value) -> Result<(), ApiError> {
    let origin = Origin {
        force: true,
        ..Origin::default()
    };
    let change = Change::Patch(key.clone(), json!({"migration": migration}));
    let committed = world.controller.commit(Transaction::one(change, origin)).await;
    committed.map(drop)
}

async fn prepare(world: &Fast, key: &Key) {
    let to = json!({"host": "host2", "netns": "vfpod-b"});
    force(world, key, to).await.unwrap();
    for device in 0..7 {
        world.settled(device).await;
    }
}

async fn active(world: &Fast, key: &Key) {
    prepare(world, key).await;
    let phase = json!({"phase": "active"});
    until("accepted", async || force(world, key, phase.clone()).await.is_ok()).await;
}

/// The old host's runtime ends the pod late, asks for it again, or swaps it. The pod has moved, so it stays where it
/// is.
#[tokio::test]
async fn after_a_move_the_old_host_changes_nothing() {
    let (world, key, ask) = pod().await;
    let below = Arc::clone(&world.controller).below();
    active(&world, &key).await;
    until("finished", async || attached(&world, &key).await.migration.is_none()).await;
    let moved = attached(&world, &key).await;
    assert!(matches!(&moved.place, Place::Host { host, netns, .. } if *host == n("host2") && netns == "vfpod-b"));
    below.detach(n("host1"), ask.spot.clone()).await.unwrap();
    assert!(below.attach(n("host1"), ask.clone()).await.is_err());
    let blue = Ask {
        network: n("blue"),
        ..ask.clone()
    };
    let swap = below.swap(n("host1"), blue).await.unwrap_err();
    assert_eq!(swap.code, ErrorCode::Forbidden, "{swap}");
    // A DEL of the new host with the pod's old name changes nothing, either.
    below.detach(n("host2"), ask.spot.clone()).await.unwrap();
    assert_eq!(attached(&world, &key).await, moved);
    for device in 0..7 {
        world.settled(device).await;
    }
}

/// The old host gives the pod up while the migration is active: that ends it, at the target.
#[tokio::test]
async fn a_late_del_of_the_source_ends_the_migration_at_the_target() {
    let (world, key, ask) = pod().await;
    active(&world, &key).await;
    let below = Arc::clone(&world.controller).below();
    below.detach(n("host1"), ask.spot).await.unwrap();
    let now = attached(&world, &key).await;
    assert_eq!(now.migration, None);
    assert!(matches!(&now.place, Place::Host { host, .. } if *host == n("host2")));
    for device in 0..7 {
        world.settled(device).await;
    }
    // Before the migration is active, DEL removes the pod, and the target has nothing.
    let (world, key, ask) = pod().await;
    prepare(&world, &key).await;
    let below = Arc::clone(&world.controller).below();
    below.detach(n("host1"), ask.spot).await.unwrap();
    let gone = world.controller.get(&key).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    for device in 0..7 {
        world.settled(device).await;
    }
    assert!(world.devices[TARGET].entities().is_empty());
}
