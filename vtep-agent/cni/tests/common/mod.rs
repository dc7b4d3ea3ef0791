//! A host with a real agent, a real controller, and leaves in memory. Needs root and `ip`.

pub mod multi;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fabric_controller::controller::Controller;
use fabric_controller::controller::fleet::Fleet;
use fabric_controller::device::launch::{Hardware, Launch, Launcher, Running};
use fabric_controller::driver::fake::FakeDevice;
use fabric_controller::driver::vtep::VtepServer;
use fabric_controller::render::FabricRender;
use fabric_controller::store::MemoryStore;
use fabric_identity::Credentials;
use fabric_identity::testing::Authority;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, Place};
use vfabric_api::labels::Selector;
use vfabric_api::service::{ApplyOptions, FabricService, Kind};
use vfabric_api::status::{Attachment, Progress, View};
use vfabric_api::topology::Topology;
use vfabric_cni::command;
use vfabric_cni::protocol::{Reply, Request};
use vtep_agent::agent::{self, Settings};
use vtep_agent::below::{self, Below};
use vtep_agent::datapath::kernel::FloodLimit;
use vtep_agent::object::LocalVteps;
use vtep_agent::stream::{self, Controller as Address};
use vtep_proto::v1;

/// Far longer than anything here takes; only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.1:9559" }
links: []
hosts:
"#;

const INTENT: &str = r#"{ "vdcs": [
  { "name": "blue", "hosts": HOSTS,
    "networks": [
      { "name": "red", "subnets": [{ "cidr": "10.1.0.0/24" }, { "cidr": "fd00:1::/64" }] },
      { "name": "green", "subnets": [{ "cidr": "10.2.0.0/24" }] } ],
    "routers": [{ "name": "r", "networks": ["red", "green"] }] },
  { "name": "other", "networks": [{ "name": "red", "subnets": [{ "cidr": "10.1.0.0/24" }] }] } ] }"#;

/// A name that no other test, process or run has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("vcn{}-{number}-{what}", std::process::id())
}

pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ip {args:?}: {said}");
    String::from_utf8(out.stdout).unwrap()
}

/// A named network namespace that is removed when the value is dropped.
pub struct Netns(pub String);

impl Netns {
    pub fn new(what: &str) -> Self {
        let name = unique(what);
        ip(&["netns", "add", &name]);
        Self(name)
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// A setting of the kernel in it (sysctl(8), with slashes).
    pub fn setting(&self, name: &str) -> String {
        let shown = ip(&["netns", "exec", &self.0, "cat", &format!("/proc/sys/{name}")]);
        shown.trim().to_owned()
    }

    /// Names of its interfaces, without those that are out of use and are deleted in a moment.
    pub fn links(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&ip(&["-n", &self.0, "-j", "link"])).unwrap();
        let names = links
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["ifname"].as_str().unwrap().to_owned());
        names.filter(|n| n != "lo" && !n.starts_with("vfd")).collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

struct Devices {
    leaf: FakeDevice,
    hosts: VtepServer,
}

impl Launcher for Devices {
    fn launch(&self, hardware: &Hardware, launch: Launch) -> Result<Running, String> {
        Ok(match hardware {
            Hardware::Switch(..) => launch.run(self.leaf.driver()),
            Hardware::Host(host) => launch.run(self.hosts.driver(host.name.as_str())),
        })
    }
}

/// Runs the plugin against a socket.
pub fn cni(
    socket: PathBuf,
    command: &'static str,
    slot: (&str, &str),
    netns: String,
    extra: Value,
) -> impl Future<Output = Result<Value, Value>> + Send + use<> {
    let mut config = json!({ "cniVersion": "1.1.0", "name": "tenants", "type": "vfabric", "vdc": "blue",
        "network": "red", "socket": socket });
    config
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    let (container, interface) = (slot.0.to_owned(), slot.1.to_owned());
    let work = move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vfabric-cni"))
            .env("CNI_COMMAND", command)
            .envs([
                ("CNI_CONTAINERID", container),
                ("CNI_IFNAME", interface),
                ("CNI_NETNS", netns),
            ])
            .env("CNI_PATH", "/opt/cni/bin:/usr/lib/cni")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    async move {
        let out = tokio::task::spawn_blocking(work).await.unwrap();
        let document = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        if out.status.success() {
            Ok(document)
        } else {
            Err(document)
        }
    }
}

/// A host with its agent.
pub struct Agent {
    netns: Netns,
    overlay: Netns,
    state: tempfile::TempDir,
    url: String,
    credentials: Arc<Credentials>,
    /// From 1; its addresses end with it.
    number: u8,
    /// All tasks of the agent, so that they end together.
    running: Option<tokio::runtime::Runtime>,
}

pub struct World {
    pub controller: Arc<Controller<MemoryStore>>,
    pub leaf: FakeDevice,
    agents: Vec<Agent>,
    _stop: tokio_util::sync::DropGuard,
}

/// The topology with these hosts on one leaf.
fn topology(hosts: &[Netns]) -> Topology {
    let host = |(i, host): (usize, &Netns)| {
        let (name, n) = (&host.0, i + 1);
        format!(
            "  - {{ name: {name}, uplink: {{ switch: leaf1, port: {} }}, mac: \"02:00:00:00:01:0{n}\", \
             vtep_ipv4: 10.255.1.{n}, vtep_ipv6: \"fd00:255:1::{n}\" }}\n",
            n + 2
        )
    };
    let hosts: String = hosts.iter().enumerate().map(host).collect();
    Topology::from_yaml(&format!("{TOPOLOGY}{hosts}")).unwrap()
}

/// The fabric with a controller, without an agent.
async fn controller(
    hosts: &[Netns],
    server: &VtepServer,
    leaf: &FakeDevice,
    stop: &CancellationToken,
) -> Arc<Controller<MemoryStore>> {
    let controller = Controller::load(topology(hosts), MemoryStore::default(), Arc::new(FabricRender))
        .await
        .unwrap();
    server.serve_below(Arc::clone(&controller).below());
    let devices = Devices {
        leaf: leaf.clone(),
        hosts: server.clone(),
    };
    let (fleet, inbox) = Fleet::new(devices, stop.child_token());
    controller.start(fleet);
    let running = Arc::clone(&controller);
    let stopped = stop.clone();
    tokio::spawn(async move {
        stopped
            .run_until_cancelled(async {
                tokio::join!(
                    running.supervise(inbox.frames),
                    running.housekeeping(),
                    running.follow(inbox.events)
                )
            })
            .await
    });
    let names: Vec<&String> = hosts.iter().map(|host| &host.0).collect();
    let names = serde_json::to_string(&names).unwrap();
    let intent: Intent = serde_json::from_str(&INTENT.replace("HOSTS", &names)).unwrap();
    controller.apply(intent, ApplyOptions::default()).await.unwrap();
    controller
}

impl Agent {
    async fn new(netns: Netns, number: u8, authority: &Authority, url: &str) -> Self {
        let overlay = Netns(unique("o"));
        let up = [
            "-n", &netns.0, "link", "add", "up0", "mtu", "9216", "type", "veth", "peer", "name", "up1",
        ];
        ip(&up);
        ip(&[
            "-n",
            &netns.0,
            "addr",
            "add",
            &format!("10.255.1.{number}/32"),
            "dev",
            "up0",
        ]);
        ip(&["-n", &netns.0, "link", "set", "up0", "up"]);
        let credentials = authority.credentials(&format!("host/{}", netns.0));
        let mut agent = Self {
            netns,
            overlay,
            state: tempfile::tempdir().unwrap(),
            url: url.to_owned(),
            credentials,
            number,
            running: None,
        };
        agent.start().await;
        agent
    }

    pub fn host(&self) -> &str {
        &self.netns.0
    }

    pub fn socket(&self) -> PathBuf {
        self.state.path().join("cni.sock")
    }

    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Starts the agent in the host's namespace and waits until it follows the controller.
    pub async fn start(&mut self) {
        let settings = Settings {
            host: self.netns.0.clone(),
            uplink: "up0".into(),
            local: LocalVteps {
                ipv4: Some([10, 255, 1, self.number].into()),
                ipv6: format!("fd00:255:1::{}", self.number).parse().ok(),
            },
            state_dir: self.state.path().to_owned(),
            overlay: self.overlay.0.clone(),
            flood_limit: FloodLimit::default(),
        };
        let netns = self.netns.path();
        let start = move || loop {
            let (settings, file) = (settings.clone(), std::fs::File::open(&netns).unwrap());
            let inside = move || {
                nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                agent::start(settings)
            };
            match std::thread::spawn(inside).join().unwrap() {
                Ok(started) => return started.commands,
                // An agent that is ending still holds the lock.
                Err(e) if e.to_string().contains("in use") => std::thread::sleep(Duration::from_millis(20)),
                Err(e) => panic!("{e}"),
            }
        };
        let commands = tokio::task::spawn_blocking(start).await.unwrap();
        let address = Address::new(&self.url, Arc::clone(&self.credentials)).unwrap();
        let below = Below::open(&self.netns.0, self.state.path(), address.connection(), commands.clone()).unwrap();
        let mut connection = address.connection();
        let (socket, served) = (self.socket(), Arc::clone(&below));
        let hello = v1::Hello {
            host: self.netns.0.clone(),
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move { below::serve(&socket, served).await.unwrap() });
        runtime.spawn(async move { below.tidy().await });
        runtime.spawn(async move { stream::follow(address, hello, commands).await.unwrap() });
        self.running = Some(runtime);
        tokio::time::timeout(PATIENCE, connection.wait_for(Option::is_some))
            .await
            .unwrap()
            .unwrap();
    }

    /// Ends the agent at any point, including its requests under way.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Runs the plugin as a runtime does; returns its document, and whether it succeeded.
    pub async fn cni(
        &self,
        command: &'static str,
        slot: (&str, &str),
        netns: &str,
        extra: Value,
    ) -> Result<Value, Value> {
        cni(self.socket(), command, slot, netns.to_owned(), extra).await
    }

    /// Asks the agent as its own command does.
    pub async fn ask(&self, request: Request) -> Reply {
        let socket = self.socket();
        let asked = tokio::task::spawn_blocking(move || command::ask(&socket, &request))
            .await
            .unwrap();
        asked.unwrap_or_else(|e| Reply::Failed {
            code: e.code,
            message: e.message,
        })
    }

    /// What it has to remember of interfaces.
    pub fn journal(&self) -> usize {
        std::fs::read_dir(self.state().join("attachments")).unwrap().count()
    }
}

impl World {
    /// With one host.
    pub async fn new() -> Self {
        Self::of(1).await
    }

    /// With this many hosts, all on one leaf.
    pub async fn of(hosts: u8) -> Self {
        let hosts: Vec<Netns> = (0..hosts).map(|_| Netns::new("h")).collect();
        let authority = Authority::new();
        let (server, leaf, stop) = (VtepServer::new(), FakeDevice::new(true), CancellationToken::new());
        let controller = controller(&hosts, &server, &leaf, &stop).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let own = authority.credentials("controller");
        tokio::spawn(async move { server.serve(listener, &own, std::future::pending()).await });
        let mut agents = Vec::new();
        for (number, host) in (1..).zip(hosts) {
            agents.push(Agent::new(host, number, &authority, &url).await);
        }
        Self {
            controller,
            leaf,
            agents,
            _stop: stop.drop_guard(),
        }
    }

    /// The agent of a host, from 0.
    pub fn agent(&self, number: usize) -> &Agent {
        &self.agents[number]
    }

    pub fn agent_mut(&mut self, number: usize) -> &mut Agent {
        &mut self.agents[number]
    }

    pub fn host(&self) -> &str {
        self.agents[0].host()
    }

    pub fn socket(&self) -> PathBuf {
        self.agents[0].socket()
    }

    pub fn state(&self) -> &Path {
        self.agents[0].state()
    }

    /// Starts the agent of the first host.
    pub async fn start_agent(&mut self) {
        self.agents[0].start().await;
    }

    /// Ends the agent of the first host at any point, including its requests under way.
    pub fn kill_agent(&mut self) {
        self.agents[0].kill();
    }

    /// Runs the plugin on the first host as a runtime does; returns its document, and whether it succeeded.
    pub async fn cni(
        &self,
        command: &'static str,
        slot: (&str, &str),
        netns: &str,
        extra: Value,
    ) -> Result<Value, Value> {
        self.agents[0].cni(command, slot, netns, extra).await
    }

    /// Asks the agent of the first host as its own command does.
    pub async fn ask(&self, request: Request) -> Reply {
        self.agents[0].ask(request).await
    }

    /// The attachments in a vDC.
    pub async fn attachments(&self, vdc: &str) -> Vec<Attachment> {
        let vdc: Name = vdc.parse().unwrap();
        let page = self
            .controller
            .list(Kind::Attachment, Some(&vdc), &Selector::default(), None, 10_000)
            .await
            .unwrap();
        let attachment = |v| match v {
            View::Attachment(a) => a,
            other => panic!("{other:?}"),
        };
        page.items.into_iter().map(attachment).collect()
    }

    /// Names of ours in `/run/netns` that attachments of this world use or could use.
    pub async fn pins(&self) -> Vec<String> {
        let mut pins: Vec<String> = Vec::new();
        for a in self.attachments("blue").await {
            assert_eq!(a.applied.progress, Progress::Applied, "{a:?}");
            if let Place::Host { netns, .. } = a.spec.place {
                pins.push(netns);
            }
        }
        pins
    }

    /// Waits until a condition holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(tokio::time::Instant::now() < end, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        // The engine ends when its last command is done; before that it keeps its namespace.
        let end = std::time::Instant::now() + PATIENCE;
        let lock = || std::fs::File::open(self.state().join("lock")).unwrap();
        while Flock::lock(lock(), FlockArg::LockExclusiveNonblock).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Names of namespaces outlive the agent, as they must; this host never comes back.
        for file in std::fs::read_dir(self.state().join("attachments"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let entry = std::fs::read(file.path())
                .ok()
                .and_then(|t| serde_json::from_slice::<Value>(&t).ok());
            if let Some(container) = entry.as_ref().and_then(|e| e["slot"]["container"].as_str()) {
                let _ = vtep_agent::netns::remove(&below::pin(&self.netns.0, container));
            }
        }
    }
}
