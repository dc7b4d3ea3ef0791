//! Configuration for the operator's own DHCP server, so that it leaves the switches of the inventory to this one.
//!
//! | server | what is printed | compared with |
//! | --- | --- | --- |
//! | dnsmasq | lines `dhcp-host=MAC,ignore` | MAC address |
//! | Kea, DHCPv4 | a list of client classes with the class `DROP` | MAC address; option 61 of `p4-switch` and SONiC, which has the serial number |
//! | Kea, DHCPv6 | the same | MAC address in the DUID, or as the relay saw it (option 79) |
//!
//! Kea drops a request of the class `DROP` before anything else looks at it (Kea ARM, section "Built-in Client Classes").

use serde_json::{Value, json};
use vfabric_api::ident::Mac;
use vfabric_api::topology::{Switch, Topology};

/// First octet of a client identifier that is not a hardware address. `p4-switch` sends it before its serial
/// number.
const NOT_HARDWARE: &str = "00";

/// One line for each switch, by MAC address, because dnsmasq compares nothing else.
pub fn dnsmasq(topology: &Topology) -> String {
    let line = |switch: &Switch| match (switch.mac, &switch.serial) {
        (Some(mac), _) => format!("dhcp-host={mac},ignore # {}\n", switch.name),
        (None, Some(_)) => format!(
            "# {} has no MAC address in the inventory: it may be served twice\n",
            switch.name
        ),
        (None, None) => String::new(),
    };
    topology.switches.iter().map(line).collect()
}

/// Client classes of Kea (JSON), as the value of `client-classes` of its DHCPv4 server.
pub fn kea4(topology: &Topology) -> String {
    let test = |switch: &Switch| {
        let by_mac = switch.mac.map(|mac| format!("pkt4.mac == 0x{}", hex(&mac.0)));
        let by_serial = switch.serial.as_ref().map(|serial| {
            let serial = serial.as_str().as_bytes();
            // SONiC sends the serial number after `SONiC##PRODUCT##`.
            let length = serial.len() + 2;
            format!(
                "option[61].hex == 0x{NOT_HARDWARE}{own} or (substring(option[61].hex, 0, 7) == 'SONiC##' and \
                 substring(option[61].hex, -{length}, {length}) == 0x{marks}{own})",
                own = hex(serial),
                marks = hex(b"##"),
            )
        });
        by_mac.into_iter().chain(by_serial).collect::<Vec<_>>()
    };
    classes(topology, test)
}

/// The same for its DHCPv6 server.
pub fn kea6(topology: &Topology) -> String {
    let test = |switch: &Switch| {
        let Some(Mac(mac)) = switch.mac else {
            return Vec::new();
        };
        // A DUID of type 1 or 3 ends with the hardware address (RFC 8415, section 11), and so does option 79 (RFC 6939).
        let mac = hex(&mac);
        vec![
            format!("substring(option[1].hex, -6, 6) == 0x{mac}"),
            format!("substring(relay6[0].option[79].hex, -6, 6) == 0x{mac}"),
        ]
    };
    classes(topology, test)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn classes(topology: &Topology, test: impl Fn(&Switch) -> Vec<String>) -> String {
    let tests: Vec<String> = topology.switches.iter().flat_map(test).collect();
    let classes: Vec<Value> = match tests.is_empty() {
        true => Vec::new(),
        false => vec![json!({ "name": "DROP", "test": tests.join(" or ") })],
    };
    format!("{:#}\n", Value::from(classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF39, mac: "02:aa:00:00:00:01" }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", serial: AF40 }
  - { name: leaf3, role: leaf, device_id: 3, loopback_ipv4: 10.255.0.3, loopback_ipv6: "fd00:255::3", p4runtime: "192.0.2.13:9559" }
"#;

    #[test]
    fn their_servers_leave_out_what_can_be_recognised() {
        let topology = Topology::from_yaml(TOPOLOGY).unwrap();
        assert_eq!(
            dnsmasq(&topology),
            "dhcp-host=02:aa:00:00:00:01,ignore # leaf1\n# leaf2 has no MAC address in the inventory: it may be served twice\n"
        );
        let class = |text: &str| serde_json::from_str::<Value>(text).unwrap()[0].clone();
        let four = class(&kea4(&topology));
        assert_eq!(four["name"], "DROP");
        let sonic = |serial: &str| {
            format!(
                "(substring(option[61].hex, 0, 7) == 'SONiC##' and substring(option[61].hex, -6, 6) == 0x2323{serial})"
            )
        };
        let expected = [
            "pkt4.mac == 0x02aa00000001".to_owned(),
            format!("option[61].hex == 0x0041463339 or {}", sonic("41463339")),
            format!("option[61].hex == 0x0041463430 or {}", sonic("41463430")),
        ];
        assert_eq!(four["test"], expected.join(" or "));
        let six = class(&kea6(&topology));
        assert_eq!(
            six["test"],
            "substring(option[1].hex, -6, 6) == 0x02aa00000001 or substring(relay6[0].option[79].hex, -6, 6) == 0x02aa00000001"
        );
        let none = Topology::from_yaml("fabric: { name: test }\nswitches: []\n").unwrap();
        assert_eq!((kea4(&none), kea6(&none)), ("[]\n".into(), "[]\n".into()));
    }
}
