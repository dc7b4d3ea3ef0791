//! Acts as a container runtime: runs the CNI plugin in the host's network namespace.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vfabric_cni::command;
use vfabric_cni::protocol::{Reply, Request, Slot, Wish};

use super::Pod;
use crate::{Lab, netns, plan, process};

/// Name of the CNI network.
const CNI_NETWORK: &str = "lab";
/// An IPAM plugin that fails at every ADD.
pub(super) const FAILING: &str = "lab-failing";
/// An IPAM plugin that gives an address of no subnet that the lab has.
pub(super) const FOREIGN: &str = "lab-foreign";
/// What both do: a file stands for the address that a container has, from ADD until DEL.
const IPAM_PLUGIN: &str = r#"#!/bin/sh
cat > /dev/null
given="${0%/*}/given-$CNI_CONTAINERID"
case "$CNI_COMMAND" in
ADD)
    : > "$given"
    @ADD@ ;;
DEL) rm -f "$given" ;;
esac
"#;
const FAILS: &str = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"the pool is exhausted"}'; exit 1"#;
const GIVES: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.77/24"}]}'"#;

/// Where the lab's own plugins are.
fn plugins(lab: &Lab) -> PathBuf {
    lab.dir.join("plugins")
}

/// Writes the IPAM plugins that fail.
///
/// # Errors
/// They cannot be written.
pub(super) fn write_plugins(lab: &Lab) -> Result<()> {
    let dir = plugins(lab);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    for (name, add) in [(FAILING, FAILS), (FOREIGN, GIVES)] {
        let path = dir.join(name);
        std::fs::write(&path, IPAM_PLUGIN.replace("@ADD@", add)).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Whether a container still has an address of one of these plugins.
pub(super) fn given(lab: &Lab, pod: &Pod) -> bool {
    plugins(lab).join(format!("given-{}", pod.container)).exists()
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Call(Child);

impl Call {
    /// Waits for its end; returns the plugin's document, or its error.
    ///
    /// # Errors
    /// The plugin cannot be waited for.
    pub(crate) fn end(self) -> Result<Result<Value, String>> {
        let output = self.0.wait_with_output()?;
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(match output.status.success() {
            true => Ok(document),
            false => Err(match document.get("msg").and_then(Value::as_str) {
                Some(message) => message.to_owned(),
                None => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
            }),
        })
    }
}

impl Lab {
    /// The socket of a host's agent.
    pub(crate) fn agent_socket(&self, host: &str) -> PathBuf {
        self.agent_state(host).join("cni.sock")
    }

    /// Starts a call of the plugin for an interface of a pod. `asked` are the fields of the configuration besides the
    /// vDC. As containerd does, DEL leaves out the namespace if it is gone.
    ///
    /// # Errors
    /// The plugin cannot be started.
    pub(crate) fn cni(&self, verb: &'static str, pod: &Pod, interface: &str, asked: &Value) -> Result<Call> {
        let host = pod.host.as_str();
        let mut config = json!({ "cniVersion": "1.0.0", "name": CNI_NETWORK, "type": "vfabric", "vdc": pod.vdc,
            "network": super::NETWORKS[0].0, "socket": self.agent_socket(host) });
        if let (Some(config), Some(asked)) = (config.as_object_mut(), asked.as_object()) {
            config.extend(asked.clone());
        }
        if let (Some(config), Some(workload)) = (config.as_object_mut(), &pod.workload) {
            config.insert("workload".to_owned(), workload.clone().into());
        }
        let path = PathBuf::from("/run/netns").join(&pod.namespace);
        let netns = if path.exists() { path } else { PathBuf::new() };
        let mut command = process::command(self.bin("vfabric-cni"));
        command.env("CNI_COMMAND", verb).env("CNI_NETNS", netns);
        command
            .env("CNI_CONTAINERID", &pod.container)
            .env("CNI_IFNAME", interface);
        let path = std::env::join_paths([self.options.bin_dir.clone(), plugins(self)])?;
        command.env("CNI_PATH", path);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = netns::within(&plan::namespace(&pod.host), || {
            command.spawn().context("cannot run vfabric-cni")
        })?;
        let mut input = child.stdin.take().context("standard input of vfabric-cni")?;
        input.write_all(config.to_string().as_bytes())?;
        Ok(Call(child))
    }

    /// Calls the plugin and waits.
    ///
    /// # Errors
    /// The plugin refuses.
    pub(crate) fn cni_done(&self, verb: &'static str, pod: &Pod, interface: &str, asked: &Value) -> Result<Value> {
        match self.cni(verb, pod, interface, asked)?.end()? {
            Ok(document) => Ok(document),
            Err(message) => bail!("{verb} {interface} of {}: {message}", pod.container),
        }
    }

    /// Asks a host's agent as `vtep-agent attachment` does.
    ///
    /// # Errors
    /// It refuses, or cannot be reached.
    pub(crate) fn ask_agent(&self, host: &str, request: &Request) -> Result<Reply> {
        match command::ask(&self.agent_socket(host), request) {
            Ok(Reply::Failed { message, .. }) => bail!("the agent of {host}: {message}"),
            Ok(reply) => Ok(reply),
            Err(error) => bail!("the agent of {host}: {}", error.message),
        }
    }

    /// What a host's agent holds.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) fn agent_list(&self, host: &str) -> Result<Vec<(Slot, Wish)>> {
        match self.ask_agent(host, &Request::List)? {
            Reply::Listed(all) => Ok(all),
            other => bail!("the agent of {host} sent {other:?}"),
        }
    }
}

/// An interface of a pod, as the agent names it.
pub(crate) fn slot(pod: &Pod, interface: &str) -> Slot {
    Slot {
        container: pod.container.clone(),
        interface: interface.to_owned(),
    }
}

/// A request that adds an interface to a running pod.
pub(crate) fn plug(pod: &Pod, interface: &str, network: &str) -> Request {
    Request::Plug {
        slot: slot(pod, interface),
        wish: Wish {
            cni_network: String::new(),
            vdc: pod.vdc.to_owned(),
            network: network.to_owned(),
            mac: None,
            ips: Vec::new(),
            workload: pod.workload.clone(),
        },
    }
}

/// A request that puts an interface into another network.
pub(crate) fn swap(pod: &Pod, interface: &str, network: &str, ips: Vec<IpAddr>) -> Request {
    Request::Swap {
        slot: slot(pod, interface),
        cni_network: None,
        network: network.to_owned(),
        mac: None,
        ips,
    }
}
