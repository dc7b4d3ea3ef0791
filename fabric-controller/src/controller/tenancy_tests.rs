//! What tenants may change, assignments, and vDCs that cannot be deleted while they have users.

use vfabric_api::access::{Binding, Level, Role, TokenSpec, UserKey, UserSpec};
use vfabric_api::error::ApiError;
use vfabric_api::intent::{Intent, Place, VdcIntent};
use vfabric_api::kind::{
    AddressRange, AssignedPort, AttachmentSpec, Limits, NetworkSpec, SubnetSpec, VlanRange, VniRange,
};
use vfabric_api::service::{ApplyOptions, Committed, Origin, Rollback, Transaction};

use super::tests::{
    Change, ErrorCode, FabricService as _, Key, Kind, MemoryStore, Spec, VdcSpec, World, attach, fakes, n, topology,
};

type OneWorld = World<MemoryStore>;

async fn world() -> OneWorld {
    World::over(topology(), MemoryStore::default(), fakes()).await
}

/// A vDC with host1, port 10 of leaf1 (untagged, and VLANs 100 to 109 of port 11) and VNIs 5000 to 5009.
fn assigned() -> VdcSpec {
    let port = |port: u16, vlans| AssignedPort {
        switch: n("leaf1"),
        port: port.try_into().unwrap(),
        vlans,
    };
    let vlans = VlanRange { first: 100, last: 109 };
    let (first, last) = (5000.try_into().unwrap(), 5009.try_into().unwrap());
    VdcSpec {
        hosts: vec![n("host1")],
        ports: vec![port(10, None), port(11, Some(vlans))],
        vnis: vec![VniRange { first, last }],
        ..VdcSpec::new(n("v"))
    }
}

fn tenant() -> Origin {
    Origin {
        author: "v/alice".into(),
        is_tenant: true,
        ..Origin::default()
    }
}

async fn ask(world: &OneWorld, change: Change) -> Result<Committed, ApiError> {
    world.controller.commit(Transaction::one(change, tenant())).await
}

fn field(error: ApiError) -> (ErrorCode, String) {
    let field = error
        .errors
        .first()
        .map_or_else(|| error.detail.clone(), |e| e.field.clone());
    (error.code, field)
}

fn network(name: &str, vni: Option<u32>) -> NetworkSpec {
    let third = match name {
        "red" => 1,
        "blue" => 2,
        _ => 3,
    };
    let Change::Create(_, Spec::Network(spec)) = super::tests::network(name, &format!("10.{third}.0.0/24")) else {
        panic!("no network")
    };
    NetworkSpec {
        vni: vni.map(|v| v.try_into().unwrap()),
        ..spec
    }
}

fn at(name: &str, place: Place) -> Spec {
    Spec::Attachment(AttachmentSpec {
        place,
        ..attach(name, "red", "host1")
    })
}

fn port(switch: &str, port: u16, vlan: Option<u16>) -> Place {
    Place::Port {
        switch: n(switch),
        port: port.try_into().unwrap(),
        vlan,
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_names_only_what_its_vdc_was_assigned() {
    let world = world().await;
    world.applied(vec![Change::Create(n("v"), Spec::Vdc(assigned()))]).await;
    let put = |spec: Spec| Change::Create(n("v"), spec);
    ask(&world, put(Spec::Network(network("red", None)))).await.unwrap();
    ask(&world, put(Spec::Network(network("blue", Some(5009)))))
        .await
        .unwrap();
    let error = ask(&world, put(Spec::Network(network("green", Some(5010)))))
        .await
        .unwrap_err();
    assert_eq!(field(error), (ErrorCode::Forbidden, "vni".into()));

    let host = |host: &str| Place::Host {
        host: n(host),
        netns: "w".into(),
        interface: "eth0".into(),
    };
    for (name, place) in [
        ("a", host("host1")),
        ("b", port("leaf1", 10, None)),
        ("c", port("leaf1", 11, Some(109))),
    ] {
        ask(&world, put(at(name, place))).await.unwrap();
    }
    for (place, wrong) in [
        (host("host2"), "place.host.host"),
        // A vDC that does not exist is refused in the same way, so the refusal reveals nothing.
        (host("nowhere"), "place.host.host"),
        (port("leaf1", 10, Some(100)), "place.port"),
        (port("leaf1", 11, None), "place.port"),
        (port("leaf1", 11, Some(110)), "place.port"),
        (port("leaf2", 10, None), "place.port"),
    ] {
        let error = ask(&world, put(at("x", place))).await.unwrap_err();
        assert_eq!(field(error), (ErrorCode::Forbidden, wrong.into()));
    }
    // Attempts to get around it: patch, replace, a file, a rollback to before the host was taken away.
    let key = Key::new(n("v"), Kind::Attachment, n("a"));
    let patch = serde_json::json!({"place": {"host": {"host": "host2", "netns": "w", "interface": "eth0"}}});
    let error = ask(&world, Change::Patch(key.clone(), patch)).await.unwrap_err();
    assert_eq!(field(error), (ErrorCode::Forbidden, "place.host.host".into()));
    let error = ask(&world, Change::Replace(n("v"), at("a", host("host2"))))
        .await
        .unwrap_err();
    assert_eq!(field(error).0, ErrorCode::Forbidden);
    ask(
        &world,
        Change::Patch(key.clone(), serde_json::json!({"port_security": false})),
    )
    .await
    .unwrap();
    let before = ask(&world, Change::Delete(key)).await.unwrap().revision - 1;
    let fewer = VdcSpec {
        hosts: Vec::new(),
        ..assigned()
    };
    world.applied(vec![Change::Replace(n("v"), Spec::Vdc(fewer))]).await;
    let back = |to, origin| Rollback {
        to,
        vdc: Some(n("v")),
        dry_run: false,
        origin,
    };
    let error = world.controller.rollback(back(before, tenant())).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden, "{error}");
    world
        .controller
        .rollback(back(before, Origin::default()))
        .await
        .unwrap();
}

fn pools(pools: &[&str]) -> VdcSpec {
    VdcSpec {
        address_pools: pools.iter().map(|pool| pool.parse().unwrap()).collect(),
        ..assigned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenants_subnets_lie_in_the_pools_of_its_vdc() {
    let world = world().await;
    let both = pools(&["10.0.0.0/15", "fd00:1::/48"]);
    world
        .applied(vec![Change::Create(n("v"), Spec::Vdc(both.clone()))])
        .await;
    let put = |spec: NetworkSpec| Change::Put(n("v"), Spec::Network(spec));
    let with = |name: &str, subnets: &[&str]| NetworkSpec {
        subnets: subnets
            .iter()
            .map(|cidr| SubnetSpec::new(cidr.parse().unwrap()))
            .collect(),
        ..network(name, None)
    };
    ask(&world, put(with("red", &["10.1.0.0/24", "fd00:1:0:7::/64"])))
        .await
        .unwrap();
    for (subnets, wrong) in [
        (["10.2.0.0/24", "fd00:1::/64"], "subnets[0].cidr"),
        (["10.1.9.0/24", "fd00:2::/64"], "subnets[1].cidr"),
        // Part of the subnet is inside the pool, and part outside.
        (["10.0.0.0/14", "fd00:1::/64"], "subnets[0].cidr"),
    ] {
        let error = ask(&world, put(with("blue", &subnets))).await.unwrap_err();
        assert_eq!(field(error), (ErrorCode::Forbidden, wrong.into()));
    }
    // The pools do not bind the administrator. A tenant may change the other fields of a network that
    // the administrator made outside.
    world.applied(vec![put(with("blue", &["10.2.0.0/24"]))]).await;
    let change = NetworkSpec {
        mtu: 1400,
        ..with("blue", &["10.2.0.0/24"])
    };
    ask(&world, put(change)).await.unwrap();

    // A pool that is in use stays; one that is not in use can be taken away.
    let commit = |spec| {
        let change = Change::Replace(n("v"), Spec::Vdc(spec));
        world.controller.commit(Transaction::one(change, Origin::default()))
    };
    let error = commit(pools(&["10.0.0.0/15"])).await.unwrap_err();
    assert!(error.errors[0].expected.contains("network `red` of vdc `v`"), "{error}");
    assert_eq!(field(error), (ErrorCode::InUse, "address_pools".into()));
    commit(pools(&["10.1.0.0/16", "fd00:1::/48"])).await.unwrap();
    let error = ask(&world, put(with("green", &["10.0.0.0/24"]))).await.unwrap_err();
    assert_eq!(field(error), (ErrorCode::Forbidden, "subnets[0].cidr".into()));
    commit(pools(&[])).await.unwrap();
    ask(&world, put(with("green", &["10.0.0.0/24"]))).await.unwrap();

    let error = commit(pools(&["10.0.0.0/8", "10.1.2.3/16"])).await.unwrap_err();
    assert_eq!(field(error), (ErrorCode::Invalid, "address_pools[1]".into()));
}

#[tokio::test(start_paused = true)]
async fn reserved_addresses_are_given_only_to_those_who_name_them() {
    let world = world().await;
    world
        .applied(vec![Change::Create(n("v"), Spec::Vdc(VdcSpec::new(n("v"))))])
        .await;
    let commit = |change| world.controller.commit(Transaction::one(change, Origin::default()));
    let reserving = |reserved: &[(&str, &str)]| {
        let range = |(first, last): &(&str, &str)| AddressRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        };
        let mut spec = network("red", None);
        spec.subnets = vec![SubnetSpec {
            reserved: reserved.iter().map(range).collect(),
            ..SubnetSpec::new("10.1.0.0/28".parse().unwrap())
        }];
        Change::Put(n("v"), Spec::Network(spec))
    };
    for (wrong, at) in [
        (("10.1.0.20", "10.1.0.21"), "subnets[0].reserved[0].first"),
        (("10.1.0.2", "10.1.0.16"), "subnets[0].reserved[0].last"),
        (("fd00::1", "fd00::2"), "subnets[0].reserved[0].first"),
        (("10.1.0.9", "10.1.0.8"), "subnets[0].reserved[0].last"),
    ] {
        let error = commit(reserving(&[wrong])).await.unwrap_err();
        assert_eq!(field(error), (ErrorCode::Invalid, at.into()));
    }
    // Left are .5, .9 and .14: .1 is the gateway's.
    let ranges = [
        ("10.1.0.2", "10.1.0.4"),
        ("10.1.0.6", "10.1.0.8"),
        ("10.1.0.10", "10.1.0.13"),
    ];
    world.applied(vec![reserving(&ranges)]).await;
    let put = |name: &str, ips: &[&str]| {
        let spec = AttachmentSpec {
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..attach(name, "red", "host1")
        };
        Change::Create(n("v"), Spec::Attachment(spec))
    };
    let ip = async |name: &str| {
        let key = Key::new(n("v"), Kind::Attachment, n(name));
        let (view, _) = (world.controller.get(&key).await.unwrap(), ());
        let vfabric_api::kind::View::Attachment(attachment) = view else {
            panic!("no attachment")
        };
        attachment.ips[0].to_string()
    };
    world.applied(vec![put("named", &["10.1.0.7"])]).await;
    for (name, expected) in [("a", "10.1.0.5"), ("b", "10.1.0.9"), ("c", "10.1.0.14")] {
        world.applied(vec![put(name, &[])]).await;
        assert_eq!(ip(name).await, expected);
    }
    let error = commit(put("d", &[])).await.unwrap_err();
    assert_eq!(field(error.clone()), (ErrorCode::Exhausted, "ips".into()));
    assert!(error.errors[0].expected.contains("reserved"), "{error}");
    // A reserved address that is given back is still reserved.
    let named = Key::new(n("v"), Kind::Attachment, n("named"));
    world.applied(vec![Change::Delete(named)]).await;
    assert_eq!(field(commit(put("d", &[])).await.unwrap_err()).0, ErrorCode::Exhausted);
    // When a range is removed, its addresses are free. When a range is added, attachments
    // keep the addresses that they have.
    world.applied(vec![reserving(&[("10.1.0.5", "10.1.0.13")])]).await;
    assert_eq!(ip("a").await, "10.1.0.5");
    world.applied(vec![put("d", &[])]).await;
    assert_eq!(ip("d").await, "10.1.0.2");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_migrates_only_to_hosts_of_its_vdc() {
    let world = world().await;
    let vdc = VdcSpec {
        hosts: vec![n("host1"), n("host2")],
        ..assigned()
    };
    world.applied(vec![Change::Create(n("v"), Spec::Vdc(vdc))]).await;
    let red = Change::Create(n("v"), Spec::Network(network("red", None)));
    ask(&world, red).await.unwrap();
    let spec = |migration: serde_json::Value| {
        Spec::Attachment(AttachmentSpec {
            migration: serde_json::from_value(migration).unwrap(),
            ..attach("a", "red", "host1")
        })
    };
    let without = spec(serde_json::Value::Null);
    let key = Key::new(n("v"), Kind::Attachment, n("a"));
    let patch = |migration: serde_json::Value| Change::Patch(key.clone(), serde_json::json!({"migration": migration}));
    let refused = async |change: Change, what: &str| {
        let error = ask(&world, change).await.unwrap_err();
        assert_eq!(field(error), (ErrorCode::Forbidden, "migration.host".into()), "{what}");
    };
    // A host that does not exist is refused in the same way, so the refusal reveals nothing.
    for host in ["host3", "nowhere"] {
        let migration = serde_json::json!({"host": host});
        refused(Change::Create(n("v"), spec(migration)), host).await;
    }
    ask(&world, Change::Create(n("v"), without)).await.unwrap();
    for host in ["host3", "nowhere"] {
        let migration = serde_json::json!({"host": host});
        refused(patch(migration.clone()), host).await;
        refused(Change::Replace(n("v"), spec(migration.clone())), host).await;
        refused(Change::Put(n("v"), spec(migration)), host).await;
    }
    ask(&world, patch(serde_json::json!({"host": "host2"}))).await.unwrap();
    // A migration that is under way cannot be sent there, either.
    refused(patch(serde_json::json!({"host": "host3"})), "under way").await;
    refused(patch(serde_json::json!({"host": "host3", "phase": "active"})), "active").await;
    ask(&world, patch(serde_json::Value::Null)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_changes_neither_its_vdc_nor_the_inventory() {
    let world = world().await;
    world.applied(vec![Change::Create(n("v"), Spec::Vdc(assigned()))]).await;
    let wider = VdcSpec {
        hosts: vec![n("host1"), n("host2")],
        limits: Limits {
            networks: Some(9),
            ..Limits::default()
        },
        ..assigned()
    };
    for change in [
        Change::Create(n("w"), Spec::Vdc(VdcSpec::new(n("w")))),
        Change::Put(n("v"), Spec::Vdc(wider.clone())),
        Change::Patch(Key::vdc(n("v")), serde_json::json!({"hosts": ["host2"]})),
        Change::Delete(Key::vdc(n("v"))),
        Change::Inventory(vfabric_api::inventory::InventoryChange::Import(Box::new(topology()))),
    ] {
        let error = ask(&world, change.clone()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden, "{change:?}");
    }
    let file = |vdc: VdcSpec| Intent {
        vdcs: vec![VdcIntent {
            hosts: vdc.hosts,
            ports: vdc.ports,
            vnis: vdc.vnis,
            limits: vdc.limits,
            networks: vec![network("red", None)],
            ..VdcIntent::new(vdc.name)
        }],
    };
    let options = || ApplyOptions {
        origin: tenant(),
        ..ApplyOptions::default()
    };
    let error = world.controller.apply(file(wider), options()).await.unwrap_err();
    assert!(
        error.detail.contains("`hosts[1]`") && error.detail.contains("`limits"),
        "{error}"
    );
    let committed = world.controller.apply(file(assigned()), options()).await.unwrap();
    assert_eq!(committed.created, [Key::new(n("v"), Kind::Network, n("red"))]);
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_everybody_and_what_is_in_use_stays() {
    let world = world().await;
    let limited = VdcSpec {
        limits: Limits {
            networks: Some(1),
            routers: Some(0),
            routes: None,
            attachments: Some(2),
            table_percent: None,
        },
        ..assigned()
    };
    world
        .applied(vec![Change::Create(n("v"), Spec::Vdc(limited.clone()))])
        .await;
    let create = |spec| Change::Create(n("v"), spec);
    world.applied(vec![create(Spec::Network(network("red", None)))]).await;
    let commit = |change| world.controller.commit(Transaction::one(change, Origin::default()));
    let error = commit(create(Spec::Network(network("blue", None)))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted);
    assert!(error.detail.contains("`v` may have 1 networks"), "{error}");
    world
        .applied(vec![
            create(at("a", port("leaf1", 10, None))),
            create(Spec::Attachment(attach("b", "red", "host1"))),
        ])
        .await;
    for (less, wrong) in [
        (
            VdcSpec {
                hosts: Vec::new(),
                ..limited.clone()
            },
            "hosts",
        ),
        (
            VdcSpec {
                ports: Vec::new(),
                ..limited.clone()
            },
            "ports",
        ),
        (
            VdcSpec {
                limits: Limits {
                    attachments: Some(1),
                    ..limited.limits
                },
                ..limited.clone()
            },
            "limits.attachments",
        ),
    ] {
        let error = commit(Change::Replace(n("v"), Spec::Vdc(less))).await.unwrap_err();
        assert_eq!(field(error), (ErrorCode::InUse, wrong.into()));
    }
    let upside_down = VlanRange { first: 9, last: 8 };
    let mut wrong = limited.clone();
    wrong.ports[1].vlans = Some(upside_down);
    let error = commit(Change::Replace(n("v"), Spec::Vdc(wrong))).await.unwrap_err();
    assert_eq!(field(error), (ErrorCode::Invalid, "ports[1].vlans".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_is_named_by_its_users_or_drained() {
    let world = world().await;
    let create = |spec| Change::Create(n("v"), spec);
    world
        .applied(vec![
            create(Spec::Vdc(assigned())),
            create(Spec::Network(network("red", None))),
            create(Spec::Network(network("blue", Some(5003)))),
            create(at("tagged", port("leaf1", 11, Some(105)))),
            create(at("untagged", port("leaf1", 10, None))),
        ])
        .await;
    let many = (0..10).map(|i| create(Spec::Attachment(attach(&format!("h{i}"), "red", "host1"))));
    world.applied(many.collect()).await;
    let commit = |spec: VdcSpec, cascade, dry_run| {
        let origin = Origin {
            cascade,
            ..Origin::default()
        };
        let change = Change::Replace(n("v"), Spec::Vdc(spec));
        world.controller.commit(Transaction {
            dry_run,
            ..Transaction::one(change, origin)
        })
    };
    let no_hosts = VdcSpec {
        hosts: Vec::new(),
        ..assigned()
    };
    let error = commit(no_hosts.clone(), false, false).await.unwrap_err();
    let said = &error.errors[0].expected;
    assert!(
        said.contains("attachment `h0` of vdc `v`") && said.ends_with("and 2 more"),
        "{said}"
    );

    let mut narrower = assigned();
    narrower.ports[1].vlans = Some(VlanRange { first: 100, last: 104 });
    let error = commit(narrower.clone(), false, false).await.unwrap_err();
    assert!(
        error.errors[0]
            .expected
            .ends_with("used by attachment `tagged` of vdc `v`"),
        "{error}"
    );

    // No cascade deletes a network because its VNI is taken away.
    let no_vnis = VdcSpec {
        vnis: Vec::new(),
        ..assigned()
    };
    for cascade in [false, true] {
        let error = commit(no_vnis.clone(), cascade, false).await.unwrap_err();
        assert_eq!((error.code, error.errors[0].field.as_str()), (ErrorCode::InUse, "vnis"));
        assert!(
            error.errors[0].expected.contains("network `blue` of vdc `v`"),
            "{error}"
        );
    }

    let keys = |names: &[&str]| -> Vec<Key> {
        let key = |name: &&str| Key::new(n("v"), Kind::Attachment, n(name));
        names.iter().map(key).collect()
    };
    let planned = commit(narrower.clone(), true, true).await.unwrap();
    assert_eq!(planned.deleted, keys(&["tagged"]));
    let done = commit(narrower.clone(), true, false).await.unwrap();
    assert_eq!(
        (done.deleted, done.updated),
        (keys(&["tagged"]), vec![Key::vdc(n("v"))])
    );
    let nothing = VdcSpec {
        hosts: Vec::new(),
        ports: Vec::new(),
        ..narrower
    };
    let done = commit(nothing, true, false).await.unwrap();
    assert_eq!(done.deleted.len(), 11, "{done:?}");
    let (v, all) = (n("v"), Default::default());
    let left = world.controller.list(Kind::Attachment, Some(&v), &all, None, 100).await;
    assert_eq!(left.unwrap().items, []);
}

fn user(name: &str, vdc: &str) -> UserSpec {
    UserSpec {
        name: n(name),
        description: String::new(),
        roles: vec![Binding {
            role: Role::VdcAdmin,
            vdc: Some(n(vdc)),
        }],
        oidc_subject: None,
    }
}

#[tokio::test]
async fn users_are_kept_over_a_start_and_hold_their_vdc() {
    let store = MemoryStore::default();
    let world = World::over(topology(), store.clone(), fakes()).await;
    let error = world
        .controller
        .put_user(Some(n("v")), user("alice", "v"), true)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "a vDC that does not exist");
    world
        .applied(vec![Change::Create(n("v"), Spec::Vdc(VdcSpec::new(n("v"))))])
        .await;
    world
        .controller
        .put_user(Some(n("v")), user("alice", "v"), true)
        .await
        .unwrap();
    world.controller.put_user(None, user("bob", "v"), true).await.unwrap();
    let alice = UserKey {
        vdc: Some(n("v")),
        name: n("alice"),
    };
    let token = world.controller.make_token(&alice, TokenSpec::default()).await.unwrap();
    let delete = || {
        world
            .controller
            .commit(Transaction::one(Change::Delete(Key::vdc(n("v"))), Origin::default()))
    };
    for holder in ["bob", "v/alice"] {
        let error = delete().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InUse);
        assert!(error.detail.contains(&format!("user `{holder}`")), "{error}");
        if holder == "bob" {
            let bob = UserKey {
                vdc: None,
                name: n("bob"),
            };
            world.controller.delete_user(&bob).await.unwrap();
        }
    }
    // Tokens that are made at the same time are all kept.
    let make = || world.controller.make_token(&alice, TokenSpec::default());
    let (one, two) = tokio::join!(make(), make());
    for token in [one.unwrap(), two.unwrap()] {
        assert!(world.controller.directory().by_token(&token.secret).await.is_ok());
    }
    // The history does not mention users.
    let history = world.controller.history(None, 100).await.unwrap();
    assert!(
        history
            .items
            .iter()
            .all(|r| r.objects.created.iter().all(|key| key.kind == Kind::Vdc)),
        "{history:?}"
    );
    drop(world);

    let world = World::over(topology(), store, fakes()).await;
    assert!(world.controller.published().set_aside.is_empty());
    let caller = world.controller.directory().by_token(&token.secret).await.unwrap();
    assert_eq!(
        (caller.name.as_str(), caller.grants.vdc(&n("v"))),
        ("v/alice", Some(Level::Admin))
    );
    world.controller.revoke_token(&alice, &token.token.id).await.unwrap();
    assert!(world.controller.directory().by_token(&token.secret).await.is_err());
    world.controller.delete_user(&alice).await.unwrap();
    let delete = Transaction::one(Change::Delete(Key::vdc(n("v"))), Origin::default());
    world.controller.commit(delete).await.unwrap();
}
