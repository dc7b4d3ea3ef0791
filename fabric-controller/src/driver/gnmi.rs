//! State of a switch's ports over gNMI: Subscribe STREAM ON_CHANGE (gNMI specification, section 3.5.1.5.2) to
//! `/interfaces/interface[name=*]/state/{oper-status,id}`.
//!
//! The leaf `id` (openconfig-p4rt) is the number by which P4Runtime knows the port; where a
//! switch does not have it, an interface whose name is a number is that port. Targets
//! without gNMI (bmv2) report nothing; link probes find their dead links.

use std::collections::HashMap;

use gnmi_proto::gnmi::{
    self, Notification, Path, PathElem, Subscription, SubscriptionList, SubscriptionMode, TypedValue,
    g_nmi_client::GNmiClient, subscribe_request::Request, subscribe_response::Response, subscription_list::Mode,
    typed_value::Value,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use vfabric_api::ident::PortId;

use crate::device::waits::Waits;

/// A port and whether it carries traffic.
pub type PortState = (PortId, bool);

/// Follows the ports over `channel` until `events` is dropped. Reports each port once at
/// first and then when its state changes. A lost stream is opened again; for a switch without gNMI, the task ends
/// quietly.
pub async fn watch_ports(channel: Channel, events: mpsc::Sender<PortState>) {
    let mut ports = Ports::default();
    let mut waits = Waits::new();
    loop {
        tokio::select! {
            () = events.closed() => return,
            end = follow(channel.clone(), &mut ports, &events, &mut waits) => {
                match end.map_err(|status| status.code()) {
                    Err(tonic::Code::Unimplemented) => return,
                    Err(code) => tracing::debug!(?code, "gNMI stream lost"),
                    Ok(()) => tracing::debug!("gNMI stream ended"),
                }
            }
        }
        tokio::select! {
            () = events.closed() => return,
            () = tokio::time::sleep(waits.next()) => {}
        }
    }
}

async fn follow(
    channel: Channel,
    ports: &mut Ports,
    events: &mpsc::Sender<PortState>,
    waits: &mut Waits,
) -> Result<(), tonic::Status> {
    let requests = subscription("state", &["id", "oper-status"]);
    let mut stream = GNmiClient::new(channel).subscribe(requests).await?.into_inner();
    while let Some(message) = stream.message().await? {
        *waits = Waits::new();
        let Some(Response::Update(notification)) = message.response else {
            continue;
        };
        for state in ports.update(&notification) {
            if events.send(state).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A leaf of an interface: `/interfaces/interface[name=NAME]/CONTAINER/LEAF`.
pub(super) fn leaf_path(name: &str, container: &str, leaf: &str) -> Path {
    let elem = |name: &str| PathElem {
        name: name.to_owned(),
        ..Default::default()
    };
    let mut interface = elem("interface");
    interface.key.insert("name".to_owned(), name.to_owned());
    Path {
        elem: vec![elem("interfaces"), interface, elem(container), elem(leaf)],
        ..Default::default()
    }
}

/// Follows leaves of all interfaces. The request stream stays open: gNMI ends the subscription with it.
pub(super) fn subscription(container: &str, leaves: &[&str]) -> impl Stream<Item = gnmi::SubscribeRequest> + use<> {
    let leaf = |leaf: &&str| Subscription {
        path: Some(leaf_path("*", container, leaf)),
        mode: SubscriptionMode::OnChange.into(),
        ..Default::default()
    };
    let list = SubscriptionList {
        subscription: leaves.iter().map(leaf).collect(),
        mode: Mode::Stream.into(),
        encoding: gnmi::Encoding::Proto.into(),
        ..Default::default()
    };
    let request = gnmi::SubscribeRequest {
        request: Some(Request::Subscribe(list)),
        ..Default::default()
    };
    tokio_stream::once(request).chain(tokio_stream::pending())
}

/// The known state of one interface.
#[derive(Debug, Default)]
struct Interface {
    id: Option<PortId>,
    up: Option<bool>,
    reported: Option<PortState>,
}

impl Interface {
    /// Its state, if it is known and was not reported before.
    fn news(&mut self) -> Option<PortState> {
        let now = (self.id?, self.up?);
        (self.reported.replace(now) != Some(now)).then_some(now)
    }
}

/// The known state of all interfaces, by name.
#[derive(Debug, Default)]
struct Ports(HashMap<String, Interface>);

impl Ports {
    /// Processes a notification and returns what changed.
    fn update(&mut self, notification: &Notification) -> Vec<PortState> {
        let prefix = notification.prefix.as_ref();
        let mut news = Vec::new();
        for update in &notification.update {
            let Some((name, leaf)) = interface(prefix, update.path.as_ref()) else {
                continue;
            };
            let Some(value) = update.val.as_ref().and_then(text) else {
                continue;
            };
            let port = self.0.entry(name.to_owned()).or_insert_with(|| Interface {
                id: port_id(name),
                ..Interface::default()
            });
            match leaf {
                Some("id") => port.id = port_id(&value).or(port.id),
                Some("oper-status") => port.up = Some(value == "UP"),
                _ => continue,
            }
            news.extend(port.news());
        }
        for path in &notification.delete {
            let Some((name, leaf)) = interface(prefix, Some(path)) else {
                continue;
            };
            if leaf.is_none_or(|leaf| leaf == "oper-status")
                && let Some(port) = self.0.get_mut(name)
            {
                port.up = Some(false);
                news.extend(port.news());
            }
        }
        news
    }
}

pub(super) fn port_id(text: &str) -> Option<PortId> {
    PortId::try_from(text.parse::<u16>().ok()?).ok()
}

/// Name of the interface and, if the path contains it, the leaf of its state or configuration.
pub(super) fn interface<'a>(prefix: Option<&'a Path>, path: Option<&'a Path>) -> Option<(&'a str, Option<&'a str>)> {
    let elements = [prefix, path].into_iter().flatten().flat_map(|path| &path.elem);
    let elements: Vec<&PathElem> = elements.collect();
    let (first, rest) = elements.split_first()?;
    let (second, rest) = rest.split_first()?;
    if first.name != "interfaces" || second.name != "interface" {
        return None;
    }
    let name = second.key.get("name")?;
    let is_known = |part: &PathElem| matches!(part.name.as_str(), "state" | "config");
    match rest {
        [] => Some((name, None)),
        [part] if is_known(part) => Some((name, None)),
        [part, leaf] if is_known(part) => Some((name, Some(&leaf.name))),
        _ => None,
    }
}

/// A leaf's value as text. Identities may come with their module's name.
pub(super) fn text(value: &TypedValue) -> Option<String> {
    Some(match value.value.as_ref()? {
        Value::StringVal(text) | Value::AsciiVal(text) => bare(text),
        Value::UintVal(number) => number.to_string(),
        Value::IntVal(number) => number.to_string(),
        Value::BoolVal(value) => value.to_string(),
        Value::JsonVal(json) | Value::JsonIetfVal(json) => match serde_json::from_slice(json).ok()? {
            serde_json::Value::String(text) => bare(&text),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(value) => value.to_string(),
            _ => return None,
        },
        _ => return None,
    })
}

fn bare(text: &str) -> String {
    text.rsplit(':').next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(elements: &[&str], name: &str) -> Path {
        let elem = |element: &&str| {
            let mut elem = PathElem {
                name: (*element).to_owned(),
                ..Default::default()
            };
            if *element == "interface" {
                elem.key.insert("name".into(), name.into());
            }
            elem
        };
        Path {
            elem: elements.iter().map(elem).collect(),
            ..Default::default()
        }
    }

    fn note(name: &str, leaf: &str, value: Value) -> Notification {
        let update = gnmi::Update {
            path: Some(path(&["state", leaf], name)),
            val: Some(TypedValue { value: Some(value) }),
            ..Default::default()
        };
        Notification {
            prefix: Some(path(&["interfaces", "interface"], name)),
            update: vec![update],
            ..Default::default()
        }
    }

    fn port(number: u16) -> PortId {
        PortId::try_from(number).unwrap()
    }

    #[test]
    fn a_state_is_reported_once_and_when_it_changes() {
        let mut ports = Ports::default();
        let status = |s: &str| note("Ethernet1/1", "oper-status", Value::StringVal(s.into()));
        assert!(ports.update(&status("UP")).is_empty(), "the number is not known yet");
        let id = note("Ethernet1/1", "id", Value::UintVal(7));
        assert_eq!(ports.update(&id), [(port(7), true)]);
        assert!(ports.update(&status("UP")).is_empty());
        assert_eq!(ports.update(&status("LOWER_LAYER_DOWN")), [(port(7), false)]);
    }

    #[test]
    fn numbers_as_names_and_json_values_are_understood() {
        let mut ports = Ports::default();
        let json = Value::JsonIetfVal(br#""openconfig-interfaces:UP""#.to_vec());
        assert_eq!(ports.update(&note("3", "oper-status", json)), [(port(3), true)]);
    }

    #[test]
    fn an_interface_that_is_gone_is_down() {
        let mut ports = Ports::default();
        ports.update(&note("3", "oper-status", Value::StringVal("UP".into())));
        let gone = Notification {
            delete: vec![path(&["interfaces", "interface"], "3")],
            ..Default::default()
        };
        assert_eq!(ports.update(&gone), [(port(3), false)]);
    }
}
