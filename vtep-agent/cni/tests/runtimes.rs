//! Container runtimes of Debian drive the plugin: podman with its CNI backend, containerd with `ctr run --cni`. Needs root;
//! `cargo xtask test` installs podman, runc, containerd, containernetworking-plugins and busybox-static.

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

    /// A container of podman that sleeps in the background.
    async fn start(&self, name: &str) {
        let mut run = self.podman();
        run.args([
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "tenants",
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
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(kit.path("rootfs"))
        .arg("-cf")
        .arg(kit.path("image.tar"))
        .arg(".");
    succeeded("tar", &output(tar).await);
    let mut import = kit.podman();
    import.arg("import").arg(kit.path("image.tar")).arg("pod-image");
    succeeded("podman import", &output(import).await);

    kit.start("one").await;
    kit.start("two").await;
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

/// containerd with folders of its own; it ends with the value.
struct Containerd(Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn containerd(kit: &Kit) -> Containerd {
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
    Containerd(command.spawn().unwrap())
}

/// `ctr` looks for plugins and networks at fixed places: it gets a view of the file system in which they are ours.
fn ctr(kit: &Kit, container: &str, program: &str) -> Command {
    let script = "set -e; mkdir -p /etc/cni /opt/cni; mount -t tmpfs none /etc/cni; mount -t tmpfs none /opt/cni; \
        mkdir /etc/cni/net.d /opt/cni/bin; cp \"$1\"/networks/* /etc/cni/net.d; \
        cp -L \"$1\"/plugins/vfabric /usr/lib/cni/loopback /opt/cni/bin; \
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
