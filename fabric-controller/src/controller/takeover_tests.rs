//! Pods that take their workload over from a pod on another host, over fake devices.

use serde_json::json;
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{MigrationPhase, Place};
use vfabric_api::kind::View;
use vfabric_api::service::{Origin, Transaction};
use vfabric_api::status::Attachment;
use vtep_proto::{HostEntity, Mode};

use super::tests::*;
use crate::device::driver::Event;
use crate::driver::vtep::{Ask, Below, Spot};

type Fast = World<MemoryStore>;

/// Hosts 1 to 3 are devices 4 to 6.
const HOSTS: [usize; 3] = [4, 5, 6];
const MACHINE: &str = "3f1b7c1e-9f0d-4a57-8b0a-2f8d3c0d6c11";

/// A world whose vDC is assigned to hosts 1 and 2.
async fn world() -> Fast {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    let mut changes = basics();
    let Change::Create(_, Spec::Vdc(vdc)) = &mut changes[0] else {
        panic!("no vDC")
    };
    vdc.hosts = vec![n("host1"), n("host2")];
    world.applied(changes).await;
    world
}

fn ask(pod: &str, workload: Option<&str>) -> Ask {
    Ask {
        spot: Spot {
            vdc: n("v"),
            netns: format!("vfpod-{pod}"),
            interface: "eth0".into(),
            workload: workload.map(str::to_owned),
        },
        network: n("red"),
        mac: None,
        ips: Vec::new(),
    }
}

fn of_machine(pod: &str) -> Ask {
    ask(pod, Some(MACHINE))
}

fn below(world: &Fast) -> Arc<dyn Below> {
    Arc::clone(&world.controller).below()
}

async fn attach(world: &Fast, host: &str, ask: Ask) -> Result<String, ApiError> {
    below(world).attach(n(host), ask).await
}

async fn detach(world: &Fast, host: &str, pod: &str) {
    below(world).detach(n(host), of_machine(pod).spot).await.unwrap();
}

fn key(id: &str) -> Key {
    Key::new(n("v"), Kind::Attachment, n(id.split_once('/').unwrap().1))
}

async fn found(world: &Fast, id: &str) -> Option<Attachment> {
    match world.controller.get(&key(id)).await {
        Ok(View::Attachment(a)) => Some(a),
        Ok(other) => panic!("{other:?}"),
        Err(e) if e.code == ErrorCode::NotFound => None,
        Err(e) => panic!("{e}"),
    }
}

/// Host and namespace of an attachment, and the phase of its migration with its target.
async fn whereabouts(world: &Fast, id: &str) -> Option<(String, Option<(MigrationPhase, String)>)> {
    let found = found(world, id).await?.spec;
    let Place::Host { host, netns, .. } = &found.place else {
        panic!("{found:?}")
    };
    let target = found
        .migration
        .map(|m| (m.phase, format!("{} {}", m.host, m.netns.unwrap())));
    Some((format!("{host} {netns}"), target))
}

/// The part that each host has in an attachment.
fn modes(world: &Fast, id: &str) -> [Option<Mode>; 3] {
    HOSTS.map(|device| {
        let all = world.devices[device].entities();
        all.values().find_map(|entity| match entity.as_ref() {
            Entity::Host(HostEntity::Attachment(a)) if a.id == id => Some(a.mode),
            _ => None,
        })
    })
}

async fn settled(world: &Fast) {
    for device in 0..7 {
        world.settled(device).await;
    }
}

fn announce(world: &Fast, device: usize, id: &str) {
    world.devices[device].report(Event::Announced {
        attachment: id.to_owned(),
        by: "RARP".into(),
    });
}

/// The pod of a machine on host1, and that of its migration on host2.
async fn both() -> (Fast, String) {
    let world = world().await;
    let id = attach(&world, "host1", of_machine("a")).await.unwrap();
    assert_eq!(attach(&world, "host2", of_machine("b")).await.unwrap(), id);
    (world, id)
}

#[tokio::test]
async fn a_pod_on_another_host_becomes_the_target_and_the_announcement_moves_the_attachment() {
    let world = world().await;
    let id = attach(&world, "host1", of_machine("a")).await.unwrap();
    let before = found(&world, &id).await.unwrap();
    assert_eq!(attach(&world, "host2", of_machine("b")).await.unwrap(), id);
    // When the call returns, the target is there, and silent.
    assert_eq!(modes(&world, &id), [Some(Mode::Serving), Some(Mode::Standby), None]);
    let target = Some((MigrationPhase::Prepared, "host2 vfpod-b".to_owned()));
    assert_eq!(whereabouts(&world, &id).await, Some(("host1 vfpod-a".into(), target)));
    let revision = found(&world, &id).await.unwrap().revision;
    // Repeated requests of both change nothing.
    assert_eq!(attach(&world, "host2", of_machine("b")).await.unwrap(), id);
    assert_eq!(attach(&world, "host1", of_machine("a")).await.unwrap(), id);
    assert_eq!(found(&world, &id).await.unwrap().revision, revision);
    announce(&world, HOSTS[1], &id);
    until("moved", async || {
        whereabouts(&world, &id).await == Some(("host2 vfpod-b".into(), None))
    })
    .await;
    // The old pod's DEL comes late, twice, and its ADD once more: nothing changes.
    let moved = found(&world, &id).await.unwrap();
    assert_eq!((before.mac, &before.ips), (moved.mac, &moved.ips));
    detach(&world, "host1", "a").await;
    detach(&world, "host1", "a").await;
    assert_eq!(found(&world, &id).await.unwrap().revision, moved.revision);
    settled(&world).await;
    assert_eq!(modes(&world, &id), [None, Some(Mode::Serving), None]);
    // It may go on to the next pod, also back; the pod there ends it.
    assert_eq!(attach(&world, "host1", of_machine("c")).await.unwrap(), id);
    announce(&world, HOSTS[0], &id);
    until("back", async || {
        whereabouts(&world, &id).await == Some(("host1 vfpod-c".into(), None))
    })
    .await;
    detach(&world, "host2", "b").await;
    detach(&world, "host1", "a").await;
    assert!(found(&world, &id).await.is_some());
    detach(&world, "host1", "c").await;
    assert!(found(&world, &id).await.is_none());
    settled(&world).await;
    assert_eq!(modes(&world, &id), [None, None, None]);
}

#[tokio::test]
async fn a_target_that_gives_up_leaves_the_source_as_it_was() {
    let (world, id) = both().await;
    let source = world.devices[HOSTS[0]].entities();
    detach(&world, "host2", "b").await;
    assert_eq!(whereabouts(&world, &id).await, Some(("host1 vfpod-a".into(), None)));
    settled(&world).await;
    assert_eq!(world.devices[HOSTS[0]].entities(), source);
    assert!(
        world.devices[HOSTS[1]].entities().is_empty(),
        "the target keeps something"
    );
    // And once it serves, before the move is over: the source serves again.
    attach(&world, "host2", of_machine("d")).await.unwrap();
    // The source does not confirm its part in that, so the move goes on for a while.
    let its = source.keys().find(|key| key.to_string().contains(&id)).unwrap();
    world.devices[HOSTS[0]].refuse(its.clone(), "busy", true);
    let phase = Change::Patch(key(&id), json!({"migration": {"phase": "active"}}));
    let origin = Origin {
        force: true,
        ..Origin::default()
    };
    until("active", async || {
        let transaction = Transaction::one(phase.clone(), origin.clone());
        world.controller.commit(transaction).await.is_ok()
    })
    .await;
    // A DEL of the pod that was the target before does not count.
    detach(&world, "host2", "b").await;
    let target = Some((MigrationPhase::Active, "host2 vfpod-d".to_owned()));
    assert_eq!(whereabouts(&world, &id).await, Some(("host1 vfpod-a".into(), target)));
    detach(&world, "host2", "d").await;
    assert_eq!(whereabouts(&world, &id).await, Some(("host1 vfpod-a".into(), None)));
    world.devices[HOSTS[0]].accept_all();
    settled(&world).await;
    assert_eq!(modes(&world, &id), [Some(Mode::Serving), None, None]);
}

#[tokio::test]
async fn a_source_that_gives_up_leaves_the_attachment_to_the_target() {
    let (world, id) = both().await;
    detach(&world, "host1", "a").await;
    assert_eq!(whereabouts(&world, &id).await, Some(("host2 vfpod-b".into(), None)));
    settled(&world).await;
    assert_eq!(modes(&world, &id), [None, Some(Mode::Serving), None]);
}

/// What a host may not take, and what stays as it was then.
#[tokio::test]
async fn only_assigned_hosts_that_know_the_workload_take_it_over_and_only_as_it_is() {
    let world = world().await;
    let id = attach(&world, "host1", of_machine("a")).await.unwrap();
    let plain = attach(&world, "host1", ask("p", None)).await.unwrap();
    let as_it_is = async || {
        let (one, other) = (found(&world, &id).await.unwrap(), found(&world, &plain).await.unwrap());
        (one.spec, one.revision, other.spec, other.revision)
    };
    let before = as_it_is().await;
    let unassigned = attach(&world, "host3", of_machine("b")).await.unwrap_err();
    let nowhere = attach(&world, "host3", ask("b", None)).await.unwrap_err();
    // A host that is not assigned does not learn whether the workload exists.
    assert_eq!(
        (unassigned.code, unassigned.to_string()),
        (ErrorCode::Forbidden, nowhere.to_string())
    );
    let other_network = Ask {
        network: n("blue"),
        ..of_machine("b")
    };
    let other_mac = Ask {
        mac: Some(Mac([2, 0, 0, 0, 7, 7])),
        ..of_machine("b")
    };
    let other_ip = Ask {
        ips: vec!["10.0.0.99".parse().unwrap()],
        ..of_machine("b")
    };
    for (wrong, field) in [(other_network, "network"), (other_mac, "mac"), (other_ip, "ips")] {
        let error = attach(&world, "host2", wrong).await.unwrap_err();
        assert_eq!(
            (error.code, error.errors[0].field.as_str()),
            (ErrorCode::Taken, field),
            "{error}"
        );
    }
    // Another pod of the same host.
    assert_eq!(
        attach(&world, "host1", of_machine("b")).await.unwrap_err().code,
        ErrorCode::InUse
    );
    // A pod that does not say which workload it has, and one with another identity, get attachments of their own.
    let guessed = "3f1b7c1e-9f0d-4a57-8b0a-2f8d3c0d6c12";
    for own in [ask("p", None), ask("q", Some(guessed))] {
        let own = attach(&world, "host2", own).await.unwrap();
        assert!(own != id && own != plain);
    }
    // Not from the names that users see, either.
    let name = key(&id).name.to_string();
    let own = attach(&world, "host2", ask("r", Some(&name))).await.unwrap();
    assert_ne!(own, id);
    assert_eq!(as_it_is().await, before);
    // While it migrates, nobody else takes it.
    let vdc = Change::Patch(Key::vdc(n("v")), json!({"hosts": ["host1", "host2", "host3"]}));
    world.applied(vec![vdc]).await;
    attach(&world, "host2", of_machine("b")).await.unwrap();
    for (host, pod) in [("host3", "b"), ("host2", "c")] {
        let error = attach(&world, host, of_machine(pod)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InUse, "{error}");
    }
    // The target is given up: the machine stays where it is, and goes with its pod.
    detach(&world, "host2", "b").await;
    assert!(found(&world, &id).await.unwrap().spec.migration.is_none());
    detach(&world, "host1", "a").await;
    assert!(found(&world, &id).await.is_none());
}

#[tokio::test]
async fn a_target_that_refuses_is_called_off_and_the_call_says_why() {
    let world = world().await;
    let id = attach(&world, "host1", of_machine("a")).await.unwrap();
    attach(&world, "host2", of_machine("b")).await.unwrap();
    let held = world.devices[HOSTS[1]].entities();
    let its = held.keys().find(|key| key.to_string().contains(&id)).unwrap().clone();
    detach(&world, "host2", "b").await;
    world.devices[HOSTS[1]].refuse(its, "no room", true);
    let error = attach(&world, "host2", of_machine("b")).await.unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
    assert_eq!(whereabouts(&world, &id).await, Some(("host1 vfpod-a".into(), None)));
    world.devices[HOSTS[1]].accept_all();
    settled(&world).await;
    assert_eq!(modes(&world, &id), [Some(Mode::Serving), None, None]);
}

/// A swap needs the pod in which the workload is.
#[tokio::test]
async fn only_the_pod_that_has_the_workload_swaps_it() {
    let (world, id) = both().await;
    let swap = async |host: &str, pod: &str| {
        let blue = Ask {
            network: n("blue"),
            ..of_machine(pod)
        };
        below(&world).swap(n(host), blue).await.map_err(|e| e.code)
    };
    assert_eq!(swap("host1", "a").await, Err(ErrorCode::InUse));
    announce(&world, HOSTS[1], &id);
    until("moved", async || {
        whereabouts(&world, &id).await == Some(("host2 vfpod-b".into(), None))
    })
    .await;
    assert_eq!(swap("host1", "a").await, Err(ErrorCode::Forbidden));
    assert_eq!(swap("host2", "x").await, Err(ErrorCode::Forbidden));
    assert_eq!(swap("host2", "b").await.as_deref(), Ok(id.as_str()));
    let name: Name = found(&world, &id).await.unwrap().spec.network;
    assert_eq!(name, n("blue"));
}
