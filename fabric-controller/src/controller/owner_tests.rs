//! Owners of objects: whose changes are refused, what a file prunes, and the cost of many objects at once.

use vfabric_api::error::ApiError;
use vfabric_api::intent::{Intent, NetworkSpec, Removal, VdcIntent};
use vfabric_api::kind::{Limits, View};
use vfabric_api::labels::Selector;
use vfabric_api::service::{ApplyOptions, Committed, Origin, Rollback, Transaction};

use super::Controller;
use super::tests::*;
use crate::render::FabricRender;

type Bare = Arc<Controller<MemoryStore>>;

async fn over(store: MemoryStore) -> Bare {
    let loaded = Controller::load(topology(), store, Arc::new(FabricRender)).await;
    loaded.unwrap()
}

fn origin(owner: &str, force: bool) -> Origin {
    Origin {
        owner: owner.parse().ok(),
        force,
        ..Origin::default()
    }
}

async fn ask(world: &Bare, change: Change, owner: &str, force: bool) -> Result<Committed, ApiError> {
    world.commit(Transaction::one(change, origin(owner, force))).await
}

/// Creates or replaces network `name` with this MTU.
fn put(name: &str, mtu: u16) -> Change {
    let Change::Create(vdc, Spec::Network(spec)) = network(name, "10.1.0.0/24") else {
        unreachable!("it creates a network")
    };
    Change::Put(vdc, Spec::Network(NetworkSpec { mtu, ..spec }))
}

/// Network `name` as it is: its MTU and owner.
async fn found(world: &Bare, name: &str) -> Option<(u16, Option<String>)> {
    match world.get(&Key::new(n("v"), Kind::Network, n(name))).await {
        Ok(View::Network(network)) => Some((network.spec.mtu, network.owner.map(String::from))),
        _ => None,
    }
}

async fn with_vdc() -> Bare {
    let world = over(MemoryStore::default()).await;
    let vdc = Change::Create(n("v"), Spec::Vdc(VdcSpec::new(n("v"))));
    ask(&world, vdc, "", false).await.unwrap();
    world
}

/// The table of `model/change.rs`, row by row: the object's owner, the change's owner, whether the content changes,
/// whether it is forced; then whether it is refused, and the owner afterwards.
#[tokio::test(start_paused = true)]
async fn another_owners_change_is_refused_unless_forced() {
    let cases = [
        ("", "", true, false, Ok("")),
        ("", "a", true, false, Ok("a")),
        ("", "a", false, false, Ok("a")),
        ("a", "a", true, false, Ok("a")),
        ("a", "", true, false, Err(())),
        ("a", "", true, true, Ok("a")),
        ("a", "", false, false, Ok("a")),
        ("a", "b", true, false, Err(())),
        ("a", "b", false, false, Ok("a")),
        ("a", "b", true, true, Ok("b")),
        ("a", "b", false, true, Ok("b")),
    ];
    for (i, (had, asks, changes, force, expected)) in cases.into_iter().enumerate() {
        let world = with_vdc().await;
        ask(&world, put("red", 1400), had, false).await.unwrap();
        let mtu = if changes { 1500 } else { 1400 };
        let asked = ask(&world, put("red", mtu), asks, force).await;
        let (mtu, owner) = match (expected, asked) {
            (Ok(owner), Ok(_)) => (mtu, owner),
            (Err(()), Err(error)) => {
                assert_eq!(error.code, ErrorCode::Owned, "case {i}");
                assert!(error.detail.contains("belongs to `a`"), "{error}");
                assert_eq!(error.errors[0].field, "owner");
                (1400, had)
            }
            (expected, asked) => panic!("case {i}: {asked:?} instead of {expected:?}"),
        };
        let owner = Some(owner.to_owned()).filter(|owner| !owner.is_empty());
        assert_eq!(found(&world, "red").await, Some((mtu, owner)), "case {i}");
        let goes = ask(&world, delete(Kind::Network, "red"), asks, force).await;
        let may_go = found(&world, "red").await.is_none();
        assert_eq!(goes.is_ok(), may_go, "case {i}");
        let (_, owner) = (mtu, expected.unwrap_or(had));
        assert_eq!(
            may_go,
            force || owner.is_empty() || owner == asks,
            "case {i}: who may delete"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn owners_are_stored_planned_and_in_the_history_and_come_back_with_a_rollback() {
    let store = MemoryStore::default();
    let world = over(store.clone()).await;
    let vdc = Change::Create(n("v"), Spec::Vdc(VdcSpec::new(n("v"))));
    ask(&world, vdc, "", false).await.unwrap();
    let before = ask(&world, put("red", 1400), "file:a", false).await.unwrap().revision;
    let plan = Transaction {
        dry_run: true,
        ..Transaction::one(put("red", 1400), origin("file:b", true))
    };
    let planned = world.commit(plan).await.unwrap().plan.unwrap();
    let field = &planned.changes[0].fields[0];
    assert_eq!(
        (field.field.as_str(), field.before.clone(), field.after.clone()),
        ("owner", Some("file:a".into()), Some("file:b".into()))
    );
    assert_eq!(
        found(&world, "red").await,
        Some((1400, Some("file:a".into()))),
        "planned only"
    );
    let taken = ask(&world, put("red", 1400), "file:b", true).await.unwrap();
    assert_eq!(taken.updated.len(), 1);
    let revision = world.revision(taken.revision).await.unwrap();
    assert_eq!(revision.objects.updated[0].fields[0].field, "owner");
    assert_eq!(revision.origin.owner, "file:b".parse().ok());

    let again = over(store.copy()).await;
    assert_eq!(
        found(&again, "red").await,
        Some((1400, Some("file:b".into()))),
        "after a restart"
    );

    let back = |force| Rollback {
        to: before,
        origin: origin("", force),
        ..Rollback::default()
    };
    ask(&world, put("red", 1500), "file:b", false).await.unwrap();
    assert_eq!(world.rollback(back(false)).await.unwrap_err().code, ErrorCode::Owned);
    world.rollback(back(true)).await.unwrap();
    assert_eq!(found(&world, "red").await, Some((1400, Some("file:a".into()))));
}

fn file(networks: &[&str]) -> Intent {
    let spec = |name: &&str| match put(name, 1500) {
        Change::Put(_, Spec::Network(spec)) => spec,
        _ => unreachable!("it is a network"),
    };
    Intent {
        vdcs: vec![VdcIntent {
            networks: networks.iter().map(spec).collect(),
            ..VdcIntent::new(n("v"))
        }],
    }
}

fn options(owner: &str) -> ApplyOptions {
    ApplyOptions {
        prune: true,
        keep_vdcs: true,
        origin: origin(owner, false),
        ..ApplyOptions::default()
    }
}

async fn names(world: &Bare) -> Vec<String> {
    let page = world
        .list(Kind::Network, Some(&n("v")), &Selector::default(), None, 1000)
        .await;
    page.unwrap().items.iter().map(|view| view.name().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_file_prunes_what_its_owner_has_and_nothing_else() {
    let world = with_vdc().await;
    for (name, owner) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("free", "")] {
        ask(&world, put(name, 1500), owner, false).await.unwrap();
    }
    let done = world.apply(file(&["a1", "a3"]), options("a")).await.unwrap();
    assert_eq!(done.deleted, [Key::new(n("v"), Kind::Network, n("a2"))]);
    assert_eq!(names(&world).await, ["a1", "a3", "b1", "free"]);
    let done = world.apply(file(&["b2"]), options("")).await.unwrap();
    assert_eq!(done.deleted, [Key::new(n("v"), Kind::Network, n("free"))]);
    assert_eq!(names(&world).await, ["a1", "a3", "b1", "b2"]);
    let mut options = options("c");
    let taken = file(&["b1"]);
    let mut other = taken.clone();
    other.vdcs[0].networks[0].mtu = 1400;
    let error = world.apply(other, options.clone()).await.unwrap_err();
    assert_eq!(
        (error.code, error.errors[0].field.as_str()),
        (ErrorCode::Owned, "vdcs[0].networks[0].owner")
    );
    options.origin.force = true;
    world.apply(taken, options).await.unwrap();
    assert_eq!(found(&world, "b1").await, Some((1500, Some("c".into()))));
    assert_eq!(names(&world).await, ["a1", "a3", "b1", "b2"], "a force prunes no more");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_does_not_become_the_owner_of_its_vdc() {
    let world = with_vdc().await;
    let options = ApplyOptions {
        origin: Origin {
            author: "v/alice".into(),
            is_tenant: true,
            ..origin("file:web", false)
        },
        ..ApplyOptions::default()
    };
    world.apply(file(&["red"]), options).await.unwrap();
    let View::Vdc(vdc) = world.get(&Key::vdc(n("v"))).await.unwrap() else {
        panic!("no vDC")
    };
    assert_eq!(vdc.owner, None);
    assert_eq!(found(&world, "red").await, Some((1500, Some("file:web".into()))));
}

#[tokio::test(start_paused = true)]
async fn a_file_may_leave_vdcs_as_they_are_and_remove_what_it_names() {
    let world = with_vdc().await;
    let described = Change::Patch(Key::vdc(n("v")), serde_json::json!({"description": "theirs"}));
    ask(&world, described, "", false).await.unwrap();
    world.apply(file(&["red", "blue"]), options("")).await.unwrap();
    let View::Vdc(vdc) = world.get(&Key::vdc(n("v"))).await.unwrap() else {
        panic!("no vDC")
    };
    assert_eq!(vdc.spec.description, "theirs");

    let remove = |names: &[&str]| -> Vec<Removal> {
        let network = |name: &&str| Removal {
            kind: Kind::Network,
            name: n(name),
        };
        names.iter().map(network).collect()
    };
    let mut removal = file(&["green"]);
    removal.vdcs[0].remove = remove(&["red", "gone"]);
    let keep = ApplyOptions {
        prune: false,
        ..options("")
    };
    let done = world.apply(removal, keep.clone()).await.unwrap();
    assert_eq!(done.deleted, [Key::new(n("v"), Kind::Network, n("red"))]);
    assert_eq!(names(&world).await, ["blue", "green"]);

    let revision = world.revision_now();
    let mut both = file(&["blue"]);
    both.vdcs[0].remove = remove(&["blue"]);
    let mut vdc = file(&[]);
    vdc.vdcs[0].remove = vec![Removal {
        kind: Kind::Vdc,
        name: n("v"),
    }];
    let mut described = file(&[]);
    described.vdcs[0].description = "mine".into();
    let mut elsewhere = file(&[]);
    elsewhere.vdcs[0].name = n("w");
    for (wrong, code, field) in [
        (file(&["red", "red"]), ErrorCode::Invalid, "vdcs[0].networks[1]"),
        (both, ErrorCode::Invalid, "vdcs[0].remove[0]"),
        (vdc, ErrorCode::Invalid, "vdcs[0].remove[0].kind"),
        (described, ErrorCode::Invalid, "vdcs[0]"),
        (elsewhere, ErrorCode::NotFound, ""),
    ] {
        let error = world.apply(wrong, keep.clone()).await.unwrap_err();
        let found = error.errors.first().map_or("", |e| e.field.as_str());
        assert_eq!((error.code, found), (code, field), "{error}");
    }
    assert_eq!(world.revision_now(), revision);
}

/// Ten thousand networks with a label, in one request.
fn many(mtu: u16) -> Intent {
    let spec = |i: u32| NetworkSpec {
        name: n(&format!("n{i:05}")),
        subnets: Vec::new(),
        mtu,
        vni: None,
        labels: [("part".parse().unwrap(), (i % 100).to_string().parse().unwrap())].into(),
    };
    Intent {
        vdcs: vec![VdcIntent {
            networks: (0..10_000).map(spec).collect(),
            ..VdcIntent::new(n("v"))
        }],
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_objects_are_one_transaction_or_none() {
    let world = with_vdc().await;
    let revision = world.revision_now();
    let mut wrong = many(1500);
    wrong.vdcs[0].networks[9_999].mtu = 1;
    let error = world.apply(wrong, options("load")).await.unwrap_err();
    assert_eq!(error.errors[0].field, "vdcs[0].networks[9999].mtu");
    let planned = world
        .apply(
            many(1500),
            ApplyOptions {
                dry_run: true,
                ..options("load")
            },
        )
        .await
        .unwrap();
    assert_eq!(planned.created.len(), 10_000);
    assert_eq!(
        (world.revision_now(), names(&world).await.len()),
        (revision, 0),
        "nothing happened"
    );
    let done = world.apply(many(1500), options("load")).await.unwrap();
    assert_eq!((done.created.len(), done.revision), (10_000, revision + 1));
    let done = world.apply(many(1400), options("load")).await.unwrap();
    assert_eq!((done.updated.len(), done.revision), (10_000, revision + 2));

    // Selected page by page; a page examines only so many objects.
    let selector = Selector::parse(Kind::Network, "part in (7,8)", "owner=load").unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world
            .list(Kind::Network, Some(&n("v")), &selector, after.as_deref(), 60)
            .await
            .unwrap();
        found.extend(page.items.iter().map(|view| view.name().to_string()));
        pages += 1;
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    let expected: Vec<String> = (0..10_000)
        .filter(|i| [7, 8].contains(&(i % 100)))
        .map(|i| format!("n{i:05}"))
        .collect();
    assert_eq!(found, expected);
    assert!(pages >= 4, "{pages} pages");

    let limited = Change::Patch(Key::vdc(n("v")), serde_json::json!({"limits": {"networks": 10_000}}));
    ask(&world, limited, "", false).await.unwrap();
    let mut more = many(1400);
    more.vdcs[0].networks[0].name = n("one-more");
    let keep = ApplyOptions {
        prune: false,
        ..options("load")
    };
    let error = world.apply(more, keep).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted, "{error}");
    assert!(Limits::default().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_has_no_more_labels_than_it_may() {
    let world = with_vdc().await;
    let Change::Put(vdc, Spec::Network(mut spec)) = put("red", 1500) else {
        unreachable!("it is a network")
    };
    for i in 0..33 {
        spec.labels
            .insert(format!("k{i}").parse().unwrap(), "".parse().unwrap());
    }
    let error = ask(&world, Change::Put(vdc, Spec::Network(spec)), "", false)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.errors[0].field.as_str()),
        (ErrorCode::Invalid, "labels")
    );
}
