//! The controller is killed in the middle of its work, again and again, while several clients change their objects.
//! Nothing that was acknowledged is lost, and nothing is half done. Its store is also backed up under load, and
//! restored.
//!
//! `CRASH_LOOP_KILLS` says how often it is killed (20; `cargo xtask crash-loop` asks for 200). Each kill comes at a
//! random moment: after a random number of acknowledgements, and then a short random delay. The seed is printed; with
//! the same `CRASH_LOOP_SEED` the run is repeated.

mod live;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use live::{Live, name};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vfabric_api::client::{Client, ClientError};
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, Removal, VdcIntent};
use vfabric_api::kind::{AttachmentSpec, Key, Kind, NetworkSpec, Spec, VdcSpec, View};
use vfabric_api::labels::{LabelKey, LabelValue};
use vfabric_api::service::ApplyOptions;

/// Default number of kills.
const KILLS: u32 = 20;
/// Kills between two lines of progress.
const SAID_EVERY: u32 = 10;
/// Clients, each in a vDC of its own.
const CLIENTS: usize = 4;
/// Most acknowledgements between a start and a kill.
const WORK: u64 = 40;
/// Longest delay between the last of these acknowledgements and the kill, in microseconds.
const LATER_US: u64 = 20_000;
/// Longest wait for the work before a kill.
const PATIENCE: Duration = Duration::from_secs(60);

/// State of a network: the number of the change that wrote it, and whether its attachment exists.
type Content = BTreeMap<Name, (u64, bool)>;

/// A change that was sent but not acknowledged.
#[derive(Clone)]
struct Pending {
    /// Its `Idempotency-Key`.
    key: String,
    /// The state after it.
    after: Content,
    /// The request.
    ask: Ask,
}

#[derive(Clone)]
enum Ask {
    Create(Box<Spec>),
    Delete(Key),
    Apply(Intent),
}

/// A client, and what it knows.
struct Tenant {
    vdc: Name,
    rng: StdRng,
    /// The acknowledged state.
    sure: Content,
    pending: Option<Pending>,
    /// The last revision that was acknowledged.
    revision: u64,
    changes: u64,
}

fn network(name: &Name, change: u64) -> NetworkSpec {
    let (key, value): (LabelKey, LabelValue) = ("change".parse().unwrap(), change.to_string().parse().unwrap());
    NetworkSpec {
        name: name.clone(),
        subnets: Vec::new(),
        mtu: 1500,
        vni: None,
        labels: [(key, value)].into(),
    }
}

fn attachment(name: &Name, vdc: &Name) -> AttachmentSpec {
    let text = format!(
        r#"{{"name": "{name}", "network": "{name}",
            "place": {{"host": {{"host": "host1", "netns": "{vdc}-{name}", "interface": "eth0"}}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

impl Tenant {
    /// One of the existing networks, with or without an attachment.
    fn any(&mut self, attached: bool) -> Option<Name> {
        let all: Vec<&Name> = self
            .sure
            .iter()
            .filter(|(_, (_, a))| *a == attached)
            .map(|(n, _)| n)
            .collect();
        let at = self.rng.random_range(0..all.len().max(1));
        all.get(at).map(|name| (*name).clone())
    }

    fn next(&mut self) -> Pending {
        self.changes += 1;
        let change = self.changes;
        let mut after = self.sure.clone();
        let key = format!("{}-{change}", self.vdc);
        let ask = match (self.rng.random_range(0..4), self.any(false)) {
            (0, _) => {
                let new = name(&format!("n{change}"));
                after.insert(new.clone(), (change, false));
                Ask::Create(Box::new(Spec::Network(network(&new, change))))
            }
            (1, Some(gone)) => {
                after.remove(&gone);
                Ask::Delete(Key::new(self.vdc.clone(), Kind::Network, gone))
            }
            _ => {
                let mut vdc = VdcIntent::new(self.vdc.clone());
                for _ in 0..self.rng.random_range(0..3) {
                    if let Some(gone) = self.any(true).filter(|gone| after.contains_key(gone)) {
                        after.remove(&gone);
                        vdc.remove.extend([Kind::Attachment, Kind::Network].map(|kind| Removal {
                            kind,
                            name: gone.clone(),
                        }));
                    }
                }
                for number in 0..self.rng.random_range(1..4) {
                    let new = name(&format!("n{change}-{number}"));
                    vdc.networks.push(network(&new, change));
                    vdc.attachments.push(attachment(&new, &self.vdc));
                    after.insert(new, (change, true));
                }
                Ask::Apply(Intent { vdcs: vec![vdc] })
            }
        };
        Pending { key, after, ask }
    }

    /// Sends what is pending. Returns the revision.
    async fn send(&self, client: &Client, pending: &Pending) -> Result<u64, ClientError> {
        let client = client.with_key(&pending.key);
        match &pending.ask {
            Ask::Create(spec) => client.create(&self.vdc, spec, None).await.map(|view| view.revision()),
            Ask::Delete(key) => client.delete(key, None).await.map(|outcome| outcome.committed.revision),
            Ask::Apply(intent) => {
                let options = ApplyOptions {
                    keep_vdcs: true,
                    ..ApplyOptions::default()
                };
                let outcome = client.apply(intent, options, None).await?;
                Ok(outcome.committed.revision)
            }
        }
    }

    /// Makes one change after the other until the controller is gone.
    async fn work(mut self, client: Client, acknowledged: Arc<watch::Sender<u64>>) -> Self {
        loop {
            let pending = match self.pending.take() {
                Some(pending) => pending,
                None => self.next(),
            };
            match self.send(&client, &pending).await {
                Ok(revision) => {
                    self.revision = self.revision.max(revision);
                    self.sure = pending.after;
                    acknowledged.send_modify(|count| *count += 1);
                }
                Err(ClientError::Transport(_)) => {
                    self.pending = Some(pending);
                    return self;
                }
                Err(error) => panic!("{}: {error}", pending.key),
            }
        }
    }

    /// The controller's state.
    async fn found(&self, client: &Client) -> Content {
        let mut found = Content::new();
        for view in client.list(Kind::Network, Some(&self.vdc)).await.unwrap() {
            let View::Network(network) = view else {
                panic!("no network")
            };
            let change = network.spec.labels.values().next().unwrap().as_str().parse().unwrap();
            found.insert(network.spec.name, (change, false));
        }
        for view in client.list(Kind::Attachment, Some(&self.vdc)).await.unwrap() {
            let known = found.get_mut(view.name());
            known
                .unwrap_or_else(|| panic!("attachment {} has no network", view.name()))
                .1 = true;
        }
        found
    }

    /// Checks that everything acknowledged exists, and that a pending change exists as a whole or not at all.
    async fn check(&self, client: &Client) {
        let found = self.found(client).await;
        let is_done = self.pending.as_ref().is_some_and(|pending| found == pending.after);
        assert!(
            found == self.sure || is_done,
            "{}: acknowledged is {:?}, found {found:?}, pending {:?}",
            self.vdc,
            self.sure,
            self.pending.as_ref().map(|pending| &pending.after)
        );
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: `{text}`: expected a number")),
    )
}

/// Clients, each with its own vDC.
async fn tenants(live: &Live, seed: u64) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for (number, seed) in (1..=CLIENTS).zip(seed..) {
        let vdc = name(&format!("c{number}"));
        let spec = Spec::Vdc(VdcSpec::new(vdc.clone()));
        live.admin.create(&vdc, &spec, None).await.unwrap();
        tenants.push(Tenant {
            vdc,
            rng: StdRng::seed_from_u64(seed),
            sure: Content::new(),
            pending: None,
            revision: 0,
            changes: 0,
        });
    }
    tenants
}

/// Lets all clients work, and calls `then` after `count` acknowledgements.
async fn work_until(
    live: &mut Live,
    tenants: Vec<Tenant>,
    count: u64,
    then: impl AsyncFnOnce(&mut Live),
) -> Vec<Tenant> {
    let (acknowledged, mut seen) = watch::channel(0);
    let acknowledged = Arc::new(acknowledged);
    let mut working = JoinSet::new();
    for tenant in tenants {
        working.spawn(tenant.work(live.admin.clone(), Arc::clone(&acknowledged)));
    }
    let enough = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| *seen >= count)).await;
    enough.expect("the clients do not get on").unwrap();
    then(live).await;
    working.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    let kills = setting("CRASH_LOOP_KILLS").unwrap_or(KILLS);
    let seed = setting("CRASH_LOOP_SEED").unwrap_or_else(rand::random::<u32>);
    println!("CRASH_LOOP_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed.into());
    let mut live = Live::start();
    let mut clients = tenants(&live, rng.random()).await;
    let mut last = 0;
    for kill in 1..=kills {
        let (count, later) = (rng.random_range(0..=WORK), rng.random_range(0..LATER_US));
        clients = work_until(&mut live, clients, count, async |live| {
            tokio::time::sleep(Duration::from_micros(later)).await;
            live.kill();
        })
        .await;
        live.start_again();
        let fabric = live.admin.fabric().await.unwrap();
        assert_eq!(fabric.set_aside, [], "after kill {kill}");
        let acknowledged = clients.iter().map(|client| client.revision).max().unwrap_or_default();
        assert!(
            fabric.revision >= acknowledged.max(last),
            "after kill {kill}: revision {} is before {acknowledged} or {last}",
            fabric.revision
        );
        last = fabric.revision;
        for client in &clients {
            client.check(&live.admin).await;
        }
        if kill % SAID_EVERY == 0 {
            println!("{kill} of {kills} kills, revision {last}");
        }
    }
    // The pending change is sent again with its key, and is carried out only once.
    for client in &mut clients {
        if let Some(pending) = client.pending.take() {
            client.send(&live.admin, &pending).await.unwrap();
            client.sure = pending.after;
        }
        assert_eq!(client.found(&live.admin).await, client.sure);
    }
    let changes: u64 = clients.iter().map(|client| client.changes).sum();
    println!("{kills} kills, {changes} changes acknowledged, none lost, none half done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_made_under_load_is_whole_and_can_be_restored() {
    let mut live = Live::start();
    let clients = tenants(&live, 1).await;
    let file = live.at("backup");
    let mut revision = 0;
    let to = file.clone();
    let clients = work_until(&mut live, clients, 50, async |live| {
        let mut backup = live.admin.backup().await.unwrap();
        revision = backup.revision.unwrap();
        let mut octets = Vec::new();
        while let Some(part) = backup.next().await.unwrap() {
            octets.extend(part);
        }
        std::fs::write(&to, octets).unwrap();
        // Changes go on during the backup; later ones are not in it.
        let later = Spec::Vdc(VdcSpec::new(name("later")));
        live.admin.create(&name("later"), &later, None).await.unwrap();
        live.kill();
    })
    .await;
    assert!(revision >= 50);
    let data = live.at("data");
    let restore = |replace: bool| {
        let mut command = Command::new(live::program());
        command.arg("--restore").arg(&file).arg("--data-dir").arg(&data);
        if replace {
            command.arg("--replace");
        }
        command.output().unwrap()
    };
    let refused = restore(false);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--replace"), "{said}");
    let done = restore(true);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains(&format!("revision {revision},")), "{said}");
    live.start_again();
    let fabric = live.admin.fabric().await.unwrap();
    assert_eq!((fabric.revision, fabric.set_aside), (revision, Vec::new()));
    assert_eq!(fabric.vdcs, CLIENTS, "what came later is not in the backup");
    // Objects are whole: each attachment has its network, and the store takes changes.
    for client in &clients {
        client.found(&live.admin).await;
    }
    let again = Spec::Vdc(VdcSpec::new(name("later")));
    live.admin.create(&name("later"), &again, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_does_not_hold_up_the_end() {
    let mut live = Live::start();
    let mut watch = live.admin.watch(None, None).await.unwrap();
    let mut events = live.admin.watch_events(0, None).await.unwrap();
    let vdc = Spec::Vdc(VdcSpec::new(name("acme")));
    live.admin.create(&name("acme"), &vdc, None).await.unwrap();
    // Both streams are open. Wait until the first has shown the change.
    while !matches!(
        watch.next().await.unwrap().unwrap(),
        vfabric_api::client::Watched::Revision(_)
    ) {}
    assert!(tokio::task::block_in_place(|| live.stop()));
    while watch.next().await.unwrap().is_some() {}
    while events.next().await.unwrap().is_some() {}
    let log = std::fs::read_to_string(live.at("log")).unwrap();
    assert!(log.contains("stopping") && !log.contains("were cut off"), "{log}");
}
