//! A plan is what happens: each random transaction is planned, then committed, and what devices should hold changes exactly
//! as planned.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use vfabric_api::inventory::{InventoryChange, ItemKey};
use vfabric_api::plan::{EntityChange, Plan};
use vfabric_api::service::Transaction;

use super::Controller;
use super::tests::*;
use crate::render::FabricRender;

type Bare = Arc<Controller<MemoryStore>>;
/// What devices should hold: action by device, table and key.
type Desired = BTreeMap<(String, String, String), String>;

async fn desired(world: &Bare) -> Desired {
    let mut all = Desired::new();
    for device in world.devices() {
        for e in world.entities(&device.name).await.unwrap() {
            all.insert((device.name.to_string(), e.table, e.key), e.action);
        }
    }
    all
}

/// The same after the changes of a plan.
fn planned(mut before: Desired, plan: &Plan) -> Desired {
    for device in &plan.devices {
        assert!(!device.entities.is_empty(), "{} has nothing to do", device.device);
        for EntityChange {
            table,
            key,
            before: was,
            after,
        } in &device.entities
        {
            let place = (device.device.to_string(), table.clone(), key.clone());
            assert_eq!(before.remove(&place), *was, "{place:?}");
            before.extend(after.clone().map(|action| (place, action)));
        }
    }
    before
}

fn random(rng: &mut StdRng) -> Vec<Change> {
    let count = rng.random_range(1..=3);
    let one = |_| {
        let (name, network_name) = (
            format!("a{}", rng.random_range(0..5)),
            *["red", "blue"].choose(rng).unwrap(),
        );
        let host = format!("host{}", rng.random_range(1..=3));
        match rng.random_range(0..12) {
            0 => delete(Kind::Attachment, &name),
            1 => delete(Kind::Router, "r"),
            2 => Change::Put(n("v"), router(&["red"])),
            3 => Change::Put(n("v"), router(&["red", "blue"])),
            4 => delete(Kind::Network, network_name),
            5 => network(network_name, "10.3.0.0/24"),
            6 => Change::Inventory(InventoryChange::Drain(ItemKey::Switch(n("spine1")))),
            7 => Change::Inventory(InventoryChange::Undrain(ItemKey::Switch(n("spine1")))),
            _ => Change::Put(n("v"), Spec::Attachment(attach(&name, network_name, &host))),
        }
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn what_is_planned_is_what_happens() {
    let world = Controller::load(topology(), MemoryStore::default(), Arc::new(FabricRender))
        .await
        .unwrap();
    let first = basics().into_iter().map(|c| (String::new(), c)).collect();
    let transaction = |changes, dry_run| Transaction {
        changes,
        dry_run,
        ..Transaction::default()
    };
    world.commit(transaction(first, false)).await.unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    let (mut accepted, mut entities) = (0, 0);
    for _ in 0..150 {
        let changes: Vec<_> = random(&mut rng).into_iter().map(|c| (String::new(), c)).collect();
        let before = desired(&world).await;
        let dry = world.commit(transaction(changes.clone(), true)).await;
        assert_eq!(desired(&world).await, before, "a dry run changes nothing");
        let real = world.commit(transaction(changes.clone(), false)).await;
        let (mut dry, real) = match (dry, real) {
            (Ok(dry), Ok(real)) => (dry, real),
            (dry, real) => {
                assert_eq!(dry.map_err(|e| e.to_string()), real.map_err(|e| e.to_string()));
                continue;
            }
        };
        let plan = dry.plan.take().expect("a dry run has a plan");
        dry.revision = real.revision;
        assert_eq!(dry, real, "{changes:?}");
        assert_eq!(planned(before, &plan), desired(&world).await, "{changes:?}");
        accepted += 1;
        entities += plan.devices.iter().map(|d| d.entities.len()).sum::<usize>();
    }
    assert!(
        accepted > 60 && entities > 500,
        "{accepted} accepted, {entities} entities"
    );
}

#[tokio::test]
async fn a_plan_names_fields_and_what_is_waited_for() {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    world.applied(basics()).await;
    let plan = |changes: Vec<Change>| {
        let changes = changes.into_iter().map(|c| (String::new(), c)).collect();
        let dry = Transaction {
            changes,
            dry_run: true,
            ..Transaction::default()
        };
        let controller = Arc::clone(&world.controller);
        async move { controller.commit(dry).await.unwrap().plan.unwrap() }
    };
    let mut moved = attach("a1", "red", "host2");
    moved.mac = Some("02:00:00:00:00:77".parse().unwrap());
    let moved = plan(vec![Change::Put(n("v"), Spec::Attachment(moved))]).await;
    let [change] = moved.changes.as_slice() else {
        panic!("{:?}", moved.changes);
    };
    let fields: Vec<&str> = change.fields.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(fields, ["mac", "place.host.host"]);
    let devices: Vec<&str> = moved.devices.iter().map(|d| d.device.as_str()).collect();
    assert_eq!(devices, ["leaf1", "leaf2", "host1", "host2"]);
    // Its place on the old host is taken by another in the same transaction.
    let mut other = attach("a9", "blue", "host1");
    other.place = attach("a1", "red", "host1").place;
    let swapped = plan(vec![delete(Kind::Attachment, "a1"), create(other)]).await;
    assert!(
        swapped.waits.iter().any(|w| w.contains("eth0") && w.contains("a9")),
        "{:?}",
        swapped.waits
    );
    let comes = |plans: &[vfabric_api::plan::DevicePlan]| {
        let mut all = plans.iter().flat_map(|d| &d.entities);
        all.any(|e| e.table == "attachment" && e.key.contains("v/a9") && e.after.is_some())
    };
    assert!(!comes(&swapped.devices) && comes(&swapped.later));
}
