//! The meta plugin as runtimes call it, with plugins of Debian, scripts, and our own with a real agent and controller. Needs root,
//! `ip`, `nsenter` and containernetworking-plugins.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::fs;

use common::multi::{Multi, until};
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

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn message(error: &Value) -> &str {
    error["msg"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_gets_all_of_its_networks_and_gives_all_of_them_back() {
    let world = World::new().await;
    let fabric = |network: &str| {
        json!({ "cniVersion": "1.0.0", "name": format!("fabric-{network}"), "type": "vfabric", "vdc": "blue", "network": network,
            "socket": world.socket(), "capabilities": { "mac": true, "ips": true } })
    };
    let multi = Multi::new(fabric("red"));
    ip(&[
        "-n",
        &multi.host.0,
        "link",
        "add",
        "m0",
        "type",
        "veth",
        "peer",
        "name",
        "m1",
    ]);
    ip(&[
        "-n",
        &multi.host.0,
        "link",
        "add",
        "d0",
        "type",
        "veth",
        "peer",
        "name",
        "d1",
    ]);
    ip(&["-n", &multi.host.0, "link", "set", "m0", "up"]);
    // With two ports, its MAC address would follow the lower one of theirs, which the plugin's CHECK would report as
    // damage.
    let fixed_mac = "02:00:00:00:09:09";
    ip(&[
        "-n",
        &multi.host.0,
        "link",
        "add",
        "br-plain",
        "address",
        fixed_mac,
        "type",
        "bridge",
    ]);
    multi.definition("plain", Some(multi.bridge("plain", "10.9.1.0/24")));
    let fixed = json!({ "type": "static" });
    let macvlan = json!({ "cniVersion": "0.3.1", "type": "macvlan", "master": "m0", "ipam": fixed,
        "capabilities": { "mac": true, "ips": true } });
    multi.definition("mac", Some(macvlan));
    let ptp_ipam = json!({ "type": "host-local", "dataDir": multi.path("host-local"), "subnet": "10.9.3.0/24" });
    let ptp = json!({ "cniVersion": "1.0.0", "type": "ptp", "ipam": ptp_ipam });
    multi.definition("ptp", Some(ptp));
    let device = json!({ "cniVersion": "1.0.0", "type": "host-device", "device": "d0" });
    multi.definition("device", Some(device));
    multi.definition("green", Some(fabric("green")));
    // Found by its name in the folder of configurations: a list.
    multi.definition("listed", None);
    let mut bridge = multi.bridge("listed", "10.9.2.0/24");
    bridge["ipam"]["routes"] = json!([]);
    let list =
        json!({ "cniVersion": "0.4.0", "name": "listed", "plugins": [bridge, { "type": "tuning", "mtu": 1400 }] });
    fs::write(multi.path("conf/20.conflist"), list.to_string()).unwrap();
    let networks = json!([{ "name": "plain" }, { "name": "plain", "interface": "again" }, { "name": "mac",
        "mac": "02:00:00:00:09:01", "ips": ["10.9.9.9/24"] }, { "name": "ptp" }, { "name": "device" },
        { "name": "green", "namespace": "blue", "ips": ["10.2.0.77"] }, { "name": "listed" }]);
    multi.pod("web", &networks.to_string());

    let pod = Netns::new("pod");
    let result = multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    // The result is the default network's.
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(result["interfaces"][0]["name"], "eth0");
    let names = ["again", "eth0", "net1", "net3", "net4", "net5", "net6", "net7"];
    assert_eq!(sorted(pod.links()), names);
    let shown = "eth0=fabric-red net1=blue/plain again=blue/plain net3=blue/mac net4=blue/ptp net5=blue/device \
        net6=blue/green net7=blue/listed";
    assert_eq!(multi.shown("web"), shown);
    let status = multi.status("web");
    assert_eq!(
        (&status[0]["default"], &status[1].get("default")),
        (&json!(true), &None)
    );
    assert_eq!(
        (&status[3]["mac"], &status[3]["ips"]),
        (&json!("02:00:00:00:09:01"), &json!(["10.9.9.9"]))
    );
    assert_eq!(status[6]["ips"], json!(["10.2.0.77"]));
    let of = |name: &str| ip(&["-n", &pod.0, "address", "show", name]);
    assert!(of("net3").contains("10.9.9.9/24") && of("net3").contains("02:00:00:00:09:01"));
    assert!(of("net6").contains("10.2.0.77/24"));
    assert!(of("net7").contains("mtu 1400"), "{}", of("net7"));
    assert_eq!(multi.leases().len(), 4);
    assert_eq!(world.attachments("blue").await.len(), 2);

    // A repeated ADD has the same result; CHECK compares all of them.
    assert_eq!(multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap(), result);
    assert_eq!(multi.call("CHECK", ("c1", "web"), &pod.path()).await, Ok(Value::Null));
    ip(&["-n", &pod.0, "address", "flush", "dev", "net1"]);
    let differs = multi.call("CHECK", ("c1", "web"), &pod.path()).await.unwrap_err();
    assert!(
        message(&differs).contains("network blue/plain (interface net1)"),
        "{differs}"
    );

    // As containerd ends a sandbox: without a namespace. Pods and definitions are gone already.
    fs::remove_dir_all(multi.path("pods")).unwrap();
    for _ in 0..2 {
        assert_eq!(multi.call("DEL", ("c1", "web"), "").await, Ok(Value::Null));
    }
    assert_eq!(pod.links(), [""; 0]);
    assert!(multi.host.links().contains(&"d0".to_owned()), "the device is not back");
    assert_eq!(multi.leases(), [""; 0]);
    assert_eq!((multi.journal(), multi.status("web")), (0, Value::Null));
    assert_eq!(world.attachments("blue").await.len(), 0);
}

#[tokio::test]
async fn what_fails_late_takes_back_what_was_added_and_succeeds_when_there_is_room_again() {
    let multi = Multi::new(recorder(json!({})));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    // One address: .1 is the gateway's, .2 the only one left.
    let mut narrow = multi.bridge("narrow", "10.9.2.0/30");
    narrow["ipam"]["ranges"][0][0]["gateway"] = "10.9.2.1".into();
    multi.definition("narrow", Some(narrow));
    multi.pod("one", "wide,narrow");
    multi.pod("two", "wide,narrow");
    let (one, two) = (Netns::new("pod"), Netns::new("pod"));
    multi.call("ADD", ("c1", "one"), &one.path()).await.unwrap();
    let leases = multi.leases();
    for _ in 0..3 {
        let full = multi.call("ADD", ("c2", "two"), &two.path()).await.unwrap_err();
        assert!(
            message(&full).contains("network blue/narrow (interface net2): plugin `bridge`"),
            "{full}"
        );
        assert_eq!(full["code"], 102);
        assert_eq!((two.links().len(), multi.status("two")), (0, Value::Null));
    }
    assert_eq!(multi.leases(), leases);
    // The runtime's DEL of something that never existed.
    assert_eq!(multi.call("DEL", ("c2", "two"), &two.path()).await, Ok(Value::Null));
    multi.call("DEL", ("c1", "one"), &one.path()).await.unwrap();
    multi.call("ADD", ("c2", "two"), &two.path()).await.unwrap();
    assert_eq!(sorted(two.links()), ["net1", "net2"]);
    multi.call("DEL", ("c2", "two"), &two.path()).await.unwrap();
    assert_eq!((multi.leases().len(), multi.journal()), (0, 0));
}

#[tokio::test]
async fn del_hands_over_the_octets_of_add_until_it_has_succeeded() {
    let multi = Multi::new(multi_default());
    multi.definition(
        "a",
        Some(recorder(json!({ "strange": { "deep": [1.5, "ü"] }, "huge": 1e300 }))),
    );
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.pod("web", "a,wide,a");
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let added = multi.recorded("ADD net");
    assert_eq!(added.len(), 2);
    assert!(added[0].contains(r#""strange":{"deep":[1.5,"ü"]}"#), "{added:?}");
    // The definition means something else now.
    multi.definition("a", Some(recorder(json!({ "changed": true }))));
    multi.fail("DEL", true);
    let failed = multi.call("DEL", ("c1", "web"), "").await.unwrap_err();
    for interface in ["eth0", "net1", "net3"] {
        assert!(
            message(&failed).contains(&format!("(interface {interface})")),
            "{failed}"
        );
    }
    // The failure of one does not stop the removal of the others.
    assert_eq!((pod.links().len(), multi.leases().len()), (0, 0));
    assert!(multi.journal() > 0);
    multi.fail("DEL", false);
    multi.call("DEL", ("c1", "web"), "").await.unwrap();
    assert_eq!(multi.journal(), 0);
    let deleted = multi.recorded("DEL");
    let order: Vec<&str> = deleted.iter().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert_eq!(order, ["net3", "net1", "eth0", "net3", "net1", "eth0"]);
    for interface in ["net1", "net3"] {
        let add = added.iter().find(|l| l.contains(interface)).unwrap();
        let open = add.replacen("ADD", "DEL", 1);
        let open = open.strip_suffix('}').unwrap();
        for del in deleted.iter().filter(|l| l.contains(&format!("DEL {interface}"))) {
            let result = del
                .strip_prefix(open)
                .unwrap_or_else(|| panic!("{del} does not start with {open}"));
            assert!(result.starts_with(r#","prevResult":{"#), "{result}");
        }
    }
}

fn multi_default() -> Value {
    recorder(json!({ "name": "default-net" }))
}

#[tokio::test]
async fn a_late_del_of_an_older_sandbox_leaves_a_namesake_alone() {
    let multi = Multi::new(multi_default());
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.pod("web", "wide");
    let (old, young) = (Netns::new("pod"), Netns::new("pod"));
    multi.call("ADD", ("old", "web"), &old.path()).await.unwrap();
    multi.call("ADD", ("young", "web"), &young.path()).await.unwrap();
    let (status, leases) = (multi.status("web"), multi.leases());
    assert_eq!(leases.len(), 2);
    multi.call("DEL", ("old", "web"), &old.path()).await.unwrap();
    assert_eq!(
        (multi.status("web"), young.links().as_slice()),
        (status.clone(), &["net1".to_owned()][..])
    );
    let left = status[1]["ips"][0].as_str().unwrap();
    assert_eq!(multi.leases(), [left]);
    // A pod of that name with another UID is another pod.
    let args = "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web;K8S_POD_UID=other";
    let third = Netns::new("pod");
    let refused = multi.call_args("ADD", "third", &third.path(), args).await.unwrap_err();
    assert!(message(&refused).contains("UID") && refused["code"] == 11, "{refused}");
    multi.call("DEL", ("young", "web"), &young.path()).await.unwrap();
    assert_eq!((multi.leases().len(), multi.journal()), (0, 0));
}

#[tokio::test]
async fn one_attachment_gets_the_default_route_and_the_others_get_theirs_back() {
    let multi = Multi::new(json!({}));
    let ipam = json!({ "type": "host-local", "dataDir": multi.path("host-local"), "subnet": "10.9.0.0/24",
        "routes": [{ "dst": "0.0.0.0/0" }] });
    let default = json!({ "cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "br-pods", "isGateway": true,
        "ipam": ipam });
    let multi = multi.with_default(default);
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.pod("web", r#"[{"name":"wide","default-route":["10.9.1.254"]}]"#);
    multi.pod("far", r#"[{"name":"wide","default-route":["192.0.2.1"]}]"#);
    let pod = Netns::new("pod");
    multi.call("ADD", ("c1", "web"), &pod.path()).await.unwrap();
    let routes = |pod: &Netns| ip(&["-n", &pod.0, "route", "show", "default"]);
    assert_eq!(routes(&pod).lines().count(), 1, "{}", routes(&pod));
    assert!(routes(&pod).contains("via 10.9.1.254 dev net1"), "{}", routes(&pod));
    multi.call("DEL", ("c1", "web"), &pod.path()).await.unwrap();
    // A gateway that cannot be reached fails the pod, and nothing stays.
    let other = Netns::new("pod");
    let refused = multi.call("ADD", ("c2", "far"), &other.path()).await.unwrap_err();
    assert!(
        message(&refused).contains("default-route") && message(&refused).contains("192.0.2.1"),
        "{refused}"
    );
    assert_eq!((other.links().len(), multi.leases().len(), multi.journal()), (0, 0, 0));
}

#[tokio::test]
async fn capabilities_devices_and_wrong_asks() {
    let multi = Multi::new(recorder(json!({ "capabilities": { "portMappings": true } })));
    let device = recorder(json!({ "capabilities": { "CNIDeviceInfoFile": true, "bandwidth": true } }));
    multi.definition("device", Some(device));
    multi.pod(
        "web",
        r#"[{"name":"device","bandwidth":{"ingressRate":1000},"cni-args":{"color":"blue"}}]"#,
    );
    let pod = Netns::new("pod");
    let asked = json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 1, "containerPort": 2, "protocol": "tcp" }],
        "bandwidth": { "egressRate": 9 } } });
    multi
        .call_with("ADD", ("c1", "web"), &pod.path(), asked.clone())
        .await
        .unwrap();
    // The requests of Kubernetes itself apply to the default network.
    let given = |interface: &str| {
        let line = multi.recorded(&format!("ADD {interface}")).remove(0);
        serde_json::from_str::<Value>(line.splitn(3, ' ').nth(2).unwrap()).unwrap()
    };
    let ports = &asked["runtimeConfig"]["portMappings"];
    assert_eq!(given("eth0")["runtimeConfig"], json!({ "portMappings": ports }));
    let net1 = given("net1");
    assert_eq!(
        net1["runtimeConfig"]["bandwidth"],
        json!({ "ingressRate": 1000, "ingressBurst": 1000 })
    );
    assert_eq!(net1["args"], json!({ "cni": { "color": "blue" } }));
    let memif =
        json!({ "type": "memif", "version": "1.1.0", "memif": { "role": "slave", "path": "/s", "mode": "ip" } });
    assert_eq!(multi.status("web")[1]["device-info"], memif);
    assert_eq!(fs::read_dir(multi.path("devices")).unwrap().count(), 1);
    multi.call("DEL", ("c1", "web"), "").await.unwrap();
    assert_eq!(fs::read_dir(multi.path("devices")).unwrap().count(), 0);
    // No plugin runs if the annotation is wrong or asks for something unsupported.
    let before = multi.recorded("").len();
    for (networks, code, said) in [
        (r#"[{"name":"device","mac":"02:00:00:00:00:01"}]"#, 2, "mac"),
        (
            r#"[{"name":"device","infiniband-guid":"c2:11:22:33:44:55:66:77"}]"#,
            2,
            "infinibandGUID",
        ),
        (
            r#"[{"name":"device","ipam-claim-reference":"x"}]"#,
            2,
            "ipam-claim-reference",
        ),
        (r#"[{"name":"device","ips":["x"]}]"#, 7, "networks[0].ips[0]"),
        ("device,absent", 7, "blue/absent"),
        ("device@eth0", 7, "eth0"),
    ] {
        multi.pod("web", networks);
        let refused = multi.call("ADD", ("c2", "web"), &pod.path()).await.unwrap_err();
        assert!(
            refused["code"] == code && message(&refused).contains(said),
            "{networks}: {refused}"
        );
    }
    assert_eq!((multi.recorded("").len(), multi.journal()), (before, 0));
    // A pod without a description gets the default network. But an unreadable file may describe it, so then it is
    // refused.
    multi.call("ADD", ("c3", "stranger"), &pod.path()).await.unwrap();
    assert_eq!(multi.shown("stranger"), "eth0=recorded");
    fs::write(multi.path("pods/broken.yaml"), "kind: [").unwrap();
    let refused = multi.call("ADD", ("c4", "other"), &pod.path()).await.unwrap_err();
    assert!(
        refused["code"] == 11 && message(&refused).contains("broken.yaml"),
        "{refused}"
    );
}

#[tokio::test]
async fn status_and_garbage_collection_reach_the_delegates() {
    let multi = Multi::new(multi_default());
    multi.definition("a", Some(recorder(json!({ "name": "net-a" }))));
    let old = recorder(json!({ "name": "net-old", "cniVersion": "1.0.0" }));
    multi.definition("old", Some(old));
    multi.pod("web", "a,a,old");
    let pods = [Netns::new("pod"), Netns::new("pod")];
    for (container, pod) in ["c1", "c2"].iter().zip(&pods) {
        multi.call("ADD", (container, "web"), &pod.path()).await.unwrap();
    }
    assert_eq!(multi.call("STATUS", ("", ""), "").await, Ok(Value::Null));
    multi.fail("STATUS", true);
    let away = multi.call("STATUS", ("", ""), "").await.unwrap_err();
    assert!(message(&away).contains("plugin `recorder`: STATUS"), "{away}");
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "c2", "ifname": "eth0" }] });
    multi.call_with("GC", ("", ""), "", valid).await.unwrap();
    let gone = multi.recorded("DEL");
    assert_eq!(gone.len(), 4, "{gone:?}");
    let collected = multi.recorded("GC");
    let valid = |name: &str| {
        let line = collected.iter().find(|l| l.contains(name)).unwrap();
        let config: Value = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
        config["cni.dev/valid-attachments"].clone()
    };
    let slot = |interface: &str| json!({ "containerID": "c2", "ifname": interface });
    assert_eq!(valid("default-net"), json!([slot("eth0")]));
    assert_eq!(valid("net-a"), json!([slot("net1"), slot("net2")]));
    // Plugins of an older version do not know the verb.
    assert!(!collected.iter().any(|l| l.contains("net-old")), "{collected:?}");
    fs::remove_dir_all(multi.path("pods")).unwrap();
    assert_eq!(multi.call("STATUS", ("", ""), "").await.unwrap_err()["code"], 50);
}

#[tokio::test]
async fn an_add_that_is_killed_leaves_nothing_that_del_or_the_next_add_does_not_take_away() {
    let multi = Multi::new(multi_default());
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.definition("slow", Some(recorder(json!({ "hang": true }))));
    let pod = Netns::new("pod");
    let hangs = multi.path("plugins/hangs");
    for end in ["DEL", "ADD"] {
        multi.pod("web", "wide,slow");
        let mut adding = multi.start("ADD", ("c1", "web"), &pod.path(), json!({}));
        until("the second delegate runs", || {
            fs::read_to_string(&hangs).is_ok_and(|t| t.ends_with('\n'))
        })
        .await;
        adding.kill().unwrap();
        adding.wait().unwrap();
        assert_eq!((pod.links().len(), multi.leases().len()), (1, 1));
        let plugin: i32 = fs::read_to_string(&hangs).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(plugin), nix::sys::signal::SIGKILL).unwrap();
        fs::remove_file(&hangs).unwrap();
        multi.pod("web", "wide");
        multi.call(end, ("c1", "web"), &pod.path()).await.unwrap();
        let left = usize::from(end == "ADD");
        assert_eq!((pod.links().len(), multi.leases().len()), (left, left), "after {end}");
    }
    multi.call("DEL", ("c1", "web"), &pod.path()).await.unwrap();
    assert_eq!((pod.links().len(), multi.leases().len(), multi.journal()), (0, 0, 0));
}

#[tokio::test]
async fn del_waits_for_a_delegate_that_outlives_its_add() {
    let multi = Multi::new(multi_default());
    multi.definition("slow", Some(recorder(json!({ "linger": true }))));
    multi.pod("web", "slow");
    let pod = Netns::new("pod");
    let hangs = multi.path("plugins/hangs");
    let mut adding = multi.start("ADD", ("c1", "web"), &pod.path(), json!({}));
    until("the delegate runs", || hangs.exists()).await;
    adding.kill().unwrap();
    adding.wait().unwrap();
    multi.call("DEL", ("c1", "web"), &pod.path()).await.unwrap();
    let all: Vec<String> = multi
        .recorded("")
        .iter()
        .map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(all, ["ADD eth0", "ADD net1", "ENDED net1", "DEL net1", "DEL eth0"]);
    assert_eq!(multi.journal(), 0);
}
