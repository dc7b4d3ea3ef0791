//! The thread that owns the engine, and passes updates, notifications and the time to it.
//!
//! Kernel requests block, so this is a separate thread and not a task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use fabric_service::Waits;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use vtep_proto::v1::{self, ErrorCode};
use vtep_proto::{Attachment, HostEntity, HostKey, object_error};

use crate::cache::Cache;
use crate::datapath::kernel::{self, Change, FloodLimit, Heard, Kernel, Listeners, Monitor, Overlay, Uplink};
use crate::datapath::{Datapath, Loss, Scope, StepError};
use crate::desired::Desired;
use crate::engine::{Engine, News};
use crate::error::AgentError;
use crate::object::{LocalVteps, port_name};
use crate::status::{Repair, Status};
use crate::trace::{Held, Packet, trace};
use crate::watch::Watch;

/// How often the agent looks for a namespace that does not exist yet; this costs one `open`.
const NETNS_RETRY: Duration = Duration::from_millis(200);
/// How often requests that the kernel refused are tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often everything is compared, because not every change causes a notification (those inside a workload's
/// namespace do not).
const SWEEP: Duration = Duration::from_secs(60);
/// How long notifications are gathered before the named objects are compared: they come in
/// bursts, and our own changes cause them, too.
const GATHER: Duration = Duration::from_millis(50);
/// After such a comparison, the next one waits for at least this many times as long as the comparison took. A
/// comparison reads whole networks. So on a host with many attachments, if one of them changed all the time, the engine
/// would do little else.
const FREE: u32 = 9;
/// Repairs that the status shows.
const REPAIRS: usize = 20;
/// Commands that may wait for the engine; each sender waits for the reply.
const COMMANDS: usize = 16;
/// Reports that may wait for the stream. When there are more, the stream is closed: after the
/// reconnect the controller reads everything anyway.
const REPORTS: usize = 256;

/// What the agent remembers about the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Epoch of the last update.
    pub epoch: u64,
    /// Number of the store that has this host's claim; 0 if it is not known.
    pub store: u32,
}

/// A command to the agent.
pub enum Command {
    /// Apply a change; the reply lists what failed.
    Update {
        /// Epoch of the intent.
        epoch: u64,
        /// What to create or change.
        upserts: Vec<HostEntity>,
        /// What to remove.
        removes: Vec<HostKey>,
        /// What failed.
        answer: oneshot::Sender<Vec<v1::ObjectError>>,
    },
    /// Compare everything with the kernel and return what is held.
    Read(oneshot::Sender<Vec<v1::HeldObject>>),
    /// Everything has been sent.
    Synced(v1::Synced),
    /// The stream begins: send reports to this channel from now on. The reply has the known state.
    Follow(mpsc::Sender<v1::Report>, oneshot::Sender<Known>),
    /// Compare an attachment with the kernel and return its state.
    Look(String, oneshot::Sender<Look>),
    /// Return the id of the attachment that belongs in a namespace under an interface's name.
    IdAt((String, String), oneshot::Sender<Option<String>>),
    /// Return the path of a packet through this host.
    Trace(Packet, oneshot::Sender<Result<Vec<String>, String>>),
    /// Return the losses.
    Losses(oneshot::Sender<Result<Vec<Loss>, String>>),
    /// Return the status.
    Status(oneshot::Sender<Status>),
}

/// The state of an attachment.
pub enum Look {
    /// It is in place; with the MTU of its interface.
    InPlace(Box<Attachment>, u32),
    /// It is not in place.
    Failed(StepError),
    /// The host should hold no attachment with this id.
    Absent,
}

impl Command {
    /// Its name in the status while it is being carried out.
    fn name(&self) -> String {
        match self {
            Self::Update {
                epoch,
                upserts,
                removes,
                ..
            } => format!(
                "applying an update to epoch {epoch}: {} objects, {} removals",
                upserts.len(),
                removes.len()
            ),
            Self::Read(_) => "comparing everything for the controller".into(),
            Self::Synced(synced) => format!("removing objects that are not wanted at epoch {}", synced.epoch),
            Self::Look(id, _) => format!("comparing attachment {id}"),
            Self::Losses(_) => "counting losses".into(),
            Self::Follow(..) | Self::Status(_) | Self::IdAt(..) | Self::Trace(..) => "answering a question".into(),
        }
    }
}

/// Settings of an agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the host.
    pub host: String,
    /// Name of the uplink.
    pub uplink: String,
    /// VTEP addresses.
    pub local: LocalVteps,
    /// Where the cache is.
    pub state_dir: PathBuf,
    /// Name of the network namespace for bridges, VXLAN devices and ports.
    pub overlay: String,
    /// How many broadcast and multicast frames a workload may send.
    pub flood_limit: FloodLimit,
}

/// A running agent.
pub struct Started {
    /// Takes its commands.
    pub commands: Commands,
    /// The link that carries the tunnels.
    pub uplink: Uplink,
    /// Its work in progress.
    pub watch: Watch,
}

/// Commands to the agent.
pub type Commands = mpsc::Sender<Command>;

/// Returns once the engine's thread has answered. `vtep-agent status` shows what a stuck engine is doing.
///
/// # Errors
/// The thread has ended.
pub async fn is_alive(commands: Commands, waits: Waits) -> Result<(), String> {
    waits.on("the engine's thread");
    let (answer, result) = oneshot::channel();
    let ended = || "the engine's thread has ended".to_owned();
    commands.send(Command::Status(answer)).await.map_err(|_| ended())?;
    result.await.map(drop).map_err(|_| ended())
}

/// A channel for reports of the right size.
pub fn reports() -> (mpsc::Sender<v1::Report>, mpsc::Receiver<v1::Report>) {
    mpsc::channel(REPORTS)
}

/// Starts the agent in the network namespace of this thread. When this returns, the kernel has been brought to the state in the
/// cache.
///
/// # Errors
/// When the uplink, the kernel or the cache cannot be used.
pub fn start(settings: Settings) -> Result<Started, AgentError> {
    let file = |source| AgentError::File {
        path: settings.state_dir.clone(),
        source,
    };
    std::fs::create_dir_all(&settings.state_dir).map_err(file)?;
    let lock = lock(&settings)?;
    // Start it before the first comparison, so that no later change is missed.
    let overlay = Overlay::keep(&settings.overlay)?;
    let monitor = kernel::monitor(&settings.uplink, &overlay)?;
    let (listeners, heard) = Listeners::start(&overlay)?;
    let watch = Watch::default();
    let mut kernel = Kernel::open(overlay, settings.flood_limit, watch.clone())?;
    let uplink = kernel.uplink(&settings.uplink)?;
    let (cache, cached) = Cache::open(&settings.state_dir)?;
    let desired = Desired::new(settings.local, uplink.mtu);
    let mut engine = Engine::new(kernel, desired, cached.entities, cached.complete);
    let news = engine.check(&Scope::All)?;
    tracing::info!(
        entities = engine.desired().entities().len(),
        repaired = news.repaired.len(),
        failed = news.failed.len(),
        "compared with the kernel"
    );
    let (commands, queue) = mpsc::channel(COMMANDS);
    let agent = Agent {
        settings,
        engine,
        cache,
        epoch: cached.epoch,
        store: cached.store,
        complete: cached.complete,
        reports: None,
        uplink_up: uplink.running,
        repairs: VecDeque::new(),
        arrivals: Arrivals {
            listeners,
            listening: BTreeMap::new(),
            announced: BTreeMap::new(),
            lost: BTreeSet::new(),
        },
        _lock: lock,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(file_error)?;
    let of_engine = watch.clone();
    let run = move || runtime.block_on(agent.run(queue, monitor, heard, of_engine));
    thread::Builder::new()
        .name("engine".into())
        .spawn(run)
        .map_err(file_error)?;
    Ok(Started {
        commands,
        uplink,
        watch,
    })
}

/// Makes sure that no other agent uses the state directory; two agents would undo each other's work.
fn lock(settings: &Settings) -> Result<Flock<File>, AgentError> {
    let path = settings.state_dir.join("lock");
    let file = File::create(&path).map_err(|source| AgentError::File { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| AgentError::Config {
        what: "--state-dir".into(),
        message: format!("{} is in use by another agent", settings.state_dir.display()),
    })
}

fn file_error(source: std::io::Error) -> AgentError {
    AgentError::File {
        path: "thread".into(),
        source,
    }
}

struct Agent<D> {
    settings: Settings,
    engine: Engine<D>,
    cache: Cache,
    epoch: u64,
    store: u32,
    complete: bool,
    reports: Option<mpsc::Sender<v1::Report>>,
    /// False while the uplink does not carry frames.
    uplink_up: bool,
    /// The latest repairs, for the status.
    repairs: VecDeque<Repair>,
    arrivals: Arrivals,
    /// Held until everything else is closed: fields are dropped in this order.
    _lock: Flock<File>,
}

/// Workloads that are expected to arrive.
struct Arrivals {
    listeners: Listeners,
    /// Workloads whose ports are listened to now.
    listening: BTreeMap<String, Attachment>,
    /// Workloads that have announced themselves, and how. The controller has not acted on
    /// that yet.
    announced: BTreeMap<String, &'static str>,
    /// Workloads whose port could not be listened to; the next comparison tries again.
    lost: BTreeSet<String>,
}

impl<D: Datapath> Agent<D> {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Command>,
        mut monitor: Monitor,
        mut heard: mpsc::Receiver<Heard>,
        watch: Watch,
    ) {
        let mut ticks = [NETNS_RETRY, RETRY, SWEEP].map(|period| {
            let mut tick = interval(period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        let [netns, retry, sweep] = &mut ticks;
        let mut gathered = Gathered::default();
        loop {
            let due = gathered.due;
            let result = tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => { let _busy = watch.begin(command.name()); self.command(command) }
                    None => return,
                },
                change = monitor.recv() => match change {
                    Some(change) => { self.gather(change, &mut gathered); Ok(News::default()) }
                    None => return,
                },
                Some(heard) = heard.recv() => { self.hear(heard); Ok(News::default()) }
                () = sleep_until(due), if due.is_some() => {
                    let _busy = watch.begin("comparing objects that have changed");
                    let begun = Instant::now();
                    let news = self.engine.check(&std::mem::take(&mut gathered).scope());
                    gathered.not_before = Some(Instant::now() + begun.elapsed() * FREE);
                    news
                }
                _ = netns.tick() => {
                    for id in std::mem::take(&mut self.arrivals.lost) {
                        self.arrivals.listening.remove(&id);
                    }
                    let _busy = watch.begin("looking for namespaces");
                    self.engine.retry(|code| code == ErrorCode::NetnsNotFound)
                }
                _ = retry.tick() => {
                    let _busy = watch.begin("retrying objects that failed");
                    self.engine.retry(|code| code != ErrorCode::NetnsNotFound)
                }
                _ = sweep.tick() => {
                    let _busy = watch.begin("comparing everything");
                    self.engine.check(&Scope::All)
                }
            };
            match result {
                Ok(news) => self.tell(news),
                // The next tick or notification tries again.
                Err(error) => tracing::error!(%error, "cannot read the kernel"),
            }
            self.listen();
        }
    }

    /// Listens to the ports in standby that are in place, until their workloads have announced themselves.
    fn listen(&mut self) {
        let arrivals = &mut self.arrivals;
        let standby = || self.engine.desired().standby();
        if standby().next().is_none() && arrivals.listening.is_empty() && arrivals.announced.is_empty() {
            return;
        }
        arrivals.announced.retain(|id, _| standby().any(|a| a.id == *id));
        let in_place = standby().filter(|a| self.engine.error(&HostKey::Attachment(a.id.clone())).is_none());
        let silent = in_place.filter(|a| !arrivals.announced.contains_key(&a.id));
        let wanted: BTreeMap<String, Attachment> = silent.map(|a| (a.id.clone(), a.clone())).collect();
        if wanted != arrivals.listening {
            arrivals.listening.clone_from(&wanted);
            arrivals.listeners.set(wanted);
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            // An attachment that has changed meanwhile is not in standby any more.
            Heard::Announced(id, by) if self.engine.desired().standby().any(|a| a.id == id) => {
                tracing::info!(attachment = id, by, "its workload has arrived");
                self.arrivals.listening.remove(&id);
                self.arrivals.announced.insert(id.clone(), by);
                self.report_arrival(id, by);
            }
            Heard::Announced(id, _) => {
                self.arrivals.listening.remove(&id);
            }
            Heard::Lost(id) => {
                self.arrivals.lost.insert(id);
            }
        }
    }

    fn report_arrival(&mut self, attachment: String, by: &str) {
        let by = by.to_owned();
        self.report(v1::report::Event::Announced(v1::Announced { attachment, by }));
    }

    fn gather(&mut self, change: Change, gathered: &mut Gathered) {
        match change {
            Change::Uplink(up) => {
                self.uplink_up = up;
                let change = v1::LinkChange {
                    interface: self.settings.uplink.clone(),
                    up,
                };
                return self.report(v1::report::Event::Link(change));
            }
            Change::Entry(seen) => {
                if self.engine.is_as_desired(&seen) {
                    return;
                }
                gathered.vnis.extend(seen.key().vni());
            }
            Change::Network(vni) => drop(gathered.vnis.insert(vni)),
            Change::Port(name) => drop(gathered.ports.insert(name)),
            Change::Anything => gathered.all = true,
        }
        let soon = Instant::now() + GATHER;
        let not_before = gathered.not_before;
        gathered
            .due
            .get_or_insert_with(|| not_before.map_or(soon, |at| at.max(soon)));
    }

    fn command(&mut self, command: Command) -> Result<News, AgentError> {
        // The caller may be gone; then nobody needs the reply.
        match command {
            Command::Update {
                epoch,
                upserts,
                removes,
                answer,
            } => {
                let (errors, news) = self.update(epoch, upserts, &removes)?;
                // Once an attachment counts as prepared, its announcement is not missed.
                self.listen();
                let _ = answer.send(errors);
                return Ok(news);
            }
            Command::Read(answer) => {
                let news = self.engine.check(&Scope::All)?;
                let _ = answer.send(self.held());
                return Ok(news);
            }
            Command::Synced(v1::Synced { epoch, store }) => {
                if store != 0 && store != self.store {
                    self.cache.keep(store)?;
                    self.store = store;
                }
                self.cache.write(&[], &[], &[], Some(epoch))?;
                (self.epoch, self.complete) = (epoch, true);
                return self.engine.set_complete();
            }
            Command::Follow(reports, answer) => {
                self.reports = Some(reports);
                for (id, by) in self.arrivals.announced.clone() {
                    self.report_arrival(id, by);
                }
                let _ = answer.send(Known {
                    epoch: self.epoch,
                    store: self.store,
                });
            }
            Command::Look(id, answer) => {
                let ports = [port_name(&id)].into();
                let vnis = BTreeSet::new();
                let news = self.engine.check(&Scope::Some { vnis, ports })?;
                let _ = answer.send(self.look(&HostKey::Attachment(id)));
                return Ok(news);
            }
            Command::IdAt((netns, interface), answer) => {
                let _ = answer.send(self.engine.desired().id_at(&netns, &interface).map(str::to_owned));
            }
            Command::Trace(packet, answer) => {
                let failure = |key: &HostKey| self.engine.error(key).map(ToString::to_string);
                let held = Held {
                    entities: self.engine.desired().entities(),
                    failure: &failure,
                };
                let _ = answer.send(trace(&held, &packet));
            }
            Command::Losses(answer) => {
                let losses = self.engine.datapath().losses();
                let _ = answer.send(losses.map_err(|e| e.to_string()));
            }
            Command::Status(answer) => {
                let losses = self.engine.datapath().losses()?;
                let traffic = self.engine.datapath().traffic()?;
                let connected = self.reports.as_ref().is_some_and(|r| !r.is_closed());
                let _ = answer.send(Status {
                    connected,
                    uplink_up: self.uplink_up,
                    epoch: self.epoch,
                    complete: self.complete,
                    repairs: self.repairs.iter().cloned().collect(),
                    losses,
                    traffic,
                    ..Status::of(&self.settings, &self.engine)
                });
            }
        }
        Ok(News::default())
    }

    fn update(
        &mut self,
        epoch: u64,
        upserts: Vec<HostEntity>,
        removes: &[HostKey],
    ) -> Result<(Vec<v1::ObjectError>, News), AgentError> {
        let arrived = self.engine.desired().arrivals(&upserts);
        self.cache
            .write(&upserts, &arrived, removes, self.complete.then_some(epoch))?;
        self.epoch = epoch;
        let asked: Vec<HostKey> = upserts
            .iter()
            .map(HostEntity::key)
            .chain(removes.iter().cloned())
            .collect();
        let news = self.engine.update(upserts, removes)?;
        let errors = asked
            .iter()
            .filter_map(|k| Some(wire_error(k, self.engine.error(k)?)))
            .collect();
        Ok((errors, news))
    }

    fn look(&self, key: &HostKey) -> Look {
        let entities = self.engine.desired().entities();
        let Some(HostEntity::Attachment(attachment)) = entities.get(key) else {
            return Look::Absent;
        };
        if let Some(error) = self.engine.error(key) {
            return Look::Failed(error.clone());
        }
        let of_network = match entities.get(&HostKey::Network(attachment.vni)) {
            Some(HostEntity::Network(network)) => network.mtu,
            _ => 0,
        };
        let mtu = if attachment.mtu == 0 {
            of_network
        } else {
            attachment.mtu
        };
        Look::InPlace(attachment.clone(), mtu)
    }

    fn held(&self) -> Vec<v1::HeldObject> {
        let held = |(key, entity): (&HostKey, &HostEntity)| v1::HeldObject {
            object: Some(entity.into()),
            error: self.engine.error(key).map(|e| wire_error(key, e)),
        };
        self.engine.desired().entities().iter().map(held).collect()
    }

    fn tell(&mut self, news: News) {
        for repaired in &news.repaired {
            tracing::warn!("{repaired}: repaired");
            let at = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs());
            self.repairs.push_back(Repair {
                at,
                what: repaired.clone(),
            });
        }
        while self.repairs.len() > REPAIRS {
            self.repairs.pop_front();
        }
        for key in &news.applied {
            tracing::info!(object = %key, "in place");
        }
        for (key, error) in &news.failed {
            tracing::warn!(object = %key, %error, "not in place");
        }
        if !news.repaired.is_empty() {
            self.report(v1::report::Event::Repair(v1::Repair { details: news.repaired }));
        }
        if !news.applied.is_empty() || !news.failed.is_empty() {
            let applied = news.applied.iter().map(Into::into).collect();
            let failed = news.failed.iter().map(|(k, e)| wire_error(k, e)).collect();
            self.report(v1::report::Event::State(v1::StateChange { applied, failed }));
        }
    }

    fn report(&mut self, event: v1::report::Event) {
        let report = v1::Report { event: Some(event) };
        if self.reports.as_ref().is_some_and(|r| r.try_send(report).is_err()) {
            // Dropping it ends the stream, if it has not ended.
            self.reports = None;
        }
    }
}

/// An error in wire format. The agent itself retries everything.
fn wire_error(key: &HostKey, error: &StepError) -> v1::ObjectError {
    object_error(key, error.code, error.message.clone(), true)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Objects that notifications have named since the last comparison.
#[derive(Default)]
struct Gathered {
    vnis: BTreeSet<vtep_proto::Vni>,
    ports: BTreeSet<String>,
    all: bool,
    /// When to compare them; none if there are none.
    due: Option<Instant>,
    /// The earliest time of the next comparison ([`FREE`]).
    not_before: Option<Instant>,
}

impl Gathered {
    fn scope(self) -> Scope {
        if self.all {
            Scope::All
        } else {
            Scope::Some {
                vnis: self.vnis,
                ports: self.ports,
            }
        }
    }
}
