//! Static routes from the router's specification to the leaves.

use vfabric_api::intent::{NetworkSpec, RouterSpec};
use vfabric_api::kind::{Limits, StaticRoute};

use super::tests::*;

type Routed = World<MemoryStore>;

fn router(routes: &[(&str, &str)]) -> Change {
    let routes = routes.iter().map(|(to, via)| StaticRoute {
        to: to.parse().unwrap(),
        via: via.parse().unwrap(),
    });
    let mut spec = RouterSpec::new(n("r"), vec![n("red"), n("blue")]);
    spec.routes = routes.collect();
    Change::Put(n("v"), Spec::Router(spec))
}

/// The static routes that a leaf should hold, as `prefix: action and MAC address`.
async fn held(world: &Routed, leaf: &str) -> Vec<String> {
    let entities = world.controller.entities(&n(leaf)).await.unwrap();
    let routes = entities.into_iter().filter(|e| e.table == "ipv4_route");
    let mut held: Vec<String> = routes
        .map(|e| {
            let (_, to) = e.key.split_once("dst ").unwrap();
            let (action, params) = e.action.split_once('(').unwrap();
            let mac = params.split_once("dmac ").map_or("", |(_, rest)| &rest[..17]);
            format!("{to}: {action} {mac}")
        })
        .collect();
    held.sort();
    held
}

async fn mac_of(world: &Routed, name: &str) -> String {
    let key = Key::new(n("v"), Kind::Attachment, n(name));
    let object = world.controller.get(&key).await.unwrap();
    let vfabric_api::kind::View::Attachment(attachment) = object else {
        panic!("{object:?}")
    };
    attachment.mac.to_string()
}

/// Red has a1 on host1 with 10.1.0.9; blue has a3 on host3 with 10.2.0.9. Both leaves have the router.
async fn world() -> Routed {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    let [mut red, mut blue] = [attach("a1", "red", "host1"), attach("a3", "blue", "host3")];
    red.ips = vec!["10.1.0.9".parse().unwrap()];
    blue.ips = vec!["10.2.0.9".parse().unwrap()];
    let mut changes = basics();
    changes.truncate(4);
    changes.extend([create(red), create(blue)]);
    world.applied(changes).await;
    world
}

#[tokio::test]
async fn a_prefix_goes_to_the_attachment_that_has_the_address() {
    let world = world().await;
    for leaf in ["leaf1", "leaf2"] {
        assert_eq!(
            held(&world, leaf).await,
            [""; 0],
            "routers without static routes need no entry"
        );
    }
    let [red, blue] = [mac_of(&world, "a1").await, mac_of(&world, "a3").await];
    let own = ["10.1.0.0/24: no_route ", "10.2.0.0/24: no_route "];

    world
        .applied(vec![router(&[
            ("0.0.0.0/0", "10.2.0.9"),
            ("198.51.100.0/24", "10.1.0.9"),
        ])])
        .await;
    let all = format!("0.0.0.0/0: route_to_vtep {blue}");
    let site = format!("198.51.100.0/24: route_to_vtep {red}");
    for leaf in ["leaf1", "leaf2"] {
        assert_eq!(held(&world, leaf).await, [&all, own[0], own[1], &site], "{leaf}");
    }

    // One route gets another target in one step; the other gets a target that nobody has.
    world
        .applied(vec![router(&[
            ("0.0.0.0/0", "10.1.0.9"),
            ("198.51.100.0/24", "10.1.0.200"),
        ])])
        .await;
    let all = format!("0.0.0.0/0: route_to_vtep {red}");
    assert_eq!(held(&world, "leaf2").await, [&all, own[0], own[1]]);

    // The routes disappear with the attachment, and come back with another one that gets the address.
    world.applied(vec![delete(Kind::Attachment, "a1")]).await;
    assert_eq!(held(&world, "leaf2").await, own);
    let mut other = attach("a2", "red", "host2");
    other.ips = vec!["10.1.0.9".parse().unwrap()];
    world.applied(vec![create(other)]).await;
    let all = format!("0.0.0.0/0: route_to_vtep {}", mac_of(&world, "a2").await);
    assert_eq!(held(&world, "leaf2").await, [&all, own[0], own[1]]);

    world.applied(vec![router(&[])]).await;
    assert_eq!(held(&world, "leaf2").await, [""; 0]);
    for device in 0..7 {
        world.settled(device).await;
    }
}

#[tokio::test]
async fn routes_that_make_no_sense_are_refused_with_their_field() {
    let world = world().await;
    let good = ("0.0.0.0/0", "10.2.0.9");
    let cases: &[(&str, &str, &str)] = &[
        ("198.51.100.1/24", "10.2.0.9", "routes[1].to"),
        ("0.0.0.0/0", "10.1.0.9", "routes[1].to"),
        ("10.1.0.0/24", "10.2.0.9", "routes[1].to"),
        ("10.1.0.128/25", "10.2.0.9", "routes[1].to"),
        ("224.0.0.0/4", "10.2.0.9", "routes[1].to"),
        ("127.0.0.0/8", "10.2.0.9", "routes[1].to"),
        ("fe80::/10", "10.2.0.9", "routes[1].to"),
        ("198.51.100.0/24", "10.3.0.9", "routes[1].via"),
        ("2001:db8::/32", "10.2.0.9", "routes[1].via"),
    ];
    for (to, via, field) in cases {
        let error = world.commit(vec![router(&[good, (to, via)])]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid, "{to} via {via}: {error}");
        assert!(
            error.errors.iter().any(|e| e.field == format!("here.{field}")),
            "{field}: {error:?}"
        );
    }
    let many: Vec<String> = (0..1025)
        .map(|i| format!("198.18.{}.{}/32", i / 256, i % 256))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|to| (to.as_str(), "10.2.0.9")).collect();
    let error = world.commit(vec![router(&many)]).await.unwrap_err();
    assert_eq!(
        (error.code, error.errors[0].field.as_str()),
        (ErrorCode::Invalid, "here.routes")
    );
}

#[tokio::test]
async fn a_network_keeps_the_subnets_that_routes_need() {
    let world = world().await;
    world
        .applied(vec![router(&[
            ("10.2.1.0/24", "10.2.0.9"),
            ("198.51.100.0/24", "10.2.0.200"),
        ])])
        .await;
    let with = |cidr: &str| {
        let Change::Create(vdc, Spec::Network(spec)) = network("blue", cidr) else {
            unreachable!()
        };
        Change::Replace(vdc, Spec::Network(NetworkSpec { ..spec }))
    };
    // With the first, 10.2.1.0/24 would lie in the network itself; with the second, 10.2.0.200 would not exist.
    for cidr in ["10.2.0.0/23", "10.2.0.0/25"] {
        let error = world.commit(vec![with(cidr)]).await.unwrap_err();
        assert_eq!(
            (error.code, error.errors[0].field.as_str()),
            (ErrorCode::InUse, "here.subnets"),
            "{cidr}"
        );
    }
    world.applied(vec![router(&[]), with("10.2.0.0/23")]).await;
}

#[tokio::test]
async fn a_vdc_has_no_more_routes_than_it_may() {
    let world = world().await;
    let limited = |routes| {
        let mut spec = VdcSpec::new(n("v"));
        spec.limits = Limits {
            routes,
            ..Limits::default()
        };
        Change::Put(n("v"), Spec::Vdc(spec))
    };
    let one = ("198.51.100.0/24", "10.2.0.9");
    world.applied(vec![limited(Some(1)), router(&[one])]).await;
    let error = world
        .commit(vec![router(&[one, ("203.0.113.0/24", "10.2.0.9")])])
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted, "{error}");
    assert!(error.to_string().contains("at most 1"), "{error}");
    let error = world.commit(vec![limited(Some(0))]).await.unwrap_err();
    assert_eq!(
        (error.code, error.errors[0].field.as_str()),
        (ErrorCode::InUse, "here.limits.routes")
    );
    // One route instead of the other, and then none.
    world.applied(vec![router(&[("203.0.113.0/24", "10.2.0.9")])]).await;
    world.applied(vec![router(&[]), limited(Some(0))]).await;
}
