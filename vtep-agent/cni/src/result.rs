//! Results in the requested version (CNI 1.1 section 5, "Success").

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::error::{self, Error};
use crate::protocol::Attached;

/// The result of an ADD, including the result of plugins before it in the list.
pub struct Success<'a> {
    /// Version of CNI.
    pub version: &'a str,
    /// Name of the interface.
    pub interface: &'a str,
    /// Path of the namespace.
    pub netns: &'a str,
    /// The interface.
    pub attached: &'a Attached,
    /// The result of the previous plugin.
    pub previous: Option<&'a Value>,
    /// Name servers of the configuration.
    pub dns: Option<&'a Value>,
}

fn list(previous: Option<&Value>, key: &str) -> Vec<Value> {
    let held = previous.and_then(|p| p.get(key)).and_then(Value::as_array);
    held.cloned().unwrap_or_default()
}

impl Success<'_> {
    /// The document.
    pub fn document(&self) -> Value {
        let mut interfaces = list(self.previous, "interfaces");
        let mut ips = list(self.previous, "ips");
        let mut routes = list(self.previous, "routes");
        let index = interfaces.len();
        let mut interface = json!({ "name": self.interface, "mac": self.attached.mac, "sandbox": self.netns });
        if self.version == "1.1.0" {
            interface["mtu"] = self.attached.mtu.into();
        }
        interfaces.push(interface);
        ips.extend(self.attached.addresses.iter().map(|address| {
            let mut ip = json!({ "address": address.to_string(), "interface": index });
            if let Some(gateway) = self.gateway(address.addr()) {
                ip["gateway"] = gateway.to_string().into();
            }
            if self.version.starts_with("0.") {
                ip["version"] = if address.addr().is_ipv4() { "4" } else { "6" }.into();
            }
            ip
        }));
        routes.extend(self.attached.routes.iter().map(|(destination, via)| {
            let mut route = json!({ "dst": destination.to_string() });
            if let Some(via) = via {
                route["gw"] = via.to_string().into();
            }
            route
        }));
        let dns = self
            .previous
            .and_then(|p| p.get("dns"))
            .filter(|d| d.as_object().is_some_and(|d| !d.is_empty()));
        let dns = dns.or(self.dns).cloned().unwrap_or_else(|| Map::new().into());
        json!({ "cniVersion": self.version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": dns })
    }

    /// The next hop of the default route of that family.
    fn gateway(&self, address: IpAddr) -> Option<IpAddr> {
        let fits = |via: &IpAddr| via.is_ipv4() == address.is_ipv4();
        let defaults = self.attached.routes.iter().filter(|(d, _)| d.prefix_len() == 0);
        defaults.filter_map(|(_, via)| *via).find(fits)
    }
}

/// Compares the actual state with the result of ADD.
///
/// # Errors
/// `DIFFERS` names what is missing.
pub fn compare(interface: &str, attached: &Attached, result: &Value) -> Result<(), Error> {
    let differs = |what: String| Err(Error::new(error::DIFFERS, format!("interface {interface}: {what}")));
    let all = list(Some(result), "interfaces");
    let ours = all
        .iter()
        .position(|i| i["name"] == interface && i["sandbox"].as_str().is_some_and(|s| !s.is_empty()));
    let Some(index) = ours else {
        return differs("prevResult does not have it".into());
    };
    let mac = all[index]["mac"].as_str().unwrap_or_default();
    if !mac.is_empty() && !mac.eq_ignore_ascii_case(&attached.mac) {
        return differs(format!("its MAC address is {}, expected {mac}", attached.mac));
    }
    let held: Vec<String> = attached.addresses.iter().map(ToString::to_string).collect();
    let ips = list(Some(result), "ips");
    for ip in ips.iter().filter(|ip| ip["interface"].as_u64() == Some(index as u64)) {
        let address = ip["address"].as_str().unwrap_or_default();
        if !held.iter().any(|h| h == address) {
            return differs(format!("it does not have {address}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached() -> Attached {
        Attached {
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            addresses: vec!["10.1.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()],
            routes: vec![("0.0.0.0/0".parse().unwrap(), "10.1.0.1".parse().ok())],
        }
    }

    fn document(version: &str, previous: Option<&Value>) -> Value {
        let (interface, netns) = ("net1", "/run/netns/x");
        Success {
            version,
            interface,
            netns,
            attached: &attached(),
            previous,
            dns: None,
        }
        .document()
    }

    #[test]
    fn each_version_gets_its_own_keys() {
        let new = document("1.1.0", None);
        assert_eq!(new["interfaces"][0]["mtu"], 1500);
        assert_eq!(
            new["ips"][0],
            json!({ "address": "10.1.0.5/24", "gateway": "10.1.0.1", "interface": 0 })
        );
        assert_eq!(new["ips"][1], json!({ "address": "fd00::5/64", "interface": 0 }));
        assert_eq!(new["routes"][0], json!({ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }));
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let old = document(version, None);
            assert_eq!(old["interfaces"][0].get("mtu"), None);
            assert_eq!(old["ips"][1].get("version").is_some(), version.starts_with("0."));
        }
    }

    #[test]
    fn a_result_before_ours_is_kept() {
        let before = json!({ "interfaces": [{ "name": "eth0", "sandbox": "x" }],
            "ips": [{ "address": "192.0.2.1/24", "interface": 0 }], "dns": { "nameservers": ["192.0.2.9"] } });
        let all = document("1.0.0", Some(&before));
        assert_eq!(all["interfaces"][0], before["interfaces"][0]);
        assert_eq!(
            (&all["interfaces"][1]["name"], &all["ips"][1]["interface"]),
            (&json!("net1"), &json!(1))
        );
        assert_eq!(all["dns"], before["dns"]);
        compare("net1", &attached(), &all).unwrap();
        let mut other = attached();
        other.addresses.pop();
        assert!(
            compare("net1", &other, &all)
                .unwrap_err()
                .message
                .contains("fd00::5/64")
        );
        assert!(compare("net2", &attached(), &all).is_err());
    }
}
