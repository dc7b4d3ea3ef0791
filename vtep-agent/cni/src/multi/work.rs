//! The verbs of CNI 1.1, each for all networks of a pod.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::catalog::{Catalog, Folder, Pod};
use super::delegate;
use super::journal::{Attachment, Journal, PodRef, Sandbox, State, Turn, boot_id, netns_id};
use super::network::{Asked, Network};
use super::settings::Settings;
use super::{annotation, plan, result, routes, status};
use crate::config::{self, CURRENT_VERSION, VERSIONS};
use crate::error::{self, Error};
use crate::exec::Environment;
use crate::protocol::Slot;

/// Version of CNI from which on plugins know CHECK.
const CHECK_SINCE: &str = "0.4.0";
/// Version of CNI from which on plugins know STATUS and GC.
const STATUS_SINCE: &str = "1.1.0";

/// Carries out the command of the environment and the configuration; returns the result, if there is one.
///
/// # Errors
/// With the code of CNI.
pub fn run(environment: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Error> {
    let command = environment("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        let asked = serde_json::from_slice::<Value>(input).ok();
        let asked = asked.as_ref().and_then(|v| v.get("cniVersion")?.as_str());
        return Ok(Some(
            json!({ "cniVersion": asked.unwrap_or(CURRENT_VERSION), "supportedVersions": VERSIONS }),
        ));
    }
    let settings = Settings::parse(input)?;
    let work = Work {
        journal: Journal::open(&settings.state_dir)?.inherited(),
        settings,
    };
    let variable = |name: &str| environment(name).unwrap_or_default();
    match command.as_str() {
        "ADD" => {
            let slot = config::slot(&environment)?;
            let netns = Some(variable("CNI_NETNS")).filter(|n| n.starts_with('/'));
            let netns = netns.ok_or_else(|| Error::environment("CNI_NETNS", "the path of a network namespace"))?;
            work.add(slot, netns, variable("CNI_ARGS"), variable("CNI_PATH"))
                .map(Some)
        }
        "DEL" => work
            .del(
                &config::slot(&environment)?,
                &variable("CNI_NETNS"),
                &variable("CNI_PATH"),
            )
            .map(|()| None),
        "CHECK" => work.check(&config::slot(&environment)?).map(|()| None),
        "STATUS" => work.status(&variable("CNI_PATH")).map(|()| None),
        "GC" => work.collect(&variable("CNI_PATH")).map(|()| None),
        _ => Err(Error::environment(
            "CNI_COMMAND",
            "ADD, DEL, CHECK, STATUS, GC or VERSION",
        )),
    }
}

/// The data that verbs and the follower need.
#[derive(Debug)]
pub struct Work {
    /// The configuration.
    pub settings: Settings,
    /// The journal.
    pub journal: Journal,
}

/// A value of `CNI_ARGS`.
fn argument<'a>(args: &'a str, key: &str) -> Option<&'a str> {
    let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(k, v)| *k == key && !v.is_empty())
        .map(|(_, v)| v)
        .next_back()
}

fn within(sandbox: &Sandbox, interface: &str, netns: &str) -> Environment {
    Environment {
        container: sandbox.slot.container.clone(),
        netns: netns.to_owned(),
        interface: interface.to_owned(),
        args: sandbox.args.clone(),
        path: sandbox.path.clone(),
    }
}

/// The environment of verbs that concern no container.
fn nowhere(path: &str) -> Environment {
    Environment {
        container: String::new(),
        netns: String::new(),
        interface: String::new(),
        args: String::new(),
        path: path.to_owned(),
    }
}

/// An error with the network and interface that it is about.
fn of(attachment: &Attachment, error: Error) -> Error {
    let Attachment { network, interface, .. } = attachment;
    Error::new(
        error.code,
        format!("network {network} (interface {interface}): {}", error.message),
    )
}

impl Work {
    /// The pod of a runtime's call. If the runtime does not name it, the container's id is its name.
    fn pod_ref(&self, slot: &Slot, args: &str) -> Result<PodRef, Error> {
        let of = |key: &str| argument(args, key).map(str::to_owned);
        let pod = PodRef {
            namespace: of("K8S_POD_NAMESPACE").unwrap_or_else(|| self.settings.namespace.clone()),
            name: of("K8S_POD_NAME").unwrap_or_else(|| slot.container.clone()),
            uid: of("K8S_POD_UID"),
        };
        // They become a file name, with an underscore between them.
        if !annotation::is_name(&pod.namespace) {
            return Err(Error::environment(
                "CNI_ARGS: K8S_POD_NAMESPACE",
                "the name of a namespace",
            ));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if pod.name.len() > 253 || pod.name.starts_with('.') || !pod.name.bytes().all(good) {
            return Err(Error::environment("CNI_ARGS: K8S_POD_NAME", "the name of a pod"));
        }
        Ok(pod)
    }

    /// The pod's entry in the catalog. A pod that the catalog does not have selects nothing.
    ///
    /// # Errors
    /// When the catalog cannot be read, or has another pod of the same name (with another UID).
    pub fn pod(catalog: &dyn Catalog, of: &PodRef) -> Result<Pod, Error> {
        let blank = || Pod {
            namespace: of.namespace.clone(),
            name: of.name.clone(),
            ..Pod::default()
        };
        let pod = catalog.pod(&of.namespace, &of.name)?.unwrap_or_else(blank);
        match (&pod.uid, &of.uid) {
            (Some(known), Some(asked)) if known != asked => {
                let PodRef { namespace, name, .. } = of;
                let message = format!("pod {namespace}/{name}: its UID is {known}, the runtime asks for {asked}");
                Err(Error::new(error::TRY_AGAIN, message))
            }
            _ => Ok(pod),
        }
    }

    fn turn(&self, slot: &Slot) -> Result<Turn, Error> {
        let busy = || Error::new(error::TRY_AGAIN, "the sandbox is being worked on");
        self.journal.turn(slot, false)?.ok_or_else(busy)
    }

    fn add(&self, slot: Slot, netns: String, args: String, path: String) -> Result<Value, Error> {
        let turn = self.turn(&slot)?;
        let added = self.add_in_turn(&turn, &slot, netns, args, path);
        if self.journal.get(&slot).is_ok_and(|s| s.is_none()) {
            turn.end();
        }
        added
    }

    fn add_in_turn(&self, turn: &Turn, slot: &Slot, netns: String, args: String, path: String) -> Result<Value, Error> {
        let missing = || Error::environment("CNI_NETNS", &format!("a network namespace at {netns}"));
        let id = netns_id(&netns).ok_or_else(missing)?;
        if let Some(mut held) = self.journal.get(slot)? {
            if held.is_whole() && held.netns_id == id && held.netns() == netns {
                // The runtime repeats a request.
                return self.result(&held);
            }
            // An earlier ADD did not end, or its namespace is gone.
            let there = held.netns().to_owned();
            self.tear_down(turn, &mut held, &there)?;
        }
        let mut sandbox = Sandbox {
            pod: self.pod_ref(slot, &args)?,
            cni_network: self.settings.name.clone(),
            slot: slot.clone(),
            netns,
            netns_id: id,
            boot_id: boot_id(),
            args,
            path,
            attachments: Vec::new(),
        };
        let catalog = Folder::read(&self.settings.pods)?;
        let pod = Self::pod(&catalog, &sandbox.pod)?;
        let default = plan::default(&self.settings, &catalog, &pod, slot)?;
        let selected = plan::selected(&self.settings, &catalog, &pod, slot, &[])?;
        sandbox.attachments = std::iter::once(default).chain(selected).collect();
        self.journal.put(turn, &sandbox)?;
        self.add_all(turn, &mut sandbox).map_err(|why| {
            // Attachments that cannot be removed now stay in the journal for the runtime's DEL.
            let netns = sandbox.netns.clone();
            match self.tear_down(turn, &mut sandbox, &netns) {
                Ok(()) => why,
                Err(e) => Error::new(
                    why.code,
                    format!("{}; and cannot be undone yet: {}", why.message, e.message),
                ),
            }
        })?;
        self.result(&sandbox)
    }

    fn add_all(&self, turn: &Turn, sandbox: &mut Sandbox) -> Result<(), Error> {
        for i in 0..sandbox.attachments.len() {
            let previous = self
                .settings
                .prev_result
                .as_ref()
                .filter(|_| i == 0)
                .map(|r| r.get().to_owned());
            self.attach(sandbox, i, previous.as_deref())?;
        }
        // This comes after all interfaces exist, because a later plugin would replace this default route by its own.
        self.prefer(sandbox)?;
        status::write(&self.settings.status_dir, sandbox)?;
        for attachment in &mut sandbox.attachments {
            attachment.state = State::Held;
        }
        self.journal.put(turn, sandbox)
    }

    /// Runs the plugins of one attachment. The caller must change its state.
    ///
    /// # Errors
    /// Of the first plugin that fails.
    pub fn attach(&self, sandbox: &mut Sandbox, i: usize, previous: Option<&str>) -> Result<(), Error> {
        let netns = sandbox.netns.clone();
        let environment = within(sandbox, &sandbox.attachments[i].interface, &netns);
        let attachment = &mut sandbox.attachments[i];
        if let Some(folder) = attachment.device_info.as_deref().and_then(Path::parent) {
            let wrong = |e: std::io::Error| Error::io(format!("deviceInfoDir: {}: {}", folder.display(), e.kind()));
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        let added = delegate::add(&attachment.calls, previous, &environment);
        attachment.result = Some(added.map_err(|e| of(attachment, e))?);
        Ok(())
    }

    /// Gives the default route to the attachment that asks for it, if there is one and it does not have it yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prefer(&self, sandbox: &mut Sandbox) -> Result<(), Error> {
        let netns = sandbox.netns.clone();
        for attachment in &mut sandbox.attachments {
            if let Some(gateways) = attachment
                .default_route
                .as_ref()
                .filter(|_| attachment.state == State::Adding)
            {
                let displaced = routes::prefer(&netns, &attachment.interface, gateways);
                attachment.displaced = displaced.map_err(|e| of(attachment, e))?;
            }
        }
        Ok(())
    }

    /// DEL of one attachment, with the octets of its ADD. Default routes that it had replaced are restored.
    ///
    /// # Errors
    /// Of the first plugin that fails; then everything must be repeated.
    pub fn detach(&self, sandbox: &Sandbox, attachment: &Attachment, netns: &str) -> Result<(), Error> {
        let environment = within(sandbox, &attachment.interface, netns);
        let done = delegate::del(&attachment.calls, attachment.result.as_deref(), &environment);
        done.map_err(|e| of(attachment, e))?;
        if let Some(file) = &attachment.device_info {
            match fs::remove_file(file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(of(attachment, Error::io(format!("{}: {}", file.display(), e.kind()))));
                }
                _ => {}
            }
        }
        if !netns.is_empty() && !attachment.displaced.is_empty() {
            routes::restore(netns, &attachment.displaced)?;
        }
        Ok(())
    }

    /// Removes everything of a sandbox, the last attachment first. It tries all of them; those whose DEL failed stay in
    /// the journal.
    ///
    /// # Errors
    /// The failures.
    pub fn tear_down(&self, turn: &Turn, sandbox: &mut Sandbox, netns: &str) -> Result<(), Error> {
        for attachment in &mut sandbox.attachments {
            attachment.state = State::Leaving;
        }
        self.journal.put(turn, sandbox)?;
        let mut failed: Vec<Error> = Vec::new();
        for i in (0..sandbox.attachments.len()).rev() {
            match self.detach(sandbox, &sandbox.attachments[i], netns) {
                Ok(()) => drop(sandbox.attachments.remove(i)),
                Err(e) => failed.push(e),
            }
        }
        if let Some(first) = failed.first() {
            self.journal.put(turn, sandbox)?;
            let all: Vec<&str> = failed.iter().map(|e| e.message.as_str()).collect();
            return Err(Error::new(first.code, all.join("; ")));
        }
        status::remove(&self.settings.status_dir, sandbox)?;
        self.journal.remove(turn, &sandbox.slot)
    }

    /// The result of ADD: that of the default network (NPWG 6), in the version that was asked for.
    fn result(&self, sandbox: &Sandbox) -> Result<Value, Error> {
        let default = sandbox.attachments.iter().find(|a| a.default);
        let text = default.and_then(|a| a.result.as_deref()).unwrap_or("{}");
        let wrong = |e: serde_json::Error| Error::new(error::DELEGATE, format!("result of the default network: {e}"));
        let value: Value = serde_json::from_str(text).map_err(wrong)?;
        Ok(result::convert(&value, &self.settings.cni_version))
    }

    fn del(&self, slot: &Slot, netns: &str, path: &str) -> Result<(), Error> {
        let turn = self.turn(slot)?;
        if let Some(mut sandbox) = self.journal.get(slot)? {
            // The runtime may no longer know the namespace; then use that of ADD, if it still exists.
            let there = Some(netns).filter(|n| netns_id(n) == Some(sandbox.netns_id));
            let netns = there.unwrap_or(sandbox.netns()).to_owned();
            if !path.is_empty() {
                sandbox.path = path.to_owned();
            }
            self.tear_down(&turn, &mut sandbox, &netns)?;
        }
        turn.end();
        Ok(())
    }

    fn check(&self, slot: &Slot) -> Result<(), Error> {
        let _turn = self.turn(slot)?;
        let differs = |what: &str| {
            let Slot { container, interface } = slot;
            Error::new(
                error::DIFFERS,
                format!("interface {interface} of container {container}: {what}"),
            )
        };
        let sandbox = self.journal.get(slot)?.ok_or_else(|| differs("it was not added"))?;
        if !sandbox.is_whole() {
            return Err(differs("it is being changed"));
        }
        let netns = sandbox.netns();
        if netns.is_empty() {
            return Err(differs("its network namespace is gone"));
        }
        for attachment in &sandbox.attachments {
            let environment = within(&sandbox, &attachment.interface, netns);
            let config = |c: &super::network::Call| c.with_result(attachment.result.as_deref());
            delegate::each("CHECK", CHECK_SINCE, &attachment.calls, config, &environment)
                .map_err(|e| of(attachment, e))?;
        }
        Ok(())
    }

    /// STATUS of the default network. A pod can start whatever the status of selected networks.
    fn status(&self, path: &str) -> Result<(), Error> {
        let away = |e: Error| Error::new(error::NOT_AVAILABLE, e.message);
        let catalog = Folder::read(&self.settings.pods).map_err(away)?;
        let (_, calls) = plan::default_calls(&self.settings, &catalog).map_err(away)?;
        delegate::each("STATUS", STATUS_SINCE, &calls, |c| c.config.clone(), &nowhere(path))
    }

    /// GC: removes sandboxes that are not listed, then lets the delegates do the same. The runtime itself may use a CNI
    /// network that only files in `conf_dir` name, so its plugins are not called.
    fn collect(&self, path: &str) -> Result<(), Error> {
        let valid = self.settings.valid();
        let mut failed = None;
        let ours = |s: &Sandbox| s.cni_network == self.settings.name;
        for sandbox in self
            .journal
            .all()?
            .iter()
            .filter(|s| ours(s) && !valid.contains(&s.slot))
        {
            // Try all of them, then report the first failure.
            failed = failed.or(self.del(&sandbox.slot, "", path).err());
        }
        let left = self.journal.all()?;
        let catalog = Folder::read(&self.settings.pods)?;
        let mut networks = Vec::new();
        if !self.settings.delegates.is_empty() {
            networks.push(plan::default_calls(&self.settings, &catalog)?);
        }
        for definition in catalog.definitions().iter().filter(|d| d.config.is_some()) {
            // A definition that cannot be read has no attachments, so there is nothing to
            // collect.
            if let Ok(network) = Network::of(definition, &self.settings.conf_dir)
                && let Ok(calls) = network.calls(&Asked::default())
            {
                networks.push((network.name, calls));
            }
        }
        for (name, calls) in networks {
            let of_network = |s: &Sandbox| {
                let all = s.attachments.iter().filter(|a| a.cni_network == name);
                let one = |a: &Attachment| json!({ "containerID": s.slot.container, "ifname": a.interface });
                all.map(one).collect::<Vec<_>>()
            };
            let valid: Vec<Value> = left.iter().flat_map(of_network).collect();
            let config = |c: &super::network::Call| {
                let mut config: Value = serde_json::from_str(&c.config).unwrap_or_default();
                config["cni.dev/valid-attachments"] = valid.clone().into();
                config.to_string()
            };
            let done = delegate::each("GC", STATUS_SINCE, &calls, config, &nowhere(path));
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(()), Err)
    }
}
