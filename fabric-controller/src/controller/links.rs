//! Links: what switches report of their ports and what probes say, and what follows from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};
use vfabric_api::event::EventReason;
use vfabric_api::status::{DeviceState, LinkStatus};
use vfabric_api::topology::{Link, PortRef, Role};

use super::{Controller, RENDERED_AT_ONCE};
use crate::device::actor::DeviceEvent;
use crate::device::driver::Event;
use crate::device::packets::FrameIn;
use crate::events::News;
use crate::ident::{Source, SwitchIndex};
use crate::model::fabric::{Fabric, Node};
use crate::store::{Op, Store};
use crate::topology::LinkIndex;
use crate::topology::links::{End, Fault, LinkChange, Links, Memory, Session, Use};
use crate::topology::lldp::{Probe, Prober};
use crate::topology::pace::Pace;

/// Most frames that are handled before the clock is checked. Frames that have arrived count before silence does, but a
/// storm of frames does not stop the clock.
const FRAMES_BETWEEN_TICKS: usize = 4096;

/// Most events of devices that are handled together: enough for the ports of a lost spine.
const EVENTS_AT_ONCE: usize = 512;

/// How often the state of links is stored.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Where the store keeps what is remembered of a link.
pub(super) fn store_key(link: &Link) -> String {
    let (a, b) = (&link.a, &link.b);
    format!("link/{}:{}/{}:{}", a.switch, a.port, b.switch, b.port)
}

impl<S: Store> Controller<S> {
    pub(super) fn links_locked(&self) -> MutexGuard<'_, Links> {
        // Every update under the lock is complete before anything in it can panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often links are probed. To be called before [`Self::supervise`].
    pub fn set_pace(&self, pace: Pace) {
        self.links_locked().set_pace(pace);
    }

    /// Acts on what devices report, until the last actor is gone. Reports of ports that have arrived together are acted on
    /// together.
    pub async fn follow(&self, mut events: mpsc::Receiver<DeviceEvent>) {
        let mut arrived = Vec::with_capacity(EVENTS_AT_ONCE);
        while events.recv_many(&mut arrived, EVENTS_AT_ONCE).await > 0 {
            let mut changes = Vec::new();
            for (device, event) in arrived.drain(..) {
                match event {
                    Event::Port { port, up } => {
                        let end = (SwitchIndex(device.0), port);
                        changes.extend(self.links_locked().reported(end, up));
                    }
                    Event::OnWire(port, now) => self.wire.note(device, port, now),
                    Event::Announced { attachment, by } => self.announced(device, &attachment, by),
                    _ => {}
                }
            }
            self.reroute(changes).await;
        }
    }

    /// Probes the links through the switches' pipelines. Runs until dropped.
    pub async fn supervise(&self, mut frames: mpsc::Receiver<FrameIn>) {
        let prober = Prober::new(&rand::random());
        let pace = self.links_locked().pace();
        let mut clock = tokio::time::interval(pace.tick());
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                _ = clock.tick() => {
                    for _ in 0..FRAMES_BETWEEN_TICKS {
                        let Ok(frame) = frames.try_recv() else { break };
                        self.arrived(&prober, &frame).await;
                    }
                    self.tick(&prober).await;
                }
                Some(frame) = frames.recv() => self.arrived(&prober, &frame).await,
            }
            if saved.elapsed() >= SAVE_EVERY {
                self.remember_links().await;
                saved = Instant::now();
            }
        }
    }

    /// Whether a spine does not yet hold what it should. Only spines count: nothing can replace a leaf, because its
    /// hosts are reached only through it.
    pub(super) fn is_filling(&self, fabric: &Fabric, switch: SwitchIndex) -> bool {
        let is_spine = fabric.switch(switch).is_some_and(|s| s.spec.role == Role::Spine);
        let device = self.registry.get(fabric.switch_device(switch));
        is_spine && device.is_some_and(|device| device.is_filling())
    }

    async fn tick(&self, prober: &Prober) {
        let fabric = self.fabric_now();
        let (changes, probes) = {
            let (mut links, now) = (self.links_locked(), Instant::now());
            for (switch, _) in fabric.switches() {
                let state = self.registry.get(fabric.switch_device(switch)).map(|d| d.state());
                let session = Session {
                    open: state.is_some_and(|s| s != DeviceState::Disconnected),
                    ready: matches!(state, Some(DeviceState::InSync | DeviceState::Degraded)),
                    filling: self.is_filling(&fabric, switch),
                };
                links.set_session(switch, session, now);
            }
            (links.tick(now), links.probes())
        };
        self.reroute(changes).await;
        self.check_arrivals(&fabric);
        let Some(fleet) = self.fleet.get() else { return };
        for ((switch, port), sequence) in probes {
            let way = fleet.packets(fabric.switch_device(switch));
            let (Some(from), Some(way)) = (fabric.switch(switch).map(|s| &s.spec), way) else {
                continue;
            };
            let probe = Probe {
                switch: from.name.to_string(),
                port,
                sequence,
            };
            way.send(port, prober.frame(&probe, from.router_mac()).into());
        }
    }

    async fn arrived(&self, prober: &Prober, frame: &FrameIn) {
        let Some(probe) = prober.read(&frame.frame) else {
            return;
        };
        let from = probe.switch.parse().ok().and_then(|name| self.fabric_now().node(&name));
        let Some(Node::Switch(from)) = from else { return };
        let from = (from, probe.port);
        let at = (SwitchIndex(frame.device.0), frame.port);
        let changes = self.links_locked().heard(at, from, probe.sequence, Instant::now());
        self.reroute(changes).await;
    }

    /// Brings paths in line with the links. Only paths that used one are rendered again, once for all links: a lost spine takes
    /// a link of each leaf with it, and each of these links changes paths of all other leaves.
    pub(super) async fn reroute(&self, changes: impl IntoIterator<Item = LinkChange>) {
        let changed: BTreeSet<LinkIndex> = changes.into_iter().map(|change| change.link).collect();
        if changed.is_empty() {
            return;
        }
        let mut state = self.state.lock().await;
        let state = &mut *state;
        // The present state: changes come from more than one task.
        let (faults, hold) = {
            let links = self.links_locked();
            let faults: Vec<_> = changed.into_iter().map(|link| (link, links.fault(link))).collect();
            (faults, links.pace().hold())
        };
        let links = faults.iter().map(|(link, fault)| {
            let used = fault.map_or(Use::Up, Fault::used);
            (*link, used != Use::Down, used == Use::Avoided)
        });
        let paths = state.model.set_links(links).len();
        // The groups of next hops, on which all traffic depends, come before the copies of flooded frames, of which a large fabric
        // has many more.
        let is_path = |source: &Source| matches!(source, Source::Path(..));
        let (groups, floods): (BTreeSet<_>, BTreeSet<_>) = state.model.take_touched().into_iter().partition(is_path);
        let (mut touched, mut devices) = (groups.into_iter().chain(floods), BTreeSet::new());
        loop {
            let part: BTreeSet<Source> = touched.by_ref().take(RENDERED_AT_ONCE).collect();
            if part.is_empty() {
                break;
            }
            let rendered = self.rendered(&state.model, part);
            devices.extend(self.write_published().render(rendered, state.revision));
            // What is ready goes to the devices.
            tokio::task::yield_now().await;
        }
        for (link, fault) in faults {
            self.say_of_link(&state.model.fabric, link, fault, hold);
        }
        info!(paths, devices = devices.len(), "paths follow the links");
    }

    /// Writes to the events and the log that a link is used again, or why it is not.
    fn say_of_link(&self, fabric: &Fabric, link: LinkIndex, fault: Option<Fault>, hold: Duration) {
        let Some(Link { a, b }) = fabric.link(link).map(|l| &l.spec) else {
            return;
        };
        let (a, b) = (format!("{}:{}", a.switch, a.port), format!("{}:{}", b.switch, b.port));
        let why = fault.map(|f| reason(fabric, link, f, hold));
        let (event, detail) = match &why {
            None => (EventReason::LinkUp, "is used again".to_owned()),
            Some(why) => (EventReason::LinkDown, why.clone()),
        };
        self.events.note(News {
            object: Some(format!("link {a} - {b}")),
            ..News::of_fabric(event, detail)
        });
        match why {
            None => info!(a, b, "link up"),
            Some(reason) if fault.is_some_and(|f| f.used() == Use::Avoided) => warn!(a, b, reason, "link avoided"),
            Some(reason) => warn!(a, b, reason, "link down"),
        }
    }

    async fn remember_links(&self) {
        let unsaved = self.links_locked().take_unsaved();
        if unsaved.is_empty() {
            return;
        }
        let fabric = self.fabric_now();
        let op = |(index, memory): &(LinkIndex, Memory)| {
            let key = store_key(&fabric.link(*index)?.spec).into_bytes();
            Some(if *memory == Memory::default() {
                Op::Delete(key)
            } else {
                // Serializing this type cannot fail.
                Op::Put(key, serde_json::to_vec(memory).unwrap_or_default())
            })
        };
        let ops = unsaved.iter().filter_map(op).collect();
        let mut state = self.state.lock().await;
        if !self
            .commit_ops(&mut state, ops, "cannot store the state of links")
            .await
        {
            self.links_locked()
                .keep_unsaved(unsaved.into_iter().map(|(link, _)| link));
        }
    }

    /// Whether there is no session with a switch.
    fn is_away(&self, switch: &str) -> bool {
        let device = switch.parse().ok().and_then(|name| self.registry.find(&name));
        let device = device.and_then(|index| self.registry.get(index));
        device.is_none_or(|d| d.state() == DeviceState::Disconnected)
    }

    pub(super) fn link_states(&self) -> Vec<LinkStatus> {
        let (fabric, links) = (self.fabric_now(), self.links_locked());
        let state = |(index, link): (LinkIndex, &crate::model::fabric::LinkEntry)| {
            let fault = links.fault(index);
            let ends = [&link.spec.a, &link.spec.b];
            let away: Vec<&str> = ends
                .iter()
                .map(|end| end.switch.as_str())
                .filter(|s| self.is_away(s))
                .collect();
            // Without a session with either end nobody would report that it is down.
            let unobserved = (away.len() == ends.len()).then(|| {
                let [a, b] = ends.map(|end| &end.switch);
                format!("not observed: there is no session with {a} and {b}; used as it was last known")
            });
            LinkStatus {
                a: link.spec.a.clone(),
                b: link.spec.b.clone(),
                up: fault.is_none(),
                fault: fault.map(|f| match f {
                    Fault::PortDown(_) => vfabric_api::status::LinkFault::PortDown,
                    Fault::Miswired { .. } => vfabric_api::status::LinkFault::Miswired,
                    Fault::Silent(_) => vfabric_api::status::LinkFault::Silent,
                    Fault::Inherited => vfabric_api::status::LinkFault::Unknown,
                    Fault::Unanswered(_) => vfabric_api::status::LinkFault::Unanswered,
                    Fault::Filling(_) => vfabric_api::status::LinkFault::Filling,
                }),
                reason: fault
                    .map(|f| reason(&fabric, index, f, links.pace().hold()))
                    .or(unobserved),
                mismatch: self.wire.mismatch(&fabric, &link.spec),
            }
        };
        fabric.links().map(state).collect()
    }
}

/// A fault in words. Silence counts after `hold`.
pub(super) fn reason(fabric: &Fabric, link: LinkIndex, fault: Fault, hold: Duration) -> String {
    let name = |switch: SwitchIndex| fabric.switch_name(switch).unwrap_or("a removed switch");
    let end = |(switch, port): End| format!("{}:{port}", name(switch));
    match fault {
        Fault::PortDown((switch, port)) => format!("{} reports port {port} down", name(switch)),
        Fault::Unanswered((switch, _)) => format!(
            "unanswered: there is no session with {} (for {:.1} s or more); used only where there is no other way",
            name(switch),
            hold.as_secs_f64()
        ),
        Fault::Filling((switch, _)) => format!(
            "{} does not hold everything yet that it should; used only where there is no other way",
            name(switch)
        ),
        Fault::Miswired { at, found, expected } => format!(
            "wrong cabling: {} is connected to {} instead of {}",
            end(at),
            end(found),
            end(expected)
        ),
        Fault::Silent(at) => {
            let mut text = format!("no probe arrives at {}", end(at));
            if let Some(l) = fabric.link(link).map(|l| &l.spec) {
                let ends = [&l.a, &l.b].map(|e: &PortRef| format!("{}:{}", e.switch, e.port));
                if let Some(other) = ends.iter().find(|e| **e != end(at)) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, " from {other}");
                }
            }
            let _ = write!(text, " (for {:.1} s or more)", hold.as_secs_f64());
            text
        }
        Fault::Inherited => "was down before the controller started, and has not been seen up since".into(),
    }
}
