//! The networks that a pod selects: the annotation `k8s.v1.cni.cncf.io/networks` in both forms (NPWG 4.1).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::names;
use crate::error::{self, Error};

/// The annotation.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that names another default network for one pod.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// Most networks of one pod. A longer list is a mistake.
pub const MAX_NETWORKS: usize = 64;

/// One element.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Namespace of the definition.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of the interface.
    pub interface: Option<String>,
    /// Requests to the plugins that have the capability of that name (CNI, "Conventions").
    pub capabilities: BTreeMap<String, Value>,
    /// `args.cni` of the configuration.
    pub args: Map<String, Value>,
    /// Gateways, when this attachment gets the default route.
    pub default_route: Option<Vec<IpAddr>>,
}

/// True for a DNS label (RFC 1123). Names of namespaces and definitions consist of such labels.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let octets = text.as_bytes();
    octets.len() <= 63 && outer(octets.first()) && outer(octets.last()) && text.bytes().all(inner)
}

/// True for the name of a definition or pod: labels with dots between them (NPWG 3.3).
pub fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Reads an annotation of a pod.
///
/// # Errors
/// `CONFIG` names the element and key.
pub fn parse(annotation: &str, text: &str, namespace: &str) -> Result<Vec<Selection>, Error> {
    // The client library of the working group tells the forms apart by these characters.
    let all = if text.contains(['[', '{', '"']) {
        let wrong = |e: serde_json::Error| Error::new(error::CONFIG, format!("{annotation}: {e}"));
        let list: Vec<Value> = serde_json::from_str(text).map_err(wrong)?;
        let one = |(i, value)| element(&format!("{annotation}[{i}]"), value, namespace);
        list.into_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?
    } else if text.trim().is_empty() {
        Vec::new()
    } else {
        let one = |(i, item)| reference(&format!("{annotation}[{i}]"), item, namespace);
        text.split(',').enumerate().map(one).collect::<Result<Vec<_>, _>>()?
    };
    if all.len() > MAX_NETWORKS {
        let found = format!("{} networks", all.len());
        return Err(Error::field(annotation, found, &format!("at most {MAX_NETWORKS}")));
    }
    if all.iter().filter(|s| s.default_route.is_some()).count() > 1 {
        let message = format!("{annotation}: more than one element has `default-route`");
        return Err(Error::new(error::CONFIG, message));
    }
    Ok(all)
}

/// `[namespace/]name[@interface]`
///
/// # Errors
/// `CONFIG` says what is wrong.
pub fn reference(field: &str, text: &str, namespace: &str) -> Result<Selection, Error> {
    let wrong = || Error::field(field, text.trim(), "[namespace/]name[@interface]");
    let (namespace, rest) = text.split_once('/').unwrap_or((namespace, text));
    let (name, interface) = match rest.split_once('@') {
        Some((name, interface)) => (name, Some(interface.trim().to_owned())),
        None => (rest, None),
    };
    let (namespace, name) = (namespace.trim().to_owned(), name.trim().to_owned());
    // As in the client library: in this form, names of interfaces are labels, too.
    let good = |i: &String| is_label(i) && names::is_valid(i);
    if !is_name(&namespace) || !is_name(&name) || !interface.iter().all(good) {
        return Err(wrong());
    }
    Ok(Selection {
        namespace,
        name,
        interface,
        ..Selection::default()
    })
}

/// One element of the JSON form. Keys with a dot belong to others (NPWG 4.1.2.1) and are ignored.
fn element(field: &str, value: Value, namespace: &str) -> Result<Selection, Error> {
    let Value::Object(keys) = value else {
        return Err(Error::field(field, value, "an object"));
    };
    let mut selection = Selection {
        namespace: namespace.to_owned(),
        ..Selection::default()
    };
    for (key, value) in keys {
        let field = format!("{field}.{key}");
        let mut ask = |capability: &str, value| selection.capabilities.insert(capability.to_owned(), value);
        match key.as_str() {
            "name" => selection.name = text(&field, &value, is_name, "the name of a definition")?,
            // For the client library, an empty namespace is the pod's.
            "namespace" if value == "" => {}
            "namespace" => selection.namespace = text(&field, &value, is_name, "a namespace")?,
            "interface" => {
                let name = text(
                    &field,
                    &value,
                    names::is_valid,
                    "an interface name of 1 to 15 characters",
                )?;
                selection.interface = Some(name);
            }
            "mac" => drop(ask("mac", hardware(&field, &value, 6)?.into())),
            "infiniband-guid" => drop(ask("infinibandGUID", hardware(&field, &value, 8)?.into())),
            "ips" => drop(ask("ips", addresses(&field, &value)?.into())),
            "portMappings" => drop(ask("portMappings", port_mappings(&field, &value)?)),
            "bandwidth" => drop(ask("bandwidth", bandwidth(&field, &value)?)),
            "cni-args" => match value {
                Value::Object(args) => selection.args = args,
                other => return Err(Error::field(&field, other, "an object")),
            },
            "default-route" => selection.default_route = Some(gateways(&field, &value)?),
            "ipam-claim-reference" | "device-id" | "deviceID" => {
                let message = format!("{field}: {value}: needs Kubernetes, and there is none here");
                return Err(Error::new(error::UNSUPPORTED_FIELD, message));
            }
            other if other.contains('.') => {}
            _ => return Err(Error::field(&field, value, "a key of the NPWG specification v1.3")),
        }
    }
    if selection.name.is_empty() {
        return Err(Error::field(&format!("{field}.name"), "", "the name of a definition"));
    }
    Ok(selection)
}

fn text(field: &str, value: &Value, good: impl Fn(&str) -> bool, expected: &str) -> Result<String, Error> {
    let text = value.as_str().filter(|t| good(t));
    text.map(str::to_owned)
        .ok_or_else(|| Error::field(field, value, expected))
}

/// A hardware address of that many octets.
fn hardware(field: &str, value: &Value, octets: usize) -> Result<String, Error> {
    let is_octet = |o: &str| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit());
    let good = |t: &str| t.split(':').count() == octets && t.split(':').all(is_octet);
    text(
        field,
        value,
        good,
        &format!("{octets} octets in hexadecimal, with colons between"),
    )
}

/// The elements of a list that is not empty.
fn elements<'a>(field: &str, value: &'a Value, expected: &str) -> Result<&'a [Value], Error> {
    let list = value.as_array().filter(|l| !l.is_empty()).map(Vec::as_slice);
    list.ok_or_else(|| Error::field(field, value, expected))
}

fn addresses(field: &str, value: &Value) -> Result<Vec<String>, Error> {
    let expected = "a list of IPv4 or IPv6 addresses, each with or without the length of a prefix";
    let good = |t: &str| t.parse::<IpAddr>().is_ok() || t.parse::<ipnet::IpNet>().is_ok();
    let all = elements(field, value, expected)?.iter().enumerate();
    all.map(|(i, v)| text(&format!("{field}[{i}]"), v, good, "an IPv4 or IPv6 address"))
        .collect()
}

/// The list may be empty (NPWG 4.1.2.1.9): then the other attachments lose their default routes.
fn gateways(field: &str, value: &Value) -> Result<Vec<IpAddr>, Error> {
    let list = value
        .as_array()
        .ok_or_else(|| Error::field(field, value, "a list of addresses"))?;
    let gateway = |(i, v): (usize, &Value)| {
        let address = v.as_str().and_then(|t| t.parse().ok());
        address.ok_or_else(|| Error::field(&format!("{field}[{i}]"), v, "an IPv4 or IPv6 address"))
    };
    list.iter().enumerate().map(gateway).collect()
}

fn port_mappings(field: &str, value: &Value) -> Result<Value, Error> {
    let mut mappings = Vec::new();
    for (i, v) in elements(field, value, "a list of port mappings")?.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let keys = v.as_object().ok_or_else(|| Error::field(&field, v, "an object"))?;
        let known = ["hostPort", "containerPort", "protocol", "hostIP"];
        if let Some(other) = keys.keys().find(|k| !known.contains(&k.as_str())) {
            return Err(Error::field(&format!("{field}.{other}"), &keys[other], "no such key"));
        }
        let port = |key: &str| {
            let port = keys
                .get(key)
                .and_then(Value::as_u64)
                .filter(|p| (1..=65535).contains(p));
            let found = keys.get(key).unwrap_or(&Value::Null);
            port.ok_or_else(|| Error::field(&format!("{field}.{key}"), found, "a port from 1 to 65535"))
        };
        let mut mapping = json!({ "hostPort": port("hostPort")?, "containerPort": port("containerPort")? });
        let protocol = keys
            .get("protocol")
            .map_or(Some("tcp"), Value::as_str)
            .map(str::to_lowercase);
        let protocol = protocol.filter(|p| matches!(p.as_str(), "tcp" | "udp" | "sctp"));
        let wrong = || Error::field(&format!("{field}.protocol"), &keys["protocol"], "TCP, UDP or SCTP");
        mapping["protocol"] = protocol.ok_or_else(wrong)?.into();
        if let Some(ip) = keys.get("hostIP").filter(|ip| *ip != "") {
            let good = |t: &str| t.parse::<IpAddr>().is_ok();
            mapping["hostIP"] = text(&format!("{field}.hostIP"), ip, good, "an IPv4 or IPv6 address")?.into();
        }
        mappings.push(mapping);
    }
    Ok(mappings.into())
}

/// Rates in bits per second, bursts in bits. If a burst is left out, it is the rate for one second, because the
/// reference plugin needs one.
fn bandwidth(field: &str, value: &Value) -> Result<Value, Error> {
    let keys = value.as_object().filter(|k| !k.is_empty());
    let keys = keys.ok_or_else(|| Error::field(field, value, "an object with a rate"))?;
    let known = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
    if let Some(other) = keys.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(Error::field(&format!("{field}.{other}"), &keys[other], "no such key"));
    }
    let number = |key: &str| match keys.get(key) {
        None => Ok(None),
        Some(v) => match v.as_u64().filter(|n| *n > 0) {
            Some(n) => Ok(Some(n)),
            None => Err(Error::field(&format!("{field}.{key}"), v, "a positive number")),
        },
    };
    let mut asked = Map::new();
    for (rate_key, burst_key) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
        match (number(rate_key)?, number(burst_key)?) {
            (None, None) => {}
            (None, Some(burst)) => {
                let expected = format!("`{rate_key}` beside it");
                return Err(Error::field(&format!("{field}.{burst_key}"), burst, &expected));
            }
            (Some(rate), burst) => {
                asked.insert(rate_key.to_owned(), rate.into());
                asked.insert(
                    burst_key.to_owned(),
                    burst.unwrap_or(rate.min(u64::from(u32::MAX))).into(),
                );
            }
        }
    }
    Ok(asked.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Selection>, Error> {
        parse(NETWORKS, text, "blue")
    }

    #[test]
    fn the_short_form() {
        let all = of(" net-a, other/net-b@data0 ,net-a").unwrap();
        let names: Vec<_> = all.iter().map(|s| (s.namespace.as_str(), s.name.as_str())).collect();
        assert_eq!(names, [("blue", "net-a"), ("other", "net-b"), ("blue", "net-a")]);
        assert_eq!(all[1].interface.as_deref(), Some("data0"));
        assert_eq!(of("  ").unwrap(), []);
        for wrong in [
            "a,,b",
            "a/b/c",
            "a@b@c",
            "A",
            "-a",
            "a@",
            "a@sixteen-letters-",
            "/a",
            "a,",
        ] {
            let error = of(wrong).unwrap_err();
            assert!(
                error.code == error::CONFIG && error.message.starts_with(NETWORKS),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn every_key_of_the_long_form() {
        let all = of(
            r#"[{"name":"a","namespace":"n","interface":"data0","mac":"02:00:00:00:00:01",
            "ips":["10.0.0.1","fd00::1/64"],"infiniband-guid":"c2:11:22:33:44:55:66:77","cni-args":{"key":{"deep":1}},
            "default-route":["10.0.0.254"],"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"UDP"}],
            "bandwidth":{"ingressRate":2048,"egressRate":8000,"egressBurst":200},"org.example.key":7},{"name":"b"}]"#,
        );
        let [a, b] = all.unwrap().try_into().unwrap();
        assert_eq!((a.namespace.as_str(), a.interface.as_deref()), ("n", Some("data0")));
        assert_eq!(a.capabilities["ips"], json!(["10.0.0.1", "fd00::1/64"]));
        assert_eq!(a.capabilities["mac"], "02:00:00:00:00:01");
        assert_eq!(a.capabilities["infinibandGUID"], "c2:11:22:33:44:55:66:77");
        let mapping = json!([{ "hostPort": 80, "containerPort": 8080, "protocol": "udp" }]);
        assert_eq!(a.capabilities["portMappings"], mapping);
        let rates = json!({ "ingressRate": 2048, "ingressBurst": 2048, "egressRate": 8000, "egressBurst": 200 });
        assert_eq!(a.capabilities["bandwidth"], rates);
        assert_eq!(a.args["key"], json!({ "deep": 1 }));
        assert_eq!(a.default_route, Some(vec!["10.0.0.254".parse().unwrap()]));
        assert_eq!((b.namespace.as_str(), b.default_route), ("blue", None));
    }

    #[test]
    fn wrong_keys_are_named() {
        for (keys, field) in [
            (r#""mac":"02:00""#, "mac"),
            (r#""mac":7"#, "mac"),
            (r#""ips":[]"#, "ips"),
            (r#""ips":["10.0.0.1","x"]"#, "ips[1]"),
            (r#""infiniband-guid":"c2:11""#, "infiniband-guid"),
            (r#""interface":"a b""#, "interface"),
            (r#""namespace":"A""#, "namespace"),
            (r#""default-route":["x"]"#, "default-route[0]"),
            (r#""default-route":"10.0.0.1""#, "default-route"),
            (r#""cni-args":[]"#, "cni-args"),
            (
                r#""portMappings":[{"hostPort":0,"containerPort":1}]"#,
                "portMappings[0].hostPort",
            ),
            (r#""portMappings":[{"hostPort":1}]"#, "portMappings[0].containerPort"),
            (
                r#""portMappings":[{"hostPort":1,"containerPort":1,"protocol":"ip"}]"#,
                "portMappings[0].protocol",
            ),
            (r#""bandwidth":{"ingressBurst":1}"#, "bandwidth.ingressBurst"),
            (r#""bandwidth":{"egressRate":0}"#, "bandwidth.egressRate"),
            (r#""bandwidth":{}"#, "bandwidth"),
            (r#""interfac":"x""#, "interfac"),
        ] {
            let error = of(&format!(r#"[{{"name":"a"}},{{"name":"b",{keys}}}]"#)).unwrap_err();
            let place = format!("{NETWORKS}[1].{field}:");
            assert!(
                error.code == error::CONFIG && error.message.starts_with(&place),
                "{keys}: {error}"
            );
        }
        for key in ["ipam-claim-reference", "device-id"] {
            let error = of(&format!(r#"[{{"name":"a","{key}":"x"}}]"#)).unwrap_err();
            assert!(
                error.code == error::UNSUPPORTED_FIELD && error.message.contains(key),
                "{error}"
            );
        }
        for wrong in ["[", "{}", "[7]", r#"[{"interface":"x"}]"#, r#""a""#] {
            assert_eq!(of(wrong).unwrap_err().code, error::CONFIG, "{wrong}");
        }
        let two = r#"[{"name":"a","default-route":[]},{"name":"b","default-route":["10.0.0.1"]}]"#;
        assert!(of(two).unwrap_err().message.contains("default-route"));
        assert!(of(&vec!["a"; MAX_NETWORKS + 1].join(",")).is_err());
    }
}
