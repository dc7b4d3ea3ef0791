//! A small fabric for tests: two leaves, two spines, three hosts.

use vfabric_api::topology::Topology;

const TWO_LEAVES: &str = r#"
fabric: { name: test }
switches:
  - { name: spine1, role: spine, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.1:9559" }
  - { name: spine2, role: spine, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.2:9559" }
  - { name: leaf1, role: leaf, device_id: 3, loopback_ipv4: 10.255.0.3, loopback_ipv6: "fd00:255::3", p4runtime: "192.0.2.3:9559", access_ports: [10, 11] }
  - { name: leaf2, role: leaf, device_id: 4, loopback_ipv4: 10.255.0.4, loopback_ipv6: "fd00:255::4", p4runtime: "192.0.2.4:9559", access_ports: [10] }
links:
  - { a: { switch: leaf1, port: 1 }, b: { switch: spine1, port: 1 } }
  - { a: { switch: leaf1, port: 2 }, b: { switch: spine2, port: 1 } }
  - { a: { switch: leaf2, port: 1 }, b: { switch: spine1, port: 2 } }
  - { a: { switch: leaf2, port: 2 }, b: { switch: spine2, port: 2 } }
hosts:
  - { name: host1, uplink: { switch: leaf1, port: 3 }, mac: "02:00:00:00:01:01", vtep_ipv4: 10.255.1.1, vtep_ipv6: "fd00:255:1::1" }
  - { name: host2, uplink: { switch: leaf1, port: 4 }, mac: "02:00:00:00:01:02", vtep_ipv4: 10.255.1.2, vtep_ipv6: "fd00:255:1::2" }
  - { name: host3, uplink: { switch: leaf2, port: 3 }, mac: "02:00:00:00:01:03", vtep_ipv4: 10.255.1.3, vtep_ipv6: "fd00:255:1::3" }
"#;

/// The fabric.
pub(crate) fn topology() -> Topology {
    Topology::from_yaml(TWO_LEAVES).unwrap()
}
