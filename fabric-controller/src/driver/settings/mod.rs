//! Keeps host name, speed, negotiation, forward error correction and breakouts of a switch as the inventory says, over gNMI.
//!
//! **Model.** Each [`Part`] has a subscription of its own (STREAM ON_CHANGE, gNMI specification, section 3.5.1.5.2), because a target
//! that does not know one path refuses the whole list. [`seen::Seen`] is what the switch reports; it is compared with the plan
//! ([`crate::device::settings`]), and what differs is set. What others change is corrected as soon as the switch reports it. Speed and
//! forward error correction that are in use are reported to the controller, which compares the two ends of each link.
//!
//! **Targets.** Where a target names things in another way stands in [`target`]. A target that does not have a part at all is named once,
//! as a warning of the switch, and is asked again every [`LOOK_AGAIN`] or when the inventory changes. A switch without gNMI (bmv2) is named only if the inventory asks for
//! something that it cannot do.
//!
//! **Bounds.** If a switch refuses a setting, it is tried again with growing waits, and the warning says why meanwhile. Every
//! [`LOOK_AGAIN`] the stream is opened again, in case the switch did not report a change.
//!
//! Sources: openconfig-system, openconfig-if-ethernet, openconfig-platform-port.

mod seen;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use gnmi_proto::gnmi::{
    self, CapabilityRequest, Path, PathElem, SetRequest, Subscription, SubscriptionList, SubscriptionMode,
    g_nmi_client::GNmiClient, subscribe_request::Request, subscribe_response::Response, subscription_list::Mode,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use vfabric_api::ethernet::{Fec, Speed};

use self::seen::Seen;
use self::target::Dialect;
use crate::device::driver::{Event, Warning};
use crate::device::settings::{OnWire, Settings, SettingsPlan};
use crate::device::waits::Waits;

/// How often everything is checked anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait for a reply: a switch may have to talk to a transceiver.
const REPLY: Duration = Duration::from_secs(10);

/// A part of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    HostName,
    Speed,
    Fec,
    Breakout,
}

fn elem(name: &str) -> PathElem {
    PathElem {
        name: name.to_owned(),
        ..PathElem::default()
    }
}

fn keyed(name: &str, key: &str, value: &str) -> PathElem {
    PathElem {
        name: name.to_owned(),
        key: [(key.to_owned(), value.to_owned())].into(),
    }
}

fn path_of(elem: impl IntoIterator<Item = PathElem>) -> Path {
    Path {
        elem: elem.into_iter().collect(),
        ..Path::default()
    }
}

impl Part {
    /// What it is about, in words.
    fn words(self) -> &'static str {
        match self {
            Self::HostName => "host name",
            Self::Speed => "speed of ports",
            Self::Fec => "forward error correction of ports",
            Self::Breakout => "breakouts",
        }
    }

    fn warning(self) -> Warning {
        match self {
            Self::HostName => Warning::HostName,
            Self::Speed => Warning::Speed,
            Self::Fec => Warning::Fec,
            Self::Breakout => Warning::Breakout,
        }
    }

    /// Whether the plan asks for anything of it.
    fn is_wanted(self, plan: &Settings) -> bool {
        let mut ports = plan.ports.values();
        match self {
            Self::HostName => plan.hostname.is_some(),
            Self::Speed => ports.any(|port| port.speed.is_some() || port.auto_negotiate.is_some()),
            Self::Fec => ports.any(|port| port.fec.is_some()),
            Self::Breakout => !plan.breakouts.is_empty(),
        }
    }

    /// The leaves that are followed.
    fn paths(self, dialect: Dialect) -> Vec<Path> {
        let of_port = |below: &[&str]| {
            let above = [elem("interfaces"), keyed("interface", "name", "*")];
            path_of(above.into_iter().chain(below.iter().map(|name| elem(name))))
        };
        match self {
            Self::HostName => vec![path_of(["system", "config", "hostname"].map(elem))],
            Self::Speed => vec![
                of_port(&["config", "id"]),
                of_port(&["ethernet", "config", "port-speed"]),
                of_port(&["ethernet", "config", "auto-negotiate"]),
                of_port(&["ethernet", "state", "port-speed"]),
            ],
            Self::Fec => vec![
                of_port(&["config", "id"]),
                of_port(&["ethernet", "config", dialect.fec_leaf]),
                of_port(&["ethernet", "state", dialect.fec_leaf]),
            ],
            Self::Breakout => {
                let above = [elem("components"), keyed("component", "name", "*")];
                let groups = ["port", "breakout-mode", "groups"].map(elem);
                let below = [keyed("group", "index", "*"), elem("config")];
                vec![path_of(above.into_iter().chain(groups).chain(below))]
            }
        }
    }
}

/// Keeps all of them until `events` is dropped.
pub async fn keep_settings(channel: Channel, plan: watch::Receiver<SettingsPlan>, events: mpsc::Sender<Event>) {
    let asked = GNmiClient::new(channel.clone())
        .capabilities(CapabilityRequest::default())
        .await;
    // One that does not say what it knows may still know the published models.
    let dialect = asked.map_or(Dialect::OPENCONFIG, |said| Dialect::of(said.get_ref()));
    let keep = |part| Keeper {
        part,
        dialect,
        channel: channel.clone(),
        plan: plan.clone(),
        events: events.clone(),
        reported: OnWireSeen::default(),
    };
    tokio::join!(
        keep(Part::HostName).run(),
        keep(Part::Speed).run(),
        keep(Part::Fec).run(),
        keep(Part::Breakout).run()
    );
}

/// What was reported of the ports.
type OnWireSeen = std::collections::BTreeMap<vfabric_api::ident::PortId, OnWire>;

struct Keeper {
    part: Part,
    dialect: Dialect,
    channel: Channel,
    plan: watch::Receiver<SettingsPlan>,
    events: mpsc::Sender<Event>,
    reported: OnWireSeen,
}

/// Follows paths. The request stream stays open: gNMI ends the subscription with it.
fn subscription(paths: Vec<Path>) -> impl tokio_stream::Stream<Item = gnmi::SubscribeRequest> {
    let leaf = |path: Path| Subscription {
        path: Some(path),
        mode: SubscriptionMode::OnChange.into(),
        ..Subscription::default()
    };
    let list = SubscriptionList {
        subscription: paths.into_iter().map(leaf).collect(),
        mode: Mode::Stream.into(),
        encoding: gnmi::Encoding::Proto.into(),
        ..SubscriptionList::default()
    };
    let request = gnmi::SubscribeRequest {
        request: Some(Request::Subscribe(list)),
        ..gnmi::SubscribeRequest::default()
    };
    tokio_stream::once(request).chain(tokio_stream::pending())
}

/// Whether a target says that it does not have a path.
fn is_missing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unimplemented | Code::NotFound | Code::InvalidArgument
    )
}

impl Keeper {
    async fn run(mut self) {
        let mut waits = Waits::new();
        loop {
            // Breakouts are followed only where there are some: speed and error correction are of interest on each link.
            while self.part == Part::Breakout && !self.part.is_wanted(&self.plan.borrow_and_update().clone()) {
                self.warn(None).await;
                tokio::select! {
                    () = self.events.closed() => return,
                    changed = self.plan.changed() => if changed.is_err() { return },
                }
            }
            let events = self.events.clone();
            let ended = tokio::select! {
                () = events.closed() => return,
                ended = self.follow(&mut waits) => ended,
            };
            match ended {
                Ok(()) => continue,
                Err(status) if is_missing(&status) => {
                    if !self.missing(&status).await {
                        return;
                    }
                    continue;
                }
                Err(status) => tracing::debug!(code = ?status.code(), part = self.part.words(), "gNMI stream lost"),
            }
            tokio::select! {
                () = self.events.closed() => return,
                () = tokio::time::sleep(waits.next()) => {}
            }
        }
    }

    fn warn(&self, words: Option<String>) -> impl Future<Output = ()> + Send + use<> {
        let (events, about) = (self.events.clone(), self.part.warning());
        async move {
            let _ = events.send(Event::Warning(about, words)).await;
        }
    }

    /// The target does not have this part of the settings. If the plan asks for the part, a warning names it. Returns
    /// when it is time to ask again, or with `false` when the session is over.
    async fn missing(&mut self, status: &Status) -> bool {
        // A switch without gNMI has no name to set either, and nobody asked for one.
        let is_quiet = self.part == Part::HostName && status.code() == Code::Unimplemented;
        let is_wanted = self.part.is_wanted(&self.plan.borrow_and_update().clone());
        let words = || {
            let said: String = status.message().chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{}: this target cannot set it over gNMI: {said}", self.part.words())
        };
        self.warn((is_wanted && !is_quiet).then(words)).await;
        tokio::select! {
            () = self.events.closed() => false,
            changed = self.plan.changed() => changed.is_ok(),
            () = tokio::time::sleep(LOOK_AGAIN) => true,
        }
    }

    /// Follows one stream until it ends, or until it is time to look at everything again.
    async fn follow(&mut self, waits: &mut Waits) -> Result<(), Status> {
        let mut client = GNmiClient::new(self.channel.clone());
        let request = subscription(self.part.paths(self.dialect));
        let mut stream = client.subscribe(request).await?.into_inner();
        let again = tokio::time::sleep(LOOK_AGAIN);
        tokio::pin!(again);
        let mut seen = Seen::default();
        let mut complete = false;
        let mut retry: Option<tokio::time::Instant> = None;
        loop {
            let at = retry.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                message = stream.message() => match message?.and_then(|m| m.response) {
                    Some(Response::Update(notification)) => seen.update(&notification),
                    Some(Response::SyncResponse(_)) => complete = true,
                    Some(_) => continue,
                    None => return Err(Status::unavailable("the stream ended")),
                },
                changed = self.plan.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep_until(at), if retry.is_some() => {}
                () = &mut again => return Ok(()),
            }
            if !complete {
                continue;
            }
            self.report(&seen).await;
            let plan = Arc::clone(&self.plan.borrow_and_update());
            let (repairs, mut faults) = seen.repairs(self.part, &plan, self.dialect);
            for repair in repairs {
                let request = SetRequest {
                    update: repair.updates.clone(),
                    ..SetRequest::default()
                };
                let set = tokio::time::timeout(REPLY, client.set(request)).await;
                match set.unwrap_or_else(|_| Err(Status::deadline_exceeded("the switch does not answer"))) {
                    Ok(_) => {
                        seen.took(&repair);
                        tracing::info!(repair.what, "set over gNMI");
                        if repair.is_drift {
                            let _ = self.events.send(Event::Repaired(repair.what)).await;
                        }
                    }
                    Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => return Err(status),
                    Err(status) => faults.push(format!(
                        "{}, and cannot be corrected: {}",
                        repair.what,
                        status.message()
                    )),
                }
            }
            retry = (!faults.is_empty()).then(|| tokio::time::Instant::now() + waits.next());
            if faults.is_empty() {
                *waits = Waits::new();
            }
            self.warn((!faults.is_empty()).then(|| faults.join("; "))).await;
        }
    }

    /// Reports what is in use, if it has changed.
    async fn report(&mut self, seen: &Seen) {
        let now: OnWireSeen = match self.part {
            Part::Speed => {
                let states = seen.states("port-speed").into_iter();
                states
                    .map(|(port, identity)| (port, OnWire::Speed(Speed::of_identity(&identity))))
                    .collect()
            }
            Part::Fec => {
                let states = seen.states(self.dialect.fec_leaf).into_iter();
                states
                    .map(|(port, identity)| (port, OnWire::Fec(Fec::of_identity(&identity))))
                    .collect()
            }
            Part::HostName | Part::Breakout => return,
        };
        let is_unknown = |wire: &OnWire| matches!(wire, OnWire::Speed(None) | OnWire::Fec(None));
        for (port, wire) in &now {
            let before = self.reported.get(port);
            if before != Some(wire) && !(before.is_none() && is_unknown(wire)) {
                let _ = self.events.send(Event::OnWire(*port, *wire)).await;
            }
        }
        self.reported = now;
    }
}

#[cfg(test)]
mod tests;
