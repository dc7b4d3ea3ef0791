//! The plugin as runtimes call it, against a real agent and controller. Needs root and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::path::Path;

use common::{Netns, World, ip};
use serde_json::{Value, json};
use vfabric_cni::protocol::{self, Reply, Request, Slot, Wish};

fn none() -> Value {
    json!({})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn add_check_and_del() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    let entities = world.leaf.entities().len();
    let slot = ("c1", "eth0");
    let result = world.cni("ADD", slot, &pod.path(), none()).await.unwrap();
    // Host and leaf hold it when ADD returns.
    let [attachment] = world.attachments("blue").await.try_into().unwrap();
    assert_eq!(attachment.applied.waiting, []);
    assert!(world.leaf.entities().len() > entities);
    assert_eq!(result["interfaces"][0]["sandbox"], pod.path());
    assert_eq!(result["interfaces"][0]["mtu"], 1500);
    let shown: Value = serde_json::from_str(&ip(&["-n", &pod.0, "-j", "addr", "show", "eth0"])).unwrap();
    assert_eq!(shown[0]["address"], result["interfaces"][0]["mac"]);
    assert_eq!(shown[0]["operstate"], "UP");
    for address in result["ips"].as_array().unwrap() {
        let text = address["address"].as_str().unwrap();
        let held = shown[0]["addr_info"].as_array().unwrap();
        let found = held
            .iter()
            .any(|a| text == format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]));
        assert!(found, "{text} is not among {held:?}");
    }
    assert_eq!(result["ips"][0]["gateway"], "10.1.0.1");
    assert!(ip(&["-n", &pod.0, "route"]).contains("default via 10.1.0.1"));

    // A second ADD has the same result. CHECK accepts it, and refuses another result.
    assert_eq!(world.cni("ADD", slot, &pod.path(), none()).await.unwrap(), result);
    let previous = json!({ "prevResult": result });
    assert_eq!(world.cni("CHECK", slot, &pod.path(), previous).await, Ok(Value::Null));
    let mut other = result.clone();
    other["ips"][0]["address"] = "10.1.0.77/24".into();
    let differs = world
        .cni("CHECK", slot, &pod.path(), json!({ "prevResult": other }))
        .await
        .unwrap_err();
    assert!(differs["msg"].as_str().unwrap().contains("10.1.0.77/24"), "{differs}");

    // DEL as containerd sends it, and again.
    let pin = world.pins().await.remove(0);
    assert!(Path::new("/run/netns").join(&pin).exists());
    for _ in 0..2 {
        assert_eq!(world.cni("DEL", slot, "", none()).await, Ok(Value::Null));
    }
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(pod.links(), Vec::<String>::new());
    assert!(!Path::new("/run/netns").join(&pin).exists(), "the pin stays");
    assert_eq!(std::fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
    assert_eq!(world.leaf.entities().len(), entities);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_taken_by_any_path_and_its_end_disturbs_nothing() {
    let world = World::new().await;
    // By the path that `ctr run --cni` uses: that of a process.
    let mut holder = std::process::Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    world
        .until("a namespace of its own", async |_| {
            std::fs::read_link(&path).is_ok_and(|n| n != own)
        })
        .await;
    world.cni("ADD", ("c1", "eth0"), &path, none()).await.unwrap();
    let pod = Netns(world.pins().await.remove(0));
    assert_eq!(pod.links(), ["eth0"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(world.cni("DEL", ("c1", "eth0"), "", none()).await, Ok(Value::Null));
    assert_eq!(world.attachments("blue").await.len(), 0);
    // The host's own namespace and other files are refused, and nothing stays.
    let file = world.state().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [
        "/proc/1/ns/net",
        "/proc/self/ns/mnt",
        "/run/netns/absent",
        file.to_str().unwrap(),
    ] {
        let refused = world.cni("ADD", ("c2", "eth0"), path, none()).await.unwrap_err();
        assert_eq!(refused["code"], 4, "{path}: {refused}");
    }
    assert_eq!(std::fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_fabric_refuses_is_said_and_leaves_nothing() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    for (wish, said) in [
        (json!({ "vdc": "other" }), "vDC `other` is not assigned to host"),
        (json!({ "vdc": "absent" }), "vDC `absent` is not assigned to host"),
        (json!({ "network": "absent" }), "network"),
        (json!({ "ips": ["192.0.2.1"] }), "192.0.2.1"),
        (json!({ "mac": "01:00:00:00:00:01" }), "mac"),
    ] {
        let refused = world.cni("ADD", ("c1", "eth0"), &pod.path(), wish).await.unwrap_err();
        assert!(refused["msg"].as_str().unwrap().contains(said), "{refused}");
        assert_eq!(refused["code"], 100, "{refused}");
    }
    assert_eq!(pod.links(), Vec::<String>::new());
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(std::fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
    let asked = json!({ "runtimeConfig": { "mac": "02:00:00:00:00:42", "ips": ["10.1.0.42/24"] } });
    let result = world.cni("ADD", ("c1", "eth0"), &pod.path(), asked).await.unwrap();
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:42");
    assert_eq!(result["ips"].as_array().unwrap().len(), 1);
    assert_eq!(result["ips"][0]["address"], "10.1.0.42/24");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_has_several_interfaces_and_garbage_goes() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    for (interface, network) in [("eth0", "red"), ("net1", "green"), ("net2", "green")] {
        let wish = json!({ "network": network });
        world.cni("ADD", ("c1", interface), &pod.path(), wish).await.unwrap();
    }
    assert_eq!(pod.links().len(), 3);
    let other = Netns::new("pod2");
    world
        .cni("ADD", ("c2", "eth0"), &other.path(), json!({ "name": "elsewhere" }))
        .await
        .unwrap();
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "net1" }] });
    assert_eq!(world.cni("GC", ("", ""), "", valid).await, Ok(Value::Null));
    assert_eq!(pod.links(), ["net1"]);
    // Garbage of another CNI network is not collected.
    assert_eq!(other.links(), ["eth0"]);
    assert_eq!(world.pins().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_dies_leaves_a_complete_attachment_or_none() {
    let mut world = World::new().await;
    let pod = Netns::new("pod");
    let result = world.cni("ADD", ("kept", "eth0"), &pod.path(), none()).await.unwrap();
    // Killed after the journal has the entry `adding`, before ADD has returned.
    world.leaf.go_offline();
    let request = Request::Add {
        slot: Slot {
            container: "lost".into(),
            interface: "net1".into(),
        },
        netns: pod.path(),
        wish: Wish {
            cni_network: "tenants".into(),
            vdc: "blue".into(),
            network: "green".into(),
            mac: None,
            ips: Vec::new(),
            workload: None,
        },
    };
    let mut asking = world.connect();
    protocol::send(&mut asking, &request).unwrap();
    world
        .until("the second is asked for", async |w| {
            w.attachments("blue").await.len() == 2
        })
        .await;
    let code = world.cni("STATUS", ("", ""), "", none()).await;
    assert_eq!(code, Ok(Value::Null));
    world.kill_agent();
    let away = world.cni("STATUS", ("", ""), "", none()).await.unwrap_err();
    assert_eq!(away["code"], 50);
    world.leaf.go_online();
    world.start_agent().await;
    world
        .until("the unfinished one is undone", async |w| {
            w.attachments("blue").await.len() == 1
        })
        .await;
    world
        .until("its interface goes", async |_| pod.links() == ["eth0"])
        .await;
    // The attachment of a successful ADD still exists, and is removed on request.
    let previous = json!({ "prevResult": result });
    assert_eq!(
        world.cni("CHECK", ("kept", "eth0"), &pod.path(), previous).await,
        Ok(Value::Null)
    );
    assert_eq!(
        world.cni("DEL", ("kept", "eth0"), &pod.path(), none()).await,
        Ok(Value::Null)
    );
    world
        .until("the journal is empty", async |w| {
            std::fs::read_dir(w.state().join("attachments")).unwrap().count() == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_host_nothing_is_left_over() {
    let mut world = World::new().await;
    let pod = Netns::new("pod");
    world.cni("ADD", ("c1", "eth0"), &pod.path(), none()).await.unwrap();
    let pin = world.pins().await.remove(0);
    world.kill_agent();
    // Namespaces are gone, the journal is there.
    drop(pod);
    ip(&["netns", "del", &pin]);
    world.start_agent().await;
    world
        .until("the attachment is gone", async |w| {
            w.attachments("blue").await.is_empty()
        })
        .await;
    let journal = world.state().join("attachments");
    world
        .until("the journal is empty", async |_| {
            std::fs::read_dir(&journal).unwrap().count() == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_start_and_end_at_once() {
    let world = std::sync::Arc::new(World::new().await);
    let pods: Vec<Netns> = (0..20).map(|_| Netns::new("pod")).collect();
    for command in ["ADD", "DEL"] {
        let all = pods.iter().enumerate().map(|(i, pod)| {
            let (world, path, id) = (std::sync::Arc::clone(&world), pod.path(), format!("c{i}"));
            tokio::spawn(async move { world.cni(command, (&id, "eth0"), &path, json!({})).await.unwrap() })
        });
        for done in all.collect::<Vec<_>>() {
            done.await.unwrap();
        }
        let expected = if command == "ADD" { 20 } else { 0 };
        assert_eq!(world.attachments("blue").await.len(), expected);
        assert_eq!(pods.iter().map(|p| p.links().len()).sum::<usize>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_socket_is_answered_or_cut_off() {
    use std::io::{Read, Write};
    let world = World::new().await;
    for octets in [
        &b"\xff\xff\xff\xff{}"[..],
        b"\0\0\0\x02[]",
        b"\0\0\0\x09{\"command",
        b"\0",
    ] {
        let mut stream = world.connect();
        stream.write_all(octets).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        if let Some(text) = reply.get(4..) {
            let reply: Reply = serde_json::from_slice(text).unwrap();
            assert!(matches!(reply, Reply::Failed { code: 6, .. }), "{reply:?}");
        }
    }
    assert_eq!(world.cni("STATUS", ("", ""), "", none()).await, Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_and_wrong_calls() {
    let world = World::new().await;
    let version = world
        .cni("VERSION", ("", ""), "", json!({ "cniVersion": "0.4.0" }))
        .await
        .unwrap();
    let supported = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(
        version,
        json!({ "cniVersion": "0.4.0", "supportedVersions": supported })
    );
    for (command, slot, netns, extra, code) in [
        (
            "ADD",
            ("c1", "eth0"),
            "/run/netns/x",
            json!({ "cniVersion": "0.2.0" }),
            1,
        ),
        (
            "ADD",
            ("c1", "eth0"),
            "/run/netns/x",
            json!({ "ipam": { "type": "absent" } }),
            102,
        ),
        ("ADD", ("", "eth0"), "/run/netns/x", none(), 4),
        ("ADD", ("c1", "eth0"), "", none(), 4),
        ("PUT", ("c1", "eth0"), "", none(), 4),
        ("ADD", ("c1", "eth0"), "/run/netns/x", json!({ "vdc": 7 }), 6),
        ("ADD", ("c1", "eth0"), "/run/netns/x", json!({ "vdc": "" }), 7),
        ("CHECK", ("c1", "eth0"), "/run/netns/x", none(), 7),
    ] {
        let error = world.cni(command, slot, netns, extra).await.unwrap_err();
        assert_eq!(error["code"], code, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipam_plugin_gives_addresses_and_gets_them_back() {
    let world = World::new().await;
    let leases = tempfile::tempdir().unwrap();
    let range = json!([[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.50", "rangeEnd": "10.1.0.51" }]]);
    let ipam = json!({ "type": "host-local", "dataDir": leases.path(), "ranges": range });
    let config = json!({ "cniVersion": "1.0.0", "ipam": ipam });
    let held = || {
        let files = std::fs::read_dir(leases.path().join("tenants"))
            .into_iter()
            .flatten()
            .flatten();
        let names = files.map(|f| f.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.starts_with("10.")).collect();
        names.sort();
        names
    };
    let pods = [Netns::new("pod"), Netns::new("pod"), Netns::new("pod")];
    let add = async |i: usize, extra: Value| {
        let (mut all, id) = (config.clone(), format!("c{i}"));
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        world.cni("ADD", (&id, "eth0"), &pods[i].path(), all).await
    };
    // An attachment that the fabric refuses uses no address.
    let refused = add(0, json!({ "network": "green" })).await.unwrap_err();
    assert!(refused["msg"].as_str().unwrap().contains("10.1.0.5"), "{refused}");
    assert_eq!((held().len(), pods[0].links().len()), (0, 0));
    let result = add(0, none()).await.unwrap();
    let address = result["ips"][0]["address"].as_str().unwrap().to_owned();
    assert_eq!(held(), [address.strip_suffix("/24").unwrap()]);
    assert_eq!(
        result["ips"][0]["gateway"], "10.1.0.1",
        "the fabric's, not the plugin's"
    );
    assert_eq!(add(0, none()).await.unwrap(), result);
    assert_eq!(held().len(), 1);
    let mut previous = config.clone();
    previous["prevResult"] = result;
    let check = world.cni("CHECK", ("c0", "eth0"), &pods[0].path(), previous).await;
    assert_eq!(check, Ok(Value::Null));
    add(1, none()).await.unwrap();
    let full = add(2, none()).await.unwrap_err();
    assert!(
        full["code"] == 102 && full["msg"].as_str().unwrap().starts_with("ipam: plugin `host-local`"),
        "{full}"
    );
    assert_eq!((held().len(), world.attachments("blue").await.len()), (2, 2));
    // DEL, twice, then GC for the other one.
    for _ in 0..2 {
        assert_eq!(
            world.cni("DEL", ("c0", "eth0"), "", config.clone()).await,
            Ok(Value::Null)
        );
    }
    assert_eq!(held().len(), 1);
    let third = add(2, none()).await.unwrap();
    let mut valid = config.clone();
    valid["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    assert_eq!(world.cni("GC", ("", ""), "", valid).await, Ok(Value::Null));
    assert_eq!(third["ips"][0]["address"], format!("{}/24", held()[0]));
    assert_eq!(held().len(), 1);
    assert_eq!((pods[1].links().len(), pods[2].links().len()), (0, 1));
}

/// The index of an interface: another one has another.
fn index(pod: &Netns, interface: &str) -> Value {
    let links: Value = serde_json::from_str(&ip(&["-n", &pod.0, "-j", "link", "show", interface])).unwrap();
    links[0]["ifindex"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interfaces_come_go_and_change_their_network_while_a_pod_runs() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    let slot = |interface: &str| Slot {
        container: "c1".into(),
        interface: interface.into(),
    };
    let wish = |network: &str| Wish {
        cni_network: String::new(),
        vdc: "blue".into(),
        network: network.into(),
        mac: None,
        ips: Vec::new(),
        workload: None,
    };
    let (interface, network) = (slot("net1"), wish("green"));
    let plug = Request::Plug {
        slot: interface.clone(),
        wish: network.clone(),
    };
    let refused = world.ask(plug.clone()).await;
    assert!(
        matches!(&refused, Reply::Failed { message, .. } if message.contains("has no interface")),
        "{refused:?}"
    );
    world.cni("ADD", ("c1", "eth0"), &pod.path(), none()).await.unwrap();
    let Reply::Attached(plugged) = world.ask(plug).await else {
        panic!("not plugged")
    };
    assert!(plugged.addresses[0].to_string().starts_with("10.2.0."), "{plugged:?}");
    let before = (index(&pod, "eth0"), index(&pod, "net1"));

    let swap = |network: &str| Request::Swap {
        slot: slot("net1"),
        cni_network: None,
        network: network.into(),
        mac: None,
        ips: vec!["10.1.0.99".parse().unwrap()],
    };
    let swapped = world.ask(swap("red")).await;
    let Reply::Attached(swapped) = swapped else {
        panic!("not swapped: {swapped:?}")
    };
    assert_eq!(
        (&swapped.mac, swapped.addresses[0].to_string().as_str()),
        (&plugged.mac, "10.1.0.99/24")
    );
    // The veth stays, and so does the untouched interface.
    assert_eq!((index(&pod, "eth0"), index(&pod, "net1")), before);
    let shown = ip(&["-n", &pod.0, "address", "show", "net1"]);
    assert!(
        shown.contains("inet 10.1.0.99/24") && !shown.contains("10.2.0."),
        "{shown}"
    );
    let refused = world.ask(swap("absent")).await;
    assert!(matches!(&refused, Reply::Failed { code: 100, .. }), "{refused:?}");
    let listed = world.ask(Request::List).await;
    assert!(
        matches!(&listed, Reply::Listed(all) if all.len() == 2 && all[1].1.network == "red"),
        "{listed:?}"
    );
    // The runtime knows of one interface only; all go.
    world.cni("DEL", ("c1", "eth0"), "", none()).await.unwrap();
    assert_eq!(pod.links(), Vec::<String>::new());
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(std::fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
}

/// All places agree that the pod has its interface, or that it has none.
async fn settled(world: &World, pod: &Netns) -> Option<bool> {
    let attachments = world.attachments("blue").await;
    let journal = std::fs::read_dir(world.state().join("attachments")).unwrap();
    let journal = journal
        .filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "json"))
        .count();
    match (attachments.as_slice(), pod.links().as_slice(), journal) {
        ([], [], 0) => Some(false),
        ([a], [link], 1) if a.applied.waiting.is_empty() && link == "eth0" => Some(true),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_whatever_point_the_agent_dies_everything_agrees_afterwards() {
    let mut world = World::new().await;
    let pod = Netns::new("pod");
    let (mut whole, mut nothing) = (0, 0);
    for round in 0..16u64 {
        let (socket, path) = (world.socket(), pod.path());
        let adding = tokio::spawn(common::cni(socket, "ADD", ("c1", "eth0"), path, none()));
        // From its first trace on, in steps until after its end.
        let journal = world.state().join("attachments");
        while std::fs::read_dir(&journal).unwrap().next().is_none() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_micros(round * 1500)).await;
        world.kill_agent();
        world.start_agent().await;
        let added = adding.await.unwrap();
        let mut has = None;
        world
            .until("everything agrees", async |w| {
                has = settled(w, &pod).await;
                has.is_some()
            })
            .await;
        if added.is_ok() {
            assert_eq!(has, Some(true), "round {round}: ADD succeeded");
        }
        if has == Some(true) {
            whole += 1
        } else {
            nothing += 1
        }
        assert_eq!(world.cni("DEL", ("c1", "eth0"), "", none()).await, Ok(Value::Null));
        assert_eq!(settled(&world, &pod).await, Some(false), "round {round}: after DEL");
    }
    println!("{whole} complete, {nothing} not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_whatever_point_the_agent_dies_a_swap_has_happened_or_has_not() {
    let mut world = World::new().await;
    let pod = Netns::new("pod");
    world.cni("ADD", ("c1", "eth0"), &pod.path(), none()).await.unwrap();
    let slot = Slot {
        container: "c1".into(),
        interface: "eth0".into(),
    };
    let (mut at, mut there, mut back) = ("red", 0, 0);
    for round in 0..12u64 {
        let to = if at == "red" { "green" } else { "red" };
        let had = world.attachments("blue").await.remove(0);
        let request = Request::Swap {
            slot: slot.clone(),
            cni_network: None,
            network: to.into(),
            mac: None,
            ips: Vec::new(),
        };
        let mut asking = world.connect();
        protocol::send(&mut asking, &request).unwrap();
        // In steps until after its end.
        tokio::time::sleep(std::time::Duration::from_micros(round * 2500)).await;
        world.kill_agent();
        let promised = protocol::receive::<Reply>(&mut asking);
        world.start_agent().await;
        let mut now = String::new();
        world
            .until("fabric, journal and kernel agree", async |w| {
                let Reply::Listed(listed) = w.ask(Request::List).await else {
                    return false;
                };
                let attachment = w.attachments("blue").await.remove(0);
                let shown = ip(&["-n", &pod.0, "address", "show", "eth0"]);
                let files = std::fs::read_dir(w.state().join("attachments")).unwrap();
                let unfinished = files
                    .flatten()
                    .any(|f| std::fs::read_to_string(f.path()).is_ok_and(|t| t.contains("back")));
                now = attachment.spec.network.to_string();
                let goes_back = now != at || (attachment.ips == had.ips && attachment.spec.mac == had.spec.mac);
                !unfinished
                    && listed[0].1.network == now
                    && attachment.applied.waiting.is_empty()
                    && attachment.ips.iter().all(|ip| shown.contains(&format!(" {ip}/")))
                    && goes_back
            })
            .await;
        if matches!(promised, Ok(Reply::Attached(_))) {
            assert_eq!(now, to, "round {round}: the swap had succeeded");
        }
        if now == to {
            there += 1
        } else {
            back += 1
        }
        at = if now == "red" { "red" } else { "green" };
    }
    println!("{there} in the new network, {back} in the old one");
    world.cni("DEL", ("c1", "eth0"), "", none()).await.unwrap();
    assert_eq!(settled(&world, &pod).await, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_that_is_refused_changes_nothing() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    let result = world.cni("ADD", ("c1", "eth0"), &pod.path(), none()).await.unwrap();
    let before = world.attachments("blue").await.remove(0);
    let request = |network: &str| Request::Swap {
        slot: Slot {
            container: "c1".into(),
            interface: "eth0".into(),
        },
        cni_network: None,
        network: network.into(),
        mac: None,
        ips: Vec::new(),
    };
    let refused = world.ask(request("absent")).await;
    assert!(matches!(&refused, Reply::Failed { code: 100, .. }), "{refused:?}");
    let after = world.attachments("blue").await.remove(0);
    assert_eq!(
        (after.spec, after.ips, after.mac),
        (before.spec, before.ips, before.mac)
    );
    // ADD again is the same, and CHECK agrees.
    assert_eq!(
        world.cni("ADD", ("c1", "eth0"), &pod.path(), none()).await.unwrap(),
        result
    );
    let previous = json!({ "prevResult": result });
    assert_eq!(
        world.cni("CHECK", ("c1", "eth0"), &pod.path(), previous).await,
        Ok(Value::Null)
    );
    let swapped = world.ask(request("green")).await;
    assert!(matches!(&swapped, Reply::Attached(_)), "{swapped:?}");
}
