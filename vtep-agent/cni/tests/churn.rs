//! Pods come, go and change at random while runtimes time out and delegates fail; afterwards nothing is left behind. A
//! run is repeated with `VFABRIC_SEED=N`. Needs root, `ip`, `nsenter` and containernetworking-plugins.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::time::Duration;

use common::Netns;
use common::multi::{Multi, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// `VFABRIC_OPERATIONS` sets another number.
const OPERATIONS: usize = 120;
const PODS: usize = 3;
/// Latest time at which a call is killed; most calls have ended by then.
const PATIENCE_US: u64 = 60_000;
/// `lost` is a macvlan without its master: neither its ADD nor its DEL succeeds.
const NETWORKS: [&str; 8] = ["wide", "narrow", "rec", "wide@a", "rec@a", "narrow@b", "lost", "lost@a"];

/// A selection in which each interface name occurs once.
fn networks(random: &mut StdRng) -> String {
    let mut chosen: Vec<&str> = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let network = NETWORKS[random.random_range(0..NETWORKS.len())];
        let name = |n: &str| n.split_once('@').map(|(_, name)| name.to_owned());
        if name(network).is_none() || !chosen.iter().any(|c| name(c) == name(network)) {
            chosen.push(network);
        }
    }
    chosen.join(",")
}

#[tokio::test]
async fn whatever_happens_in_between_the_end_of_all_pods_leaves_nothing() {
    let seed = std::env::var("VFABRIC_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let operations = std::env::var("VFABRIC_OPERATIONS").ok().and_then(|s| s.parse().ok());
    println!("VFABRIC_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let multi = Multi::new(json!({ "cniVersion": "1.1.0", "name": "recorded", "type": "recorder" }));
    multi.definition("wide", Some(multi.bridge("wide", "10.9.1.0/24")));
    multi.definition("narrow", Some(multi.bridge("narrow", "10.9.2.0/29")));
    multi.definition("rec", Some(json!({ "cniVersion": "1.0.0", "type": "recorder" })));
    let ipam = json!({ "type": "host-local", "dataDir": multi.path("host-local"), "subnet": "10.9.3.0/24" });
    let lost = json!({ "cniVersion": "1.0.0", "type": "macvlan", "master": "absent0", "ipam": ipam });
    multi.definition("lost", Some(lost));
    let pods: Vec<(String, Netns)> = (0..PODS).map(|i| (format!("p{i}"), Netns::new("pod"))).collect();
    for (name, _) in &pods {
        multi.pod(name, &networks(&mut random));
    }
    let _follower = multi.follow();
    let (mut done, mut refused, mut killed, mut failing) = (0, 0, 0, false);
    for _ in 0..operations.unwrap_or(OPERATIONS) {
        let (name, netns) = &pods[random.random_range(0..PODS)];
        let call = match random.random_range(0..10) {
            0..4 => "ADD",
            4..6 => "DEL",
            6..9 => {
                multi.pod(name, &networks(&mut random));
                continue;
            }
            _ => {
                failing = !failing;
                multi.fail("ADD", failing);
                continue;
            }
        };
        // The same container each time, so that the next call meets the remains of a killed one.
        let mut child = multi.start(call, (name, name), &netns.path(), json!({}));
        if random.random_bool(0.4) {
            tokio::time::sleep(Duration::from_micros(random.random_range(0..PATIENCE_US))).await;
            let _ = child.kill();
        }
        match child.wait().unwrap().code() {
            Some(0) => done += 1,
            Some(_) => refused += 1,
            None => killed += 1,
        }
    }
    println!("{done} done, {refused} refused, {killed} killed");
    if failing {
        multi.fail("ADD", false);
    }
    // With delegates that work, every pod gets exactly what it selects.
    for (i, (name, netns)) in pods.iter().enumerate() {
        multi.pod(name, "wide,rec@x");
        until("the pod is there", || {
            let mut child = multi.start("ADD", (name, name), &netns.path(), json!({}));
            child.wait().unwrap().success()
        })
        .await;
        let expected = "eth0=recorded net1=blue/wide x=blue/rec";
        until(expected, || multi.shown(name) == expected && netns.links() == ["net1"]).await;
        until("its addresses, and those of pods that have not changed yet", || {
            multi.leases().len() > i
        })
        .await;
    }
    assert_eq!(multi.leases().len(), PODS);
    for (name, netns) in &pods {
        assert_eq!(multi.call("DEL", (name, name), &netns.path()).await, Ok(Value::Null));
        assert_eq!(netns.links(), [""; 0]);
    }
    assert_eq!((multi.leases().len(), multi.journal()), (0, 0));
    assert_eq!(
        std::fs::read_dir(multi.path("status")).unwrap().count(),
        1,
        "the lock of the folder"
    );
}
