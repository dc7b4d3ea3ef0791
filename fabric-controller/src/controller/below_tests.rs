//! Attachments that hosts ask for, over fake devices.

use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, Place};
use vfabric_api::service::{Origin, Transaction};
use vfabric_api::status::View;

use super::tests::*;
use crate::device::driver::Write;
use crate::driver::fake::Record;
use crate::driver::vtep::{Ask, Below, Spot};

type OneWorld = World<MemoryStore>;

/// A world whose vDC is assigned to `host1` only.
async fn world() -> OneWorld {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    let mut changes = basics();
    let Change::Create(_, Spec::Vdc(vdc)) = &mut changes[0] else {
        panic!("no vDC")
    };
    vdc.hosts = vec![n("host1")];
    world.applied(changes).await;
    world
}

fn spot(pod: &str, interface: &str) -> Spot {
    Spot {
        vdc: n("v"),
        netns: format!("vfpod-{pod}"),
        interface: interface.into(),
        workload: None,
    }
}

fn ask(pod: &str, interface: &str) -> Ask {
    Ask {
        spot: spot(pod, interface),
        network: n("red"),
        mac: None,
        ips: Vec::new(),
    }
}

fn below(world: &OneWorld) -> Arc<dyn Below> {
    Arc::clone(&world.controller).below()
}

async fn names(world: &OneWorld) -> Vec<String> {
    let all = world
        .controller
        .list(Kind::Attachment, Some(&n("v")), &Default::default(), None, 10_000)
        .await;
    let name = |v: View| match v {
        View::Attachment(a) => a.spec.name.to_string(),
        other => panic!("{other:?}"),
    };
    let all = all.unwrap().items.into_iter().map(name);
    all.filter(|name| name.starts_with("pod-")).collect()
}

fn code<T: std::fmt::Debug>(r: Result<T, vfabric_api::error::ApiError>) -> ErrorCode {
    r.unwrap_err().code
}

#[tokio::test]
async fn an_attachment_is_on_host_and_leaf_when_the_call_returns_and_gone_after_detach() {
    let world = world().await;
    let before = (world.devices[2].entities().len(), world.devices[4].entities().len());
    let id = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    let after = (world.devices[2].entities().len(), world.devices[4].entities().len());
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    assert_eq!(id, format!("v/{}", names(&world).await[0]));
    // The same again is the same.
    assert_eq!(below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap(), id);
    assert_eq!(names(&world).await.len(), 1);
    below(&world).detach(n("host1"), spot("a", "eth0")).await.unwrap();
    assert_eq!(world.devices[4].entities().len(), before.1, "the host still has it");
    assert_eq!(names(&world).await, Vec::<String>::new());
    below(&world).detach(n("host1"), spot("a", "eth0")).await.unwrap();
}

#[tokio::test]
async fn a_host_attaches_only_where_it_is_assigned_and_only_in_its_own_pods() {
    let world = world().await;
    let below = below(&world);
    let other = below.attach(n("host2"), ask("a", "eth0")).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::Forbidden);
    let mut nowhere = ask("a", "eth0");
    nowhere.spot.vdc = n("w");
    let unknown = below.attach(n("host2"), nowhere).await.unwrap_err();
    // A vDC that does not exist looks like one that is not assigned.
    assert_eq!(unknown.to_string(), other.to_string().replace("`v`", "`w`"));
    let mut elsewhere = ask("a", "eth0");
    elsewhere.spot.netns = "a1".into();
    assert_eq!(code(below.attach(n("host1"), elsewhere).await), ErrorCode::Forbidden);
    assert_eq!(names(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_host_cannot_remove_what_users_attached() {
    let world = world().await;
    let a1 = Key::new(n("v"), Kind::Attachment, n("a1"));
    for host in ["host1", "host2"] {
        let change = Change::Delete(a1.clone());
        assert_eq!(
            code(world.controller.propose_of_host(n(host), change).await),
            ErrorCode::Forbidden
        );
    }
    let vdc = Change::Delete(Key::vdc(n("v")));
    assert_eq!(
        code(world.controller.propose_of_host(n("host1"), vdc).await),
        ErrorCode::Forbidden
    );
    assert!(world.controller.get(&a1).await.is_ok());
    // Another host's pod of the same name is another pod.
    below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    below(&world).detach(n("host2"), spot("a", "eth0")).await.unwrap();
    assert_eq!(names(&world).await.len(), 1);
}

#[tokio::test]
async fn a_pod_has_a_bounded_number_of_attachments() {
    let world = world().await;
    for i in 0..64 {
        below(&world)
            .attach(n("host1"), ask("a", &format!("net{i}")))
            .await
            .unwrap();
    }
    let full = below(&world).attach(n("host1"), ask("a", "net64")).await.unwrap_err();
    assert_eq!(full.code, ErrorCode::Exhausted);
    assert!(
        full.to_string().contains("the pod in `vfpod-a` on host `host1`"),
        "{full}"
    );
    below(&world).attach(n("host1"), ask("b", "eth0")).await.unwrap();
}

#[tokio::test]
async fn what_the_host_refuses_is_rolled_back_at_once() {
    let world = world().await;
    let id = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    let keys = world.devices[4].entities();
    let key = keys.keys().find(|k| k.to_string().contains(&id)).unwrap().clone();
    below(&world).detach(n("host1"), spot("a", "eth0")).await.unwrap();
    world.devices[4].refuse(key, "no room", true);
    let refused = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap_err();
    assert!(refused.to_string().contains("no room"), "{refused}");
    assert_eq!(names(&world).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_stays_away_is_named_and_the_attachment_rolled_back() {
    let world = world().await;
    world.devices[2].go_offline();
    let refused = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap_err();
    assert!(refused.to_string().contains("leaf1"), "{refused}");
    assert_eq!(names(&world).await, Vec::<String>::new());
    // An attachment that exists already is not removed because the leaf is away.
    world.devices[2].go_online();
    below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    world.devices[4].go_offline();
    let _ = below(&world).attach(n("host1"), ask("a", "eth0")).await;
    assert_eq!(names(&world).await.len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_complete_attachment() {
    let world = world().await;
    let calling = tokio::spawn({
        let below = below(&world);
        async move { below.attach(n("host1"), ask("a", "eth0")).await }
    });
    while names(&world).await.is_empty() {
        tokio::task::yield_now().await;
    }
    calling.abort();
    let name: Name = names(&world).await[0].parse().unwrap();
    let key = Key::new(n("v"), Kind::Attachment, name);
    let View::Attachment(a) = world.controller.get(&key).await.unwrap() else {
        panic!()
    };
    assert!(matches!(a.spec.place, Place::Host { .. }));
    below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
}

#[tokio::test]
async fn a_swap_that_fails_puts_the_old_network_and_its_addresses_back() {
    let world = world().await;
    let below = below(&world);
    let swap = |network: &str| Ask {
        network: n(network),
        ..ask("a", "eth0")
    };
    assert_eq!(code(below.swap(n("host1"), swap("blue")).await), ErrorCode::NotFound);
    let id = below.attach(n("host1"), ask("a", "eth0")).await.unwrap();
    let key = Key::new(n("v"), Kind::Attachment, n(id.split_once('/').unwrap().1));
    let attachment = async || match world.controller.get(&key).await.unwrap() {
        View::Attachment(a) => a,
        other => panic!("{other:?}"),
    };
    assert_eq!(below.swap(n("host1"), swap("blue")).await.unwrap(), id);
    let before = attachment().await;
    assert_eq!(
        (
            before.spec.network.as_str(),
            before.ips[0].to_string().starts_with("10.2.")
        ),
        ("blue", true)
    );
    // Another host has no such pod.
    assert_eq!(code(below.swap(n("host2"), swap("red")).await), ErrorCode::NotFound);
    let held = world.devices[4].entities();
    let entity = held.keys().find(|k| k.to_string().contains(&id)).unwrap().clone();
    world.devices[4].refuse(entity, "no room", true);
    let refused = below.swap(n("host1"), swap("red")).await.unwrap_err();
    assert!(refused.to_string().contains("no room"), "{refused}");
    world.devices[4].accept_all();
    let after = attachment().await;
    assert_eq!(
        (after.spec.network, after.mac, after.ips),
        (before.spec.network, before.mac, before.ips)
    );
}

/// The writes of all devices during a swap from network red to blue, and when the attachment moved on its host.
async fn recorded_swap(world: &OneWorld) -> (Vec<(usize, Write)>, usize) {
    let id = below(world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    for device in 0..world.devices.len() {
        world.settled(device).await;
    }
    let record = Record::default();
    for (place, device) in world.devices.iter().enumerate() {
        device.note_in(place, &record);
    }
    let blue = Ask {
        network: n("blue"),
        ..ask("a", "eth0")
    };
    below(world).swap(n("host1"), blue).await.unwrap();
    for device in 0..world.devices.len() {
        world.settled(device).await;
    }
    let record = record.lock().unwrap().clone();
    let is_move =
        |(_, w): &(usize, Write)| w.entity().key().to_string().contains(&id) && !matches!(w, Write::Delete(_));
    let moved = record.iter().rposition(is_move).expect("the host did not move it");
    assert_eq!(record[moved].0, 4, "host1 is the fifth device");
    (record, moved)
}

#[tokio::test]
async fn a_swap_makes_the_new_network_everywhere_before_it_moves_and_breaks_the_old_one_after() {
    let world = world().await;
    let (record, moved) = recorded_swap(&world).await;
    let (leaf1, host3) = (2, 6);
    for device in [leaf1, host3] {
        let new = |(d, w): &(usize, Write)| *d == device && matches!(w, Write::Insert(_));
        assert!(record.iter().any(new), "device {device} got nothing: {record:#?}");
    }
    assert!(record.iter().any(|(d, w)| *d == leaf1 && matches!(w, Write::Delete(_))));
    for (at, (device, write)) in record.iter().enumerate().filter(|(at, _)| *at != moved) {
        let goes = matches!(write, Write::Delete(_));
        assert_eq!(
            at > moved,
            goes,
            "device {device} at {at} (moved at {moved}): {write:?}"
        );
    }
}

#[tokio::test]
async fn a_swap_does_not_wait_for_devices_that_are_away_or_refuse_what_is_new() {
    let world = world().await;
    // host3 is in network blue, and hears of the attachment when it is back.
    world.devices[6].go_offline();
    let id = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    let blue = Ask {
        network: n("blue"),
        ..ask("a", "eth0")
    };
    assert_eq!(below(&world).swap(n("host1"), blue).await.unwrap(), id);
    world.settled(4).await;
    world.settled(2).await;
    world.devices[6].go_online();
    world.settled(6).await;
    let held = world.devices[6].entities();
    assert!(held.values().any(|e| e.to_string().contains("10.2.0.")), "{held:?}");
}

#[tokio::test]
async fn a_swap_to_an_address_that_rests_stays_in_its_network_until_it_may_move() {
    let world = world().await;
    let address = "10.2.0.77".parse().unwrap();
    let named = |pod: &str| Ask {
        network: n("blue"),
        ips: vec![address],
        ..ask(pod, "eth0")
    };
    below(&world).attach(n("host1"), named("b")).await.unwrap();
    let id = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    below(&world).detach(n("host1"), spot("b", "eth0")).await.unwrap();
    let record = Record::default();
    world.devices[4].note_in(4, &record);
    below(&world).swap(n("host1"), named("a")).await.unwrap();
    assert_moved_once(&record, &id);
}

/// The host has moved the attachment, and never removed it.
fn assert_moved_once(record: &Record, id: &str) {
    let record = record.lock().unwrap().clone();
    let own = record.iter().filter(|(_, w)| w.entity().key().to_string().contains(id));
    let own: Vec<&Write> = own.map(|(_, w)| w).collect();
    assert!(matches!(own.as_slice(), [Write::Modify(_)]), "{own:?}");
}

/// A user's swap of `a` to an address that another attachment has just given up, by such a change.
async fn user_swap(change: impl FnOnce(AttachmentSpec) -> Change) {
    let world = world().await;
    let address: std::net::IpAddr = "10.2.0.77".parse().unwrap();
    let named = Ask {
        network: n("blue"),
        ips: vec![address],
        ..ask("b", "eth0")
    };
    below(&world).attach(n("host1"), named).await.unwrap();
    let id = below(&world).attach(n("host1"), ask("a", "eth0")).await.unwrap();
    below(&world).detach(n("host1"), spot("b", "eth0")).await.unwrap();
    let record = Record::default();
    world.devices[4].note_in(4, &record);
    let key = Key::new(
        n("v"),
        Kind::Attachment,
        id.strip_prefix("v/").unwrap().parse().unwrap(),
    );
    let View::Attachment(before) = world.controller.get(&key).await.unwrap() else {
        panic!("no attachment")
    };
    let spec = AttachmentSpec {
        network: n("blue"),
        ips: vec![address],
        ..before.spec
    };
    let origin = Origin {
        force: true,
        ..Origin::default()
    };
    let transaction = Transaction::one(change(spec), origin);
    world.controller.commit(transaction).await.unwrap();
    world.settled(4).await;
    assert_moved_once(&record, &id);
}

#[tokio::test]
async fn a_users_swap_to_an_address_that_rests_stays_in_its_network_too() {
    user_swap(|spec| Change::Replace(n("v"), Spec::Attachment(spec))).await;
    user_swap(|spec| {
        let key = Key::new(n("v"), Kind::Attachment, spec.name);
        Change::Patch(key, serde_json::json!({ "network": "blue", "ips": spec.ips }))
    })
    .await;
}
