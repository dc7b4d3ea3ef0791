//! The peer: OVN's northd and databases (Debian packages `ovn-central`, `openvswitch-common`), over OVSDB (RFC 7047).
//!
//! It runs in separate processes with separate files; an OVN of the system is not touched. A change counts as done when
//! northd has written it to the southbound database, as for `ovn-nbctl --wait=sb`. The time that chassis need
//! afterwards is not included.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::report::{Goal, Report, percentile_ms, record, times};

/// The programs that are needed.
const PROGRAMS: [&str; 3] = ["ovsdb-server", "ovsdb-tool", "ovn-northd"];
/// Ports that are added one after the other.
const SAMPLES: usize = 9;
/// Calls under way in the burst.
const IN_FLIGHT: usize = 64;
/// Longest wait for northd.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest wait for a database to listen.
const START: Duration = Duration::from_secs(30);
/// How often that is checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether it is installed.
pub(super) fn is_installed() -> bool {
    PROGRAMS.iter().all(|program| program_dir(program).is_some()) && schema("nb").is_some_and(|schema| schema.is_file())
}

/// The directory of a program.
fn program_dir(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).find(|dir| dir.join(program).is_file())
}

/// The schema of a database (`nb` or `sb`): packages have it beside the programs, under `share/ovn`.
fn schema(name: &str) -> Option<PathBuf> {
    let share = program_dir("ovn-northd")?.parent()?.join("share/ovn");
    Some(share.join(format!("ovn-{name}.ovsschema")))
}

/// Processes that end when this is dropped.
struct Peer {
    children: Vec<Child>,
    northbound: Database,
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Measures a burst of networks with a port each, and one more port with as many networks.
///
/// # Errors
/// It does not start or does not do what is requested.
pub(super) async fn run(dir: &Path, networks: usize, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(&dir.join("ovn")).await?;
    let took = peer.burst(networks).await?;
    let what = format!("OVN: {networks} networks with a port each");
    report.add(
        &what,
        "until in the southbound database",
        took.as_secs_f64(),
        "s",
        Goal::None,
    );
    let mut one = times()?;
    for n in 0..SAMPLES {
        let started = Instant::now();
        peer.northbound
            .transact(port(&format!("more{n}"), n * networks / SAMPLES))
            .await?;
        peer.northbound.settle().await?;
        record(&mut one, started.elapsed())?;
    }
    let what = format!("OVN: one more port at {networks} networks");
    report.add(&what, "p50", percentile_ms(&one, 50.0), "ms", Goal::None);
    Ok(())
}

impl Peer {
    async fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut children = Vec::new();
        let mut sockets = Vec::new();
        for name in ["nb", "sb"] {
            let (file, socket) = (dir.join(format!("{name}.db")), dir.join(format!("{name}.sock")));
            let schema = schema(name).context("no schema")?;
            let made = Command::new("ovsdb-tool")
                .arg("create")
                .args([&file, &schema])
                .status()?;
            ensure!(made.success(), "ovsdb-tool: {made}");
            let mut server = quiet("ovsdb-server", dir);
            server.arg(format!("--remote=punix:{}", socket.display()));
            server.arg(format!("--unixctl={}", dir.join(format!("{name}.ctl")).display()));
            children.push(server.arg(&file).spawn().context("ovsdb-server")?);
            sockets.push(socket);
        }
        let [nb, sb] = sockets.as_slice() else {
            bail!("two databases")
        };
        let mut northbound = Database::open(nb, "OVN_Northbound").await?;
        northbound
            .transact(vec![json!({"op": "insert", "table": "NB_Global", "row": {}})])
            .await?;
        drop(Database::open(sb, "OVN_Southbound").await?);
        let mut northd = quiet("ovn-northd", dir);
        northd.arg(format!("--ovnnb-db=unix:{}", nb.display()));
        northd.arg(format!("--ovnsb-db=unix:{}", sb.display()));
        northd.arg(format!("--unixctl={}", dir.join("northd.ctl").display()));
        children.push(northd.spawn().context("ovn-northd")?);
        let mut peer = Self { children, northbound };
        peer.northbound.settle().await?;
        Ok(peer)
    }

    /// Two transactions for each network, some of them under way at a time, until northd is done with all.
    async fn burst(&mut self, networks: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut under_way = 0;
        for n in 0..networks {
            for operations in [switch(n), port(&format!("p{n}"), n)] {
                self.northbound.send(operations).await?;
                under_way += 1;
                if under_way == IN_FLIGHT {
                    self.northbound.answer().await?;
                    under_way -= 1;
                }
            }
        }
        for _ in 0..under_way {
            self.northbound.answer().await?;
        }
        self.northbound.settle().await?;
        Ok(started.elapsed())
    }
}

fn quiet(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--no-chdir").arg("-vconsole:off");
    command.arg(format!("--log-file={}", dir.join(format!("{program}.log")).display()));
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn switch(n: usize) -> Vec<Value> {
    vec![json!({"op": "insert", "table": "Logical_Switch", "row": {"name": format!("n{n}")}})]
}

/// A port with its addresses, in the switch of that number.
fn port(name: &str, of: usize) -> Vec<Value> {
    let (high, low) = (of / 250 % 250, of % 250);
    let addresses = format!("02:00:00:00:{high:02x}:{low:02x} 10.{high}.{low}.5");
    vec![
        json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "port",
            "row": {"name": name, "addresses": addresses, "port_security": addresses}}),
        json!({"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", format!("n{of}")]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]]}),
    ]
}

/// A connection to one database.
struct Database {
    stream: UnixStream,
    name: &'static str,
    /// Data that has arrived but is not read yet.
    text: Vec<u8>,
    id: u64,
    /// The last `nb_cfg` that was requested.
    cfg: i64,
}

impl Database {
    async fn open(socket: &PathBuf, name: &'static str) -> Result<Self> {
        let until = Instant::now() + START;
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => {
                    return Err(error).with_context(|| socket.display().to_string());
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        Ok(Self {
            stream,
            name,
            text: Vec::new(),
            id: 0,
            cfg: 0,
        })
    }

    async fn send(&mut self, operations: Vec<Value>) -> Result<()> {
        self.id += 1;
        let params: Vec<Value> = std::iter::once(json!(self.name)).chain(operations).collect();
        let request = json!({"method": "transact", "params": params, "id": self.id});
        Ok(self.stream.write_all(request.to_string().as_bytes()).await?)
    }

    /// The next answer.
    async fn answer(&mut self) -> Result<Value> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.text).into_iter::<Value>();
            match values.next() {
                Some(Ok(message)) => {
                    let read = values.byte_offset();
                    self.text.drain(..read);
                    if message.get("method").is_some_and(|method| method == "echo") {
                        let reply = json!({"id": message["id"], "result": message["params"], "error": null});
                        self.stream.write_all(reply.to_string().as_bytes()).await?;
                        continue;
                    }
                    let results = message["result"].as_array().cloned().unwrap_or_default();
                    let failed = results.iter().any(|result| result.get("error").is_some());
                    ensure!(message["error"].is_null() && !failed, "OVSDB: {message}");
                    return Ok(message);
                }
                Some(Err(error)) if !error.is_eof() => return Err(error.into()),
                _ => {}
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.text)).await;
            ensure!(read.context("OVSDB is silent")?? > 0, "OVSDB has closed the connection");
        }
    }

    async fn transact(&mut self, operations: Vec<Value>) -> Result<Value> {
        self.send(operations).await?;
        self.answer().await
    }

    /// Waits until northd has taken everything to the southbound database.
    async fn settle(&mut self) -> Result<()> {
        self.cfg += 1;
        let set = json!({"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": self.cfg}});
        self.transact(vec![set]).await?;
        let wait = json!({"op": "wait", "table": "NB_Global", "where": [], "columns": ["sb_cfg"], "until": "==",
            "rows": [{"sb_cfg": self.cfg}], "timeout": PATIENCE.as_millis() as u64});
        self.transact(vec![wait]).await?;
        Ok(())
    }
}
