//! Debian's container runtimes call the plugin: podman with its CNI backend, containerd with `ctr run --cni`. Needs
//! root; `cargo xtask test` installs podman, runc, containerd, containernetworking-plugins and busybox-static.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::World;
use serde_json::json;

/// Files that a runtime needs, in a folder of their own.
struct Kit {
    folder: tempfile::TempDir,
}

fn text(out: &[u8]) -> String {
    String::from_utf8_lossy(out).into_owned()
}

fn succeeded(what: &str, out: &Output) {
    assert!(
        out.status.success(),
        "{what}: {}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
}

/// Runs a program without holding up the agent, which runs in this process.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

impl Kit {
    fn new(world: &World) -> Self {
        let kit = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let programs = kit.path("rootfs/bin");
        fs::create_dir_all(&programs).unwrap();
        for folder in ["proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir(kit.path("rootfs").join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", programs.join("busybox")).unwrap();
        for applet in ["ip", "ping", "sleep", "sh"] {
            symlink("busybox", programs.join(applet)).unwrap();
        }
        // Runtimes find a plugin by its type.
        for folder in ["plugins", "networks"] {
            fs::create_dir(kit.path(folder)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_vfabric-cni"), kit.path("plugins/vfabric")).unwrap();
        let plugin = json!({ "type": "vfabric", "vdc": "blue", "network": "red", "socket": world.socket() });
        let list = json!({ "cniVersion": "1.0.0", "name": "tenants", "plugins": [plugin] });
        fs::write(kit.path("networks/tenants.conflist"), list.to_string()).unwrap();
        kit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Podman with storage and settings of its own.
    fn podman(&self) -> Command {
        let settings = format!(
            "[containers]\npids_limit = 0\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\nnetwork_config_dir = {:?}\n",
            self.path("plugins"),
            self.path("networks")
        );
        fs::write(self.path("containers.conf"), settings).unwrap();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        command.args(["--storage-driver", "vfs"]);
        for (flag, folder) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.path(folder));
        }
        command
    }

    /// The image that containers of podman run.
    async fn import(&self) {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(self.path("rootfs"));
        tar.arg("-cf").arg(self.path("image.tar")).arg(".");
        succeeded("tar", &output(tar).await);
        let mut import = self.podman();
        import.arg("import").arg(self.path("image.tar")).arg("pod-image");
        succeeded("podman import", &output(import).await);
    }

    /// A network `pods` of the meta plugin, with the network `tenants` as the default, and two definitions: `db` in the
    /// network green of the fabric, `plain` on a bridge of the host.
    fn add_multi(&self, world: &World, bridge: &Bridge) {
        for (name, program) in [
            ("vfabric-multi", env!("CARGO_BIN_EXE_vfabric-multi")),
            ("bridge", "/usr/lib/cni/bridge"),
            ("host-local", "/usr/lib/cni/host-local"),
        ] {
            symlink(program, self.path("plugins").join(name)).unwrap();
        }
        fs::create_dir(self.path("pods")).unwrap();
        let multi = json!({ "type": "vfabric-multi", "pods": self.path("pods"), "clusterNetwork": "tenants",
            "confDir": self.path("networks"), "stateDir": self.path("multi"), "statusDir": self.path("status") });
        let list = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [multi] });
        fs::write(self.path("networks/pods.conflist"), list.to_string()).unwrap();
        let db = json!({ "cniVersion": "1.0.0", "type": "vfabric", "vdc": "blue", "network": "green", "socket": world.socket() });
        let ipam = json!({ "type": "host-local", "dataDir": self.path("host-local"), "subnet": "10.9.1.0/24" });
        let plain = json!({ "cniVersion": "1.0.0", "type": "bridge", "bridge": bridge.0, "ipam": ipam });
        for (name, config) in [("db", db), ("plain", plain)] {
            let definition = json!({ "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": { "name": name }, "spec": { "config": config.to_string() } });
            self.put(&format!("pods/net-{name}.yaml"), &definition);
        }
    }

    /// A pod of the meta plugin.
    fn pod(&self, name: &str, networks: &str) {
        let annotations = json!({ "k8s.v1.cni.cncf.io/networks": networks });
        let metadata = json!({ "name": name, "annotations": annotations });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
        self.put(&format!("pods/pod-{name}.yaml"), &pod);
    }

    fn put(&self, file: &str, document: &serde_json::Value) {
        fs::write(self.path(".new"), document.to_string()).unwrap();
        fs::rename(self.path(".new"), self.path(file)).unwrap();
    }

    /// A container of podman that sleeps in the background.
    async fn start(&self, name: &str, network: &str) {
        let mut run = self.podman();
        run.args([
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            network,
            "--cap-add",
            "NET_RAW",
        ]);
        run.args([
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
        ]);
        run.args(["pod-image", "/bin/sleep", "1000"]);
        succeeded("podman run", &output(run).await);
    }

    async fn inside(&self, name: &str, program: &[&str]) -> Output {
        let mut exec = self.podman();
        exec.args(["exec", name]).args(program);
        output(exec).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_starts_and_ends_containers() {
    let world = World::new().await;
    let kit = Kit::new(&world);
    kit.import().await;

    kit.start("one", "tenants").await;
    kit.start("two", "tenants").await;
    let attachments = world.attachments("blue").await;
    assert_eq!(attachments.len(), 2);
    for a in &attachments {
        assert_eq!(a.applied.waiting, []);
    }
    let shown = text(&kit.inside("one", &["/bin/ip", "address", "show", "eth0"]).await.stdout);
    let of_one = attachments
        .iter()
        .find(|a| shown.contains(&format!("inet {}/24", a.ips[0])));
    let of_one = of_one.unwrap_or_else(|| panic!("no address of {attachments:?} in {shown}"));
    let of_two = attachments.iter().find(|a| a.spec.name != of_one.spec.name).unwrap();
    // The first packet is not lost.
    let ping = ["/bin/ping", "-c", "1", "-W", "5", &of_two.ips[0].to_string()];
    succeeded("ping", &kit.inside("one", &ping).await);
    let nobody = kit
        .inside("one", &["/bin/ping", "-c", "1", "-W", "1", "10.1.0.200"])
        .await;
    assert!(
        !nobody.status.success(),
        "somebody answers at an address that nobody has"
    );

    let mut stop = kit.podman();
    stop.args(["rm", "--force", "--time", "0", "one", "two"]);
    succeeded("podman rm", &output(stop).await);
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
}

/// A bridge in the namespace of this process, where runtimes run plugins; it is removed when the value is dropped.
struct Bridge(String);

impl Bridge {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(format!("vcb{}-{number}", std::process::id()))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_starts_containers_with_several_networks_that_change_while_they_run() {
    let world = World::new().await;
    let (kit, bridge) = (Kit::new(&world), Bridge::new());
    kit.add_multi(&world, &bridge);
    kit.import().await;
    for name in ["one", "two"] {
        kit.pod(name, "db@data,plain");
        kit.start(name, "pods").await;
    }
    assert_eq!(world.attachments("blue").await.len(), 4);
    let addresses = async |name: &str, interface: &str| {
        text(
            &kit.inside(name, &["/bin/ip", "-4", "address", "show", interface])
                .await
                .stdout,
        )
    };
    let of_two = addresses("two", "data").await;
    let of_two = of_two
        .split("inet ")
        .nth(1)
        .and_then(|t| t.split('/').next())
        .unwrap_or_else(|| panic!("{of_two}"));
    assert!(of_two.starts_with("10.2.0."), "{of_two}");
    assert!(addresses("one", "eth0").await.contains("inet 10.1.0."));
    assert!(addresses("one", "net2").await.contains("inet 10.9.1."));
    // The first packet on the second network.
    let ping = ["/bin/ping", "-c", "1", "-W", "5", "-I", "data", of_two];
    succeeded("ping", &kit.inside("one", &ping).await);

    let mut follow = Command::new(env!("CARGO_BIN_EXE_vfabric-multi"));
    follow
        .arg("--config")
        .arg(kit.path("networks/pods.conflist"))
        .arg("follow");
    let _follower = Daemon(follow.stderr(Stdio::null()).spawn().unwrap());
    kit.pod("one", "plain@data,plain,db@late");
    world
        .until("the container has the new interfaces", async |_| {
            addresses("one", "late").await.contains("inet 10.2.0.")
                && addresses("one", "data").await.contains("inet 10.9.1.")
        })
        .await;
    world
        .until("the status follows", async |_| {
            fs::read_to_string(kit.path("status/default_one.json")).is_ok_and(|t| t.contains("\"late\""))
        })
        .await;
    let mut stop = kit.podman();
    stop.args(["rm", "--force", "--time", "0", "one", "two"]);
    succeeded("podman rm", &output(stop).await);
    nothing_left(&world, &kit).await;
}

/// Neither the fabric nor the meta plugin nor an IPAM plugin holds anything.
async fn nothing_left(world: &World, kit: &Kit) {
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(kit.path("multi")).unwrap().count(), 0);
    let leases = fs::read_dir(kit.path("host-local/plain")).unwrap().flatten();
    let leases = leases.filter(|f| f.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(leases.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_starts_containers_with_several_networks() {
    let world = World::new().await;
    let (kit, bridge) = (Kit::new(&world), Bridge::new());
    kit.add_multi(&world, &bridge);
    let _daemon = containerd(&kit);
    let socket = kit.path("containerd.sock");
    world.until("containerd is there", async |_| is_served(&socket)).await;
    // The runtime names no pod, so the pod is named by the container's id, prefixed by containerd's own namespace.
    let name = format!("{}-m", world.host());
    kit.pod(&format!("default-{name}"), "db@data,plain");
    let out = output(ctr(&kit, &name, "ip address; ping -c 1 -W 5 10.1.0.2")).await;
    let shown = text(&out.stdout);
    for part in ["inet 10.1.0.", "inet 10.2.0.", "inet 10.9.1.", "data", "net2"] {
        assert!(shown.contains(part), "{part}: {shown}{}", text(&out.stderr));
    }
    nothing_left(&world, &kit).await;
}

/// A process that is killed when the value is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// containerd with folders of its own.
fn containerd(kit: &Kit) -> Daemon {
    let mut command = Command::new("containerd");
    for (flag, name) in [
        ("--root", "root"),
        ("--state", "state"),
        ("--address", "containerd.sock"),
    ] {
        command.arg(flag).arg(kit.path(name));
    }
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(kit.path("containerd.log")).unwrap());
    Daemon(command.spawn().unwrap())
}

/// `ctr` looks for plugins and networks at fixed places: it gets a view of the file system in which these places are
/// ours.
fn ctr(kit: &Kit, container: &str, program: &str) -> Command {
    let script = "set -e; mkdir -p /etc/cni /opt/cni; mount -t tmpfs none /etc/cni; mount -t tmpfs none /opt/cni; \
        mkdir /etc/cni/net.d /opt/cni/bin; cp \"$1\"/networks/* /etc/cni/net.d; \
        cp -L \"$1\"/plugins/* /usr/lib/cni/loopback /opt/cni/bin; \
        exec ctr --address \"$1\"/containerd.sock run --cni --rm --runc-binary /usr/sbin/runc \
        --rootfs \"$1\"/rootfs \"$2\" /bin/sh -c \"$3\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "ctr"])
        .arg(kit.folder.path());
    command.args([container, program]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_starts_and_ends_containers() {
    let world = World::new().await;
    let kit = Kit::new(&world);
    let _daemon = containerd(&kit);
    let socket = kit.path("containerd.sock");
    world.until("containerd is there", async |_| is_served(&socket)).await;
    let name = format!("{}-c", world.host());
    let out = output(ctr(&kit, &name, "ip address show eth0; ping -c 1 -W 5 10.1.0.2")).await;
    let shown = text(&out.stdout);
    assert!(
        shown.contains("inet 10.1.0.") && shown.contains("inet6 fd00:1::"),
        "{shown}{}",
        text(&out.stderr)
    );
    // Its DEL came without a namespace.
    assert_eq!(world.attachments("blue").await.len(), 0);
    assert_eq!(fs::read_dir(world.state().join("attachments")).unwrap().count(), 0);
}

fn is_served(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}
