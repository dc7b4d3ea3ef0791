//! The whole agent against the controller's real driver: stream, cache, notifications.
//! Needs root and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{Netns, inside, ip, mac, unique, vni};
use fabric_controller::device::driver::{Batch, Driver, Event, Write};
use fabric_controller::driver::vtep::{VtepDriver, VtepServer};
use fabric_controller::entity::{Entity, EntityKey};
use fabric_identity::Credentials;
use fabric_identity::testing::Authority;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vtep_agent::datapath::kernel::FloodLimit;
use vtep_agent::object::LocalVteps;
use vtep_agent::stream::Controller;
use vtep_agent::{agent, stream};
use vtep_proto::{Attachment, Gateway, HostEntity, Mode, Network, UnderlayFamily, v1};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host with an agent, and a controller that has its driver.
struct World {
    host: Netns,
    overlay: Netns,
    workload: Netns,
    state: tempfile::TempDir,
    url: String,
    credentials: Arc<Credentials>,
    driver: VtepDriver,
}

impl World {
    async fn new() -> Self {
        let (host, workload) = (unique("h"), unique("w"));
        let (host, workload) = (Netns::new(&host), Netns::new(&workload));
        ip(&[
            "-n",
            host.name(),
            "link",
            "add",
            "up0",
            "mtu",
            "9216",
            "type",
            "veth",
            "peer",
            "name",
            "up1",
        ]);
        ip(&["-n", host.name(), "addr", "add", "192.0.2.1/32", "dev", "up0"]);
        ip(&["-n", host.name(), "link", "set", "up0", "up"]);

        let authority = Authority::new();
        let controller = authority.credentials("controller");
        let server = VtepServer::new();
        let driver = server.driver("h1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { server.serve(listener, &controller, std::future::pending()).await });
        Self {
            host,
            overlay: Netns::later(&unique("o")),
            workload,
            state: tempfile::tempdir().unwrap(),
            url,
            credentials: authority.credentials("host/h1"),
            driver,
        }
    }

    /// Starts the agent; it ends when the task is aborted.
    async fn agent(&self) -> JoinHandle<()> {
        let state_dir: PathBuf = self.state.path().to_owned();
        let overlay = self.overlay.name().to_owned();
        let settings = move || agent::Settings {
            overlay: overlay.clone(),
            flood_limit: FloodLimit::default(),
            host: "h1".into(),
            uplink: "up0".into(),
            local: LocalVteps {
                ipv4: Some([192, 0, 2, 1].into()),
                ipv6: None,
            },
            state_dir: state_dir.clone(),
        };
        let netns = self.host.name().to_owned();
        let start = move || loop {
            // An agent that is about to end still holds the lock.
            match inside(&netns, {
                let s = settings();
                move || agent::start(s)
            })
            .join()
            .unwrap()
            {
                Ok(started) => return started,
                Err(e) if e.to_string().contains("in use") => std::thread::sleep(Duration::from_millis(20)),
                Err(e) => panic!("{e}"),
            }
        };
        let commands = tokio::task::spawn_blocking(start).await.unwrap().commands;
        let controller = Controller::new(&self.url, Arc::clone(&self.credentials)).unwrap();
        let hello = v1::Hello {
            host: "h1".into(),
            ..Default::default()
        };
        tokio::spawn(async move { stream::follow(controller, hello, commands).await.unwrap() })
    }

    async fn connect(&mut self) {
        timeout(PATIENCE, self.driver.connect()).await.unwrap().unwrap();
    }

    async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let find = async {
            loop {
                let event = self.driver.next_event().await;
                assert!(!matches!(event, Event::Disconnected(_)), "{event:?}");
                if wanted(&event) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, find).await.unwrap()
    }

    async fn insert(&mut self, entities: &[HostEntity]) -> Vec<Result<(), String>> {
        let writes = entities
            .iter()
            .map(|e| Write::Insert(Arc::new(Entity::Host(e.clone()))))
            .collect();
        let results = self.driver.apply(&Batch { epoch: 5, writes }).await.unwrap();
        results.into_iter().map(|r| r.map_err(|e| e.message)).collect()
    }

    fn network(&self) -> HostEntity {
        let leaf = [192, 0, 2, 254].into();
        let gateway = Gateway {
            mac: mac(0xfe),
            vtep: leaf,
            ips: ["10.0.0.254".parse().unwrap(), "fd00::fe".parse().unwrap()].into(),
        };
        HostEntity::Network(Network {
            vni: vni(10_000),
            mtu: 1500,
            underlay: UnderlayFamily::Ipv4,
            flood: [leaf].into(),
            gateways: [gateway].into(),
        })
    }

    fn attachment(&self, name: &str, netns: &str, last: u8) -> HostEntity {
        HostEntity::from(Attachment {
            id: format!("blue/{name}"),
            vni: vni(10_000),
            mac: mac(last),
            addresses: [
                format!("10.0.0.{last}/24").parse().unwrap(),
                format!("fd00::{last}/64").parse().unwrap(),
            ]
            .into(),
            routes: Default::default(),
            netns: netns.to_owned(),
            interface: "eth0".into(),
            mtu: 0,
            allowed_addresses: Default::default(),
            port_security: true,
            shared_netns: false,
            mode: Default::default(),
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_follows_repairs_and_survives_a_restart() {
    let mut world = World::new().await;
    let running = world.agent().await;
    world.connect().await;
    assert!(world.driver.read_back().await.unwrap().is_empty());

    let late = unique("late");
    let workload = world.workload.name().to_owned();
    let all = [
        world.network(),
        world.attachment("a", &workload, 1),
        world.attachment("late", &late, 2),
    ];
    let results = world.insert(&all).await;
    assert_eq!(results[..2], [Ok(()), Ok(())]);
    assert!(
        results[2]
            .as_ref()
            .is_err_and(|m| m.ends_with(&format!("{late} not found"))),
        "{results:?}"
    );
    assert_eq!(world.driver.kept_by(), None);
    world.driver.keep(9).await.unwrap();
    world.driver.synced(5).await.unwrap();

    // The namespace appears: the agent adds the attachment without being asked, and reports it to the controller.
    let _late = Netns::new(&late);
    let key = EntityKey::Host(all[2].key());
    world
        .event(|e| matches!(e, Event::EntityState(k, Ok(())) if *k == key))
        .await;

    // Somebody deletes the bridge: the agent restores it, with everything that was in it.
    ip(&["-n", world.overlay.name(), "link", "del", "vfb10000"]);
    world
        .event(|e| matches!(e, Event::Repaired(what) if what.contains("vfb10000")))
        .await;
    let held = world.driver.read_back().await.unwrap();
    assert_eq!(held.len(), 3);

    // After a restart the agent holds the same, and repairs nothing.
    let links = common::links(world.overlay.name());
    running.abort();
    let running = world.agent().await;
    world.driver.disconnect().await;
    world.connect().await;
    assert_eq!(world.driver.hello().map(|h| h.epoch), Some(5));
    assert_eq!(world.driver.kept_by(), Some(9), "the store that it is kept by");
    assert_eq!(world.driver.read_back().await.unwrap(), held);
    assert_eq!(common::links(world.overlay.name()), links, "a restart touched links");
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_cache_an_agent_removes_nothing_until_it_is_told_everything() {
    let mut world = World::new().await;
    let running = world.agent().await;
    world.connect().await;
    world.driver.read_back().await.unwrap();
    let workload = world.workload.name().to_owned();
    let all = [world.network(), world.attachment("a", &workload, 1)];
    assert_eq!(world.insert(&all).await, [Ok(()), Ok(())]);
    world.driver.synced(5).await.unwrap();
    let links = common::links(world.overlay.name());

    running.abort();
    world.driver.disconnect().await;
    world.state = tempfile::tempdir().unwrap();
    let running = world.agent().await;
    world.connect().await;
    assert!(world.driver.read_back().await.unwrap().is_empty());
    assert_eq!(common::links(world.overlay.name()), links, "something was removed");
    // The controller sends only the network; it does not want the attachment any more.
    assert_eq!(world.insert(&all[..1]).await, [Ok(())]);
    assert_eq!(common::links(world.overlay.name()), links, "something was changed");
    world.driver.synced(6).await.unwrap();
    world
        .event(|e| matches!(e, Event::Repaired(what) if what.contains("left over")))
        .await;
    let now = common::links(world.overlay.name());
    assert!(!now.iter().any(|l| l.contains("vfa")), "{now:?}");
    assert!(now.iter().any(|l| l.contains("vfb10000")));
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_loses_is_reported_to_its_controller() {
    let mut world = World::new().await;
    let running = world.agent().await;
    world.connect().await;
    let workload = world.workload.name().to_owned();
    let all = [world.network(), world.attachment("a", &workload, 1)];
    assert_eq!(world.insert(&all).await, [Ok(()), Ok(())]);
    // The workload sends from another MAC address than its own: the filter refuses the frames.
    let forged = common::frames::ethernet([0xff; 6], [2, 0, 0, 0, 0, 9], 0x88b5, &[0; 50]);
    common::wire::send(&workload, "eth0", vec![forged; 3]);
    // The uplink's queue accepts nothing, because every frame is longer than its bucket.
    ip(&["-n", world.host.name(), "link", "set", "up1", "up"]);
    let tbf = "qdisc add dev up0 root tbf rate 8bit burst 1 limit 1";
    let words = ["netns", "exec", world.host.name(), "tc"]
        .into_iter()
        .chain(tbf.split(' '));
    ip(&words.collect::<Vec<_>>());
    ip(&["-n", world.host.name(), "route", "add", "192.0.2.254/32", "dev", "up0"]);
    ip(&[
        "-n",
        world.host.name(),
        "neigh",
        // The kernel may already have an incomplete entry for this neighbour.
        "replace",
        "192.0.2.254",
        "lladdr",
        "02:00:00:00:00:fe",
        "dev",
        "up0",
    ]);
    let own = common::frames::ethernet([0xff; 6], [2, 0, 0, 0, 0, 1], 0x88b5, &[0; 50]);
    common::wire::send(&workload, "eth0", vec![own; 4]);
    let mut seen = Vec::new();
    let all_reported = async {
        loop {
            let losses = world.driver.read_losses().await.unwrap().unwrap();
            let of = |place: &str, reason: &str| {
                let found = losses.iter().find(|l| l.place == place && l.reason == reason);
                found.map_or(0, |l| l.frames)
            };
            seen = losses.clone();
            if of("blue/a", "source-mac") == 3 && of("up0", "sent, queue full") >= 4 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = timeout(PATIENCE, all_reported).await.is_ok();
    assert!(in_time, "only {seen:?} was reported");
    running.abort();
}

/// The workload of an attachment in standby announces itself five times, as QEMU does. The controller gets one report,
/// and another one after it has connected again. Until the attachment serves, no frame of the workload passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_arrives_is_reported_once() {
    let mut world = World::new().await;
    let running = world.agent().await;
    world.connect().await;
    let workload = world.workload.name().to_owned();
    let in_mode = |mode| match world.attachment("vm", &workload, 1) {
        HostEntity::Attachment(a) => HostEntity::from(Attachment { mode, ..*a }),
        other => other,
    };
    let (standby, serving) = (in_mode(Mode::Standby), in_mode(Mode::Serving));
    assert_eq!(world.insert(&[world.network(), standby]).await, [Ok(()), Ok(())]);
    let own = [2, 0, 0, 0, 0, 1];
    let broadcast = common::frames::BROADCAST;
    let address = "10.0.0.1".parse().unwrap();
    let is_arrival =
        |e: &Event| matches!(e, Event::Announced { attachment, by } if attachment == "blue/vm" && by == "RARP");
    // An ordinary frame is not an announcement, and neither is another workload's
    // announcement.
    let packet = common::frames::ethernet(broadcast, own, 0x88b5, &[0; 50]);
    let probe = common::frames::arp(1, (own, "0.0.0.0".parse().unwrap()), ([0; 6], address));
    let probe = common::frames::ethernet(broadcast, own, 0x0806, &probe);
    common::wire::send(&workload, "eth0", vec![packet, probe]);
    let mut rarp = common::frames::arp(1, (own, "0.0.0.0".parse().unwrap()), (own, "0.0.0.0".parse().unwrap()));
    rarp[7] = 3;
    let rarp = common::frames::ethernet(broadcast, own, 0x8035, &rarp);
    common::wire::send(&workload, "eth0", vec![rarp; 5]);
    let mut arrivals = 0;
    let heard = async {
        loop {
            match world.driver.next_event().await {
                Event::Announced { attachment, by } => {
                    assert_eq!((attachment.as_str(), by.as_str()), ("blue/vm", "RARP"));
                    arrivals += 1;
                }
                Event::Disconnected(error) => panic!("{error}"),
                _ => {}
            }
        }
    };
    // Long enough for a second report to arrive, if there were one.
    assert!(timeout(Duration::from_millis(1500), heard).await.is_err());
    assert_eq!(arrivals, 1);
    let losses = world.driver.read_losses().await.unwrap().unwrap();
    let refused = losses
        .iter()
        .find(|l| l.place == "blue/vm" && l.reason == "unknown-port");
    // The kernel also sends some frames from the workload's namespace.
    assert!(refused.is_some_and(|l| l.frames >= 7), "{losses:?}");

    // The controller was away and has not acted on the report, so it gets it again.
    world.driver.disconnect().await;
    world.connect().await;
    world.event(is_arrival).await;
    assert_eq!(world.insert(&[serving]).await, [Ok(())]);
    let held = world.driver.read_back().await.unwrap();
    assert_eq!(held.len(), 2);
    running.abort();
}
