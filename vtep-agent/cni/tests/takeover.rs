//! Interfaces that move: to a pod on another host, which takes its workload's attachment over (two agents, the plugins as runtimes call
//! them), and to another name in their pod. Needs root and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::process::Command;

use common::multi::Multi;
use common::{Netns, World, cni, ip, unique};
use serde_json::{Value, json};
use vfabric_api::intent::{MigrationPhase, Place};

const MACHINE: &str = "3f1b7c1e-9f0d-4a57-8b0a-2f8d3c0d6c11";

/// Hosts of the attachments, in the order of the interfaces' names, each with the phase and target of its migration.
async fn whereabouts(world: &World) -> Vec<(String, Option<(MigrationPhase, String)>)> {
    let mut all: Vec<_> = world.attachments("blue").await.into_iter().map(|a| a.spec).collect();
    let interface = |place: &Place| match place {
        Place::Host { interface, .. } => interface.clone(),
        Place::Port { .. } => panic!("{place:?}"),
    };
    all.sort_by_key(|spec| interface(&spec.place));
    let one = |spec: vfabric_api::intent::AttachmentSpec| match spec.place {
        Place::Host { host, .. } => {
            let target = spec.migration.map(|m| (m.phase, m.host.to_string()));
            (host.to_string(), target)
        }
        Place::Port { .. } => panic!("{spec:?}"),
    };
    all.into_iter().map(one).collect()
}

fn only_at(world: &World, agent: usize) -> (String, Option<(MigrationPhase, String)>) {
    (world.agent(agent).host().to_owned(), None)
}

fn prepared(world: &World) -> (String, Option<(MigrationPhase, String)>) {
    let [from, to] = [0, 1].map(|agent| world.agent(agent).host().to_owned());
    (from, Some((MigrationPhase::Prepared, to)))
}

/// The machine continues in this namespace, and looks for a neighbour.
fn speaks(pod: &Netns, neighbour: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &pod.0, "ping", "-c", "1", "-W", "1", neighbour]);
    command.output().unwrap();
}

fn addresses(result: &Value) -> (Value, Value) {
    (result["interfaces"][0]["mac"].clone(), result["ips"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_on_another_host_takes_its_workload_over_and_the_old_pods_del_comes_late() {
    let mut world = World::of(2).await;
    let (old, new) = (Netns::new("old"), Netns::new("new"));
    let of_machine = json!({ "workload": MACHINE });
    let first = world
        .agent(0)
        .cni("ADD", ("c1", "eth0"), &old.path(), of_machine.clone())
        .await
        .unwrap();
    let second = world
        .agent(1)
        .cni("ADD", ("c2", "eth0"), &new.path(), of_machine.clone())
        .await
        .unwrap();
    assert_eq!(addresses(&first), addresses(&second));
    assert_eq!(whereabouts(&world).await, [prepared(&world)]);
    assert_eq!(
        (old.links(), new.links()),
        (vec!["eth0".to_owned()], vec!["eth0".to_owned()])
    );
    // Both pods are as their runtimes asked for.
    for (agent, container, pod, result) in [(0, "c1", &old, &first), (1, "c2", &new, &second)] {
        let held = json!({ "workload": MACHINE, "prevResult": result });
        let checked = world
            .agent(agent)
            .cni("CHECK", (container, "eth0"), &pod.path(), held)
            .await;
        assert_eq!(checked, Ok(Value::Null), "{container}");
    }
    // The identity is as good as a password, so users do not see it.
    let shown = format!("{:?}", world.attachments("blue").await);
    assert!(!shown.contains(MACHINE), "{shown}");

    speaks(&new, "10.1.0.200");
    world
        .until("moved", async |world| whereabouts(world).await == [only_at(world, 1)])
        .await;
    world
        .until("gone from the old pod", async |_| old.links().is_empty())
        .await;
    let held = json!({ "workload": MACHINE, "prevResult": first });
    assert!(
        world
            .agent(0)
            .cni("CHECK", ("c1", "eth0"), &old.path(), held)
            .await
            .is_err()
    );
    // The old pod ends late, and its runtime repeats DEL.
    for _ in 0..2 {
        world
            .agent(0)
            .cni("DEL", ("c1", "eth0"), &old.path(), of_machine.clone())
            .await
            .unwrap();
    }
    assert_eq!(world.agent(0).journal(), 0);
    assert_eq!(whereabouts(&world).await, [only_at(&world, 1)]);
    assert_eq!(new.links(), ["eth0"]);
    // The new pod keeps it when its agent starts again, and gives it back with its own DEL.
    world.agent_mut(1).kill();
    world.agent_mut(1).start().await;
    let held = json!({ "workload": MACHINE, "prevResult": second });
    let checked = world.agent(1).cni("CHECK", ("c2", "eth0"), &new.path(), held).await;
    assert_eq!(checked, Ok(Value::Null));
    world
        .agent(1)
        .cni("DEL", ("c2", "eth0"), &new.path(), of_machine)
        .await
        .unwrap();
    assert_eq!(whereabouts(&world).await, []);
    assert_eq!((world.agent(1).journal(), new.links()), (0, Vec::<String>::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_ends_or_dies_leaves_the_old_pod_as_it_was() {
    let mut world = World::of(2).await;
    let (old, new) = (Netns::new("old"), Netns::new("new"));
    let of_machine = json!({ "workload": MACHINE });
    world
        .agent(0)
        .cni("ADD", ("c1", "eth0"), &old.path(), of_machine.clone())
        .await
        .unwrap();
    let index = common::multi::index(&old, "eth0");
    let stays = async |world: &World| {
        world
            .until("as before", async |world| {
                whereabouts(world).await == [only_at(world, 0)]
            })
            .await;
        world.until("nothing left", async |_| new.links().is_empty()).await;
        world
            .until("forgotten", async |world| world.agent(1).journal() == 0)
            .await;
        assert_eq!(
            (old.links(), common::multi::index(&old, "eth0")),
            (vec!["eth0".to_owned()], index)
        );
    };
    world
        .agent(1)
        .cni("ADD", ("c2", "eth0"), &new.path(), of_machine.clone())
        .await
        .unwrap();
    world
        .agent(1)
        .cni("DEL", ("c2", "eth0"), &new.path(), of_machine.clone())
        .await
        .unwrap();
    stays(&world).await;
    // The agent of the target dies at some point of the ADD; the runtime's DEL comes when it is back.
    for pause_ms in [2, 5, 10, 20, 40] {
        let add = cni(
            world.agent(1).socket(),
            "ADD",
            ("c3", "eth0"),
            new.path(),
            of_machine.clone(),
        );
        let add = tokio::spawn(add);
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        world.agent_mut(1).kill();
        world.agent_mut(1).start().await;
        let _ = add.await.unwrap();
        world
            .agent(1)
            .cni("DEL", ("c3", "eth0"), &new.path(), of_machine.clone())
            .await
            .unwrap();
        stays(&world).await;
    }
    // A pod with another address, and one in a network of its own, take nothing over; the error names what differs.
    for (wrong, field) in [
        (json!({ "ips": ["10.1.0.77"] }), "ips"),
        (json!({ "network": "green" }), "network"),
    ] {
        let mut asked = of_machine.clone();
        asked
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        let error = world
            .agent(1)
            .cni("ADD", ("c4", "eth0"), &new.path(), asked.clone())
            .await
            .unwrap_err();
        assert!(error["msg"].as_str().unwrap().contains(field), "{error}");
        world
            .agent(1)
            .cni("DEL", ("c4", "eth0"), &new.path(), asked)
            .await
            .unwrap();
        stays(&world).await;
    }
    world
        .agent(0)
        .cni("DEL", ("c1", "eth0"), &old.path(), of_machine)
        .await
        .unwrap();
    assert_eq!(whereabouts(&world).await, []);
}

/// Two hosts with folders of pods as Kubernetes would have them: KubeVirt migrates a machine with two networks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_a_virtual_machine_of_kubevirt_follow_its_migration() {
    let world = World::of(2).await;
    let fabric = |agent: usize, network: &str| {
        json!({ "cniVersion": "1.0.0", "name": format!("fabric-{network}"), "type": "vfabric", "vdc": "blue",
            "network": network, "socket": world.agent(agent).socket() })
    };
    let hosts = [0, 1].map(|agent| {
        let host = Multi::new(fabric(agent, "red"));
        host.definition("green", Some(fabric(agent, "green")));
        host
    });
    let pods = [Netns::new("old"), Netns::new("new")];
    let machine = unique(MACHINE);
    hosts[0].launcher("virt-launcher-vm1-a", &machine, None, "green");
    hosts[1].launcher("virt-launcher-vm1-b", &machine, Some("9c8e1b52"), "green");
    let names = [("c1", "virt-launcher-vm1-a"), ("c2", "virt-launcher-vm1-b")];
    let first = hosts[0].call("ADD", names[0], &pods[0].path()).await.unwrap();
    let second = hosts[1].call("ADD", names[1], &pods[1].path()).await.unwrap();
    assert_eq!(addresses(&first), addresses(&second));
    let secondary = |host: &Multi, pod: &str| host.status(pod)[1].clone();
    assert_eq!(secondary(&hosts[0], names[0].1), secondary(&hosts[1], names[1].1));
    assert_eq!(whereabouts(&world).await, [prepared(&world), prepared(&world)]);
    assert_eq!(hosts[1].call("CHECK", names[1], &pods[1].path()).await, Ok(Value::Null));
    // Other pods of the same name or of the same namespace are other workloads.
    let helper = Netns::new("helper");
    hosts[1].pod("hotplug", "");
    hosts[1].call("ADD", ("c3", "hotplug"), &helper.path()).await.unwrap();
    hosts[1].call("DEL", ("c3", "hotplug"), &helper.path()).await.unwrap();
    assert_eq!(whereabouts(&world).await, [prepared(&world), prepared(&world)]);

    speaks(&pods[1], "10.1.0.200");
    speaks(&pods[1], "10.2.0.200");
    let moved = async |world: &World| whereabouts(world).await == [only_at(world, 1), only_at(world, 1)];
    world.until("moved", moved).await;
    hosts[0].call("DEL", names[0], &pods[0].path()).await.unwrap();
    assert!(moved(&world).await);
    assert_eq!(hosts[1].call("CHECK", names[1], &pods[1].path()).await, Ok(Value::Null));
    assert_eq!((pods[0].links().len(), pods[1].links().len()), (0, 2));
    hosts[1].call("DEL", names[1], &pods[1].path()).await.unwrap();
    assert_eq!(whereabouts(&world).await, []);
    assert_eq!((world.agent(0).journal(), world.agent(1).journal()), (0, 0));
}

/// A pod's program renames the interface and puts another one in its place, as KubeVirt's bridge binding does. DEL removes the one that
/// ADD has made, whatever its name is now, and leaves the other alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_interface_goes_with_del_and_its_substitute_stays() {
    let world = World::new().await;
    let pod = Netns::new("pod");
    let in_pod = |args: &[&str]| ip(&[&["-n", &pod.0, "link"], args].concat());
    for by_runtime in [true, false] {
        world.cni("ADD", ("c1", "eth0"), &pod.path(), json!({})).await.unwrap();
        in_pod(&["set", "eth0", "down"]);
        in_pod(&["set", "eth0", "name", "3d2-nic"]);
        in_pod(&["add", "eth0", "type", "bridge"]);
        in_pod(&["set", "3d2-nic", "up"]);
        let netns = if by_runtime { pod.path() } else { String::new() };
        assert_eq!(
            world.cni("DEL", ("c1", "eth0"), &netns, json!({})).await,
            Ok(Value::Null)
        );
        assert_eq!(pod.links(), ["eth0"]);
        assert_eq!(world.attachments("blue").await.len(), 0);
        assert_eq!(std::fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
        in_pod(&["del", "eth0"]);
    }
}
