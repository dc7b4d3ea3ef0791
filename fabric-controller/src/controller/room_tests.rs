//! A change that does not fit a switch or a vDC's share is refused, and no other change is.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use vfabric_api::error::ApiError;
use vfabric_api::ident::Name;
use vfabric_api::intent::Place;
use vfabric_api::kind::Limits;
use vfabric_api::service::{Committed, Origin, Transaction};

use super::tests::*;
use super::{Controller, Start};
use crate::render::FabricRender;
use crate::tables::Tables;

type Bare = Arc<Controller<MemoryStore>>;

/// The tables of the embedded programs, with some of them smaller.
fn tables(smaller: &[(&str, usize)]) -> Tables {
    let info = |pipeline: fabric_pipeline::Pipeline| pipeline.decode_p4info().unwrap();
    let mut tables = Tables::of(
        &info(fabric_pipeline::Pipeline::LEAF),
        &info(fabric_pipeline::Pipeline::SPINE),
    );
    for (name, size) in smaller {
        tables.shrink(name, *size);
    }
    tables
}

/// A controller without devices: nothing is ever confirmed.
async fn bare(tables: Tables) -> Bare {
    let start = Start {
        tables,
        ..Start::from(topology())
    };
    Controller::load(start, MemoryStore::default(), Arc::new(FabricRender))
        .await
        .unwrap()
}

fn all(changes: Vec<Change>) -> Transaction {
    Transaction {
        changes: changes.into_iter().map(|c| (String::new(), c)).collect(),
        ..Transaction::default()
    }
}

async fn commit(world: &Bare, changes: Vec<Change>) -> Result<Committed, ApiError> {
    world.commit(all(changes)).await
}

fn put(spec: vfabric_api::intent::AttachmentSpec) -> Change {
    Change::Put(n("v"), Spec::Attachment(spec))
}

/// An attachment on port 10 of the first leaf.
fn on_port(name: &str, vlan: u16) -> Change {
    let place = Place::Port {
        switch: n("leaf1"),
        port: 10.try_into().unwrap(),
        vlan: Some(vlan),
    };
    let spec = attach(name, "red", "host1");
    create(vfabric_api::intent::AttachmentSpec { place, ..spec })
}

fn vdc(percent: Option<u8>) -> Change {
    let limits = Limits {
        table_percent: percent,
        ..Limits::default()
    };
    let spec = VdcSpec {
        limits,
        ..VdcSpec::new(n("v"))
    };
    Change::Put(n("v"), Spec::Vdc(spec))
}

/// Entries of a table of the first leaf, as the API shows them.
async fn used(world: &Bare, table: &str) -> usize {
    let all = world.tables(Some(&n("leaf1"))).await.unwrap();
    let one = all.iter().find(|t| t.table == table).unwrap();
    assert_eq!(one.used + one.free, one.size, "{one:?}");
    one.used
}

#[tokio::test]
async fn what_does_not_fit_a_switch_is_refused_with_its_table_and_what_is_free() {
    let world = bare(tables(&[("bridge_mac", 3)])).await;
    commit(&world, basics()).await.unwrap();
    let before = used(&world, "bridge_mac").await;
    let more = |names: &[&str]| -> Vec<Change> { names.iter().map(|a| create(attach(a, "red", "host1"))).collect() };
    let four = more(&["b1", "b2", "b3", "b4"]);
    let error = commit(&world, four.clone()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted);
    let free = 3 - before;
    for part in [
        "switch `leaf1`",
        "`bridge_mac`",
        "needs 4 more",
        &format!("{free} of 3 are free"),
    ] {
        assert!(error.detail.contains(part), "{error}: {part}");
    }
    let dry = Transaction {
        dry_run: true,
        ..all(four.clone())
    };
    assert_eq!(
        world.commit(dry).await.unwrap_err().detail,
        error.detail,
        "a plan says so too"
    );
    let tenant = Transaction {
        origin: Origin {
            is_tenant: true,
            ..Origin::default()
        },
        // Its vDC has these hosts.
        ..all(four)
    };
    commit(
        &world,
        vec![Change::Put(
            n("v"),
            Spec::Vdc(VdcSpec {
                hosts: vec![n("host1")],
                ..VdcSpec::new(n("v"))
            }),
        )],
    )
    .await
    .unwrap();
    let said = world.commit(tenant).await.unwrap_err();
    assert_eq!(said.code, ErrorCode::Exhausted);
    assert!(
        said.detail.contains("fewer are free") && !said.detail.contains("of 3"),
        "the free room of a switch reveals something about others: {said}"
    );
    assert_eq!(used(&world, "bridge_mac").await, before, "nothing of it happened");
    commit(&world, more(&["b1"])).await.unwrap();
    commit(&world, vec![delete(Kind::Attachment, "b1")]).await.unwrap();
    commit(&world, more(&["b2"])).await.unwrap();
    let missing = world.tables(Some(&n("leaf9"))).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
}

/// Proposals that come at once are checked ahead of the store, in groups.
#[tokio::test]
async fn of_many_that_come_at_once_as_many_are_accepted_as_fit() {
    const ROOM: usize = 40;
    let world = bare(tables(&[("bridge_mac", ROOM)])).await;
    commit(&world, basics()).await.unwrap();
    let free = ROOM - used(&world, "bridge_mac").await;
    let one = |i: usize| {
        let world = Arc::clone(&world);
        async move { commit(&world, vec![create(attach(&format!("m{i}"), "red", "host1"))]).await }
    };
    let results = futures::future::join_all((0..3 * ROOM).map(one)).await;
    let accepted = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(accepted, free);
    assert!(
        results
            .iter()
            .filter_map(|r| r.as_ref().err())
            .all(|e| e.code == ErrorCode::Exhausted)
    );
    assert_eq!(used(&world, "bridge_mac").await, ROOM);
}

#[tokio::test]
async fn room_is_kept_for_what_waits() {
    // Ports to spines and hosts are in the table, too.
    let world = bare(tables(&[("port_vlan", 6)])).await;
    assert_eq!(used(&world, "port_vlan").await, 4);
    commit(&world, basics()).await.unwrap();
    commit(&world, vec![on_port("p1", 5)]).await.unwrap();
    // No device confirms that it is gone, so the next one there waits.
    commit(&world, vec![delete(Kind::Attachment, "p1")]).await.unwrap();
    commit(&world, vec![on_port("p2", 5)]).await.unwrap();
    assert_eq!(used(&world, "port_vlan").await, 4, "it waits");
    commit(&world, vec![on_port("p3", 6)]).await.unwrap();
    let error = commit(&world, vec![on_port("p4", 7)]).await.unwrap_err();
    assert!(
        error.detail.contains("`port_vlan` needs 1 more entries, and 0 of 6"),
        "{error}"
    );
    // An object that no longer waits keeps no room.
    commit(&world, vec![delete(Kind::Attachment, "p2")]).await.unwrap();
    commit(&world, vec![on_port("p4", 7)]).await.unwrap();
}

#[tokio::test]
async fn a_vdc_uses_no_more_than_its_share() {
    let world = bare(tables(&[("bridge_mac", 40)])).await;
    commit(&world, basics()).await.unwrap();
    for wrong in [0, 101] {
        let error = commit(&world, vec![vdc(Some(wrong))]).await.unwrap_err();
        assert_eq!(error.errors[0].field, "limits.table_percent");
    }
    commit(&world, vec![vdc(Some(10))]).await.unwrap();
    let mut accepted = 0;
    let refused = loop {
        match commit(&world, vec![create(attach(&format!("s{accepted}"), "red", "host1"))]).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(used(&world, "bridge_mac").await, 4, "10 % of 40");
    assert_eq!(refused.code, ErrorCode::Exhausted);
    let said =
        "vDC `v` may use 4 entries (10 %) of table `bridge_mac` on switch `leaf1`: 1 more are needed, and 0 are free";
    assert_eq!(refused.detail, said);
    // Another vDC has room.
    let other = vec![
        Change::Create(n("w"), Spec::Vdc(VdcSpec::new(n("w")))),
        Change::Create(
            n("w"),
            Spec::Network(vfabric_api::intent::NetworkSpec {
                name: n("red"),
                subnets: Vec::new(),
                mtu: 1500,
                vni: None,
                labels: Default::default(),
            }),
        ),
        Change::Create(n("w"), Spec::Attachment(attach("x", "red", "host1"))),
    ];
    commit(&world, other).await.unwrap();
    let error = commit(&world, vec![vdc(Some(5))]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse, "{error}");
    assert!(
        error.detail.contains("`bridge_mac` on switch `leaf1`, and uses 4"),
        "{error}"
    );
    let gone = (1..accepted).map(|i| delete(Kind::Attachment, &format!("s{i}")));
    commit(&world, gone.collect()).await.unwrap();
    commit(&world, vec![vdc(Some(5)), vdc(None), vdc(Some(5))])
        .await
        .unwrap();
}

fn random(rng: &mut StdRng) -> Vec<Change> {
    let one = |rng: &mut StdRng| {
        let name = format!("a{}", rng.random_range(0..9));
        let network_name = *["red", "blue"].choose(rng).unwrap();
        let host = format!("host{}", rng.random_range(1..=3));
        match rng.random_range(0..12) {
            0 | 1 => delete(Kind::Attachment, &name),
            2 => delete(Kind::Router, "r"),
            3 => Change::Put(n("v"), router(&["red"])),
            4 => Change::Put(n("v"), router(&["red", "blue"])),
            5 => vdc([None, Some(20), Some(60)].choose(rng).copied().flatten()),
            6 => on_port(&name, rng.random_range(5..8)),
            _ => put(attach(&name, network_name, &host)),
        }
    };
    (0..rng.random_range(1..=3)).map(|_| one(rng)).collect()
}

/// Entries of each table, counted one by one.
async fn counted(world: &Bare) -> BTreeMap<(Name, String), usize> {
    let mut counts = BTreeMap::new();
    for use_ in world.tables(None).await.unwrap() {
        counts.insert((use_.switch, use_.table), 0);
    }
    for device in world.devices() {
        for entity in world.entities(&device.name).await.unwrap() {
            if let Some(count) = counts.get_mut(&(device.name.clone(), entity.table)) {
                *count += 1;
            }
        }
    }
    counts
}

#[tokio::test]
async fn counts_are_those_from_scratch_and_a_refusal_has_its_reason() {
    let small = [("bridge_mac", 4), ("ipv4_host", 9), ("port_vlan", 6), ("host_vni", 3)];
    // The second controller has unlimited room. It plans what the first is asked to do.
    let (world, roomy) = (bare(tables(&small)).await, bare(tables(&[])).await);
    let start = vec![basics().into_iter().take(4).collect::<Vec<_>>()];
    let mut rng = StdRng::seed_from_u64(11);
    let (mut accepted, mut full) = (0, 0);
    let later = std::iter::repeat_with(|| random(&mut rng)).take(400);
    for changes in start.into_iter().chain(later) {
        let dry = Transaction {
            dry_run: true,
            ..all(changes.clone())
        };
        let planned = roomy.commit(dry).await;
        let done = commit(&world, changes.clone()).await;
        if let Err(error) = &done
            && error.code == ErrorCode::Exhausted
            && error.detail.starts_with("switch")
        {
            full += 1;
            let plan = planned.unwrap().plan.unwrap();
            // Waiting entries come later, but they all count.
            let waits = !plan.waits.is_empty() || world.state.lock().await.model.waiting() > 0;
            let grown = plan.devices.iter().flat_map(|device| &device.tables);
            let over = |table: &vfabric_api::plan::TableChange| {
                let size = small.iter().find(|(name, _)| *name == table.table);
                table.after > table.before && size.is_some_and(|(_, size)| table.after > *size)
            };
            assert!(waits || grown.into_iter().any(over), "{error}: {changes:?}");
            continue;
        }
        if done.is_ok() {
            accepted += 1;
            let roomy_done = commit(&roomy, changes).await;
            assert!(roomy_done.is_ok(), "{roomy_done:?}");
        }
        let uses = world.tables(None).await.unwrap();
        let counts = counted(&world).await;
        for table in uses {
            assert!(table.used <= table.size, "{table:?}");
            assert_eq!(
                table.used,
                counts[&(table.switch.clone(), table.table.clone())],
                "{table:?}"
            );
        }
        let state = world.state.lock().await;
        assert_eq!(world.published().differs(&state.model), None);
        if state.model.waiting() == 0 {
            assert!(world.published().reserved.is_empty(), "room is kept for nobody");
        }
    }
    assert!(accepted > 50 && full > 20, "{accepted} accepted, {full} did not fit");
}
