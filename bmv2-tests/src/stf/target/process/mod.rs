//! A switch in a separate process, with the command line of `simple_switch_grpc`. Its entries are written over
//! P4Runtime; frames go in through named pipes and come out in files, in pcap format.
//!
//! All requests of a script use the interface that every controller uses. So two independent switches can be compared.
//!
//! - Frames go through files because a network device takes no frame of less than 14 octets, and many scripts send such
//!   frames.
//! - The switch reads its inputs by their time stamps: it reads a frame only when every other input has a later one or
//!   has ended. So only with one input are commands between frames carried out between them; with more, all frames come
//!   after all commands. Inputs end when a script asks for frames.
//! - `simple_switch_grpc` refuses registers and value sets. A script that needs these fails there, and says so.

mod files;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use files::Files;
use p4_compiler::Compiled;
use p4runtime_client::pipeline::Pipeline;
use p4runtime_client::session::{ElectionId, Event, Options, Session};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1 as p4;
use p4runtime_proto::p4::v1::entity::Entity;
use p4runtime_proto::p4::v1::update::Type;
use tokio::runtime::Runtime;
use wire::Wire;

use super::{Action, Call, Count, Entry, Failed, Rates, Replica, Target};

const DEVICE_ID: u64 = 1;
const ELECTION_ID: u64 = 1;
/// As many as `standard_metadata.priority` has values.
const PRIORITIES: &str = "8";
/// Longest time until a switch serves; on an idle machine it takes much less.
const START: Duration = Duration::from_secs(20);
/// If no frame has left, and the switch has been asleep for this long since the last input, no frame will leave.
const QUIET: Duration = Duration::from_millis(300);
/// Time between two checks.
const LOOK: Duration = Duration::from_millis(10);

/// A switch with one program.
pub struct Process {
    child: Child,
    runtime: Runtime,
    session: Session,
    wire: Wire,
    files: Files,
    /// Entities that were inserted; writing them again modifies them.
    kept: HashSet<Kept>,
    digests: Vec<(String, Vec<Vec<u8>>)>,
}

/// The name of an object that is always written as a whole.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Kept {
    Member(u32, u32),
    Group(u32, u32),
    Multicast(u32),
    Clone(u32),
}

impl Process {
    /// Starts a switch with these ports (true for one that frames come in by) and loads a program, with its own entries.
    ///
    /// # Errors
    /// It does not start, does not serve, or refuses the program.
    pub fn start(binary: &Path, compiled: &Compiled, ports: &BTreeMap<u32, bool>) -> Result<Self, Failed> {
        let files = Files::new(ports)?;
        let address = free_address().map_err(|e| format!("no port is free: {e}"))?;
        let mut command = Command::new(binary);
        command.args(["--no-p4", "--use-files", "0", "--device-id"]);
        command.arg(DEVICE_ID.to_string()).args(files.interfaces());
        if takes_thrift(binary) {
            let port = free_address().map_err(|e| format!("no port is free: {e}"))?;
            command.arg("--thrift-port").args(port.rsplit(':').next());
        }
        command.args(["--log-level", "error", "--", "--grpc-server-addr", &address]);
        command.args(["--priority-queues", PRIORITIES]);
        command
            .current_dir(files.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(files.log()?);
        let child = command.spawn().map_err(|e| format!("{}: {e}", binary.display()))?;
        let mut child = Guard(Some(child));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let session = runtime.block_on(connect(&address))?;
        let config = compiled.json.clone().into_bytes().into();
        let pipeline = Pipeline::new(compiled.p4info.clone(), config);
        let installed = runtime.block_on(session.install(&pipeline));
        installed.map_err(|e| format!("{e}{}", files.last_words()))?;
        let mut process = Self {
            child: child.0.take().ok_or("the switch is gone")?,
            runtime,
            session,
            wire: Wire::new(&compiled.p4info),
            files,
            kept: HashSet::new(),
            digests: Vec::new(),
        };
        for digest in process.wire.digests() {
            process.write(Type::Insert, digest)?;
        }
        Ok(process)
    }

    fn client(&self) -> P4RuntimeClient<tonic::transport::Channel> {
        P4RuntimeClient::new(self.session.channel())
    }

    /// Writes one entity, after all earlier frames have been handled.
    fn write(&mut self, kind: Type, entity: Entity) -> Result<(), Failed> {
        self.settle();
        let request = p4::WriteRequest {
            device_id: DEVICE_ID,
            election_id: Some(p4::Uint128 {
                high: 0,
                low: ELECTION_ID,
            }),
            updates: vec![p4::Update {
                r#type: kind.into(),
                entity: Some(p4::Entity { entity: Some(entity) }),
            }],
            ..Default::default()
        };
        let mut client = self.client();
        let written = self.runtime.block_on(client.write(request));
        written.map(drop).map_err(|status| wire::refusal(&status))
    }

    /// Inserts an entity, or modifies it if it was inserted before.
    fn set(&mut self, what: Kept, entity: Entity) -> Result<(), Failed> {
        let kind = if self.kept.contains(&what) {
            Type::Modify
        } else {
            Type::Insert
        };
        self.write(kind, entity)?;
        self.kept.insert(what);
        Ok(())
    }

    /// Reads the one entity that a pattern names, after all earlier frames have been handled.
    fn read(&mut self, pattern: Entity) -> Result<Entity, Failed> {
        self.settle();
        let request = p4::ReadRequest {
            device_id: DEVICE_ID,
            entities: vec![p4::Entity { entity: Some(pattern) }],
            ..Default::default()
        };
        let mut client = self.client();
        let found = self.runtime.block_on(async {
            let mut stream = client.read(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(part) = stream.message().await? {
                found.extend(part.entities);
            }
            Ok::<_, tonic::Status>(found)
        });
        let found = found.map_err(|status| wire::refusal(&status))?;
        let first = found.into_iter().find_map(|e| e.entity);
        first.ok_or_else(|| "the switch has none of it".into())
    }

    /// Waits until the switch has handled all frames sent so far.
    fn settle(&mut self) {
        let mut size = self.files.written();
        let mut since = Instant::now();
        while self.files.pending() && since.elapsed() < QUIET {
            std::thread::sleep(LOOK);
            let now = self.files.written();
            // A switch that is ready to run but gets no processor is not quiet, however long that takes.
            if now != size || is_running(self.child.id()) {
                (size, since) = (now, Instant::now());
            }
        }
        self.files.settled();
    }

    /// An entry as it is written, and as it is named.
    fn entry(&self, entry: &Entry) -> Result<p4::TableEntry, Failed> {
        self.wire.entry(entry)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Ends a switch whose start failed.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(stop);
    }
}

fn stop(child: &mut Child) {
    // It has nothing to save, so it is killed.
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether some thread of a process is running or waits for a processor (proc(5), `/proc/PID/task/TID/stat`).
fn is_running(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut states = threads.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
    states.any(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R')))
}

/// An address on which nothing listens at the moment.
fn free_address() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Whether a switch was built with Thrift. Then each instance needs a port for it.
fn takes_thrift(binary: &Path) -> bool {
    let help = Command::new(binary).arg("--help").output();
    help.is_ok_and(|h| String::from_utf8_lossy(&h.stdout).contains("--thrift-port"))
}

async fn connect(address: &str) -> Result<Session, Failed> {
    let started = Instant::now();
    loop {
        let options = Options::new(address, DEVICE_ID, ElectionId(ELECTION_ID.into()));
        match Session::open(options).await {
            Ok(session) => return Ok(session),
            Err(_) if started.elapsed() < START => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(format!("the switch does not serve: {error}")),
        }
    }
}

impl Target for Process {
    fn add(&mut self, entry: &Entry) -> Result<(), Failed> {
        let entry = self.entry(entry)?;
        self.write(Type::Insert, Entity::TableEntry(entry))
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), Failed> {
        let entry = self.entry(entry)?;
        self.write(Type::Delete, Entity::TableEntry(entry))
    }

    fn set_default(&mut self, table: &str, call: &Call) -> Result<(), Failed> {
        let entry = p4::TableEntry {
            table_id: self.wire.table(table)?,
            action: Some(self.wire.action(&Action::Call(call.clone()))?),
            is_default_action: true,
            ..Default::default()
        };
        self.write(Type::Modify, Entity::TableEntry(entry))
    }

    fn member(&mut self, profile: &str, id: u32, call: &Call) -> Result<(), Failed> {
        let profile = self.wire.profile(profile)?;
        let member = p4::ActionProfileMember {
            action_profile_id: profile,
            member_id: id,
            action: Some(self.wire.call(call)?),
        };
        self.set(Kept::Member(profile, id), Entity::ActionProfileMember(member))
    }

    fn group(&mut self, profile: &str, id: u32, members: &[(u32, Option<u32>)]) -> Result<(), Failed> {
        let profile = self.wire.profile(profile)?;
        let group = self.wire.group(profile, id, members);
        self.set(Kept::Group(profile, id), Entity::ActionProfileGroup(group))
    }

    fn value_set(&mut self, set: &str, members: &[Vec<Vec<u8>>]) -> Result<(), Failed> {
        let set = self.wire.value_set(set, members)?;
        self.write(Type::Modify, Entity::ValueSetEntry(set))
    }

    fn multicast(&mut self, group: u32, copies: &[Replica]) -> Result<(), Failed> {
        let replication = p4::MulticastGroupEntry {
            multicast_group_id: group,
            replicas: wire::replicas(copies),
            ..Default::default()
        };
        let replication = wire::replication(p4::packet_replication_engine_entry::Type::MulticastGroupEntry(
            replication,
        ));
        self.set(Kept::Multicast(group), replication)
    }

    fn mirror(&mut self, session: u32, copies: Option<&[Replica]>) -> Result<(), Failed> {
        let replication = p4::CloneSessionEntry {
            session_id: session,
            replicas: wire::replicas(copies.unwrap_or_default()),
            ..Default::default()
        };
        let entity = wire::replication(p4::packet_replication_engine_entry::Type::CloneSessionEntry(
            replication,
        ));
        match copies {
            Some(_) => self.set(Kept::Clone(session), entity),
            None => {
                self.kept.remove(&Kept::Clone(session));
                self.write(Type::Delete, entity)
            }
        }
    }

    fn port(&mut self, _: u32, _: bool) -> Result<(), Failed> {
        Err("a port that is a file has no link".into())
    }

    fn counter(&mut self, counter: &str, cell: u64) -> Result<Count, Failed> {
        let cell = self.wire.counter(counter, cell, None)?;
        match self.read(Entity::CounterEntry(cell))? {
            Entity::CounterEntry(cell) => Ok(wire::count(cell.data.as_ref())),
            other => Err(format!("the switch answers {other:?}")),
        }
    }

    fn set_counter(&mut self, counter: &str, cell: u64, count: Count) -> Result<(), Failed> {
        let cell = self.wire.counter(counter, cell, Some(count))?;
        self.write(Type::Modify, Entity::CounterEntry(cell))
    }

    fn direct_counter(&mut self, entry: &Entry) -> Result<Count, Failed> {
        let named = p4::DirectCounterEntry {
            table_entry: Some(self.entry(entry)?),
            ..Default::default()
        };
        match self.read(Entity::DirectCounterEntry(named))? {
            Entity::DirectCounterEntry(found) => Ok(wire::count(found.data.as_ref())),
            other => Err(format!("the switch answers {other:?}")),
        }
    }

    fn meter(&mut self, meter: &str, cell: Option<u64>, rates: Rates) -> Result<(), Failed> {
        for cell in self.wire.meter(meter, cell, rates)? {
            self.write(Type::Modify, Entity::MeterEntry(cell))?;
        }
        Ok(())
    }

    fn direct_meter(&mut self, entry: &Entry, rates: Rates) -> Result<(), Failed> {
        let named = p4::DirectMeterEntry {
            table_entry: Some(self.entry(entry)?),
            config: Some(wire::rates(rates)?),
            ..Default::default()
        };
        self.write(Type::Modify, Entity::DirectMeterEntry(named))
    }

    fn register(&mut self, register: &str, cell: u64) -> Result<Vec<u8>, Failed> {
        let cell = self.wire.register(register, cell, None)?;
        match self.read(Entity::RegisterEntry(cell))? {
            Entity::RegisterEntry(found) => wire::number(found.data.as_ref()),
            other => Err(format!("the switch answers {other:?}")),
        }
    }

    fn set_register(&mut self, register: &str, cell: u64, value: &[u8]) -> Result<(), Failed> {
        let cell = self.wire.register(register, cell, Some(value))?;
        self.write(Type::Modify, Entity::RegisterEntry(cell))
    }

    fn idle_ms(&mut self, entry: &Entry) -> Result<u64, Failed> {
        let named = p4::TableEntry {
            time_since_last_hit: Some(p4::table_entry::IdleTimeout::default()),
            action: None,
            ..self.entry(entry)?
        };
        match self.read(Entity::TableEntry(named))? {
            Entity::TableEntry(found) => {
                let since = found.time_since_last_hit.ok_or("the switch does not say when")?;
                Ok(u64::try_from(since.elapsed_ns).unwrap_or(0) / 1_000_000)
            }
            other => Err(format!("the switch answers {other:?}")),
        }
    }

    fn wait(&mut self, ms: u64) -> Result<(), Failed> {
        self.settle();
        std::thread::sleep(Duration::from_millis(ms));
        Ok(())
    }

    fn packet(&mut self, port: u32, frame: &[u8]) -> Result<(), Failed> {
        self.files.send(port, frame)
    }

    fn frames(&mut self) -> Result<Vec<(u32, Vec<u8>)>, Failed> {
        self.files.end();
        self.settle();
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the switch ended with {status}{}", self.files.last_words()));
        }
        self.files.frames()
    }

    fn digests(&mut self) -> Result<Vec<(String, Vec<Vec<u8>>)>, Failed> {
        self.settle();
        let arrived = self.runtime.block_on(async {
            let mut arrived = Vec::new();
            while let Ok(event) = tokio::time::timeout(QUIET, self.session.next_event()).await {
                let Event::Digest(list) = event else { continue };
                let acknowledged = self.session.ack_digest(list.digest_id, list.list_id).await;
                acknowledged.map_err(|e| e.to_string())?;
                arrived.push(list);
            }
            Ok::<_, Failed>(arrived)
        })?;
        for list in arrived {
            let name = self.wire.digest_name(list.digest_id)?;
            for data in &list.data {
                self.digests.push((name.clone(), wire::fields(data)?));
            }
        }
        Ok(std::mem::take(&mut self.digests))
    }
}
