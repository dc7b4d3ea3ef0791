//! Written histories, each for a mistake that random walks do not find.
//!
//! Two tenants have machines on the two access ports of leaf 1, with VLANs. A copy of a flooded frame is made for a
//! port and an access id, which means a VLAN. If a number means two things for a moment, the copy goes to the port of
//! one place with the VLAN of another. So the tenants are placed crosswise here.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use rand::SeedableRng as _;
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, SubnetSpec};
use vfabric_api::inventory::{InventoryChange, ItemKey};
use vfabric_api::service::{Change, Key, Kind, Spec};

use super::walk::{Made, Walk};
use crate::model::fault::{self, Fault};

/// Orders of writes that each history is tried in.
const SEEDS: std::ops::Range<u64> = 0..4;

type History = fn(u64) -> LocalBoxFuture<'static, Result<(), String>>;

const HISTORIES: [(Fault, History); 4] = [
    (Fault::AccessIdMoves, |seed| a_machine_moves(seed).boxed_local()),
    (Fault::AccessIdAtOnce, |seed| {
        one_goes_as_another_comes(seed).boxed_local()
    }),
    (Fault::NoRest, |seed| a_frame_comes_late(seed).boxed_local()),
    (Fault::GoneAtOnce, |seed| the_dead_speak(seed).boxed_local()),
];

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_written_histories() {
    for (fault, history) in HISTORIES {
        for seed in SEEDS {
            assert_eq!(history(seed).await, Ok(()), "the history of {fault:?}, seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_written_history_finds_its_mistake() {
    for (fault, history) in HISTORIES {
        let mut found = Vec::new();
        for seed in SEEDS {
            fault::set(Some(fault));
            found.extend(history(seed).await.err());
            fault::set(None);
        }
        println!("{fault:?}: {} of {} orders cross: {found:?}", found.len(), SEEDS.end);
        let crossed = |what: &String| what.starts_with("a frame of ");
        assert!(found.iter().any(crossed), "{fault:?}: {found:?}");
    }
}

async fn begin(seed: u64) -> Walk {
    Walk::new(rand::rngs::StdRng::seed_from_u64(seed), Made::Single).await
}

/// The network of a tenant; both want the same VNI where one is named.
fn network(vdc: &str, vni: Option<u32>) -> Change {
    let subnets = vec![SubnetSpec::new("10.0.0.0/28".parse().unwrap())];
    let spec = NetworkSpec {
        name: "n".parse().unwrap(),
        subnets,
        mtu: 1500,
        vni: vni.map(|vni| vni.try_into().unwrap()),
        labels: Default::default(),
    };
    Change::Create(vdc.parse().unwrap(), Spec::Network(spec))
}

/// A machine at a place. Its source addresses are not checked, so that only numbers separate the tenants.
fn machine(vdc: &str, name: &str, (leaf, port, vlan): (&str, u16, u16)) -> Change {
    let spec = AttachmentSpec {
        name: name.parse().unwrap(),
        network: "n".parse().unwrap(),
        mac: None,
        ips: Vec::new(),
        place: Place::Port {
            switch: leaf.parse().unwrap(),
            port: port.try_into().unwrap(),
            vlan: Some(vlan),
        },
        port_security: false,
        allowed_addresses: Vec::new(),
        migration: None,
        labels: Default::default(),
    };
    Change::Put(vdc.parse().unwrap(), Spec::Attachment(spec))
}

fn delete(vdc: &str, kind: Kind, name: &str) -> Change {
    Change::Delete(Key::new(vdc.parse().unwrap(), kind, name.parse().unwrap()))
}

/// Waits until everything that these machines need is in place.
async fn settled(walk: &mut Walk, changes: Vec<Change>) -> Result<(), String> {
    assert!(walk.commit(changes).await);
    walk.settle(walk.all()).await?;
    assert_eq!(walk.waiting().await, 0, "something waits for ever");
    Ok(())
}

/// A machine of red moves to the other port and another VLAN, between two machines of blue.
async fn a_machine_moves(seed: u64) -> Result<(), String> {
    let mut walk = begin(seed).await;
    let changes = vec![
        network("red", None),
        network("blue", None),
        machine("red", "a", ("leaf1", 10, 20)),
        machine("red", "s", ("leaf2", 10, 20)),
        machine("blue", "b", ("leaf1", 10, 30)),
        machine("blue", "c", ("leaf1", 11, 20)),
    ];
    settled(&mut walk, changes).await?;
    settled(&mut walk, vec![machine("red", "a", ("leaf1", 11, 30))]).await
}

/// A machine of red goes with the transaction in which one of blue comes to the other port and another VLAN.
async fn one_goes_as_another_comes(seed: u64) -> Result<(), String> {
    let mut walk = begin(seed).await;
    let changes = vec![
        network("red", None),
        network("blue", None),
        machine("red", "a", ("leaf1", 10, 20)),
        machine("red", "s", ("leaf1", 11, 20)),
        machine("blue", "b", ("leaf1", 10, 30)),
    ];
    settled(&mut walk, changes).await?;
    let changes = vec![
        delete("red", Kind::Attachment, "a"),
        machine("blue", "d", ("leaf1", 11, 30)),
    ];
    settled(&mut walk, changes).await
}

/// A place of red becomes blue's while frames that red's machine sent are still in front of the leaf.
async fn a_frame_comes_late(seed: u64) -> Result<(), String> {
    let mut walk = begin(seed).await;
    let changes = vec![
        network("red", None),
        network("blue", None),
        machine("red", "a", ("leaf1", 10, 20)),
        machine("blue", "b", ("leaf1", 11, 30)),
    ];
    settled(&mut walk, changes).await?;
    walk.linger(100).await?;
    let changes = vec![
        delete("red", Kind::Attachment, "a"),
        machine("blue", "d", ("leaf1", 10, 20)),
    ];
    assert!(walk.commit(changes).await);
    walk.hurry().await?;
    walk.settle(walk.all()).await?;
    assert_eq!(walk.waiting().await, 0, "blue waits for ever");
    Ok(())
}

/// A leaf with a machine of red is declared gone while it still forwards. Red's VNI becomes blue's on the other leaf,
/// which has confirmed everything. The spines, which have to shut the dead leaf out, are slow.
async fn the_dead_speak(seed: u64) -> Result<(), String> {
    let mut walk = begin(seed).await;
    let changes = vec![
        network("red", Some(10)),
        machine("red", "one", ("leaf1", 10, 20)),
        machine("red", "two", ("leaf2", 10, 20)),
    ];
    settled(&mut walk, changes).await?;
    let dies = ItemKey::Switch("leaf1".parse().unwrap());
    assert!(walk.commit(vec![Change::Inventory(InventoryChange::Gone(dies))]).await);
    let changes = vec![
        delete("red", Kind::Attachment, "one"),
        delete("red", Kind::Attachment, "two"),
        delete("red", Kind::Network, "n"),
    ];
    assert!(walk.commit(changes).await);
    let leaf2 = 3..4;
    walk.settle(leaf2.clone()).await?;
    let comes = vec![network("blue", Some(10)), machine("blue", "two", ("leaf2", 10, 20))];
    assert!(walk.commit(comes).await);
    walk.settle(leaf2).await?;
    walk.settle(walk.all()).await?;
    assert_eq!(walk.waiting().await, 0, "blue waits for ever");
    Ok(())
}
