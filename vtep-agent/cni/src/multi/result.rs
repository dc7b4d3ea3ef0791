//! Results of delegates in the requested version of CNI.

use serde_json::{Value, json};

/// Keys of an interface and of a route that came with CNI 1.1.0.
const NEW_KEYS: [(&str, &[&str]); 2] = [
    ("interfaces", &["mtu", "socketPath", "pciID"]),
    ("routes", &["mtu", "advmss", "priority", "table", "scope"]),
];

/// A result of version 0.3.0 to 1.1.0 in another of these versions. What a plugin did not return is left out.
pub fn convert(result: &Value, version: &str) -> Value {
    let mut result = if result.is_object() { result.clone() } else { json!({}) };
    result["cniVersion"] = version.into();
    if version != "1.1.0" {
        for (list, keys) in NEW_KEYS {
            let elements = result.get_mut(list).and_then(Value::as_array_mut);
            for element in elements.into_iter().flatten().filter_map(Value::as_object_mut) {
                element.retain(|key, _| !keys.contains(&key.as_str()));
            }
        }
    }
    let ips = result.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        if version.starts_with("0.") {
            let is_ipv6 = ip
                .get("address")
                .and_then(Value::as_str)
                .is_some_and(|a| a.contains(':'));
            ip.insert("version".into(), if is_ipv6 { "6" } else { "4" }.into());
        } else {
            ip.remove("version");
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_keys() {
        let new = json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0", "mtu": 1450 }],
            "ips": [{ "address": "10.0.0.1/24" }, { "address": "fd00::1/64" }],
            "routes": [{ "dst": "0.0.0.0/0", "priority": 7 }] });
        let old = convert(&new, "0.4.0");
        assert_eq!(old["interfaces"], json!([{ "name": "eth0" }]));
        assert_eq!(
            (&old["ips"][0]["version"], &old["ips"][1]["version"]),
            (&json!("4"), &json!("6"))
        );
        assert_eq!(old["routes"], json!([{ "dst": "0.0.0.0/0" }]));
        let back = convert(&old, "1.0.0");
        assert_eq!(back["ips"], new["ips"]);
        assert_eq!(convert(&new, "1.1.0"), new);
        assert_eq!(convert(&Value::Null, "1.0.0"), json!({ "cniVersion": "1.0.0" }));
    }
}
