//! Workloads that users attached, and that migrate between hosts while something dies.
//!
//! A machine is a network namespace on its host. It migrates to another namespace on another host. What a user, the
//! workload or a fault does during the migration is drawn at random ([`Course`]). For each course the lab knows where
//! the machine may be at the end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::runtime::Runtime;
use vfabric_api::client::{Client, ClientError};
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{AttachmentSpec, Migration, MigrationPhase, Place};
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::status::{Attachment, Progress, View};

use super::random::{LOOK_EVERY, PATIENCE, Run, expect_gateway};
use super::{NETWORKS, TENANTS, agree};
use crate::attack::frame::{BROADCAST, arp, ethernet};
use crate::attack::watch::Port;
use crate::{Lab, netns, plan};

/// Machines at once.
const MOST: usize = 4;
/// Their interface.
const INTERFACE: &str = "eth0";
/// EtherType and operation by which QEMU announces a guest (RFC 903: "request reverse").
const RARP: (u16, u16) = (0x8035, 3);
/// Time between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);
/// How long a host stays away in the middle of a migration.
const AWAY: Duration = Duration::from_millis(500);

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its attachment.
    pub(crate) name: Name,
    /// Its vDC.
    pub(crate) vdc: &'static str,
    /// Its network.
    pub(crate) network: &'static str,
    /// Where it is.
    pub(crate) at: Spot,
}

/// A namespace on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) host: Name,
    pub(crate) namespace: String,
}

impl Spot {
    fn make(host: &Name, number: u32) -> Result<Self> {
        let namespace = format!("{}machine-{number}", plan::PREFIX);
        let spot = Self {
            host: host.clone(),
            namespace,
        };
        spot.create()?;
        Ok(spot)
    }

    /// Creates the namespace, also after a restart of its host.
    pub(crate) fn create(&self) -> Result<()> {
        netns::ip_batch(None, &format!("netns add {}", self.namespace))?;
        netns::ip_batch(Some(&self.namespace), "link set lo up")
    }

    fn remove(&self) -> Result<()> {
        netns::ip_batch(None, &format!("netns del {}", self.namespace))
    }

    /// The place of an attachment here.
    pub(crate) fn place(&self) -> Place {
        Place::Host {
            host: self.host.clone(),
            netns: self.namespace.clone(),
            interface: INTERFACE.into(),
        }
    }

    /// A RARP frame of the workload.
    fn announce(&self, mac: Mac) -> Result<()> {
        announce(&self.namespace, INTERFACE, mac)
    }
}

/// Sends a RARP frame of a workload from an interface in a namespace.
pub(super) fn announce(namespace: &str, interface: &str, mac: Mac) -> Result<()> {
    let nobody = (mac, std::net::Ipv4Addr::UNSPECIFIED);
    let frame = ethernet(BROADCAST, mac, RARP.0, &arp(RARP.1, nobody, nobody));
    Port::new(namespace, interface).open()?.send(&frame)
}

/// What happens in a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// The workload arrives at the target, and announces itself until the move is over.
    Arrives,
    /// A user makes it active.
    Called,
    /// The migration is called off in the phase `prepared`.
    CalledOff,
    /// The migration is called off right after it became active.
    TakenBack,
    /// A user makes it active while the target's agent is dead.
    TargetAway,
}

const COURSES: [Course; 5] = [
    Course::Arrives,
    Course::Called,
    Course::CalledOff,
    Course::TakenBack,
    Course::TargetAway,
];

impl Course {
    /// Whether the machine may be at the source in the end, and whether at the target.
    fn ends(self) -> (bool, bool) {
        match self {
            Self::Arrives | Self::Called | Self::TargetAway => (false, true),
            Self::CalledOff => (true, false),
            // The move may end before that.
            Self::TakenBack => (true, true),
        }
    }
}

impl Run<'_> {
    /// A machine begins, ends or migrates.
    pub(super) fn machine(&mut self, rng: &mut StdRng) -> Result<()> {
        let begins = self.machines.len() < MOST && rng.random_bool(0.3);
        if self.machines.is_empty() || begins {
            return self.place_machine(rng);
        }
        let i = rng.random_range(0..self.machines.len());
        if rng.random_bool(0.1) {
            let machine = self.machines.swap_remove(i);
            self.note(format!("{}/{} ends", machine.vdc, machine.name));
            return self.end_machine(&machine);
        }
        self.migrate(i, rng)
    }

    fn place_machine(&mut self, rng: &mut StdRng) -> Result<()> {
        let host = self.lab.topology.hosts.choose(rng).context("the lab has hosts")?;
        let vdc = *TENANTS.choose(rng).context("tenants")?;
        let network = NETWORKS.choose(rng).context("networks")?.0;
        let number = self.number();
        let machine = Machine {
            name: format!("machine-{number}").parse()?,
            vdc,
            network,
            at: Spot::make(&host.name, number)?,
        };
        self.note(format!("{} on {} in {vdc}/{network}", machine.name, host.name));
        let spec = AttachmentSpec {
            name: machine.name.clone(),
            network: network.parse()?,
            mac: None,
            ips: Vec::new(),
            place: machine.at.place(),
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        };
        let (vdc, spec) = (vdc.parse()?, Spec::Attachment(spec));
        let created = self.client.create(&vdc, &spec, Some(PATIENCE));
        let applied = attachment(self.runtime.block_on(created)?)?.applied;
        ensure!(
            applied.progress == Progress::Applied,
            "{}: {:?}",
            machine.name,
            applied.waiting
        );
        self.machines.push(machine.clone());
        expect_gateway(&machine.at.namespace, network)
    }

    /// Ends a machine.
    pub(super) fn end_machine(&self, machine: &Machine) -> Result<()> {
        let key = key(machine)?;
        self.runtime.block_on(self.client.delete(&key, Some(PATIENCE)))?;
        machine.at.remove()
    }

    fn migrate(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let machine = self.machines[i].clone();
        let hosts = self.lab.topology.hosts.iter().map(|host| &host.name);
        let others: Vec<&Name> = hosts.filter(|host| **host != machine.at.host).collect();
        let Some(host) = others.choose(rng) else {
            return Ok(());
        };
        let number = self.number();
        let target = Spot::make(host, number)?;
        let course = *COURSES.choose(rng).context("courses")?;
        // If a host that is already away had a second fault, its agent would be started
        // twice.
        let hit = *[&machine.at.host, &target.host].choose(rng).context("hosts")?;
        let fault = self.fault(hit, rng)?.filter(|_| course != Course::TargetAway);
        let name = &machine.name;
        let what = format!("{name} from {} to {}: {course:?}", machine.at.host, target.host);
        let steps = Steps {
            lab: self.lab,
            client: self.client.clone(),
            runtime: self.runtime,
            key: key(&machine)?,
            target: &target,
        };
        self.during("migrate", what, fault, |_| steps.carry_out(course).map(Ok))?;
        let place = steps.attachment()?.spec.place;
        let (at_source, at_target) = (place == machine.at.place(), place == target.place());
        let (may_source, may_target) = course.ends();
        ensure!(
            (at_source && may_source) || (at_target && may_target),
            "{name} is at {place:?} after {course:?}"
        );
        let (at, left) = if at_target {
            (target, machine.at)
        } else {
            (machine.at, target)
        };
        emptied(&left)?;
        left.remove()?;
        self.machines[i].at = at.clone();
        expect_gateway(&at.namespace, machine.network)
    }
}

/// A migration under way.
struct Steps<'a> {
    lab: &'a Lab,
    client: Client,
    runtime: &'a Runtime,
    key: Key,
    target: &'a Spot,
}

impl Steps<'_> {
    fn carry_out(&self, course: Course) -> Result<()> {
        self.set(Some(MigrationPhase::Prepared))?;
        self.prepared()?;
        let host = &self.target.host;
        match course {
            Course::Arrives => {}
            Course::Called => self.set(Some(MigrationPhase::Active))?,
            Course::CalledOff => self.set(None)?,
            Course::TakenBack => {
                self.set(Some(MigrationPhase::Active))?;
                self.set(None)?;
            }
            Course::TargetAway => {
                self.lab.daemons.crash(host.as_str())?;
                let called = self.set(Some(MigrationPhase::Active));
                std::thread::sleep(AWAY);
                let now = self.attachment().map(|a| a.spec.migration.is_some());
                self.lab
                    .start_agent(self.lab.topology.host(host).context("the target")?)?;
                called?;
                ensure!(now?, "{}: the move is over while {host} is away", self.key);
            }
        }
        let end = Instant::now() + PATIENCE;
        let mut announced = Instant::now();
        loop {
            match self.attachment() {
                Ok(now) if now.spec.migration.is_none() => return Ok(()),
                Ok(now) if course == Course::Arrives && announced.elapsed() >= ANNOUNCE_EVERY => {
                    announced = Instant::now();
                    self.target.announce(now.mac)?;
                }
                Ok(_) => ensure!(Instant::now() < end, "{}: the migration does not end", self.key),
                Err(error) => ensure!(Instant::now() < end, "{error:#}"),
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn attachment(&self) -> Result<Attachment> {
        attachment(self.runtime.block_on(self.client.get(&self.key))?)
    }

    /// Waits until every device has the target.
    fn prepared(&self) -> Result<()> {
        eventually(|| {
            let now = self.attachment()?;
            let progress = now.applied.progress;
            ensure!(progress == Progress::Applied, "{}: {:?}", self.key, now.applied.waiting);
            Ok(())
        })
    }

    /// Brings the migration into a phase, or ends it.
    fn set(&self, phase: Option<MigrationPhase>) -> Result<()> {
        while_away(|| {
            let has = self.attachment()?;
            let before = has.spec.migration.as_ref().map(|migration| migration.phase);
            // The controller has carried out the step but the reply was lost, or the move is already over.
            let is_done = before == phase || (phase == Some(MigrationPhase::Active) && before.is_none());
            if is_done {
                return Ok(());
            }
            let migration = phase.map(|phase| Migration {
                host: self.target.host.clone(),
                netns: Some(self.target.namespace.clone()),
                interface: None,
                phase,
                timeout_s: Migration::DEFAULT_TIMEOUT_S,
            });
            let spec = Spec::Attachment(AttachmentSpec { migration, ..has.spec });
            let replaced = self.client.replace(&self.key.vdc, &spec, Some(has.revision), None);
            self.runtime.block_on(replaced)?;
            Ok(())
        })
    }
}

/// Checks again and again until it is so.
pub(super) fn eventually(look: impl Fn() -> Result<()>) -> Result<()> {
    repeated(look, |_| true)
}

/// Repeats a call while the controller is away, another change came first, or the target is not yet ready again after
/// its agent has died. Any other refusal is an error.
fn while_away(call: impl Fn() -> Result<()>) -> Result<()> {
    repeated(call, |error| match error.downcast_ref() {
        Some(ClientError::Transport(_)) => true,
        Some(ClientError::Api(e)) => matches!(
            e.code,
            ErrorCode::PreconditionFailed | ErrorCode::InUse | ErrorCode::Unavailable
        ),
        _ => false,
    })
}

fn repeated(call: impl Fn() -> Result<()>, passes: impl Fn(&anyhow::Error) -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(error) if !passes(&error) || Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Waits until the interface is gone from a namespace that a machine has left, or did not come to.
fn emptied(spot: &Spot) -> Result<()> {
    eventually(|| {
        let names = agree::interfaces(&spot.namespace)?;
        ensure!(
            names.is_empty(),
            "{} on {} still has {names:?}",
            spot.namespace,
            spot.host
        );
        Ok(())
    })
}

fn key(machine: &Machine) -> Result<Key> {
    Ok(Key::new(machine.vdc.parse()?, Kind::Attachment, machine.name.clone()))
}

fn attachment(view: View) -> Result<Attachment> {
    match view {
        View::Attachment(attachment) => Ok(attachment),
        _ => bail!("the controller returned something that is no attachment"),
    }
}
