//! The meta plugin on a host of its own: folders, delegates of Debian and scripts, calls as runtimes make them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Netns, PATIENCE, ip};

/// A plugin that logs its input: `VERB interface input` in the file `log`. It fails while there is a file named
/// `fail-VERB`.
const RECORDER: &str = r#"#!/bin/sh
input=$(cat)
here=$(dirname "$0")
printf '%s %s %s\n' "$CNI_COMMAND" "$CNI_IFNAME" "$input" >> "$here/log"
if [ -e "$here/fail-$CNI_COMMAND" ]; then echo '{"code":100,"msg":"fails as asked"}'; exit 1; fi
case "$CNI_COMMAND$input" in
  ADD*'"hang":true'*) echo $$ > "$here/hangs"; exec sleep 1000;;
  ADD*'"linger":true'*) echo $$ > "$here/hangs"; sleep 0.5; echo "ENDED $CNI_IFNAME" >> "$here/log";;
esac
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}]}'
case "$CNI_COMMAND$input" in ADD*CNIDeviceInfoFile*) file=${input##*CNIDeviceInfoFile\":\"}; file=${file%%\"*}
  echo '{"type":"memif","version":"1.1.0","memif":{"role":"slave","path":"/s","mode":"ip"}}' > "$file";; esac
exit 0
"#;

pub struct Multi {
    folder: tempfile::TempDir,
    /// The host's network namespace.
    pub host: Netns,
    config: Value,
}

impl Multi {
    /// A host whose default network is this delegate.
    pub fn new(default: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pods", "conf", "plugins"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plugins/recorder"), RECORDER).unwrap();
        fs::set_permissions(at("plugins/recorder"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vfabric-cni"), at("plugins/vfabric")).unwrap();
        let config = json!({ "cniVersion": "1.0.0", "name": "multi", "type": "vfabric-multi", "delegates": [default],
            "pods": at("pods"), "confDir": at("conf"), "stateDir": at("state"), "statusDir": at("status"),
            "deviceInfoDir": at("devices") });
        Self {
            folder,
            host: Netns::new("mh"),
            config,
        }
    }

    /// The same host with another default network.
    pub fn with_default(mut self, default: Value) -> Self {
        self.config["delegates"] = json!([default]);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file atomically, as careful editors and tools do.
    fn write(&self, file: &str, text: &str) {
        let new = self.path(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(file)).unwrap();
    }

    /// A pod in namespace `blue` that selects networks.
    pub fn pod(&self, name: &str, networks: &str) {
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "blue", "name": name, "uid": name,
            "annotations": { "k8s.v1.cni.cncf.io/networks": networks } } });
        self.write(&format!("pods/pod-{name}.yaml"), &pod.to_string());
    }

    /// A pod in namespace `blue` in which KubeVirt runs a virtual machine; with the job of its migration, if it is the target of one.
    pub fn launcher(&self, name: &str, machine: &str, job: Option<&str>, networks: &str) {
        let mut labels =
            json!({ "kubevirt.io": "virt-launcher", "kubevirt.io/created-by": machine, "vm.kubevirt.io/name": "vm1" });
        if let Some(job) = job {
            labels["kubevirt.io/migrationJobUID"] = job.into();
        }
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "namespace": "blue", "name": name, "uid": name,
            "labels": labels, "annotations": { "k8s.v1.cni.cncf.io/networks": networks } } });
        self.write(&format!("pods/pod-{name}.yaml"), &pod.to_string());
    }

    /// A definition in namespace `blue`.
    pub fn definition(&self, name: &str, config: Option<Value>) {
        let mut definition = json!({ "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "namespace": "blue", "name": name } });
        if let Some(config) = config {
            definition["spec"]["config"] = config.to_string().into();
        }
        self.write(&format!("pods/net-{name}.yaml"), &definition.to_string());
    }

    /// The definition of a bridge with addresses by host-local.
    pub fn bridge(&self, name: &str, subnet: &str) -> Value {
        json!({ "cniVersion": "0.4.0", "type": "bridge", "bridge": format!("br-{name}"),
            "ipam": { "type": "host-local", "dataDir": self.path("host-local"), "ranges": [[{ "subnet": subnet }]] } })
    }

    /// Addresses that host-local has allocated.
    pub fn leases(&self) -> Vec<String> {
        let networks = fs::read_dir(self.path("host-local")).into_iter().flatten().flatten();
        let files = networks.flat_map(|n| fs::read_dir(n.path()).unwrap().flatten());
        let names = files.map(|f| f.file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.starts_with(|c: char| c.is_ascii_digit())).collect();
        names.sort();
        names
    }

    /// Lines of the recorder that start with this text.
    pub fn recorded(&self, start: &str) -> Vec<String> {
        let log = fs::read_to_string(self.path("plugins/log")).unwrap_or_default();
        log.lines()
            .filter(|l| l.starts_with(start))
            .map(str::to_owned)
            .collect()
    }

    /// Makes the recorder fail at a verb, or stops that.
    pub fn fail(&self, verb: &str, fails: bool) {
        let file = self.path(&format!("plugins/fail-{verb}"));
        if fails {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.host.path())).arg(program);
        command
    }

    /// Starts a call of a runtime for a pod in namespace `blue`.
    pub fn start(&self, verb: &str, (container, pod): (&str, &str), netns: &str, extra: Value) -> Child {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME={pod}");
        self.start_args(verb, container, netns, &args, extra)
    }

    fn start_args(&self, verb: &str, container: &str, netns: &str, args: &str, extra: Value) -> Child {
        let mut config = self.config.clone();
        config
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let path = format!("{}:/usr/lib/cni", self.path("plugins").display());
        let mut command = self.command(env!("CARGO_BIN_EXE_vfabric-multi"));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0");
        command
            .env("CNI_NETNS", netns)
            .env("CNI_PATH", path)
            .env("CNI_ARGS", args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes())
            .unwrap();
        child
    }

    /// A call of a runtime that does not block an agent in this process.
    pub async fn call(&self, verb: &str, container: (&str, &str), netns: &str) -> Result<Value, Value> {
        self.call_with(verb, container, netns, json!({})).await
    }

    pub async fn call_with(&self, verb: &str, of: (&str, &str), netns: &str, extra: Value) -> Result<Value, Value> {
        ended(self.start(verb, of, netns, extra)).await
    }

    /// A call with `CNI_ARGS` of its own.
    pub async fn call_args(&self, verb: &str, container: &str, netns: &str, args: &str) -> Result<Value, Value> {
        ended(self.start_args(verb, container, netns, args, json!({}))).await
    }

    /// The status of a pod in namespace `blue`.
    pub fn status(&self, pod: &str) -> Value {
        let text = fs::read_to_string(self.path(&format!("status/blue_{pod}.json")));
        text.map_or(Value::Null, |t| serde_json::from_str(&t).unwrap())
    }

    /// Interfaces of a pod in its status: `interface=network`.
    pub fn shown(&self, pod: &str) -> String {
        let status = self.status(pod);
        let all = status.as_array().into_iter().flatten();
        let one = |s: &Value| format!("{}={}", s["interface"].as_str().unwrap(), s["name"].as_str().unwrap());
        all.map(one).collect::<Vec<_>>().join(" ")
    }

    /// Files of the journal.
    pub fn journal(&self) -> usize {
        let files = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        files.count()
    }

    /// The follower of this host.
    pub fn follow(&self) -> Follower {
        let config = self.path("conf/00-multi.json");
        fs::write(&config, self.config.to_string()).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("follow.log"))
            .unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_vfabric-multi"));
        command.arg("--config").arg(config).arg("follow");
        Follower(command.stderr(log).spawn().unwrap(), self.path("follow.log"))
    }
}

/// The output of a call.
async fn ended(child: Child) -> Result<Value, Value> {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let out = waiting.await.unwrap();
    let document = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    if out.status.success() {
        Ok(document)
    } else {
        Err(document)
    }
}

/// A follower; it is killed when the value is dropped.
pub struct Follower(Child, PathBuf);

impl Follower {
    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.1).unwrap_or_default()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The index of an interface, which shows whether it is still the same one.
pub fn index(netns: &Netns, interface: &str) -> u64 {
    let links: Value = serde_json::from_str(&ip(&["-n", &netns.0, "-j", "link", "show", interface])).unwrap();
    links[0]["ifindex"].as_u64().unwrap()
}
