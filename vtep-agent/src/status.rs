//! `vtep-agent status` and `trace`: what the agent holds, over a unix socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::{Table, presets};
use fabric_identity::{Credentials, Expiry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use vtep_proto::{HostEntity, HostKey};

use crate::agent::{Command, Commands, Settings};
use crate::datapath::{Datapath, Loss, Traffic};
use crate::engine::Engine;
use crate::error::AgentError;
use crate::trace::Packet;
use crate::watch::{Running, Watch};

/// Pause of the accept loop while it fails: the process has no descriptor to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for a client to read the reply.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the engine to return its status. It may be in the middle of a large
/// update; then the status shows what it is doing instead.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest request, in octets: a packet takes a few hundred.
const MAX_REQUEST: u64 = 4096;
/// Work that has been running for less than this is not shown.
const SLOW: Duration = Duration::from_secs(1);

/// Path of the socket in a state directory.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.sock")
}

/// The status of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the host.
    pub host: String,
    /// Name of the uplink.
    pub uplink: String,
    /// True while it carries frames.
    pub uplink_up: bool,
    /// True while the stream to the controller is open.
    pub connected: bool,
    /// Epoch of the last update.
    pub epoch: u64,
    /// False until the controller has sent everything once.
    pub complete: bool,
    /// What the host holds, one row each.
    pub objects: Vec<Row>,
    /// The network namespace of bridges, VXLAN devices and ports.
    pub overlay: String,
    /// Changes by others that the agent repaired, the latest last.
    pub repairs: Vec<Repair>,
    /// Frames lost on this host, by place and reason.
    pub losses: Vec<Loss>,
    /// Frames and octets of attachments and networks.
    #[serde(default)]
    pub traffic: Vec<Traffic>,
    /// The expiry of the host's certificate, and the earliest expiry of an authority's certificate.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Work that has been running for more than a second. If the engine is stuck in it, the rest of
    /// the status is missing.
    pub running: Vec<Running>,
}

/// When a certificate that the agent uses expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// `host` or `authority`.
    pub certificate: String,
    /// Last second, in seconds since 1970.
    pub not_after: i64,
    /// The same in words; a warning, if it expires soon or has expired.
    pub state: String,
}

impl Certificate {
    /// The expiries of these credentials.
    pub fn all(expiry: &Expiry) -> Vec<Self> {
        let named = [
            ("host", "the host's certificate", expiry.own),
            ("authority", "the authority's certificate", expiry.authority),
        ];
        let each = named.map(|(certificate, what, validity)| Self {
            certificate: certificate.to_owned(),
            not_after: validity.not_after,
            state: validity
                .warning(what)
                .unwrap_or_else(|| format!("{what} is valid until {}", validity.until())),
        });
        each.into()
    }
}

/// A change by somebody else that the agent repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What was found.
    pub what: String,
}

/// An object that the host holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `network`, `fdb`, `neighbour` or `attachment`.
    pub kind: String,
    /// Its network.
    pub vni: u32,
    /// Its name inside the network.
    pub name: String,
    /// What it is.
    pub content: String,
    /// `applied`, or why not.
    pub state: String,
}

impl Status {
    /// The part that the engine knows. The caller adds the rest.
    pub(crate) fn of<D: Datapath>(settings: &Settings, engine: &Engine<D>) -> Self {
        let state = |key: &HostKey| {
            engine
                .error(key)
                .map_or_else(|| "applied".to_owned(), ToString::to_string)
        };
        let objects = engine
            .desired()
            .entities()
            .iter()
            .map(|(k, e)| row(e, state(k)))
            .collect();
        Self {
            objects,
            ..Self::stalled(settings)
        }
    }

    /// The status of an agent whose engine does not reply.
    fn stalled(settings: &Settings) -> Self {
        Self {
            host: settings.host.clone(),
            uplink: settings.uplink.clone(),
            uplink_up: false,
            connected: false,
            epoch: 0,
            complete: false,
            objects: Vec::new(),
            overlay: settings.overlay.clone(),
            repairs: Vec::new(),
            losses: Vec::new(),
            traffic: Vec::new(),
            certificates: Vec::new(),
            running: Vec::new(),
        }
    }

    /// The part that is about one attachment and its network; none if the host should not hold it.
    #[must_use]
    pub fn of_attachment(&self, id: &str) -> Option<Self> {
        let is_it = |row: &&Row| row.kind == "attachment" && row.name == id;
        let vni = self.objects.iter().find(is_it)?.vni;
        let of_network = |row: &&Row| row.vni == vni && (row.kind != "attachment" || row.name == id);
        let is_its = |place: &str| place == id;
        Some(Self {
            objects: self.objects.iter().filter(of_network).cloned().collect(),
            losses: self.losses.iter().filter(|l| is_its(&l.place)).cloned().collect(),
            traffic: self
                .traffic
                .iter()
                .filter(|t| t.attachment.as_deref().map_or(t.vni == vni, is_its))
                .cloned()
                .collect(),
            repairs: self.repairs.iter().filter(|r| r.what.contains(id)).cloned().collect(),
            ..self.clone()
        })
    }

    /// The status as tables for people.
    pub fn tables(&self) -> String {
        let controller = if self.connected { "connected" } else { "away" };
        let uplink = if self.uplink_up { "" } else { " (down)" };
        let known = if self.complete { "complete" } else { "not complete yet" };
        let mut text = format!(
            "host {}  uplink {}{uplink}  overlay {}  controller {controller}  epoch {} ({known})\n",
            self.host, self.uplink, self.overlay, self.epoch
        );
        for c in &self.certificates {
            text.push_str(&format!("{}\n", c.state));
        }
        for r in &self.running {
            text.push_str(&format!("running for {} s: {}\n", r.for_ms / 1000, r.what));
        }
        for kind in ["network", "fdb", "neighbour", "attachment"] {
            let mut table = Table::new();
            table
                .load_style(presets::NOTHING)
                .set_header(["vni", kind, "content", "state"]);
            let rows: Vec<&Row> = self.objects.iter().filter(|r| r.kind == kind).collect();
            for r in &rows {
                table.add_row([&r.vni.to_string(), &r.name, &r.content, &r.state]);
            }
            if !rows.is_empty() {
                text.push_str(&format!("\n{table}\n"));
            }
        }
        if !self.losses.is_empty() {
            let mut table = Table::new();
            table
                .load_style(presets::NOTHING)
                .set_header(["lost at", "reason", "frames"]);
            for l in &self.losses {
                table.add_row([&l.place, &l.reason, &l.frames.to_string()]);
            }
            text.push_str(&format!("\n{table}\n"));
        }
        if !self.traffic.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header([
                "vni",
                "carried by",
                "frames in",
                "octets in",
                "frames out",
                "octets out",
            ]);
            for t in &self.traffic {
                let by = t.attachment.as_deref().unwrap_or("tunnels");
                let counts = t.counts().map(|n| n.to_string());
                table.add_row([&[t.vni.to_string(), by.to_owned()][..], &counts].concat());
            }
            text.push_str(&format!("\n{table}\n"));
        }
        if !self.repairs.is_empty() {
            text.push_str("\nchanged by others and repaired\n");
        }
        for r in &self.repairs {
            text.push_str(&format!("  {}  {}\n", utc(r.at), r.what));
        }
        text
    }
}

fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

fn row(entity: &HostEntity, state: String) -> Row {
    let (kind, name, content) = match entity {
        HostEntity::Network(n) => {
            let gateways = n
                .gateways
                .iter()
                .map(|g| format!("{} {} at {}", g.mac, join(&g.ips), g.vtep));
            let content = format!("mtu {} flood {} gateway {}", n.mtu, join(&n.flood), join(gateways));
            ("network", crate::object::bridge_name(n.vni), content)
        }
        HostEntity::Fdb(e) => ("fdb", e.mac.to_string(), format!("at {}", e.vtep)),
        HostEntity::Neighbour(n) => ("neighbour", n.ip.to_string(), format!("at {}", n.mac)),
        HostEntity::Attachment(a) => {
            let port = crate::object::port_name(&a.id);
            let content = format!(
                "{}:{} {} {} port {port}",
                a.netns,
                a.interface,
                a.mac,
                join(&a.addresses)
            );
            ("attachment", a.id.clone(), content)
        }
    };
    Row {
        kind: kind.into(),
        vni: entity.vni().get(),
        name,
        content,
        state,
    }
}

/// Serves the socket for ever: each connection gets the status, or the path of a packet, as JSON and is closed.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(
    settings: Settings,
    credentials: &Credentials,
    commands: Commands,
    watch: Watch,
) -> Result<(), AgentError> {
    let path = socket(&settings.state_dir);
    let fail = |source| AgentError::File {
        path: path.clone(),
        source,
    };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(fail)?;
    // Root only, because it shows which tenants are here.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let mut failing = false;
    loop {
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // For example, there is no free descriptor: the agent goes on, and tries again in a moment.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "no connection to the status socket can be accepted; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let text = match asked(&mut client).await {
            None => {
                let mut status = match of_engine(&commands, Command::Status).await? {
                    Some(status) => status,
                    None => Status::stalled(&settings),
                };
                status.certificates = Certificate::all(&credentials.expiry());
                status.running = watch.longer_than(SLOW);
                serde_json::to_vec(&status)
            }
            Some(Err(wrong)) => serde_json::to_vec(&Err::<(), _>(wrong)),
            Some(Ok(packet)) => {
                let way = of_engine(&commands, |answer| Command::Trace(packet, answer)).await?;
                let busy = || Err("the engine is busy; `vtep-agent status` says with what".to_owned());
                serde_json::to_vec(&way.unwrap_or_else(busy))
            }
        };
        let text = text.unwrap_or_default();
        // One client at a time; a client that does not read is disconnected.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, client.write_all(&text)).await;
    }
}

/// Reads a client's request until the client closes its side: a packet, to get the packet's path, or nothing, to get
/// the status.
async fn asked(client: &mut UnixStream) -> Option<Result<Packet, String>> {
    let mut text = Vec::new();
    let mut bounded = client.take(MAX_REQUEST);
    // A client that sends nothing wants the status.
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, bounded.read_to_end(&mut text)).await;
    (!text.is_empty()).then(|| serde_json::from_slice(&text).map_err(|e| format!("the request cannot be read: {e}")))
}

/// Asks the engine; none if it does not reply in time.
async fn of_engine<T>(
    commands: &Commands,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<Option<T>, AgentError> {
    let ask = async {
        let (answer, result) = oneshot::channel();
        let gone = || AgentError::Ended("engine");
        commands.send(command(answer)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    };
    tokio::time::timeout(ENGINE_TIMEOUT, ask).await.ok().transpose()
}

/// Gets the status of the agent with this state directory.
///
/// # Errors
/// When no agent answers.
pub async fn ask(state_dir: &Path) -> Result<Status, AgentError> {
    converse(state_dir, &[]).await
}

/// Asks that agent for the path of a packet; the inner error says what is wrong with the request.
///
/// # Errors
/// When no agent answers.
pub async fn ask_trace(state_dir: &Path, packet: &Packet) -> Result<Result<Vec<String>, String>, AgentError> {
    converse(state_dir, &serde_json::to_vec(packet).unwrap_or_default()).await
}

async fn converse<T: DeserializeOwned>(state_dir: &Path, request: &[u8]) -> Result<T, AgentError> {
    let path = socket(state_dir);
    let fail = |source| AgentError::File {
        path: path.clone(),
        source,
    };
    let mut client = UnixStream::connect(&path).await.map_err(fail)?;
    client.write_all(request).await.map_err(fail)?;
    client.shutdown().await.map_err(fail)?;
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.map_err(fail)?;
    serde_json::from_slice(&text).map_err(|e| fail(io::Error::other(e)))
}

/// A time in seconds since 1970 as hours, minutes and seconds of the day, UTC.
fn utc(at: u64) -> String {
    let of_day = at % 86_400;
    format!("{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fabric_identity::testing::Authority;

    use super::*;
    use crate::datapath::kernel::FloodLimit;
    use crate::object::LocalVteps;

    #[test]
    fn a_dump_of_one_attachment_shows_nothing_of_others() {
        let row = |kind: &str, vni: u32, name: &str| Row {
            kind: kind.into(),
            vni,
            name: name.into(),
            content: String::new(),
            state: "applied".into(),
        };
        let traffic = |attachment: Option<&str>, vni| Traffic {
            attachment: attachment.map(str::to_owned),
            vni,
            received_frames: 1,
            received_bytes: 2,
            sent_frames: 3,
            sent_bytes: 4,
        };
        let status = Status {
            host: "h1".into(),
            uplink: "up0".into(),
            uplink_up: true,
            connected: true,
            epoch: 1,
            complete: true,
            objects: vec![
                row("network", 1, "vfb1"),
                row("network", 2, "vfb2"),
                row("attachment", 1, "blue/a"),
                row("attachment", 1, "blue/b"),
            ],
            overlay: "vfabric-h1".into(),
            repairs: Vec::new(),
            losses: Vec::new(),
            traffic: vec![
                traffic(Some("blue/a"), 1),
                traffic(Some("blue/b"), 1),
                traffic(None, 1),
                traffic(None, 2),
            ],
            certificates: Vec::new(),
            running: Vec::new(),
        };
        let one = status.of_attachment("blue/a").unwrap();
        assert_eq!((one.objects.len(), one.traffic.len()), (2, 2));
        let shown = one.tables();
        assert!(
            shown.contains("blue/a") && !shown.contains("blue/b") && !shown.contains("vfb2"),
            "{shown}"
        );
        assert_eq!(status.of_attachment("blue/c"), None);
    }

    fn settings(state_dir: &Path) -> Settings {
        Settings {
            host: "h1".into(),
            uplink: "up0".into(),
            local: LocalVteps::default(),
            state_dir: state_dir.to_owned(),
            overlay: "vfabric-h1".into(),
            flood_limit: FloodLimit::default(),
        }
    }

    #[tokio::test]
    async fn a_packet_that_is_asked_for_reaches_the_engine_and_garbage_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(state.path());
        let (commands, mut queue) = tokio::sync::mpsc::channel(1);
        let own = Authority::new().credentials("host/h1");
        let server = tokio::spawn(async move { serve(settings, &own, commands, Watch::default()).await });
        let engine = tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                let Command::Trace(packet, answer) = command else {
                    panic!("another command")
                };
                answer.send(Ok(vec![packet.from])).unwrap();
            }
        });
        while !socket(state.path()).exists() {
            tokio::task::yield_now().await;
        }
        let packet = Packet {
            from: "blue/a".into(),
            to: "10.0.0.9".parse().unwrap(),
            source: None,
            mac: None,
        };
        let way = ask_trace(state.path(), &packet).await.unwrap();
        assert_eq!(way, Ok(vec!["blue/a".to_owned()]));
        let garbage: Result<(), String> = converse(state.path(), b"{").await.unwrap();
        assert!(garbage.unwrap_err().starts_with("the request cannot be read"));
        server.abort();
        engine.abort();
    }

    #[tokio::test]
    async fn an_engine_that_is_stuck_is_named() {
        let state = tempfile::tempdir().unwrap();
        let settings = settings(state.path());
        let watch = Watch::default();
        let _busy = watch.begin("work in netns w");
        // Nobody takes the command.
        let (commands, _queue) = tokio::sync::mpsc::channel(1);
        let authority = Authority::new();
        let now = SystemTime::now();
        let ends_soon = authority.issue_with(&["spiffe://test/host/h1"], |params| {
            params.not_before = (now - Duration::from_secs(86_400)).into();
            params.not_after = (now + Duration::from_secs(3 * 3600 + 60)).into();
        });
        let own = ends_soon.credentials(&authority.pem);
        let server = tokio::spawn(async move { serve(settings, &own, commands, watch).await });
        let path = socket(state.path());
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        let status = ask(state.path()).await.unwrap();
        assert_eq!(
            status.running.iter().map(|r| r.what.as_str()).collect::<Vec<_>>(),
            ["work in netns w"]
        );
        let shown = status.tables();
        assert!(shown.contains("work in netns w"));
        // Certificates are shown although the engine does not reply.
        assert!(
            shown.contains("the host's certificate expires in 3 hours, at ")
                && shown.contains("the authority's certificate is valid until "),
            "{shown}"
        );
        server.abort();
    }
}
