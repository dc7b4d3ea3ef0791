//! A client on Debian's libcni, which container engines in Go are built on, drives both plugins. Needs root, `ip`, golang-go,
//! golang-github-appc-cni-dev and containernetworking-plugins; `cargo xtask test` installs them.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Netns, World, ip};
use serde_json::{Value, json};

/// The client, built from Debian's sources.
fn build(folder: &Path) -> PathBuf {
    let client = folder.join("client");
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOFLAGS", "");
    go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    go.args(["build", "-o"]).arg(&client);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libcni/main.go");
    let out = go.arg(source).output().expect("golang-go is not installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    client
}

struct Engine {
    folder: tempfile::TempDir,
    client: PathBuf,
}

impl Engine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = build(folder.path());
        fs::create_dir(folder.path().join("plugins")).unwrap();
        for (name, program) in [
            ("vfabric", env!("CARGO_BIN_EXE_vfabric-cni")),
            ("vfabric-multi", env!("CARGO_BIN_EXE_vfabric-multi")),
        ] {
            symlink(program, folder.path().join("plugins").join(name)).unwrap();
        }
        Self { folder, client }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, verb: &str, list: &Value, container: &str, netns: &str, asked: Value) -> Output {
        let file = self.path("list.conflist");
        fs::write(&file, list.to_string()).unwrap();
        let mut command = Command::new(&self.client);
        command.env("CNI_PATH", format!("{}:/usr/lib/cni", self.path("plugins").display()));
        command
            .arg(verb)
            .arg(file)
            .arg(self.path("cache"))
            .args([container, netns, "eth0"]);
        command.args([
            &asked.to_string(),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web",
        ]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    async fn good(&self, verb: &str, list: &Value, container: &str, netns: &str, asked: Value) -> Value {
        let out = self.run(verb, list, container, netns, asked).await;
        assert!(out.status.success(), "{verb}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libcni_drives_both_plugins() {
    let world = World::new().await;
    let engine = Engine::new();
    let pod = Netns::new("pod");
    let capabilities = json!({ "mac": true, "ips": true });
    let fabric = |network: &str| json!({ "type": "vfabric", "vdc": "blue", "network": network, "socket": world.socket(), "capabilities": capabilities });
    let tuning = json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.eth0.arp_filter": "1" } });
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        // In a list, followed by another project's plugin, which needs our result.
        let plugins = json!([fabric("red"), tuning]);
        let list = json!({ "cniVersion": version, "name": "tenants", "plugins": plugins });
        engine.good("VALIDATE", &list, "c1", "", json!({})).await;
        let asked = json!({ "mac": "02:00:00:00:00:42", "ips": ["10.1.0.42/24"] });
        let result = engine.good("ADD", &list, "c1", &pod.path(), asked.clone()).await;
        assert_eq!(result["cniVersion"], version);
        assert_eq!(
            (&result["interfaces"][0]["mac"], &result["ips"][0]["address"]),
            (&asked["mac"], &asked["ips"][0])
        );
        assert_eq!(pod.setting("net/ipv4/conf/eth0/arp_filter"), "1");
        if version != "0.3.1" {
            engine.good("CHECK", &list, "c1", &pod.path(), asked.clone()).await;
            // The agent restores its own part; the other plugin's part is checked after it.
            let reset = "echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter";
            ip(&["netns", "exec", &pod.0, "sh", "-c", reset]);
            let differs = engine.run("CHECK", &list, "c1", &pod.path(), asked.clone()).await;
            assert!(!differs.status.success());
        }
        engine.good("DEL", &list, "c1", &pod.path(), asked.clone()).await;
        engine.good("DEL", &list, "c1", "", asked).await;
        assert_eq!((pod.links().len(), world.attachments("blue").await.len()), (0, 0));
    }

    // The meta plugin.
    fs::create_dir(engine.path("pods")).unwrap();
    let mut green = fabric("green");
    green["cniVersion"] = "1.0.0".into();
    let annotations = json!({ "k8s.v1.cni.cncf.io/networks": "green@data" });
    let metadata = json!({ "namespace": "blue", "name": "web", "annotations": annotations });
    let documents = [
        json!({ "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "namespace": "blue", "name": "green" }, "spec": { "config": green.to_string() } }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata }),
    ];
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    fs::write(engine.path("pods/all.yaml"), text.join("\n---\n")).unwrap();
    let mut red = fabric("red");
    (red["cniVersion"], red["name"]) = ("1.0.0".into(), "tenants".into());
    let multi = json!({ "type": "vfabric-multi", "pods": engine.path("pods"), "delegates": [red],
        "stateDir": engine.path("state"), "statusDir": engine.path("status"), "capabilities": capabilities });
    let list = json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": [multi, tuning] });
    let asked = json!({ "ips": ["10.1.0.43/24"] });
    let result = engine.good("ADD", &list, "c2", &pod.path(), asked.clone()).await;
    // The runtime's requests apply to the default network, and the next plugin of the list gets that network's result.
    assert_eq!(
        (&result["ips"][0]["address"], &result["ips"][0]["version"]),
        (&asked["ips"][0], &json!("4"))
    );
    assert_eq!(world.attachments("blue").await.len(), 2);
    assert_eq!(pod.links().len(), 2);
    engine.good("CHECK", &list, "c2", &pod.path(), asked.clone()).await;
    engine.good("DEL", &list, "c2", &pod.path(), asked).await;
    assert_eq!((pod.links().len(), world.attachments("blue").await.len()), (0, 0));
    assert_eq!(fs::read_dir(engine.path("state")).unwrap().count(), 0);
}
