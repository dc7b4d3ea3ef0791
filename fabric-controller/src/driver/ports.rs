//! Keeps a switch's ports as the fabric needs them, over gNMI.
//!
//! **Model.** [`Seen`] is the configuration that the switch reports: `/interfaces/interface[name]/config/{id,enabled,mtu}`
//! (openconfig-interfaces, openconfig-p4rt), through Subscribe STREAM ON_CHANGE (gNMI specification, section 3.5.1.5.2). [`Seen::repairs`] compares it with
//! the [`PortPlan`] and returns what to set. So changes by others are corrected as soon as the switch reports them,
//! and each repair is logged with port, leaf and value.
//!
//! A port that was removed or renumbered is set up again on the interface that had its number last, if the controller has
//! seen that interface since it started ([`Names`]).
//!
//! **Bounds.** If a switch refuses a repair, it is tried again with growing waits, and the device's status says so meanwhile. A lost
//! stream is opened again. Every [`LOOK_AGAIN`] the stream is opened again anyway, in case the switch did not report
//! a change. A switch without gNMI, or without these leaves, is left alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gnmi_proto::gnmi::{
    self, Notification, SetRequest, TypedValue, g_nmi_client::GNmiClient, subscribe_response::Response,
    typed_value::Value,
};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use vfabric_api::ident::PortId;
use vfabric_api::provisioning::BootStep;

use super::gnmi::{interface, leaf_path, port_id, subscription, text};
use crate::device::driver::{Event, Warning};
use crate::device::ports::PortPlan;
use crate::device::reports::Milestone;
use crate::device::waits::Waits;

/// How often everything is checked anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait for the reply to a `Set`.
const SET_TIMEOUT: Duration = Duration::from_secs(10);
/// Difference between two clocks that causes a warning. Certificates are commonly valid from some minutes before they are made.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// Interfaces by the number that they had last, for as long as the controller runs.
pub(super) type Names = Arc<Mutex<BTreeMap<PortId, String>>>;

/// Keeps the ports until `events` is dropped.
pub(super) async fn keep_ports(
    channel: Channel,
    mut plan: watch::Receiver<PortPlan>,
    names: Names,
    events: mpsc::Sender<Event>,
) {
    let mut waits = Waits::new();
    let mut progress = Progress::default();
    loop {
        let ended = tokio::select! {
            () = events.closed() => return,
            end = follow(&channel, &mut plan, &names, &events, (&mut waits, &mut progress)) => end,
        };
        use tonic::Code::{InvalidArgument, NotFound, Unimplemented};
        match ended.map_err(|status| status.code()) {
            Err(Unimplemented | NotFound | InvalidArgument) => return,
            Err(code) => tracing::debug!(?code, "gNMI stream of the ports' configuration lost"),
            // It is time to check everything again.
            Ok(()) => continue,
        }
        tokio::select! {
            () = events.closed() => return,
            () = tokio::time::sleep(waits.next()) => {}
        }
    }
}

/// How far a session has got with the ports.
#[derive(Debug, Default)]
struct Progress {
    /// Settings that the switch has accepted.
    set: usize,
    /// Whether the ports have been as planned before. Only the first time is a step of the switch's time line.
    is_configured: bool,
}

impl Progress {
    /// The step of the time line, if the ports are as planned for the first time; none for a plan without ports.
    fn configured(&mut self, ports: usize) -> Option<Event> {
        let is_first = ports > 0 && !std::mem::replace(&mut self.is_configured, true);
        let words = format!("ports: {ports}; settings that were changed: {}", self.set);
        is_first.then(|| Event::Step(Milestone::now(BootStep::Configured, words)))
    }
}

/// Follows one stream until it ends, or until it is time to look at everything again.
async fn follow(
    channel: &Channel,
    plan: &mut watch::Receiver<PortPlan>,
    names: &Names,
    events: &mpsc::Sender<Event>,
    (waits, progress): (&mut Waits, &mut Progress),
) -> Result<(), tonic::Status> {
    let mut client = GNmiClient::new(channel.clone());
    let request = subscription("config", &["id", "enabled", "mtu"]);
    let mut stream = client.subscribe(request).await?.into_inner();
    let again = tokio::time::sleep(LOOK_AGAIN);
    tokio::pin!(again);
    let mut seen = Seen::default();
    let mut complete = false;
    // When to try again what the switch refused.
    let mut retry: Option<tokio::time::Instant> = None;
    loop {
        let at = retry.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            message = stream.message() => match message?.and_then(|m| m.response) {
                Some(Response::Update(notification)) => {
                    if !complete {
                        let _ = events.send(clock(&notification)).await;
                    }
                    seen.update(&notification);
                }
                Some(Response::SyncResponse(_)) => complete = true,
                Some(_) => continue,
                None => return Err(tonic::Status::unavailable("the stream ended")),
            },
            changed = plan.changed() => if changed.is_err() {
                return Ok(());
            },
            () = tokio::time::sleep_until(at), if retry.is_some() => {}
            () = &mut again => return Ok(()),
        }
        if !complete {
            continue;
        }
        let plan = Arc::clone(&plan.borrow_and_update());
        let repairs = {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let repairs = seen.repairs(&plan, &names);
            seen.remember(&plan, &mut names);
            repairs
        };
        let mut faults = seen.faults(&plan, &repairs);
        for repair in repairs {
            let set = tokio::time::timeout(SET_TIMEOUT, client.set(repair.request())).await;
            let set = set.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("the switch does not answer")));
            match set {
                Ok(_) => {
                    seen.took(&repair);
                    progress.set += repair.set.len();
                    for what in repair.what {
                        let _ = events.send(Event::Repaired(what)).await;
                    }
                }
                Err(status) => faults.extend(
                    repair
                        .what
                        .iter()
                        .map(|what| format!("{what}, and cannot be corrected: {}", status.message())),
                ),
            }
        }
        retry = (!faults.is_empty()).then(|| tokio::time::Instant::now() + waits.next());
        if faults.is_empty() {
            *waits = Waits::new();
            if let Some(step) = progress.configured(plan.len()) {
                let _ = events.send(step).await;
            }
        }
        let faults = (!faults.is_empty()).then(|| faults.join("; "));
        let _ = events.send(Event::Warning(Warning::Ports, faults)).await;
    }
}

/// The error of the switch's clock: a notification has the time at which it was made (gNMI specification, section 2.2.1).
fn clock(notification: &Notification) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_nanos(u64::try_from(notification.timestamp).unwrap_or(0));
    Event::Warning(Warning::Clock, clocks_differ(now, then))
}

/// The warning about a device's clock, if it differs enough from ours.
pub(super) fn clocks_differ(ours: Duration, theirs: Duration) -> Option<String> {
    let (by, how) = match theirs.checked_sub(ours) {
        Some(ahead) => (ahead, "ahead of"),
        None => (ours.abs_diff(theirs), "behind"),
    };
    let is_known = !theirs.is_zero();
    (is_known && by >= CLOCKS_DIFFER).then(|| {
        format!(
            "its clock is {} s {how} the controller's: certificates may seem expired, or not valid yet",
            by.as_secs()
        )
    })
}

/// The configuration of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Interface {
    id: Option<PortId>,
    enabled: Option<bool>,
    mtu: Option<u16>,
}

/// The configuration that the switch reports, by name of the interface.
#[derive(Debug, Default)]
struct Seen(HashMap<String, Interface>);

/// Something to set, as one transaction of the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repair {
    /// Interface, leaf and value.
    set: Vec<(String, Leaf)>,
    /// What was found, in words.
    what: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Id(PortId),
    Enabled,
    Mtu(u16),
}

impl Repair {
    fn request(&self) -> SetRequest {
        let update = self.set.iter().map(|(name, leaf)| {
            let (leaf, value) = match leaf {
                Leaf::Id(port) => ("id", Value::UintVal(port.get().into())),
                Leaf::Enabled => ("enabled", Value::BoolVal(true)),
                Leaf::Mtu(mtu) => ("mtu", Value::UintVal((*mtu).into())),
            };
            gnmi::Update {
                path: Some(leaf_path(name, "config", leaf)),
                val: Some(TypedValue { value: Some(value) }),
                ..Default::default()
            }
        });
        SetRequest {
            update: update.collect(),
            ..Default::default()
        }
    }
}

impl Seen {
    /// Processes a notification.
    fn update(&mut self, notification: &Notification) {
        let prefix = notification.prefix.as_ref();
        for path in &notification.delete {
            let Some((name, leaf)) = interface(prefix, Some(path)) else {
                continue;
            };
            if leaf.is_none_or(|leaf| leaf == "id") {
                self.0.remove(name);
            }
        }
        for update in &notification.update {
            let Some((name, Some(leaf))) = interface(prefix, update.path.as_ref()) else {
                continue;
            };
            let Some(value) = update.val.as_ref().and_then(text) else {
                continue;
            };
            let port = self.0.entry(name.to_owned()).or_default();
            match leaf {
                "id" => port.id = port_id(&value),
                "enabled" => port.enabled = Some(value == "true"),
                "mtu" => port.mtu = value.parse().ok(),
                _ => {}
            }
        }
    }

    /// The interface that currently has this port number. If the switch does not report its number, an interface whose
    /// name is a number is that port.
    fn of(&self, port: PortId) -> Option<(&String, &Interface)> {
        let by_id = self.0.iter().find(|(_, i)| i.id == Some(port));
        by_id.or_else(|| {
            let (name, interface) = self.0.get_key_value(&port.get().to_string())?;
            interface.id.is_none().then_some((name, interface))
        })
    }

    /// The settings that make the ports as planned.
    fn repairs(&self, plan: &PortPlan, names: &BTreeMap<PortId, String>) -> Vec<Repair> {
        let (mut numbers, mut repairs) = (
            Repair {
                set: vec![],
                what: vec![],
            },
            Vec::new(),
        );
        for (&port, &least) in plan.iter() {
            let Some((name, now)) = self.of(port) else {
                if let Some(name) = names.get(&port) {
                    numbers.set.push((name.clone(), Leaf::Id(port)));
                    numbers.what.push(format!("port {port} ({name}) was no longer a port"));
                }
                continue;
            };
            if now.enabled == Some(false) {
                repairs.push(Repair {
                    set: vec![(name.clone(), Leaf::Enabled)],
                    what: vec![format!("port {port} ({name}) was disabled")],
                });
            }
            // A port whose device is missing reports an MTU of zero.
            if let Some(mtu) = now.mtu.filter(|mtu| *mtu != 0 && *mtu < least) {
                repairs.push(Repair {
                    set: vec![(name.clone(), Leaf::Mtu(least))],
                    what: vec![format!(
                        "port {port} ({name}) had an MTU of {mtu} instead of at least {least} octets"
                    )],
                });
            }
        }
        // All numbers are set in one step, because ports may have exchanged them. They are set first, because the
        // other settings belong to ports.
        let numbers = Some(numbers).filter(|n| !n.set.is_empty());
        numbers.into_iter().chain(repairs).collect()
    }

    /// Records settings that the switch accepted. The switch will report them, too.
    fn took(&mut self, repair: &Repair) {
        for (name, leaf) in &repair.set {
            let interface = self.0.entry(name.clone()).or_default();
            match *leaf {
                Leaf::Id(port) => interface.id = Some(port),
                Leaf::Enabled => interface.enabled = Some(true),
                Leaf::Mtu(mtu) => interface.mtu = Some(mtu),
            }
        }
    }

    /// Faults that cannot be corrected from here: ports that the switch does not have.
    fn faults(&self, plan: &PortPlan, repairs: &[Repair]) -> Vec<String> {
        let is_coming = |port| {
            let mut set = repairs.iter().flat_map(|r| &r.set);
            set.any(|(_, leaf)| *leaf == Leaf::Id(port))
        };
        let absent = plan.keys().filter(|p| self.of(**p).is_none() && !is_coming(**p));
        absent.map(|port| format!("the switch has no port {port}")).collect()
    }

    /// Remembers the interfaces of planned ports.
    fn remember(&self, plan: &PortPlan, names: &mut BTreeMap<PortId, String>) {
        names.retain(|port, _| plan.contains_key(port));
        for port in plan.keys() {
            if let Some((name, _)) = self.of(*port) {
                names.insert(*port, name.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> PortId {
        PortId::try_from(number).unwrap()
    }

    fn says(name: &str, leaves: &[(&str, Value)]) -> Notification {
        let update = leaves.iter().map(|(leaf, value)| gnmi::Update {
            path: Some(leaf_path(name, "config", leaf)),
            val: Some(TypedValue {
                value: Some(value.clone()),
            }),
            ..Default::default()
        });
        Notification {
            update: update.collect(),
            ..Default::default()
        }
    }

    fn gone(name: &str) -> Notification {
        Notification {
            delete: vec![leaf_path(name, "config", "id")],
            ..Default::default()
        }
    }

    fn is(name: &str, id: u16, enabled: bool, mtu: u16) -> Notification {
        let (id, mtu) = (Value::UintVal(id.into()), Value::UintVal(mtu.into()));
        says(name, &[("id", id), ("enabled", Value::BoolVal(enabled)), ("mtu", mtu)])
    }

    fn plan() -> PortPlan {
        Arc::new([(port(1), 1600), (port(2), 1500)].into())
    }

    fn sets(repairs: &[Repair]) -> Vec<Vec<(String, Leaf)>> {
        repairs.iter().map(|r| r.set.clone()).collect()
    }

    #[test]
    fn what_is_as_planned_or_not_planned_is_left_alone() {
        let (mut seen, names) = (Seen::default(), BTreeMap::new());
        for (name, id, enabled, mtu) in [("a", 1, true, 9000), ("b", 2, true, 1500), ("c", 3, false, 68)] {
            seen.update(&is(name, id, enabled, mtu));
        }
        assert_eq!(seen.repairs(&plan(), &names), []);
        assert!(seen.faults(&plan(), &[]).is_empty());
    }

    #[test]
    fn what_others_changed_is_put_right_and_reported() {
        let (mut seen, names) = (Seen::default(), BTreeMap::new());
        seen.update(&is("a", 1, false, 1500));
        seen.update(&is("b", 2, true, 1500));
        let repairs = seen.repairs(&plan(), &names);
        let of_a = |leaf| vec![("a".to_owned(), leaf)];
        assert_eq!(sets(&repairs), [of_a(Leaf::Enabled), of_a(Leaf::Mtu(1600))]);
        assert_eq!(repairs[0].what, ["port 1 (a) was disabled"]);
        repairs.iter().for_each(|r| seen.took(r));
        assert_eq!(seen.repairs(&plan(), &names), []);
    }

    #[test]
    fn ports_that_were_removed_or_exchanged_get_their_numbers_back_at_once() {
        let (mut seen, mut names) = (Seen::default(), BTreeMap::new());
        seen.update(&is("a", 1, true, 1600));
        seen.update(&is("b", 2, true, 1600));
        seen.remember(&plan(), &mut names);
        seen.update(&gone("a"));
        let repairs = seen.repairs(&plan(), &names);
        assert_eq!(sets(&repairs), [[("a".to_owned(), Leaf::Id(port(1)))]]);
        assert!(seen.faults(&plan(), &repairs).is_empty());
        // Both interfaces have other numbers.
        seen.update(&is("a", 8, true, 1600));
        seen.update(&is("b", 9, true, 1600));
        let both = [("a".to_owned(), Leaf::Id(port(1))), ("b".to_owned(), Leaf::Id(port(2)))];
        assert_eq!(sets(&seen.repairs(&plan(), &names)), [both]);
    }

    #[test]
    fn a_port_that_never_was_there_is_named() {
        let mut seen = Seen::default();
        seen.update(&is("a", 1, true, 1600));
        assert_eq!(seen.repairs(&plan(), &BTreeMap::new()), []);
        assert_eq!(seen.faults(&plan(), &[]), ["the switch has no port 2"]);
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_direction_and_seconds() {
        let at = Duration::from_secs;
        assert_eq!(clocks_differ(at(1000), at(1010)), None);
        assert_eq!(clocks_differ(at(1000), at(0)), None, "it has no time");
        assert!(clocks_differ(at(1000), at(1100)).unwrap().contains("100 s ahead of"));
        assert!(clocks_differ(at(1000), at(900)).unwrap().contains("100 s behind"));
    }
}
