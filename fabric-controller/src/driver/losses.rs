//! The losses of a switch outside its pipeline, over gNMI: the counters of its ports and of its packet engine.
//!
//! | path | counts |
//! | --- | --- |
//! | `/interfaces/interface[name=*]/state/counters/{in,out}-{discards,errors}` (openconfig-interfaces) | frames that a port had no room for, or that were damaged |
//! | `/components/component[name=pipeline]/integrated-circuit/pipeline-counters` (openconfig-platform-pipeline-counters) | packets for the controller that found no room (`punts-lost`); packets that nothing took (`no-program-or-port`) |
//!
//! Read with Get (gNMI specification, section 3.3). A switch without gNMI has none of these; some switches have only the first path.

use std::collections::BTreeMap;
use std::time::Duration;

use gnmi_proto::gnmi::{Encoding, GetRequest, Notification, Path, PathElem, g_nmi_client::GNmiClient};
use tonic::Code;
use tonic::transport::Channel;

use super::gnmi::text;
use crate::device::driver::{Loss, Losses};

/// Longest wait for a switch: longer than a busy one takes, and shorter than callers wait.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reads all losses; places without any are left out.
pub(super) async fn read(channel: Channel) -> Losses {
    let read = async {
        let mut client = GNmiClient::new(channel);
        let ports = get(&mut client, &[&["interfaces", "interface", "state", "id"], &COUNTERS]).await?;
        let engine = get(&mut client, &[&ENGINE]).await?;
        Ok(of_ports(&ports).into_iter().chain(of_engine(&engine)).collect())
    };
    let read = tokio::time::timeout(TIMEOUT, read).await;
    read.unwrap_or_else(|_| Err("the counters of its ports: no answer over gNMI".to_owned()))
}

const COUNTERS: [&str; 4] = ["interfaces", "interface", "state", "counters"];
const ENGINE: [&str; 4] = ["components", "component", "integrated-circuit", "pipeline-counters"];

/// The leaves below some paths; none if the switch does not have them.
async fn get(client: &mut GNmiClient<Channel>, paths: &[&[&str]]) -> Result<Vec<Notification>, String> {
    let elem = |name: &&str| {
        let mut elem = PathElem {
            name: (*name).to_owned(),
            ..Default::default()
        };
        let key = match *name {
            "interface" => Some("*"),
            "component" => Some("pipeline"),
            _ => None,
        };
        elem.key.extend(key.map(|key| ("name".to_owned(), key.to_owned())));
        elem
    };
    let path = |names: &&[&str]| Path {
        elem: names.iter().map(elem).collect(),
        ..Default::default()
    };
    let request = GetRequest {
        path: paths.iter().map(path).collect(),
        encoding: Encoding::Proto.into(),
        ..Default::default()
    };
    match client.get(request).await {
        Ok(answer) => Ok(answer.into_inner().notification),
        Err(status)
            if matches!(
                status.code(),
                Code::Unimplemented | Code::NotFound | Code::InvalidArgument
            ) =>
        {
            Ok(Vec::new())
        }
        Err(status) => Err(format!("the counters of its ports: {}", status.message())),
    }
}

/// Each leaf: the key of its list entry, the names of its path, its value.
fn leaves(notifications: &[Notification]) -> impl Iterator<Item = (&str, Vec<&str>, String)> {
    notifications.iter().flat_map(|notification| {
        notification.update.iter().filter_map(move |update| {
            let paths = notification.prefix.iter().chain(&update.path);
            let elements: Vec<&PathElem> = paths.flat_map(|p| &p.elem).collect();
            let key = elements.iter().find_map(|e| e.key.get("name"))?;
            let names = elements.iter().map(|e| e.name.as_str()).collect();
            Some((key.as_str(), names, update.val.as_ref().and_then(text)?))
        })
    })
}

fn of_ports(notifications: &[Notification]) -> Vec<Loss> {
    let (mut numbers, mut lost) = (BTreeMap::new(), Vec::new());
    for (name, path, value) in leaves(notifications) {
        match path.last() {
            Some(&"id") => drop(numbers.insert(name, value)),
            Some(leaf) if leaf.ends_with("-discards") || leaf.ends_with("-errors") => lost.push((name, *leaf, value)),
            _ => {}
        }
    }
    let some = lost.into_iter().filter_map(|(name, reason, frames)| {
        let number = numbers.get(name).map_or(name, String::as_str);
        loss(format!("port {number}"), reason, &frames)
    });
    some.collect()
}

fn of_engine(notifications: &[Notification]) -> Vec<Loss> {
    let some = leaves(notifications).filter_map(|(_, path, value)| {
        let reason = match path.last() {
            Some(&"dropped-aggregate") if path.contains(&"control-plane-traffic") => "punts-lost",
            Some(&"packet-processing-aggregate") if path.contains(&"drop") => "no-program-or-port",
            _ => return None,
        };
        loss(String::new(), reason, &value)
    });
    some.collect()
}

fn loss(place: String, reason: &str, frames: &str) -> Option<Loss> {
    let frames = frames.parse().ok().filter(|n| *n > 0)?;
    Some(Loss {
        place,
        reason: reason.to_owned(),
        frames,
    })
}

#[cfg(test)]
mod tests {
    use gnmi_proto::gnmi::{TypedValue, Update, typed_value::Value};

    use super::*;

    fn leaf(names: &[&str], key: &str, value: Value) -> Notification {
        let elem = names.iter().map(|name| {
            let mut elem = PathElem {
                name: (*name).to_owned(),
                ..Default::default()
            };
            if matches!(*name, "interface" | "component") {
                elem.key.insert("name".into(), key.into());
            }
            elem
        });
        let path = Path {
            elem: elem.collect(),
            ..Default::default()
        };
        let update = Update {
            path: Some(path),
            val: Some(TypedValue { value: Some(value) }),
            ..Default::default()
        };
        Notification {
            update: vec![update],
            ..Default::default()
        }
    }

    fn lost(place: &str, reason: &str, frames: u64) -> Loss {
        Loss {
            place: place.into(),
            reason: reason.into(),
            frames,
        }
    }

    #[test]
    fn what_ports_and_the_packet_engine_lost_is_reported_with_place_and_reason() {
        let counter = |name: &str, leaf_name: &str, n: u64| {
            let path = ["interfaces", "interface", "state", "counters", leaf_name];
            leaf(&path, name, Value::UintVal(n))
        };
        let ports = [
            leaf(&["interfaces", "interface", "state", "id"], "swp3", Value::UintVal(3)),
            counter("swp3", "in-discards", 5),
            counter("swp3", "in-pkts", 100),
            counter("swp3", "out-errors", 0),
            counter("7", "out-discards", 2),
        ];
        let expected = [lost("port 3", "in-discards", 5), lost("port 7", "out-discards", 2)];
        assert_eq!(of_ports(&ports), expected);
        let engine = |kind: &str, name: &str, text: &str| {
            let path = [&ENGINE[..], &[kind, "state", name]].concat();
            leaf(&path, "pipeline", Value::JsonIetfVal(format!("\"{text}\"").into()))
        };
        let counters = [
            engine("control-plane-traffic", "queued-aggregate", "9"),
            engine("control-plane-traffic", "dropped-aggregate", "4"),
            engine("drop", "packet-processing-aggregate", "1"),
        ];
        let expected = [lost("", "punts-lost", 4), lost("", "no-program-or-port", 1)];
        assert_eq!(of_engine(&counters), expected);
    }
}
