//! A Debian system in a folder, and the same system running: its systemd in namespaces of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Packages in addition to those of the smallest Debian.
const INCLUDED: &str = "systemd";
/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files that the running system itself changes, not packages.
const OF_THE_SYSTEM: &[&str] = &[
    "/packages",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/dev",
    "/var/log",
    "/var/tmp",
    "/var/cache",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/etc/.pwd.lock",
    "/etc/.updated",
    "/var/.updated",
    "/etc/machine-id",
];

/// Runs a command; returns whether it succeeded, and its output.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn must(command: &mut Command) -> String {
    let (good, text) = run(command);
    assert!(good, "{command:?}: {text}");
    text
}

/// A copy of a fresh Debian, removed at the end.
pub(crate) struct Root(TempDir);

impl Root {
    /// Makes a copy. What debootstrap fetches is kept in the target folder for the next time.
    pub(crate) fn new() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let fresh = fresh(target);
        let dir = tempfile::Builder::new().prefix("debian").tempdir_in(target).unwrap();
        must(Command::new("cp").arg("--archive").arg(fresh.join(".")).arg(dir.path()));
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a program inside; systemd need not run.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        run(Command::new("chroot")
            .arg(self.path())
            .arg(program)
            .args(arguments)
            .envs(PLAIN))
    }

    pub(crate) fn dpkg(&self, options: &[&str], packages: &[String]) -> (bool, String) {
        run(Command::new("chroot")
            .arg(self.path())
            .arg("dpkg")
            .args(options)
            .args(packages)
            .envs(PLAIN))
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, path: &str, text: &str, owner: &str) {
        let place = self.path().join(path);
        fs::write(&place, text).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).unwrap();
        let (good, text) = self.command("chown", &[owner, &format!("/{path}")]);
        assert!(good, "{text}");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        let place = self.path().join(path.trim_start_matches('/'));
        fs::read_to_string(&place).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// All files and folders, except the system's own.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let mut find = Command::new("find");
        find.arg(self.path()).args(["-xdev", "-printf", "/%P\n"]);
        let text = must(&mut find);
        // Tools keep a copy of a file that they change, such as /etc/passwd-.
        let own = |path: &str| {
            let below = |s: &str| path == s || path.starts_with(&format!("{s}/"));
            OF_THE_SYSTEM.iter().any(|s| below(s)) || (path.starts_with("/etc/") && path.ends_with('-'))
        };
        text.lines().filter(|l| !own(l)).map(str::to_owned).collect()
    }

    /// Starts its systemd, and waits until it is up.
    pub(crate) fn boot(self) -> Machine {
        let group = ControlGroup::new();
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--pid",
            "--mount",
            "--net",
            "--uts",
            "--ipc",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]);
        unshare.args(["sh", "-ec", BOOT, "sh"]).arg(self.path());
        // Enter the group first, so that the system sees only the groups below it.
        let mut enter = Command::new("sh");
        enter
            .args(["-ec", "echo $$ >\"$0/cgroup.procs\"; exec \"$@\""])
            .arg(&group.0);
        enter.arg(unshare.get_program()).args(unshare.get_args());
        let log = fs::File::create(self.path().join("packages/boot.log")).unwrap();
        let child = enter
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Machine {
            init: String::new(),
            child,
            _group: group,
            root: self,
        };
        let parent = machine.child.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        machine.wait_for("the system's first process", || {
            fs::read_to_string(&children).is_ok_and(|c| !c.is_empty())
        });
        machine.init = fs::read_to_string(&children).unwrap().trim().to_owned();
        let up = || machine.inside("systemctl", &["is-system-running"]).1.trim() == "running";
        machine.wait_for("the system", up);
        machine
    }
}

/// The whole environment of commands inside: no proxy, locale or notification socket of this process.
const PLAIN: [(&str, &str); 3] = [
    ("LC_ALL", "C.UTF-8"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
];

/// Makes the folder given as $1 the root, with kernel file systems, and starts systemd there. The folder becomes the
/// root of the whole mount namespace and not only of the process, as on a real machine, because services enter this
/// namespace and make user namespaces.
const BOOT: &str = "mount --make-rprivate /; mount --bind \"$1\" \"$1\"; cd \"$1\"
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mkdir packages/old; pivot_root . packages/old; umount --lazy /packages/old; mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console --show-status=0";

/// A Debian as debootstrap makes it.
fn fresh(target: &Path) -> PathBuf {
    let codename = fs::read_to_string("/etc/os-release").unwrap();
    let codename = codename
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let root = target.join(format!("debian-{codename}-{INCLUDED}"));
    if root.exists() {
        return root;
    }
    let format = "$(CODENAME) $(COMPONENT) $(REPO_URI)";
    let sources = must(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]));
    let mirror = sources
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{codename} main ")));
    let mirror = mirror.unwrap_or_else(|| panic!("apt has no source for {codename} main: {sources}"));
    let part = target.join("debian.part");
    let _ = fs::remove_dir_all(&part);
    must(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={INCLUDED}"), &codename])
            .arg(&part)
            .arg(mirror),
    );
    // Only a complete system gets this name.
    fs::rename(&part, &root).unwrap();
    root
}

/// A control group for the system, removed at the end.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts
            .lines()
            .map(|l| l.split(' ').collect::<Vec<_>>())
            .find(|l| l.get(2) == Some(&"cgroup2"));
        let mount = mount.expect("control groups of version 2 are mounted")[1].to_owned();
        let path = Path::new(&mount).join(format!("vfabric-packages-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let started = Instant::now();
        // The last process of the group may not have ended yet.
        while self.0.exists() && started.elapsed() < PATIENCE {
            let _ = run(Command::new("find")
                .arg(&self.0)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A running Debian system. It ends when this is dropped.
pub(crate) struct Machine {
    /// Its first process, as the host numbers it.
    init: String,
    child: Child,
    _group: ControlGroup,
    pub(crate) root: Root,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    /// Runs a program of the system inside.
    fn inside(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.init, "--all", "--root", "--wd=/", program]);
        run(enter.args(arguments).envs(PLAIN))
    }

    pub(crate) fn dpkg(&self, options: &[&str], packages: &[String]) -> (bool, String) {
        let all: Vec<&str> = options
            .iter()
            .copied()
            .chain(packages.iter().map(String::as_str))
            .collect();
        self.inside("dpkg", &all)
    }

    pub(crate) fn systemctl(&self, arguments: &[&str]) {
        let (good, text) = self.inside("systemctl", arguments);
        assert!(
            good,
            "systemctl {arguments:?}: {text}{}",
            self.log(arguments.last().unwrap())
        );
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.inside("systemctl", &["show", "--value", "-p", property, unit])
            .1
            .trim()
            .to_owned()
    }

    pub(crate) fn log(&self, unit: &str) -> String {
        let status = self.inside("systemctl", &["--no-pager", "-n", "0", "status", unit]).1;
        status + &self.inside("journalctl", &["--no-pager", "-n", "40"]).1 + &self.root.read("/packages/boot.log")
    }

    pub(crate) fn version(&self, package: &str) -> String {
        self.inside("dpkg-query", &["-W", "-f", "${Version}", package]).1
    }

    /// User id of a process inside.
    pub(crate) fn owner(&self, pid: &str) -> String {
        self.inside("stat", &["-c", "%u", &format!("/proc/{pid}")])
            .1
            .trim()
            .to_owned()
    }

    /// Suspends a process.
    pub(crate) fn stop_process(&self, pid: &str) {
        let (good, text) = self.inside("sh", &["-c", &format!("kill -STOP {pid}")]);
        assert!(good, "{text}");
    }

    /// Writes additional settings for a unit, or removes them if `text` is empty.
    pub(crate) fn drop_in(&self, unit: &str, text: &str) {
        let dir = format!("/run/systemd/system/{unit}.service.d");
        let script = if text.is_empty() {
            format!("rm -r {dir}")
        } else {
            format!("mkdir -p {dir}; printf %s '{text}' >{dir}/test.conf")
        };
        let (good, said) = self.inside("sh", &["-c", &script]);
        assert!(good, "{said}");
        self.systemctl(&["daemon-reload"]);
    }

    /// Gives the system a link with an address.
    pub(crate) fn uplink(&self, name: &str, address: &str) {
        for line in [
            format!("link add {name} type veth peer name {name}-peer"),
            format!("address add {address} dev {name}"),
            format!("link set {name} up"),
            format!("link set {name}-peer up"),
        ] {
            let mut ip = Command::new("nsenter");
            ip.args(["--target", &self.init, "--net", "ip"]).args(line.split(' '));
            must(&mut ip);
        }
    }

    /// TCP ports that somebody listens on (proc_net_tcp: state 0A).
    pub(crate) fn listening(&self) -> BTreeSet<u16> {
        let (_, text) = self.inside("cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
        let port = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_listening = fields.get(3) == Some(&"0A");
            let port = fields.get(1)?.rsplit_once(':')?.1;
            is_listening.then(|| u16::from_str_radix(port, 16).ok())?
        };
        text.lines().filter_map(port).collect()
    }

    /// The namespace of a name in `/run/netns`, seen from outside all services.
    pub(crate) fn namespace(&self, name: &str) -> Option<(u64, u64)> {
        let path = format!("/proc/{}/root/run/netns/{name}", self.init);
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    }

    pub(crate) fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            if started.elapsed() > PATIENCE {
                let log = self.root.read("/packages/boot.log");
                panic!(
                    "{what}: not within {PATIENCE:?}\n{log}{}",
                    self.inside("journalctl", &["--no-pager", "-n", "100"]).1
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
