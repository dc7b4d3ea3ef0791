//! Running pods get, lose and change interfaces when their annotation or a definition changes. Needs root, `ip`,
//! `nsenter` and containernetworking-plugins.

#[allow(unreachable_pub, dead_code)]
mod common;

use common::multi::{Multi, index, until};
use common::{Netns, World, ip};
use serde_json::{Value, json};

fn recorder(more: Value) -> Value {
    let mut config = json!({ "cniVersion": "1.1.0", "name": "recorded", "type": "recorder" });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interfaces_come_go_and_change_while_the_others_stay() {
    let world = World::new().await;
    let fabric = |network: &str| {
        json!({ "cniVersion": "1.0.0", "type": "vfabric", "vdc": "blue", "network": network, "socket": world.socket(),
            "capabilities": { "mac": true, "ips": true } })
    };
    let multi = Multi::new(recorder(json!({})));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.definition("red", Some(fabric("red")));
    multi.definition("green", Some(fabric("green")));
    multi.pod("web", "wide");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let _follower = multi.follow();
    let shows = async |expected: &str| until(expected, || multi.shown("web") == expected).await;
    let wide = index(&pod, "net1");

    // Attached.
    multi.pod("web", "wide,red@data");
    shows("eth0=recorded net1=blue/wide data=blue/red").await;
    let data = index(&pod, "data");
    let mac = multi.status("web")[2]["mac"].clone();
    assert_eq!(world.attachments("blue").await.len(), 1);
    // Swapped: the interface stays, with its MAC address; CHECK knows.
    multi.pod(
        "web",
        r#"[{"name":"wide"},{"name":"green","interface":"data","ips":["10.2.0.88"]}]"#,
    );
    shows("eth0=recorded net1=blue/wide data=blue/green").await;
    assert_eq!((index(&pod, "data"), &multi.status("web")[2]["mac"]), (data, &mac));
    assert_eq!(multi.status("web")[2]["ips"], json!(["10.2.0.88"]));
    assert!(ip(&["-n", &pod.0, "address", "show", "data"]).contains("10.2.0.88/24"));
    assert_eq!(multi.call("CHECK", ("c1", "web"), &pod.path()).await, Ok(Value::Null));
    // Replaced by another kind of plugin under the same name, and back.
    multi.definition("other", Some(multi.bridge("other", "10.9.2.0/24")));
    multi.pod("web", "wide,other@data");
    shows("eth0=recorded net1=blue/wide data=blue/other").await;
    assert_eq!(world.attachments("blue").await.len(), 0);
    multi.pod("web", "wide,red@data");
    shows("eth0=recorded net1=blue/wide data=blue/red").await;
    // The definition changes, not the pod.
    multi.definition("red", Some(fabric("green")));
    until("in the other network", || {
        let ips = multi.status("web")[2]["ips"].to_string();
        ips.contains("10.2.0.") && ip(&["-n", &pod.0, "address", "show", "data"]).contains("10.2.0.")
    })
    .await;
    // Detached, in an order that keeps the other one's name.
    multi.pod("web", "red@data,wide");
    shows("eth0=recorded net1=blue/wide data=blue/red").await;
    multi.pod("web", "wide");
    shows("eth0=recorded net1=blue/wide").await;
    assert_eq!(
        (pod.links(), world.attachments("blue").await.len()),
        (vec!["net1".to_owned()], 0)
    );
    // Nobody has touched the interface that stayed.
    assert_eq!(index(&pod, "net1"), wide);
    assert_eq!(multi.leases().len(), 1);
    // The interfaces that were added later are removed with the rest.
    multi.pod("web", "wide,red");
    shows("eth0=recorded net1=blue/wide net2=blue/red").await;
    multi.call("DEL", ("c1", "web"), "").await.unwrap();
    assert_eq!((pod.links().len(), multi.leases().len(), multi.journal()), (0, 0, 0));
    assert_eq!(world.attachments("blue").await.len(), 0);
}

#[tokio::test]
async fn what_cannot_be_had_leaves_everything_as_it_was() {
    let multi = Multi::new(recorder(json!({})));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.definition("broken", Some(recorder(json!({ "name": "broken" }))));
    multi.pod("web", "wide@data,wide");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let (before, addresses) = (multi.shown("web"), multi.leases());
    let untouched = index(&pod, "net2");
    multi.fail("ADD", true);
    let follower = multi.follow();
    // A swap that fails: the old network is restored.
    multi.pod("web", "broken@data,wide");
    until("the failure is logged", || {
        follower.log().contains("FailedAddingInterface")
    })
    .await;
    until("the old one is back and shown", || {
        multi.shown("web") == before && { pod.links().contains(&"data".to_owned()) && multi.leases().len() == 2 }
    })
    .await;
    assert_eq!(index(&pod, "net2"), untouched);
    assert_eq!(multi.shown("web"), before);
    // It is not retried while nothing changes, because that would remove the old network again and again.
    let data = index(&pod, "data");
    // An annotation that cannot be read, and a network that does not exist: nothing is detached.
    for (networks, said) in [("wide@data,,", "networks[1]"), ("absent", "blue/absent")] {
        multi.pod("web", networks);
        until(said, || follower.log().contains(said)).await;
    }
    assert_eq!((index(&pod, "data"), index(&pod, "net2")), (data, untouched));
    // One more that cannot be made: the existing interfaces stay, and the other new ones are added.
    multi.pod("web", "wide@data,wide,broken@more,wide@last");
    until("the new one is added and shown", || {
        multi.shown("web").contains("last=blue/wide")
    })
    .await;
    assert!(!pod.links().contains(&"more".to_owned()));
    assert_eq!((index(&pod, "data"), index(&pod, "net2")), (data, untouched));
    multi.pod("web", "wide@data,wide");
    until("as it was", || multi.shown("web") == before).await;
    assert_eq!(multi.leases().len(), addresses.len());
    // The pod's file goes before the runtime ends it: nothing is detached for that.
    std::fs::remove_file(multi.path("pods/pod-web.yaml")).unwrap();
    multi.pod("other", "");
    multi.call("DEL", ("c1", "web"), "").await.unwrap();
    assert_eq!((pod.links().len(), multi.leases().len(), multi.journal()), (0, 0, 0));
}

#[tokio::test]
async fn a_follower_that_is_killed_goes_on_where_it_was() {
    let multi = Multi::new(recorder(json!({})));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.definition("slow", Some(recorder(json!({ "hang": true }))));
    multi.pod("web", "wide");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let wide = index(&pod, "net1");
    let hangs = multi.path("plugins/hangs");
    for round in 0..2 {
        let follower = multi.follow();
        multi.pod("web", "wide,wide@before,slow@slow");
        until("the plugin runs", || {
            std::fs::read_to_string(&hangs).is_ok_and(|t| t.ends_with('\n'))
        })
        .await;
        drop(follower);
        let plugin: i32 = std::fs::read_to_string(&hangs).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(plugin), nix::sys::signal::SIGKILL).unwrap();
        std::fs::remove_file(&hangs).unwrap();
        multi.pod("web", "wide,wide@before");
        let follower = multi.follow();
        until("the unfinished attachment is removed", || {
            multi.recorded("DEL slow").len() == round + 1
        })
        .await;
        until("the rest is attached", || {
            multi.shown("web") == "eth0=recorded net1=blue/wide before=blue/wide"
        })
        .await;
        drop(follower);
    }
    assert_eq!(index(&pod, "net1"), wide);
    // A lost status is written again, without running a plugin.
    let adds = multi.recorded("ADD").len();
    std::fs::remove_file(multi.path("status/blue_web.json")).unwrap();
    let follower = multi.follow();
    until("the status is back", || multi.shown("web").contains("before=blue/wide")).await;
    assert_eq!(multi.recorded("ADD").len(), adds);
    drop(follower);
    // The host has been restarted: namespaces are gone, but the journal exists.
    for file in std::fs::read_dir(multi.path("state")).unwrap().flatten() {
        let path = file.path();
        if path.extension().is_some_and(|e| e == "json") {
            let mut sandbox: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            sandbox["boot_id"] = "before".into();
            std::fs::write(&path, sandbox.to_string()).unwrap();
        }
    }
    let _follower = multi.follow();
    until("nothing is left over", || multi.journal() == 0).await;
    assert_eq!((multi.leases().len(), multi.status("web")), (0, Value::Null));
}

#[tokio::test]
async fn the_default_route_moves_to_an_attachment_and_back() {
    let multi = Multi::new(json!({}));
    let ipam = json!({ "type": "host-local", "dataDir": multi.path("host-local"), "subnet": "10.9.0.0/24",
        "routes": [{ "dst": "0.0.0.0/0" }] });
    let default = json!({ "cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "br-pods", "isGateway": true,
        "ipam": ipam });
    let multi = multi.with_default(default);
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.pod("web", "");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let routes = || ip(&["-n", &pod.0, "route", "show", "default"]);
    let before = routes();
    assert!(before.contains("via 10.9.0.1 dev eth0"), "{before}");
    let _follower = multi.follow();
    multi.pod("web", r#"[{"name":"wide","default-route":["10.9.1.254"]}]"#);
    until("the other gateway", || multi.shown("web").contains("net1")).await;
    assert!(
        routes().contains("via 10.9.1.254 dev net1") && !routes().contains("eth0"),
        "{}",
        routes()
    );
    multi.pod("web", "");
    until("detached", || !multi.shown("web").contains("net1")).await;
    assert_eq!(routes(), before);
    multi.call("DEL", ("c1", "web"), &pod.path()).await.unwrap();
    assert_eq!((multi.leases().len(), multi.journal()), (0, 0));
}

#[tokio::test]
async fn a_macvlan_without_its_master_does_not_cost_the_old_network() {
    let multi = Multi::new(recorder(json!({})));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    let ipam = json!({ "type": "host-local", "dataDir": multi.path("host-local"), "subnet": "10.9.3.0/24" });
    for (name, ipam) in [("bare", json!({})), ("leased", ipam)] {
        let config = json!({ "cniVersion": "1.0.0", "type": "macvlan", "master": "absent0", "ipam": ipam });
        multi.definition(name, Some(config));
    }
    multi.pod("web", "wide@data");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let (before, addresses) = (multi.shown("web"), multi.leases().len());
    let follower = multi.follow();
    for (i, name) in ["bare", "leased"].into_iter().enumerate() {
        multi.pod("web", &format!("{name}@data"));
        until("the failure is logged", || {
            follower.log().matches("FailedAddingInterface").count() > i
        })
        .await;
        until("the old network is back", || {
            multi.shown("web") == before && pod.links() == ["data"] && multi.leases().len() == addresses
        })
        .await;
        multi.pod("web", "wide@data");
    }
    multi.call("DEL", ("c1", "web"), "").await.unwrap();
    assert_eq!((pod.links().len(), multi.leases().len(), multi.journal()), (0, 0, 0));
}
