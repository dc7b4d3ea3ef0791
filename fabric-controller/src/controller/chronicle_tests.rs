//! Events are visible to those whom they concern, and to nobody else.

use vfabric_api::event::{Event, EventReason};
use vfabric_api::service::{Origin, Transaction};

use super::tests::*;

/// Waits until there is an event of this kind that concerns a vDC, or the fabric.
async fn event(world: &World<MemoryStore>, vdc: Option<&str>, reason: EventReason) -> Event {
    let controller = &world.controller;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = controller.event_now();
        let page = controller.events(None, 1000, &|of| of.map(|name| name.as_str()) == vdc);
        if let Some(event) = page.items.into_iter().find(|event| event.reason == reason) {
            return event;
        }
        let more = tokio::time::timeout_at(deadline, controller.happened(seen)).await;
        assert!(more.is_ok(), "no event {reason:?} of {vdc:?}");
    }
}

#[tokio::test]
async fn what_happens_is_noted_for_those_whom_it_concerns() {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    world.applied(basics()).await;
    let in_sync = event(&world, None, EventReason::DeviceInSync).await;
    assert!(in_sync.device.is_some() && !in_sync.warning, "{in_sync:?}");

    // An entity of an object is refused: the event belongs to its vDC.
    let key = world.devices[4].entities().into_keys().next().unwrap();
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    world.devices[4].refuse(key, "no room", false);
    world.commit(vec![create(attach("a1", "red", "host1"))]).await.unwrap();
    let refused = event(&world, Some("v"), EventReason::Refused).await;
    assert!(refused.warning && refused.detail.ends_with("no room"), "{refused:?}");
    assert_eq!(refused.device, Some(n("host1")));
    assert!(refused.object.unwrap().ends_with("of vdc `v`"));
    world.devices[4].accept_all();

    // A device is lost: the event belongs to the fabric.
    world.devices[6].go_offline();
    let lost = event(&world, None, EventReason::DeviceLost).await;
    assert_eq!((lost.device, lost.vdc), (Some(n("host3")), None));
    world.devices[6].go_online();

    // A tenant asks for more than its vDC may have: the event belongs to the vDC. If somebody else asks, it belongs to
    // the fabric.
    let mut limited = VdcSpec::new(n("v"));
    limited.limits.networks = Some(2);
    world.applied(vec![Change::Put(n("v"), Spec::Vdc(limited))]).await;
    for is_tenant in [true, false] {
        let origin = Origin {
            is_tenant,
            ..Origin::default()
        };
        let asked = Transaction::one(network("green", "10.7.0.0/24"), origin);
        let error = world.controller.commit(asked).await.unwrap_err();
        let noted = event(&world, is_tenant.then_some("v"), EventReason::Exhausted).await;
        assert_eq!(noted.detail, error.detail);
    }

    // Events are deleted with their vDC.
    let all = ["a1", "a3"].map(|name| delete(Kind::Attachment, name));
    world.applied(all.into()).await;
    world
        .applied(vec![
            delete(Kind::Router, "r"),
            delete(Kind::Network, "red"),
            delete(Kind::Network, "blue"),
            Change::Delete(Key::vdc(n("v"))),
        ])
        .await;
    let left = world.controller.events(None, 1000, &|of| of.is_some());
    assert_eq!(left.items, []);
}

#[tokio::test]
async fn who_waits_and_who_waits_no_more_is_noted() {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    world.applied(basics()).await;
    // The host does not confirm that the address is gone, so the next attachment with this address waits.
    let mut spec = attach("b", "red", "host1");
    spec.ips = vec!["10.1.0.77".parse().unwrap()];
    world.applied(vec![create(spec.clone())]).await;
    world.devices[4].go_offline();
    world.commit(vec![delete(Kind::Attachment, "b")]).await.unwrap();
    spec.name = n("c");
    let revision = world.commit(vec![create(spec)]).await.unwrap();
    let waiting = event(&world, Some("v"), EventReason::Waiting).await;
    assert!(waiting.object.unwrap().contains("`c`"), "{}", waiting.detail);
    world.devices[4].go_online();
    let released = event(&world, Some("v"), EventReason::Released).await;
    assert!(released.object.unwrap().contains("`c`"));
    world.controller.wait_applied(revision, PATIENCE).await;
}
