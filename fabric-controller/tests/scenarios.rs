//! Scenarios: a fabric, steps, and what the devices hold after each of them. Every folder of `scenarios/` is one.
//!
//! **Problem.** A report about the controller is an intent, something that happened, and entries on devices that are wrong. It
//! should become a test as it is, without a line of Rust.
//!
//! **Model.** `scenario.yaml` names a topology and has a list of [`Step`]s; the files that it names are beside it. The
//! controller runs over devices in memory that are cabled as the topology says, and its time passes only while it has
//! nothing left to do. After each step the runner waits until every device that can be reached holds what it should.
//! `expected.txt` has, for each step, what the controller returned and how the contents of each device changed, in the
//! words of the pipeline. `cargo xtask bless` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fabric_controller::controller::Controller;
use fabric_controller::controller::fleet::Fleet;
use fabric_controller::device::launch::{Hardware, Launch, Launcher, Running};
use fabric_controller::driver::fake::FakeDevice;
use fabric_controller::render::{FabricRender, Render as _};
use fabric_controller::store::MemoryStore;
use golden::check_file;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};
use vfabric_api::error::ApiError;
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::inventory::{Inventory, InventoryChange, ItemKey, ItemState};
use vfabric_api::kind::{Key, Kind};
use vfabric_api::service::{ApplyOptions, Change, Committed, FabricService as _, Origin, Transaction};
use vfabric_api::topology::{PortRef, Topology};

/// `scenario.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What it shows, in a sentence.
    #[expect(dead_code, reason = "for readers")]
    about: String,
    /// The topology file, relative to the folder.
    topology: PathBuf,
    /// Whether `expected.txt` also has what the devices hold before the first step.
    #[serde(default)]
    show_start: bool,
    steps: Vec<Step>,
}

/// One step.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    /// Applies an intent file.
    Apply {
        file: PathBuf,
        #[serde(default)]
        prune: bool,
    },
    /// Deletes one object of a vDC.
    Delete { vdc: Name, kind: Kind, name: Name },
    /// Changes the inventory to match a topology file.
    Import(PathBuf),
    /// Takes a switch or host out of service.
    Remove(Name),
    /// Drains a device: paths avoid a switch, and a host gets no new attachments.
    Drain(Name),
    /// Ends a drain.
    Undrain(Name),
    /// Declares a device dead.
    Gone(Name),
    /// Cuts a device off.
    Offline(Name),
    /// Makes it reachable again.
    Online(Name),
    /// Restarts a device, which then holds nothing.
    PowerCycle(Name),
    /// Deletes all entries of a table of a device behind the controller's back.
    Meddle { device: Name, table: String },
    /// Pulls the cable at a port: both ends lose their carrier.
    Unplug(PortRef),
    /// Puts it back.
    Plug(PortRef),
    /// Ends the controller and starts it over the same store.
    Restart,
    /// Lets seconds pass.
    Rest(u64),
}

/// Longest time, in the controller's own time, until devices hold what they should.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often devices are checked; they must be unchanged at the next check.
const LOOK: Duration = Duration::from_millis(100);

/// Devices in memory by name; one that is not there yet is made empty.
#[derive(Clone, Default)]
struct Plugged(Arc<Mutex<BTreeMap<Name, FakeDevice>>>);

impl Plugged {
    fn device(&self, name: &Name) -> FakeDevice {
        let mut all = self.0.lock().unwrap();
        all.entry(name.clone()).or_insert_with(|| FakeDevice::new(true)).clone()
    }
}

impl Launcher for Plugged {
    fn launch(&self, hardware: &Hardware, launch: Launch) -> Result<Running, String> {
        Ok(launch.run(self.device(hardware.name()).driver()))
    }
}

/// Entities of a device in words: table, key, action.
type Held = BTreeSet<String>;

struct World {
    folder: PathBuf,
    store: MemoryStore,
    plugged: Plugged,
    offline: BTreeSet<Name>,
    controller: Arc<Controller<MemoryStore>>,
    held: BTreeMap<Name, (Held, u64)>,
    /// Ends the controller's tasks when it is dropped.
    stop: Option<DropGuard>,
}

async fn start(
    store: &MemoryStore,
    plugged: &Plugged,
    topology: Topology,
) -> (Arc<Controller<MemoryStore>>, DropGuard) {
    let controller = Controller::load(topology, store.clone(), Arc::new(FabricRender))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let (fleet, inbox) = Fleet::new(plugged.clone(), stop.child_token());
    controller.start(fleet);
    let (c, s) = (Arc::clone(&controller), stop.clone());
    tokio::spawn(async move { s.run_until_cancelled(c.supervise(inbox.frames)).await });
    let (c, s) = (Arc::clone(&controller), stop.clone());
    tokio::spawn(async move { s.run_until_cancelled(c.housekeeping()).await });
    let (c, s) = (Arc::clone(&controller), stop.clone());
    tokio::spawn(async move { s.run_until_cancelled(c.follow(inbox.events)).await });
    (controller, stop.drop_guard())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    vfabric_api::yaml::read(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl World {
    async fn new(folder: &Path, topology: &Path) -> Self {
        let topology: Topology = read(&folder.join(topology));
        let (store, plugged) = (MemoryStore::default(), Plugged::default());
        for link in &topology.links {
            let (a, b) = (plugged.device(&link.a.switch), plugged.device(&link.b.switch));
            FakeDevice::cable((&a, link.a.port), (&b, link.b.port));
        }
        let (controller, stop) = start(&store, &plugged, topology).await;
        Self {
            folder: folder.to_owned(),
            store,
            plugged,
            offline: BTreeSet::new(),
            controller,
            held: BTreeMap::new(),
            stop: Some(stop),
        }
    }

    /// Carries out one step; the result of a change, where it is one.
    async fn carry_out(&mut self, step: &Step) -> Option<Result<Committed, ApiError>> {
        let device = |name: &Name| self.plugged.device(name);
        let change = match step {
            Step::Apply { file, prune } => {
                let intent: Intent = read(&self.folder.join(file));
                let options = ApplyOptions {
                    prune: *prune,
                    ..ApplyOptions::default()
                };
                return Some(self.controller.apply(intent, options).await);
            }
            Step::Delete { vdc, kind, name } => Change::Delete(Key::new(vdc.clone(), *kind, name.clone())),
            Step::Import(file) => {
                let topology = Box::new(read(&self.folder.join(file)));
                Change::Inventory(InventoryChange::Import(topology))
            }
            Step::Remove(name) => {
                let (key, cascade) = (self.item(name).await, true);
                Change::Inventory(InventoryChange::Remove { key, cascade })
            }
            Step::Drain(name) => Change::Inventory(InventoryChange::Drain(self.item(name).await)),
            Step::Undrain(name) => Change::Inventory(InventoryChange::Undrain(self.item(name).await)),
            Step::Gone(name) => Change::Inventory(InventoryChange::Gone(self.item(name).await)),
            Step::Offline(name) => {
                device(name).go_offline();
                self.offline.insert(name.clone());
                return None;
            }
            Step::Online(name) => {
                device(name).go_online();
                self.offline.remove(name);
                return None;
            }
            Step::PowerCycle(name) => {
                device(name).restart_empty();
                return None;
            }
            Step::Meddle { device: name, table } => {
                let device = device(name);
                for (key, entity) in device.entities() {
                    if FabricRender.describe(None, &entity).0 == *table {
                        device.meddle_delete(&key);
                    }
                }
                return None;
            }
            Step::Unplug(end) | Step::Plug(end) => {
                let mut links = self.controller.inventory().await.links.into_iter().map(|l| l.spec);
                let link = links.find(|l| l.a == *end || l.b == *end);
                let link = link.unwrap_or_else(|| panic!("no link at {}:{}", end.switch, end.port));
                let (a, b) = (device(&link.a.switch), device(&link.b.switch));
                let up = matches!(step, Step::Plug(_));
                match up {
                    true => FakeDevice::cable((&a, link.a.port), (&b, link.b.port)),
                    false => a.uncable(link.a.port),
                }
                a.set_port(link.a.port, up);
                b.set_port(link.b.port, up);
                return None;
            }
            Step::Restart => {
                let topology = self.controller.inventory().await.topology();
                drop(self.stop.take());
                self.controller.shut_down().await;
                let (controller, stop) = start(&self.store, &self.plugged, topology).await;
                (self.controller, self.stop) = (controller, Some(stop));
                return None;
            }
            Step::Rest(seconds) => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                return None;
            }
        };
        let transaction = Transaction::one(change, Origin::default());
        Some(self.controller.commit(transaction).await)
    }

    /// The key of a switch or host of the inventory.
    async fn item(&self, name: &Name) -> ItemKey {
        let inventory = self.controller.inventory().await;
        match inventory.switches.iter().any(|s| s.spec.name == *name) {
            true => ItemKey::Switch(name.clone()),
            false => ItemKey::Host(name.clone()),
        }
    }

    /// Waits until every device that is reachable and alive holds exactly what it should, and still does at the next
    /// check.
    async fn settle(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut calm = 0;
        while calm < 2 {
            tokio::time::sleep(LOOK).await;
            let dead = gone(&self.controller.inventory().await);
            let devices = self.controller.devices().into_iter();
            let late: Vec<Name> = devices
                .filter(|d| !dead.contains(&d.name) && !self.offline.contains(&d.name))
                .filter(|d| {
                    let wanted: BTreeMap<_, _> = d.desired().into_iter().map(|(e, _)| (e.key(), e)).collect();
                    self.plugged
                        .device(&d.name)
                        .entities()
                        .into_iter()
                        .collect::<BTreeMap<_, _>>()
                        != wanted
                })
                .map(|d| d.name.clone())
                .collect();
            calm = if late.is_empty() { calm + 1 } else { 0 };
            assert!(tokio::time::Instant::now() < deadline, "{late:?} do not settle");
        }
    }

    /// How the contents of each device differ from the last time, with the number of writes since.
    fn changes(&mut self) -> String {
        let mut text = String::new();
        let devices: Vec<(Name, FakeDevice)> = {
            let all = self.plugged.0.lock().unwrap();
            all.iter().map(|(n, d)| (n.clone(), d.clone())).collect()
        };
        for (name, device) in devices {
            let words = |entity: &fabric_controller::entity::Entity| {
                let (table, key, action) = FabricRender.describe(None, entity);
                format!("{table} [{key}] {action}")
            };
            let now: Held = device.entities().values().map(|e| words(e)).collect();
            let writes = device.writes();
            let (before, written) = self
                .held
                .insert(name.clone(), (now.clone(), writes))
                .unwrap_or_default();
            if now == before && writes == written {
                continue;
            }
            writeln!(text, "  {name}: {} writes", writes - written).unwrap();
            before
                .difference(&now)
                .for_each(|e| writeln!(text, "    - {e}").unwrap());
            now.difference(&before)
                .for_each(|e| writeln!(text, "    + {e}").unwrap());
        }
        text
    }
}

fn gone(inventory: &Inventory) -> BTreeSet<Name> {
    let hosts = inventory.hosts.iter().filter(|h| h.state == ItemState::Gone);
    let switches = inventory.switches.iter().filter(|s| s.state == ItemState::Gone);
    let hosts = hosts.map(|h| h.spec.name.clone());
    hosts.chain(switches.map(|s| s.spec.name.clone())).collect()
}

/// What the controller returned.
fn returned(result: &Result<Committed, ApiError>) -> String {
    let mut text = String::new();
    match result {
        Ok(committed) => {
            for (word, keys) in [
                ("created", &committed.created),
                ("updated", &committed.updated),
                ("deleted", &committed.deleted),
            ] {
                keys.iter().for_each(|key| writeln!(text, "  {word} {key}").unwrap());
            }
            for item in &committed.inventory {
                writeln!(text, "  inventory {item}").unwrap();
            }
            if text.is_empty() {
                text.push_str("  nothing changed\n");
            }
        }
        Err(error) => {
            let said = error.to_string().replace('\n', "\n  ");
            writeln!(text, "  refused: {:?}: {said}", error.code).unwrap();
        }
    }
    text
}

async fn run(folder: &Path) -> String {
    let scenario: Scenario = read(&folder.join("scenario.yaml"));
    let mut world = World::new(folder, &scenario.topology).await;
    world.settle().await;
    let start = world.changes();
    let mut text = String::new();
    if scenario.show_start {
        write!(text, "start\n{start}").unwrap();
    }
    for (n, step) in scenario.steps.iter().enumerate() {
        let result = world.carry_out(step).await;
        world.settle().await;
        let gap = if text.is_empty() { "" } else { "\n" };
        writeln!(text, "{gap}{}. {}", n + 1, serde_json::to_string(step).unwrap()).unwrap();
        if let Some(result) = &result {
            text += &returned(result);
        }
        if let Some(Ok(committed)) = &result {
            let applied = world.controller.wait_applied(committed.revision, Duration::ZERO).await;
            for waiting in applied.waiting {
                writeln!(text, "  waits for {}: {}", waiting.device, waiting.reason).unwrap();
            }
        }
        text += &world.changes();
    }
    world.controller.shut_down().await;
    text
}

#[tokio::test(start_paused = true)]
async fn every_scenario_ends_as_expected() {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(&folders).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    for folder in folders {
        let text = run(&folder).await;
        check_file(&folder.join("expected.txt"), &text);
    }
}
