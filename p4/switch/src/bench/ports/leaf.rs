//! The fabric's leaf between two hosts: a frame comes from the tunnel of one, is bridged in a network, and goes into
//! the tunnel of the other. This is the longest path through the leaf's program that makes no copies.

use std::path::Path;

use serde_json::{Value, json};

use super::Error;
use super::traffic::udp;

/// The MAC address that the parser takes for the switch's own router MAC address.
const ROUTER: &str = "02fab0000003";
const LEAF: [u8; 4] = [10, 255, 0, 3];
const HOST1: [u8; 4] = [10, 0, 1, 1];
const HOST2: [u8; 4] = [10, 0, 1, 2];
const VNI: u32 = 10_001;
const WORKLOAD: [u8; 6] = [2, 0xaa, 0, 0, 0, 2];

fn hex(octets: &[u8]) -> String {
    octets
        .iter()
        .fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}"))
}

/// An IPv4 address in 128 bits, as the leaf uses it (RFC 4291 section 2.5.5.2).
fn mapped(address: [u8; 4]) -> String {
    let mut octets = [0; 16];
    octets[10..12].fill(0xff);
    octets[12..].copy_from_slice(&address);
    hex(&octets)
}

/// The leaf's program, with the entries that our packets hit.
pub(in crate::bench) fn with_entries(path: &Path) -> Result<Vec<u8>, Error> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read(path).map_err(|error| named(&error))?;
    let mut program: Value = serde_json::from_slice(&text).map_err(|error| named(&error))?;
    let port = |n: u16| hex(&n.to_be_bytes());
    let vtep = |n: u16| hex(&n.to_be_bytes());
    let vni = hex(&VNI.to_be_bytes()[1..]);
    let none = "0x0000".to_owned();
    let entries: [(&str, Vec<String>, &str, Vec<String>); 10] = [
        ("port_vlan", vec![port(1), none.clone()], "set_host", vec![]),
        ("port_vlan", vec![port(2), none], "set_host", vec![]),
        (
            "host_source",
            vec![port(1), mapped(HOST1)],
            "set_source_host",
            vec![vtep(11)],
        ),
        ("host_vni", vec![vtep(11), vni.clone()], "permit", vec![]),
        ("local_address", vec![mapped(LEAF)], "set_local", vec![]),
        ("vni", vec![vni.clone()], "set_network", vec!["0x000000".into()]),
        (
            "bridge_mac",
            vec![vni, hex(&WORKLOAD)],
            "bridge_to_vtep",
            vec![vtep(12)],
        ),
        (
            "remote_vtep",
            vec![vtep(12)],
            "tunnel_ipv4",
            vec![hex(&LEAF), hex(&HOST2)],
        ),
        ("underlay_route", vec![mapped(HOST2)], "to_host", vec![port(2)]),
        (
            "neighbour",
            vec![port(2)],
            "rewrite",
            vec![format!("0x{ROUTER}"), "0x020000000102".into()],
        ),
    ];
    for (table, key, action, arguments) in entries {
        add(&mut program, table, &key, action, &arguments)
            .ok_or_else(|| named(&format!("table `{table}` with action `{action}` is expected")))?;
    }
    Ok(serde_json::to_vec(&program)?)
}

fn add(program: &mut Value, table: &str, key: &[String], action: &str, arguments: &[String]) -> Option<()> {
    let ends = |name: &Value, end: &str| name.as_str().is_some_and(|n| n.rsplit('.').next() == Some(end));
    let pipelines = program.get_mut("pipelines")?.as_array_mut()?;
    let mut tables = pipelines
        .iter_mut()
        .filter_map(|p| p.get_mut("tables")?.as_array_mut())
        .flatten();
    let table = tables.find(|t| t.get("name").is_some_and(|n| ends(n, table)))?;
    let at = table.get("actions")?.as_array()?.iter().position(|a| ends(a, action))?;
    let id = table.get("action_ids")?.get(at)?.clone();
    let kinds = table.get("key")?.as_array()?.clone();
    let part = |(element, value): (&Value, &String)| match element.get("match_type").and_then(Value::as_str) {
        Some("lpm") => json!({ "match_type": "lpm", "key": value, "prefix_length": 4 * (value.len() - 2) }),
        _ => json!({ "match_type": "exact", "key": value }),
    };
    let entry = json!({
        "match_key": kinds.iter().zip(key).map(part).collect::<Vec<_>>(),
        "action_entry": { "action_id": id, "action_data": arguments },
        "priority": 1,
    });
    let entries = table.as_object_mut()?.entry("entries").or_insert_with(|| json!([]));
    entries.as_array_mut()?.push(entry);
    Some(())
}

/// A tenant's frame in the tunnel from host 1; its flow is in the outer source port, as with any VTEP.
pub(super) fn frame(flow: u16, size: usize) -> Vec<u8> {
    let mut inner = vec![0x08, 0, 0, 0];
    inner.extend([VNI.to_be_bytes()[1], VNI.to_be_bytes()[2], VNI.to_be_bytes()[3], 0]);
    inner.extend(WORKLOAD);
    // The source is another workload; the EtherType is for experiments (IEEE 802).
    inner.extend([2, 0xaa, 0, 0, 0, 1, 0x88, 0xb5]);
    inner.resize((size - 42).max(inner.len()), 0);
    let mut frame = udp([2, 0xfa, 0xb0, 0, 0, 3], LEAF, (0xc000 + flow, 4789), &inner);
    frame[26..30].copy_from_slice(&HOST1);
    frame[24..26].fill(0);
    let sum = super::traffic::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_frame_fits_the_smallest_size() {
        assert_eq!(frame(0, 64).len(), 64);
        assert_eq!(frame(63, 1400).len(), 1400);
        assert_eq!(super::super::traffic::checksum(&frame(1, 64)[14..34]), 0);
    }
}
