//! A virtual machine moves to another host while it runs: what that costs, and that it costs nothing when it is called off.
//!
//! Two QEMU processes are the machine at its two places. Each uses a tap device in the workload's namespace on its
//! host. Rules of nf_tables send every frame from the attachment's interface to that device, and back
//! (`docs/migration.md`). All the time, two pods ping the guest: one from its own network, and one through the router.
//!
//! | file | what |
//! | --- | --- |
//! | [`guest`] | kernel and root file system of the guest |
//! | [`machine`] | QEMU and its monitor |
//! | [`pings`] | numbered pings, and a record of where they are seen |
//! | [`flip`] | which lost pings the move explains |

mod flip;
mod guest;
mod machine;
mod pings;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{AttachmentSpec, Migration, MigrationPhase, Place, SubnetSpec, VdcIntent};
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::status::{Attachment, Progress, View};

use self::flip::{Cost, Flow};
use self::guest::Kernel;
use self::machine::{Hardware, Machine, QEMU, TAP};
use self::pings::{MARK, Mark, Passed, Pinged, Pings, Record};
use super::Scene;
use super::faults::{AROUND, interval};
use super::pods::{Ward, with_pods};
use crate::pods::{NETWORKS, TENANTS, agree, tenant};
use crate::probe::{self, Capture};
use crate::{Lab, netns, plan, process};

/// Longest time for a change to be applied on every device, and for a move to end.
const APPLIED: Duration = Duration::from_secs(30);
/// Longest time for the first reply of the guest.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest time for a move after the guest has announced itself. A move that waits for a time-out would
/// take longer.
const SERVED: Duration = Duration::from_secs(2);
/// The machine's interface at both places.
const INTERFACE: &str = "eth0";
/// Its MAC address.
const GUEST_MAC: &str = "02:00:00:60:00:46";
/// Its addresses.
const GUEST_V4: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 70);
const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x60, 0, 1, 0, 0, 0, 0x70);
/// The IPv6 subnets of the two networks, with those of [`NETWORKS`].
const SUBNETS_V6: [&str; 2] = ["fd00:60:0:1::/64", "fd00:60:0:2::/64"];
/// Octets a second for a migration that should take long, and for one that should be quick.
const SLOW: u64 = 4 << 20;
const QUICK: u64 = 1 << 30;

/// Why the check cannot run on this machine; none if it can.
pub(super) fn lacks(lab: &Lab) -> Option<String> {
    let absent = |program: &str, package: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        (!is_there).then(|| format!("`{program}` is not installed (Debian's package {package})"))
    };
    let no_kernel = || {
        kernel(lab).is_none().then(|| {
            "no Linux kernel for the guest, neither in the folder of `lab up --guest` nor in /boot (`cargo xtask lab` fetches one)".into()
        })
    };
    absent(QEMU, "qemu-system-x86")
        .or_else(|| absent("nft", "nftables"))
        .or_else(guest::lacks)
        .or_else(no_kernel)
}

/// The guest's kernel: from the folder that the lab was started with, or an installed one.
fn kernel(lab: &Lab) -> Option<Kernel> {
    let folder = lab.options.guest.as_deref();
    Kernel::find(folder.into_iter().chain([Path::new("/")]))
}

/// The check.
pub(super) fn virtual_machine(cx: &Scene<'_>) -> Result<String> {
    let (words, _) = with_pods(cx, vdc(cx)?, |ward| {
        let site = Site::prepare(cx)?;
        let outcome = site.create().and_then(|()| site.both_ways(ward));
        // Cleans up also after a failure, so that the lab stays usable; the failure is still
        // the result.
        let removed = site.remove();
        outcome.and_then(|words| removed.map(|()| words))
    })?;
    Ok(words)
}

/// The tenant, with IPv6 in both networks.
fn vdc(cx: &Scene<'_>) -> Result<VdcIntent> {
    let mut vdc = tenant(cx.lab, TENANTS[0], true)?;
    for (network, cidr) in vdc.networks.iter_mut().zip(SUBNETS_V6) {
        network.subnets.push(SubnetSpec::new(cidr.parse()?));
    }
    Ok(vdc)
}

/// A place of the machine.
struct Spot<'a> {
    host: &'a Name,
    namespace: String,
}

/// Where the machine is and where it goes.
struct Site<'a> {
    cx: &'a Scene<'a>,
    key: Key,
    mac: Mac,
    source: Spot<'a>,
    target: Spot<'a>,
    /// Files of the machines.
    folder: PathBuf,
}

/// Who pings, over which protocol, and with which mark.
struct Pinging {
    namespace: String,
    to: IpAddr,
    mark: Mark,
    words: &'static str,
}

/// What was seen while the machine was pinged.
struct Watched {
    flows: Vec<Pinged>,
    source: Passed,
    target: Passed,
}

impl<'a> Site<'a> {
    fn prepare(cx: &'a Scene<'a>) -> Result<Self> {
        let hosts = &cx.lab.topology.hosts;
        let (Some(first), Some(last)) = (hosts.first(), hosts.last().filter(|_| hosts.len() > 1)) else {
            bail!("two hosts are needed");
        };
        let spot = |host, name: &str| Spot {
            host,
            namespace: format!("{}vm-{name}", plan::PREFIX),
        };
        let folder = cx.lab.dir.join("vm");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            cx,
            key: Key::new(TENANTS[0].parse()?, Kind::Attachment, "vm".parse()?),
            mac: GUEST_MAC.parse()?,
            source: spot(&first.name, "source"),
            target: spot(&last.name, "target"),
            folder,
        })
    }

    /// Namespaces with tap devices, and the attachment at the source.
    fn create(&self) -> Result<()> {
        for spot in [&self.source, &self.target] {
            let namespace = &spot.namespace;
            netns::ip_batch(None, &format!("netns add {namespace}"))?;
            netns::ip_batch(
                Some(namespace),
                &format!("link set lo up\ntuntap add {TAP} mode tap\nlink set {TAP} up"),
            )?;
            // The device is for the guest only: the namespace itself must send nothing to
            // it.
            netns::sysctl(namespace, &[(&format!("ipv6/conf/{TAP}/disable_ipv6"), "1")])?;
        }
        let spec = AttachmentSpec {
            name: self.key.name.clone(),
            network: NETWORKS[0].0.parse()?,
            mac: Some(self.mac),
            ips: vec![GUEST_V4.into(), GUEST_V6.into()],
            place: self.place(&self.source),
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        };
        let (client, runtime) = (&self.cx.client, self.cx.runtime);
        let made = runtime.block_on(client.create(&self.key.vdc, &Spec::Attachment(spec), Some(APPLIED)))?;
        applied(made)?;
        join(&self.source.namespace)
    }

    fn place(&self, spot: &Spot<'_>) -> Place {
        Place::Host {
            host: spot.host.clone(),
            netns: spot.namespace.clone(),
            interface: INTERFACE.into(),
        }
    }

    /// Deletes the attachment and the namespaces, as far as they exist.
    fn remove(&self) -> Result<()> {
        let deleted = self
            .cx
            .runtime
            .block_on(self.cx.client.delete(&self.key, Some(APPLIED)));
        let there = netns::list(&format!("{}vm-", plan::PREFIX));
        let lines: Vec<String> = there.iter().map(|name| format!("netns del {name}")).collect();
        netns::ip_batch(None, &lines.join("\n"))?;
        std::fs::remove_dir_all(&self.folder)?;
        let outcome = deleted?;
        let progress = outcome.applied.map(|applied| applied.progress);
        ensure!(
            progress == Some(Progress::Applied),
            "{}: not removed everywhere",
            self.key
        );
        Ok(())
    }

    fn attachment(&self) -> Result<Attachment> {
        match self.cx.runtime.block_on(self.cx.client.get(&self.key))? {
            View::Attachment(attachment) => Ok(attachment),
            _ => bail!("{} is no attachment", self.key),
        }
    }

    /// Changes the migration, as `fabricctl attachment migrate` and `cancel` do, and waits for the devices.
    fn set_migration(&self, migration: Option<Migration>) -> Result<()> {
        let has = self.attachment()?;
        let spec = Spec::Attachment(AttachmentSpec { migration, ..has.spec });
        let (client, vdc) = (&self.cx.client, &self.key.vdc);
        let changed = client.replace(vdc, &spec, Some(has.revision), Some(APPLIED));
        applied(self.cx.runtime.block_on(changed)?)
    }

    /// Prepares the target, and lets the machine's frames through there.
    fn prepare_target(&self) -> Result<()> {
        self.set_migration(Some(Migration {
            host: self.target.host.clone(),
            netns: Some(self.target.namespace.clone()),
            interface: None,
            phase: MigrationPhase::Prepared,
            timeout_s: Migration::DEFAULT_TIMEOUT_S,
        }))?;
        join(&self.target.namespace)
    }

    /// Starts the machine and the pods that ping it. Calls one migration off, then carries one out.
    fn both_ways(&self, ward: &mut Ward<'_>) -> Result<String> {
        let hosts = self.cx.lab.topology.hosts.len();
        let [front, back] = NETWORKS.map(|(name, _)| name);
        let mut namespace = |name: &str, host: usize, network: &str| -> Result<String> {
            let (pod, _) = ward.start(name, host, &json!({ "network": network }))?;
            Ok(pod.namespace)
        };
        let (same, routed) = (
            namespace("same-network", 1, front)?,
            namespace("routed", hosts.saturating_sub(2), back)?,
        );
        // Receives whatever is flooded in the network, at the target's host.
        let bystander = namespace("bystander", hosts - 1, front)?;
        let flow = |namespace: String, to: IpAddr, words| Pinging {
            namespace,
            to,
            mark: rand::random::<[u8; MARK]>(),
            words,
        };
        let flows = [
            flow(same, GUEST_V4.into(), "same network"),
            flow(routed, GUEST_V6.into(), "routed"),
        ];
        let kernel = kernel(self.cx.lab).context("the guest's kernel")?;
        let root = self.folder.join("root.cpio");
        let gateways = vdc(self.cx)?.networks.first().context("networks")?.subnets.clone();
        let gateway = |ip: IpAddr| gateways.iter().find(|s| s.cidr.contains(&ip)).map(SubnetSpec::gateway);
        let addresses: Option<guest::Addresses> = [(GUEST_V4.into(), 24), (GUEST_V6.into(), 64)]
            .into_iter()
            .map(|(ip, length)| Some((ip, length, gateway(ip)?)))
            .collect();
        let files = guest::root(&kernel, &addresses.context("the guest's subnets")?)?;
        std::fs::write(&root, files)?;
        let hardware = Hardware {
            kernel: &kernel.image,
            root: &root,
            mac: self.mac,
        };
        let mut source = Machine::start(&self.folder, "source", &self.source.namespace, &hardware, None)?;
        let started = source.await_guest()?;
        for flow in &flows {
            let answer = probe::ping(&flow.namespace, flow.to, 32, ANSWER)?;
            answer.with_context(|| format!("{}: the guest does not answer {}", flow.words, flow.namespace))?;
        }
        let called_off = self.called_off(&flows, &bystander, &hardware, &mut source)?;
        let moved = self.moved(&flows, &bystander, &hardware, source)?;
        let started = started.as_secs_f64();
        Ok(format!(
            "{moved}; called off: {called_off}; the guest started in {started:.1} s"
        ))
    }

    /// A machine at the target that waits for the guest on a socket.
    fn waiting(&self, name: &str, hardware: &Hardware<'_>) -> Result<(Machine, PathBuf)> {
        let socket = self.folder.join(format!("{name}.guest"));
        let machine = Machine::start(&self.folder, name, &self.target.namespace, hardware, Some(&socket))?;
        Ok((machine, socket))
    }

    /// Pings the guest while some work is done, and a while before and after it. Nobody else may receive a ping.
    fn watch<T>(&self, flows: &[Pinging], bystander: &str, work: impl FnOnce() -> Result<T>) -> Result<(Watched, T)> {
        let marks: Vec<Mark> = flows.iter().map(|flow| flow.mark).collect();
        let [source, target] =
            [&self.source, &self.target].map(|spot| Record::start(&spot.namespace, INTERFACE, marks.clone()));
        let (source, target) = (source?, target?);
        let others = self
            .cx
            .endpoints
            .iter()
            .map(|e| e.namespace.as_str())
            .chain([bystander]);
        let captures: Vec<(String, Capture)> = others
            .map(|name| Ok((name.to_owned(), Capture::start(name)?)))
            .collect::<Result<_>>()?;
        let every = interval(self.cx.lab.options.target) * 2;
        let started = flows
            .iter()
            .map(|flow| Pings::start(&flow.namespace, flow.to, flow.mark, every));
        let started: Vec<Pings> = started.collect::<Result<_>>()?;
        std::thread::sleep(AROUND);
        let done = work();
        std::thread::sleep(AROUND);
        let flows: Vec<Pinged> = started.into_iter().map(Pings::stop).collect::<Result<_>>()?;
        let watched = Watched {
            flows,
            source: source.finish()?,
            target: target.finish()?,
        };
        for (name, frames) in Capture::finish_all(captures)? {
            let is_ours = |frame: &&Vec<u8>| marks.iter().any(|mark| probe::contains(frame, mark));
            let heard = frames.iter().filter(is_ours).count();
            ensure!(heard == 0, "{heard} frames for the guest or from it reached {name}");
        }
        Ok((watched, done?))
    }

    /// Begins to send the guest to the target, and calls that off: first in QEMU, then in the fabric. Nothing may be
    /// lost.
    fn called_off(
        &self,
        flows: &[Pinging],
        bystander: &str,
        hardware: &Hardware<'_>,
        source: &mut Machine,
    ) -> Result<String> {
        self.prepare_target()?;
        let (target, socket) = self.waiting("called-off", hardware)?;
        let (watched, sent) = self.watch(flows, bystander, || {
            source.send_guest(&socket, SLOW)?;
            let octets = |figures: &Value| figures["ram"]["transferred"].as_u64().unwrap_or(0);
            let begun = source.await_sending(|figures| figures["status"] == "active" && octets(figures) > SLOW / 8)?;
            source.ask("migrate_cancel", json!({}))?;
            source.await_sending(|figures| figures["status"] == "cancelled")?;
            ensure!(source.is_running()?, "the guest does not run at the source");
            drop(target);
            self.set_migration(None)?;
            Ok(octets(&begun))
        })?;
        let mut pings = 0;
        for (flow, pinged) in flows.iter().zip(&watched.flows) {
            let lost = flip::lost(pinged);
            pings += pinged.sent.len();
            ensure!(
                lost.is_empty(),
                "{}: pings {lost:?} are lost although the guest never stopped",
                flow.words
            );
        }
        let reached = watched
            .target
            .requests
            .values()
            .map(|numbers| numbers.len())
            .sum::<usize>();
        ensure!(reached == 0, "{reached} pings reached the target");
        self.is_at(&self.source)?;
        let kib = sent >> 10;
        Ok(format!("0 of {pings} pings lost, with {kib} KiB of the guest sent"))
    }

    /// The guest moves.
    fn moved(
        &self,
        flows: &[Pinging],
        bystander: &str,
        hardware: &Hardware<'_>,
        mut source: Machine,
    ) -> Result<String> {
        self.prepare_target()?;
        let (mut target, socket) = self.waiting("target", hardware)?;
        let (watched, (stopped, took)) = self.watch(flows, bystander, || {
            let began = Instant::now();
            source.send_guest(&socket, QUICK)?;
            let figures = source.await_sending(|figures| figures["status"] == "completed")?;
            let is_over = || Ok(self.attachment()?.spec.migration.is_none().then_some(()));
            self.cx.until(APPLIED, "the migration goes on", is_over)?;
            ensure!(target.is_running()?, "the guest does not run at the target");
            drop(source);
            let stopped = figures["downtime"].as_u64().context("QEMU's time without the guest")?;
            Ok((Duration::from_millis(stopped), began.elapsed()))
        })?;
        let (kind, announced) = watched
            .target
            .announced
            .context("the guest did not announce itself at the target")?;
        let none = BTreeSet::new();
        let mut costs: Vec<Cost> = Vec::new();
        for (flow, pinged) in flows.iter().zip(&watched.flows) {
            let replies = |passed: &'_ Passed| passed.replies.get(&flow.mark).cloned().unwrap_or_else(|| none.clone());
            let (by_source, by_target) = (replies(&watched.source), replies(&watched.target));
            let cost = Flow {
                pinged,
                by_source: &by_source,
                by_target: &by_target,
            }
            .cost();
            costs.push(cost.map_err(|why| anyhow::anyhow!("{}: {why}", flow.words))?);
        }
        let served = costs.iter().map(|cost| cost.served).max().context("flows")?;
        let served = served.saturating_duration_since(announced);
        ensure!(
            served < SERVED,
            "the guest was served {} ms after it announced itself",
            served.as_millis()
        );
        self.is_at(&self.target)?;
        let (sent, lost) = (
            costs.iter().map(|c| c.sent).sum::<usize>(),
            costs.iter().map(|c| c.lost).sum::<usize>(),
        );
        let outage = costs.iter().map(|c| c.outage).max().unwrap_or_default();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.cx.measured("sent_packets", sent as f64);
        self.cx.measured("lost_packets", lost as f64);
        self.cx.measured("longest_outage_ms", ms(outage));
        self.cx.measured("guest_stopped_ms", ms(stopped));
        self.cx.measured("announcement_to_reply_ms", ms(served));
        let each: Vec<String> = flows
            .iter()
            .zip(&costs)
            .map(|(flow, cost)| format!("{} {} of {} pings lost", flow.words, cost.lost, cost.sent))
            .collect();
        Ok(format!(
            "{} to {}: {}, all in the flip, outage {:.0} ms (guest stopped {:.0} ms; served {:.0} ms after its {}); over in {:.1} s",
            self.source.host,
            self.target.host,
            each.join(", "),
            ms(outage),
            ms(stopped),
            ms(served),
            if kind == 0x0806 { "ARP" } else { "RARP" },
            took.as_secs_f64()
        ))
    }

    /// Fails unless the attachment is at one of its places, and no device has anything of
    /// the other place.
    fn is_at(&self, spot: &Spot<'_>) -> Result<()> {
        let has = self.attachment()?.spec;
        ensure!(
            has.place == self.place(spot) && has.migration.is_none(),
            "{} is at {:?}, {:?}",
            self.key,
            has.place,
            has.migration
        );
        self.cx.ready()?;
        let (lab, client, runtime) = (self.cx.lab, &self.cx.client, self.cx.runtime);
        let agree = || agree::devices(lab, client, runtime, &TENANTS[..1]).map(Some);
        self.cx.until(APPLIED, "devices do not agree", agree)?;
        Ok(())
    }
}

/// Fails unless every device has applied an attachment.
fn applied(view: View) -> Result<()> {
    let View::Attachment(attachment) = view else {
        bail!("the controller returned something that is no attachment")
    };
    let (name, applied) = (&attachment.spec.name, &attachment.applied);
    ensure!(applied.progress == Progress::Applied, "{name}: {:?}", applied.waiting);
    Ok(())
}

/// Joins the attachment's interface and the machine's device: what one receives, the other sends.
fn join(namespace: &str) -> Result<()> {
    let rules = format!(
        "table netdev vm\n\
         delete table netdev vm\n\
         table netdev vm {{\n\
         chain in {{ type filter hook ingress device {INTERFACE} priority 0; fwd to {TAP}; }}\n\
         chain out {{ type filter hook ingress device {TAP} priority 0; fwd to {INTERFACE}; }}\n\
         }}\n"
    );
    let mut nft = netns::within(namespace, || {
        let mut command = process::command("nft");
        command.args(["-f", "-"]).stdin(std::process::Stdio::piped());
        command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .context("cannot run `nft`")
    })?;
    let mut input = nft.stdin.take().context("standard input of nft")?;
    std::io::Write::write_all(&mut input, rules.as_bytes())?;
    drop(input);
    let output = nft.wait_with_output()?;
    ensure!(
        output.status.success(),
        "nft in {namespace}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
