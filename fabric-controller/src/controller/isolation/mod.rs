//! Tests that no frame crosses between tenants, not even between two writes of one change.
//!
//! A walk is a random history of transactions of two tenants who want the same ports, VLANs, VNIs and addresses. Devices
//! ([`devices`]) are slow: their writes are carried out one by one, in every order that a switch may choose inside one
//! Write, with devices taking turns at random; sessions break with answers lost, switches and the controller restart.
//! In some walks transactions come several at once, and the store refuses some groups ([`GROUPED_SEEDS`]).
//! After each single write frames of every workload run through all devices, and some of them are held back on the way,
//! as a queue would. A frame that reaches a place of another tenant ends the walk.
//!
//! A walk is useful only if it finds mistakes. So [`FAULTS`] lists mistakes that are put into the product on purpose,
//! each with a seed that finds it. [`histories`] finds those that no random walk found.
//!
//! A place belongs to the tenant whose entry the device holds. Before that entry is written and after it is removed, it
//! belongs to the only tenant whose frames come out there.

mod changes;
mod devices;
mod frames;
mod histories;
mod migrations;
mod network;
mod places;
mod store;
mod walk;

use rand::SeedableRng as _;

use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, SubnetSpec};
use vfabric_api::inventory::{InventoryChange, Item, ItemKey};
use vfabric_api::service::{Change, Key, Kind, Spec};
use vfabric_api::topology::Host;

use crate::model::fault::{self, Fault};
use migrations::{Step, Steps};
use walk::{Made, Walk};

/// Walks of a test run.
const SEEDS: std::ops::Range<u64> = 0..8;
/// Walks with groups.
const GROUPED_SEEDS: std::ops::Range<u64> = 100..104;
/// Walks in which hosts leave and come back.
const HOST_SEEDS: std::ops::Range<u64> = 200..204;
/// Walks in which attachments migrate.
const MIGRATION_SEEDS: std::ops::Range<u64> = 300..306;
/// Transactions of one walk.
const TRANSACTIONS: usize = 30;
/// The same of a walk in which attachments migrate: each migration takes several.
const MIGRATION_TRANSACTIONS: usize = 60;

/// Runs one walk; the error is the frame that crossed.
async fn walk(seed: u64) -> Result<(), String> {
    run(seed, Made::Single).await.map(|_| ())
}

/// The same, with transactions in groups and a store that fails. Returns how many were accepted.
async fn walk_in_groups(seed: u64) -> Result<usize, String> {
    run(seed, Made::Groups).await
}

/// The same, with hosts that leave and come back. Returns how often.
async fn walk_with_hosts(seed: u64) -> Result<usize, String> {
    run(seed, Made::Inventory).await
}

/// The same, with attachments that migrate. Returns what happened in migrations.
async fn walk_with_migrations(seed: u64) -> Result<Steps, String> {
    Ok(walked(seed, Made::Migrations).await?.steps_taken)
}

async fn run(seed: u64, made: Made) -> Result<usize, String> {
    Ok(walked(seed, made).await?.committed)
}

async fn walked(seed: u64, made: Made) -> Result<Walk, String> {
    let mut walk = Walk::new(rand::rngs::StdRng::seed_from_u64(seed), made).await;
    let transactions = match made {
        Made::Migrations => MIGRATION_TRANSACTIONS,
        _ => TRANSACTIONS,
    };
    for _ in 0..transactions {
        walk.transaction().await?;
        walk.disturb().await;
        walk.steps().await?;
    }
    walk.converge().await?;
    Ok(walk)
}

/// A migration changes which hosts a tenant may speak from, and gives a second interface to an attachment: neither is anybody else's
/// for a moment, whatever happens in between.
#[tokio::test(start_paused = true)]
async fn nothing_crosses_while_attachments_migrate() {
    let mut all = Steps::new();
    for seed in MIGRATION_SEEDS {
        let steps = walk_with_migrations(seed)
            .await
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        for (step, times) in steps {
            *all.entry(step).or_default() += times;
        }
    }
    println!("{all:?}");
    for step in Step::ALL {
        let times = all.get(&step).copied().unwrap_or_default();
        assert!(times > 1, "{step:?}: {times} times");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_between_two_writes() {
    for seed in SEEDS {
        walk(seed).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_when_transactions_come_in_groups_and_the_store_fails() {
    let mut accepted = 0;
    for seed in GROUPED_SEEDS {
        accepted += walk_in_groups(seed)
            .await
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(accepted > 50, "only {accepted} transactions were accepted");
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_while_hosts_go_and_come() {
    let mut changes = 0;
    for seed in HOST_SEEDS {
        changes += walk_with_hosts(seed)
            .await
            .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(changes > 15, "the inventory changed only {changes} times");
}

/// A host with an attachment of red is declared gone. Its VNI goes to blue; then the host comes back with its old entities, and
/// blue wants an attachment on it. Returns whether blue could have it before the host had forgotten red.
async fn the_dead_return(seed: u64) -> Result<bool, String> {
    let mut walk = Walk::new(rand::rngs::StdRng::seed_from_u64(seed), Made::Single).await;
    let network = |vdc: &str| {
        let subnets = vec![SubnetSpec::new("10.0.0.0/28".parse().unwrap())];
        let spec = NetworkSpec {
            name: "n".parse().unwrap(),
            subnets,
            mtu: 1500,
            vni: Some(10.try_into().unwrap()),
            labels: Default::default(),
        };
        Change::Create(vdc.parse().unwrap(), Spec::Network(spec))
    };
    let attachment = |vdc: &str, on: &Host| {
        let spec = AttachmentSpec {
            name: on.name.clone(),
            network: "n".parse().unwrap(),
            mac: None,
            ips: Vec::new(),
            place: Place::Host {
                host: on.name.clone(),
                netns: vdc.into(),
                interface: "eth0".into(),
            },
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        };
        Change::Create(vdc.parse().unwrap(), Spec::Attachment(spec))
    };
    let (dies, other) = (walk.host(0), walk.host(1));
    let key = ItemKey::Host(dies.name.clone());
    let (all, switches) = (walk.all(), walk.switches());
    assert!(walk.commit(vec![network("red"), attachment("red", &dies)]).await);
    walk.settle(all.clone()).await?;
    assert!(
        walk.commit(vec![Change::Inventory(InventoryChange::Gone(key.clone()))])
            .await
    );
    let red = |kind, name: &Name| Change::Delete(Key::new("red".parse().unwrap(), kind, name.clone()));
    let goes = vec![
        red(Kind::Attachment, &dies.name),
        red(Kind::Network, &"n".parse().unwrap()),
    ];
    assert!(walk.commit(goes).await);
    let cascade = false;
    assert!(
        walk.commit(vec![Change::Inventory(InventoryChange::Remove { key, cascade })])
            .await
    );
    walk.settle(all.clone()).await?;
    assert!(walk.commit(vec![network("blue"), attachment("blue", &other)]).await);
    walk.settle(all.clone()).await?;
    let comes = InventoryChange::Put(Item::Host(dies.clone()));
    assert!(walk.commit(vec![Change::Inventory(comes)]).await);
    let early = walk.commit(vec![attachment("blue", &dies)]).await;
    // It still sends as before, but the controller cannot reach it.
    walk.settle(switches).await?;
    walk.settle(all.clone()).await?;
    assert!(early || walk.commit(vec![attachment("blue", &dies)]).await);
    walk.settle(all).await?;
    Ok(early)
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_from_the_dead_is_emptied_first() {
    assert_eq!(the_dead_return(1).await, Ok(false));
    fault::set(Some(Fault::ArrivesAtOnce));
    let found = the_dead_return(1).await;
    fault::set(None);
    let what = found.unwrap_err();
    assert!(what.contains("a frame of red reached"), "{what}");
}

/// Each mistake, and a walk that finds it. The rarest are found by about one walk in 24. Any change of what a device
/// holds changes the histories, and so the seeds. `seeds_that_find_each_mistake` prints new ones.
const FAULTS: &[(Fault, Made, u64)] = &[
    (Fault::NobodyWaits, Made::Groups, 38),
    (Fault::NobodyConfirms, Made::Groups, 15),
    (Fault::FirstConfirmation, Made::Groups, 23),
    (Fault::VniAtOnce, Made::Groups, 38),
    (Fault::GroupAtOnce, Made::Single, 10),
    (Fault::ForgetsAtRestart, Made::Groups, 105),
    (Fault::StaysAdmitted, Made::Migrations, 302),
];

#[tokio::test(start_paused = true)]
async fn a_walk_finds_each_mistake() {
    for (fault, made, seed) in FAULTS {
        fault::set(Some(*fault));
        let found = run(*seed, *made).await;
        fault::set(None);
        assert!(found.is_err(), "{fault:?}: seed {seed} finds nothing");
    }
}

/// Prints for each mistake the first seed that finds it, to renew [`FAULTS`]:
/// `ISOLATION_SEEDS=0..20 cargo test ... -- --ignored --nocapture seeds_that_find`. `ISOLATION_FAULT` names one mistake,
/// `ISOLATION_MADE` one kind of walk.
#[tokio::test(start_paused = true)]
#[ignore = "only to renew FAULTS; takes minutes"]
async fn seeds_that_find_each_mistake() {
    let only = std::env::var("ISOLATION_FAULT").unwrap_or_default();
    for fault in Fault::ALL {
        if !format!("{fault:?}").contains(&only) {
            continue;
        }
        fault::set(Some(fault));
        let found = first_find().await;
        fault::set(None);
        println!("{fault:?}: {found:?}");
    }
}

/// The first walk that finds something.
async fn first_find() -> Option<(Made, u64, String)> {
    let only = std::env::var("ISOLATION_MADE").unwrap_or_default();
    let mut kinds = vec![Made::Single, Made::Groups, Made::Inventory, Made::Migrations];
    kinds.retain(|made| format!("{made:?}").contains(&only));
    for seed in seeds("0..20") {
        for &made in &kinds {
            if let Err(what) = run(seed, made).await {
                return Some((made, seed, what));
            }
        }
    }
    None
}

/// The range in `ISOLATION_SEEDS`, or the given one.
fn seeds(default: &str) -> std::ops::Range<u64> {
    let range = std::env::var("ISOLATION_SEEDS").unwrap_or_else(|_| default.to_owned());
    let (from, to) = range.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Many more walks: `ISOLATION_SEEDS=1000..2000 cargo test ... -- --ignored many_walks`.
#[tokio::test(start_paused = true)]
#[ignore = "the long mode"]
async fn many_walks() {
    for seed in seeds("0..1000") {
        walk(seed).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        let grouped = walk_in_groups(seed).await;
        grouped.unwrap_or_else(|what| panic!("seed {seed}, in groups: {what}"));
        let with_hosts = walk_with_hosts(seed).await;
        with_hosts.unwrap_or_else(|what| panic!("seed {seed}, with hosts: {what}"));
        let migrating = walk_with_migrations(seed).await;
        migrating.unwrap_or_else(|what| panic!("seed {seed}, with migrations: {what}"));
    }
}
