//! The checks of the lab, each with a measured figure.
//!
//! | file | question |
//! | --- | --- |
//! | [`reach`] | does everything reach what it should? |
//! | [`edge`] | is traffic answered and replicated where it should be? |
//! | [`crate::attack`] | does nothing reach what it should not? |
//! | [`tenant`] | does a user of a vDC see only that vDC? |
//! | [`faults`] | what does a crash, a cut or an intruder cost? |
//! | [`dead`] | is a dead spine left out although its ports are up? |
//! | [`inventory`] | what does a change of the fabric cost others? |
//! | [`pods`] | what does a pod cost, and does a dead host stay silent? |
//! | [`migration`] | what does a virtual machine lose when it moves to another host? |
//! | [`routes`] | do static routes lead where they say? |
//! | [`removal`] | does a deletion remove everything of an object, and nothing else? |

mod dead;
mod edge;
pub(crate) mod faults;
mod inventory;
mod migration;
mod pods;
mod reach;
mod removal;
mod routes;
mod tenant;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Cell, Color, presets};
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{NetworkSpec, Place};
use vfabric_api::service::Kind;
use vfabric_api::status::View;

use super::counters::{self, Counter, Counts, Reader};
use super::probe::EchoServer;
use super::traffic::{Flow, Loss};
use super::{Lab, Steps, attack};

/// Flows under observation: enough that some hash onto each spine.
const FLOWS: usize = 8;

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the check.
    pub name: String,
    /// The figure, or why it failed.
    pub outcome: Result<String, String>,
    /// Its measurements, for programs: each name ends with its unit.
    pub figures: Vec<(&'static str, f64)>,
}

/// The table at the end of a lab.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// A row for each check that ran.
    pub rows: Vec<Row>,
    /// The checks that this machine cannot run, each with the reason.
    pub not_run: Vec<String>,
}

impl Report {
    /// Whether every check passed (and any ran).
    pub fn all_passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|r| r.outcome.is_ok())
    }

    /// Adds a row for each selected check.
    fn check(&mut self, cx: &Scene<'_>, checks: &[(&str, Check)], wanted: impl Fn(&str) -> bool, steps: &Steps) {
        for (name, check) in checks.iter().filter(|(n, _)| wanted(n)) {
            if let Some(why) = lacks(cx.lab, name) {
                self.not_run.push(format!("{name}: {why}"));
                continue;
            }
            let outcome = steps.check(name, || check(cx));
            self.rows.push(Row {
                name: (*name).to_owned(),
                outcome,
                figures: cx.figures.take(),
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        table.load_style(if terminal {
            presets::UTF8_HORIZONTAL_ONLY
        } else {
            presets::NOTHING
        });
        table.set_header(["CHECK", "", "MEASURED"]);
        for row in &self.rows {
            let (word, color, text) = match &row.outcome {
                Ok(figure) => ("ok", Color::Green, figure),
                Err(why) => ("FAILED", Color::Red, why),
            };
            table.add_row([Cell::new(&row.name), Cell::new(word).fg(color), Cell::new(text)]);
        }
        let passed = self.rows.iter().filter(|r| r.outcome.is_ok()).count();
        let failed = self.rows.len() - passed;
        // Trim trailing spaces: one long reason would pad every row.
        write!(f, "{}\n{passed} passed, {failed} failed", table.trim_fmt())?;
        self.not_run.iter().try_for_each(|why| write!(f, "\nnot run: {why}"))
    }
}

/// A workload or bare-metal machine, as the checks see it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `vdc/attachment`: the name that its echo server returns.
    pub id: String,
    /// Its vDC.
    pub vdc: Name,
    /// Its network.
    pub network: Name,
    /// Its attachment.
    pub name: Name,
    /// Its namespace.
    pub namespace: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ipv4: IpAddr,
    /// Its IPv6 address.
    pub ipv6: IpAddr,
    /// The leaf it is under.
    pub leaf: Name,
    /// Its host; none for a bare-metal machine.
    pub host: Option<Name>,
}

impl Endpoint {
    /// Both addresses.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.ipv4, self.ipv6]
    }
}

/// The data that every check uses.
pub struct Scene<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// A client of its controller.
    pub client: Client,
    /// Runtime for calls of the client.
    pub runtime: &'a Runtime,
    /// Everything that can send and receive.
    pub endpoints: Vec<Endpoint>,
    /// Their echo servers; each returns its name.
    _servers: Vec<EchoServer>,
    /// Measurements of the current check so far.
    figures: RefCell<Vec<(&'static str, f64)>>,
}

type Check = fn(&Scene<'_>) -> Result<String>;

/// Checks of what works, and how well. The attacks come after these, then faults and removals.
const WORKS: [(&str, Check); 11] = [
    ("same network, across leaves", reach::same_network),
    ("routed between networks, TTL falls by one", reach::routed),
    ("the gateway answers ping", reach::gateway),
    ("the gateway says why it drops", reach::errors),
    ("bare metal to host workload", reach::bare_metal),
    ("full-size packets, not fragmented", reach::full_size),
    ("TCP, same network across leaves", reach::tcp_bridged),
    ("TCP, routed", reach::tcp_routed),
    ("TCP, bare metal", reach::tcp_metal),
    ("ARP and ND answered at the edge", edge::neighbours),
    ("broadcast replicated once", edge::broadcast),
];

/// Checks of what faults cost, and of removals.
const CHANGES: [(&str, Check); 24] = [
    ("a tenant sees its own vDC only", tenant::alone),
    ("controller killed and restarted", faults::controller),
    ("agent killed and restarted", faults::agent),
    ("leaf killed and restarted empty", faults::leaf),
    ("link cut", faults::link_cut),
    ("link restored", faults::link_restored),
    ("stray entry found and removed", faults::stray_entry),
    ("port set over gNMI by others, put right", faults::foreign_setting),
    ("spine killed, its ports up", dead::spine_killed),
    ("spine stopped, its ports up", dead::spine_stopped),
    ("static routes", routes::static_routes),
    ("spine drained and back", inventory::spine_drained),
    ("spine replaced", inventory::spine_replaced),
    ("spine retired and created", inventory::spine_retired_and_created),
    ("uplink moved and back", inventory::uplink_moved),
    ("host that never comes, declared gone", inventory::host_gone),
    ("host retired and created", inventory::host_retired_and_created),
    ("pods attached, swapped and detached", self::pods::attached),
    ("pods come, go and change while daemons die", crate::pods::among_checks),
    (VIRTUAL_MACHINE, migration::virtual_machine),
    ("attachment deleted, then rolled back", removal::attachment),
    ("VNI kept until every device confirmed", removal::vni_quarantine),
    ("network and vDC deleted", removal::vdc),
    ("dead host fenced, its address moved", self::pods::host_fenced),
];

/// This check needs more than the lab: QEMU, and a kernel for its guest.
const VIRTUAL_MACHINE: &str = "virtual machine migrates";

/// Why a check cannot run on this machine; none if it can.
fn lacks(lab: &Lab, check: &str) -> Option<String> {
    (check == VIRTUAL_MACHINE).then(|| migration::lacks(lab)).flatten()
}

/// Runs the checks whose name contains `only` (all, when `None`), one after the other.
///
/// # Errors
/// The state of the lab cannot be read. A check that fails is a row, not an error.
pub fn run(lab: &Lab, only: Option<&str>, steps: &Steps, runtime: &Runtime) -> Result<Report> {
    let cx = Scene::open(lab, runtime)?;
    let wanted = |name: &str| only.is_none_or(|o| name.contains(o));
    let mut report = Report::default();
    report.check(&cx, &WORKS, wanted, steps);
    for row in attack::among_checks(&cx, wanted, steps)? {
        let figures = vec![
            ("sent_frames", f64::from(row.sent)),
            ("legitimate_lost_packets", row.legitimate_lost as f64),
        ];
        let outcome = if row.faults.is_empty() {
            Ok(row.line())
        } else {
            Err(row.faults.join("; "))
        };
        report.rows.push(Row {
            name: row.name,
            outcome,
            figures,
        });
    }
    report.check(&cx, &CHANGES, wanted, steps);
    if report.rows.is_empty() && report.not_run.is_empty() {
        bail!("no check has `{}` in its name", only.unwrap_or_default());
    }
    Ok(report)
}

fn endpoints(lab: &Lab, client: &Client, runtime: &Runtime) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for vdc in &lab.intent.vdcs {
        for view in runtime.block_on(client.list(Kind::Attachment, Some(&vdc.name)))? {
            let View::Attachment(a) = view else {
                bail!("the controller listed something that is no attachment")
            };
            let name = a.spec.name.clone();
            let (namespace, leaf, host) = match &a.spec.place {
                Place::Host { host, netns, .. } => {
                    let on = lab.topology.host(host).context("the attachment's host")?;
                    (netns.clone(), on.uplink.switch.clone(), Some(host.clone()))
                }
                Place::Port { switch, .. } => (
                    format!("{}{}-{name}", super::plan::PREFIX, vdc.name),
                    switch.clone(),
                    None,
                ),
            };
            let ip = |v4: bool| a.ips.iter().copied().find(|i| i.is_ipv4() == v4);
            endpoints.push(Endpoint {
                id: format!("{}/{name}", vdc.name),
                vdc: vdc.name.clone(),
                network: a.spec.network.clone(),
                namespace,
                mac: a.mac,
                ipv4: ip(true).with_context(|| format!("{name} has no IPv4 address"))?,
                ipv6: ip(false).with_context(|| format!("{name} has no IPv6 address"))?,
                name,
                leaf,
                host,
            });
        }
    }
    Ok(endpoints)
}

impl<'a> Scene<'a> {
    /// Finds all endpoints, and starts an echo server at each.
    ///
    /// # Errors
    /// The lab cannot be looked at.
    pub fn open(lab: &'a Lab, runtime: &'a Runtime) -> Result<Self> {
        let client = lab.client()?;
        let endpoints = endpoints(lab, &client, runtime)?;
        let servers = endpoints.iter().map(|e| EchoServer::start(&e.namespace, &e.id));
        Ok(Self {
            lab,
            client,
            runtime,
            _servers: servers.collect::<Result<_>>()?,
            endpoints,
            figures: RefCell::default(),
        })
    }

    /// Flows of every kind between the members of a vDC: bridged, routed, bare metal.
    ///
    /// # Errors
    /// There is no such pair.
    pub fn flows(&self, what: impl Fn(&Endpoint, &Endpoint) -> bool) -> Result<Vec<Flow>> {
        let pairs = self.pairs(|a, b| a.vdc == b.vdc && what(a, b))?;
        let stride = (pairs.len() / FLOWS).max(1);
        let chosen = pairs.iter().step_by(stride).enumerate();
        Ok(chosen
            .map(|(i, (a, b))| Flow {
                from: a.namespace.clone(),
                to: if i % 2 == 0 { b.ipv4 } else { b.ipv6 },
            })
            .collect())
    }

    /// Notes a figure for programs; its name ends with its unit.
    fn measured(&self, name: &'static str, value: f64) {
        self.figures.borrow_mut().push((name, value));
    }

    /// Notes the outcome for the traffic around a fault.
    fn measured_loss(&self, loss: &Loss) {
        self.measured("sent_packets", loss.sent as f64);
        self.measured("lost_packets", loss.lost as f64);
        self.measured("longest_outage_ms", loss.outage.as_secs_f64() * 1e3);
    }

    /// Reads all counters of lost frames, to explain later losses.
    ///
    /// # Errors
    /// A device does not answer.
    fn account(&'a self) -> Result<Account<'a>> {
        let reader = Reader::open(self.lab)?;
        Ok(Account {
            cx: self,
            before: self.runtime.block_on(reader.read())?,
            reader,
        })
    }

    /// Ordered pairs of endpoints that satisfy the condition.
    ///
    /// # Errors
    /// There is none, so the check would show nothing.
    pub fn pairs(&self, what: impl Fn(&Endpoint, &Endpoint) -> bool) -> Result<Vec<(&Endpoint, &Endpoint)>> {
        let all = self
            .endpoints
            .iter()
            .flat_map(|a| self.endpoints.iter().map(move |b| (a, b)));
        let pairs: Vec<_> = all.filter(|(a, b)| a.id != b.id && what(a, b)).collect();
        if pairs.is_empty() {
            bail!("the intent has no such pair of endpoints")
        } else {
            Ok(pairs)
        }
    }

    /// The network of an endpoint, as the user wrote it.
    ///
    /// # Errors
    /// The lab's intent does not have it.
    pub fn network(&self, of: &Endpoint) -> Result<&NetworkSpec> {
        let vdc = self.lab.intent.vdcs.iter().find(|v| v.name == of.vdc);
        vdc.and_then(|v| v.networks.iter().find(|n| n.name == of.network))
            .context("the endpoint's network")
    }

    /// Polls until `done` returns a value; returns it with the time that this took.
    ///
    /// # Errors
    /// It took longer than `limit`.
    pub fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut() -> Result<Option<T>>,
    ) -> Result<(T, Duration)> {
        let started = Instant::now();
        loop {
            let last = match done() {
                Ok(Some(value)) => return Ok((value, started.elapsed())),
                Ok(None) => String::new(),
                Err(error) => format!(": {error:#}"),
            };
            if started.elapsed() > limit {
                bail!("{what}: not within {} s{last}", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until every device is in sync.
    ///
    /// # Errors
    /// It takes too long.
    pub fn ready(&self) -> Result<Duration> {
        let started = Instant::now();
        self.runtime.block_on(self.lab.ready(&self.client))?;
        Ok(started.elapsed())
    }
}

/// The losses of the fabric before an event.
struct Account<'a> {
    cx: &'a Scene<'a>,
    reader: Reader,
    before: Counts,
}

impl Account<'_> {
    /// Describes the outcome for packets. Each lost packet must have been counted somewhere. On a busy machine, a
    /// switch may not run until its ring is full. It then loses packets without a fault of the fabric, and the ring
    /// counts them.
    ///
    /// # Errors
    /// More packets were lost than counted.
    fn explain(&mut self, loss: &Loss, while_: &str) -> Result<String> {
        self.explain_by(|_| true, loss, while_)
    }

    /// As [`Self::explain`], but only links and ports may have lost packets: no pipeline or filter should have refused
    /// one.
    ///
    /// # Errors
    /// More packets were lost than links and ports counted.
    fn explain_by_links(&mut self, loss: &Loss, while_: &str) -> Result<String> {
        self.explain_by(|counter| !counter.is_refusal(), loss, while_)
    }

    fn explain_by(&mut self, counts: impl Fn(&Counter) -> bool, loss: &Loss, while_: &str) -> Result<String> {
        if loss.lost == 0 {
            return Ok(loss.to_string());
        }
        let now = self.cx.runtime.block_on(self.reader.read())?;
        let counted = counters::since(&self.before, &now);
        self.before = now;
        let sum = counted.iter().filter(|(c, _)| counts(c)).map(|(_, n)| n).sum::<u64>();
        let words = counters::words(&counted);
        if sum < loss.lost as u64 {
            bail!("{while_}: {loss}, and {sum} counted: {words}");
        }
        Ok(format!("{loss}, counted as {words}"))
    }
}

/// Median of some times, so that one slow packet does not spoil the figure.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
