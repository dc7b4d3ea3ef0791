//! Metrics for a monitoring system, as OpenMetrics text.
//!
//! Everything except the two histograms is read at each request, so that nothing is counted twice or stored in two
//! places. The topology bounds the number of series: there are labels for devices, links, states and drop reasons, and
//! none for what tenants create.

use std::collections::BTreeSet;

use fabric_identity::{Expiry, Validity};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use vfabric_api::provisioning::Provisioning;
use vfabric_api::status::{DeviceState, Drops, LinkFault, LinkStatus, TableUse};

use crate::device::Numbers;
use crate::timings::AllTimings;

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Revision of the intent.
    pub revision: u64,
    /// Numbers of vDCs, networks, routers, attachments.
    pub objects: Vec<(&'static str, usize)>,
    /// VNIs not in use that devices may still hold.
    pub vnis_in_quarantine: usize,
    /// Whether changes can be stored.
    pub store_ok: bool,
    /// Rows of the store that could not be loaded.
    pub set_aside: usize,
    /// Kind (`switch`, `host`), name and numbers of each device.
    pub devices: Vec<(&'static str, String, Numbers)>,
    /// When the controller's certificate and the first of the authorities expire.
    pub certificates: Option<Expiry>,
    /// Histograms of how long devices of each kind take.
    pub timings: AllTimings,
    /// Every link.
    pub links: Vec<LinkStatus>,
    /// All losses.
    pub drops: Drops,
    /// How full the tables of switches are.
    pub tables: Vec<TableUse>,
    /// How switches came into service.
    pub provisioning: Vec<Provisioning>,
}

type Labels = Vec<(&'static str, String)>;

fn one(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

/// Registers a gauge with its value.
fn single(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

/// Registers a family of gauges with their values; values with equal labels are added up.
fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, usize)>) {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        family
            .get_or_create(&labels)
            .inc_by(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

/// Registers a family of counters.
fn counters(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn state(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Disconnected => "disconnected",
        DeviceState::Syncing => "syncing",
        DeviceState::InSync => "in_sync",
        DeviceState::Degraded => "degraded",
    }
}

fn link_state(link: &LinkStatus) -> &'static str {
    match link.fault {
        None => "up",
        Some(LinkFault::PortDown) => "port_down",
        Some(LinkFault::Silent) => "silent",
        Some(LinkFault::Miswired) => "miswired",
        Some(LinkFault::Unanswered) => "unanswered",
        Some(LinkFault::Filling) => "filling",
        Some(LinkFault::Unknown) => "unknown",
    }
}

impl Snapshot {
    /// As OpenMetrics text.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("vfabric");
        let r = &mut registry;
        single(r, "revision", "Revision of the intent", self.revision);
        let objects = self.objects.iter().map(|(kind, n)| (one("kind", kind), *n));
        gauges(r, "objects", "Objects of tenants", objects);
        let help = "VNIs not in use that devices may still hold";
        single(
            r,
            "vnis_in_quarantine",
            help,
            u64::try_from(self.vnis_in_quarantine).unwrap_or(u64::MAX),
        );
        let help = "Whether changes can be stored";
        single(r, "store_ok", help, self.store_ok.into());
        let help = "Rows of the store that could not be loaded when the controller started";
        single(r, "set_aside", help, u64::try_from(self.set_aside).unwrap_or(u64::MAX));
        self.devices(r);
        let help = "Time from a change until a device had confirmed everything";
        r.register_with_unit("apply", help, Unit::Seconds, self.timings.applied.clone());
        let help = "Time until a device answered a batch of writes";
        r.register_with_unit("write", help, Unit::Seconds, self.timings.written.clone());
        self.certificates(r);
        self.links(r);
        self.drops(r);
        self.tables(r);
        self.provisioning(r);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    fn provisioning(&self, r: &mut Registry) {
        let of = |line: &Provisioning| one("device", &line.switch);
        let in_service = self.provisioning.iter().map(|l| (of(l), usize::from(l.in_service)));
        let help = "Whether a switch holds what it should and a probe has crossed each of its links";
        gauges(r, "switch_in_service", help, in_service);
        let took = self
            .provisioning
            .iter()
            .filter_map(|l| Some((of(l), usize::try_from(l.took_ms?).ok()?)));
        let help = "Milliseconds from the first step of a switch to service, the last time";
        gauges(r, "switch_provisioning_milliseconds", help, took);
        let arrivals = self.provisioning.iter().map(|l| (of(l), l.arrivals));
        counters(r, "switch_arrivals", "How often a switch came into service", arrivals);
        let troubles = self.provisioning.iter().map(|l| {
            let count = l.steps.iter().filter(|s| s.trouble).map(|s| s.times);
            (of(l), usize::try_from(count.sum::<u64>()).unwrap_or(usize::MAX))
        });
        let help = "Troubles in the time line of a switch, since it was last lost";
        gauges(r, "switch_provisioning_troubles", help, troubles);
    }

    fn tables(&self, r: &mut Registry) {
        let gauge = |of: fn(&TableUse) -> usize| {
            self.tables.iter().map(move |table| {
                let labels = vec![("device", table.switch.to_string()), ("table", table.table.clone())];
                (labels, of(table))
            })
        };
        let help = "Entries that a table of a switch should hold";
        gauges(r, "table_entries", help, gauge(|table| table.used));
        let help = "Entries that fit into a table of a switch";
        gauges(r, "table_size", help, gauge(|table| table.size));
    }

    fn devices(&self, r: &mut Registry) {
        let states = self.devices.iter().map(|(kind, _, n)| {
            let labels = vec![("kind", (*kind).to_owned()), ("state", state(n.state).to_owned())];
            (labels, 1)
        });
        gauges(r, "devices", "Devices by state", states);
        let gauge = |of: fn(&Numbers) -> usize| {
            let devices = self.devices.iter();
            devices.map(move |(_, name, n)| (one("device", name), of(n)))
        };
        let lag = |n: &Numbers| usize::try_from(n.last_change.saturating_sub(n.epoch)).unwrap_or(usize::MAX);
        let help = "Revisions between the last change that concerns a device and what it has fully applied";
        gauges(r, "device_epoch_lag", help, gauge(lag));
        gauges(
            r,
            "device_entities",
            "Entities a device should hold",
            gauge(|n| n.desired),
        );
        gauges(r, "device_pending", "Entities not confirmed", gauge(|n| n.pending));
        gauges(r, "device_failed", "Entities refused", gauge(|n| n.failed));
        let counter = |of: fn(&Numbers) -> u64| {
            let devices = self.devices.iter();
            devices.map(move |(_, name, n)| (one("device", name), of(n)))
        };
        counters(r, "device_writes", "Entities written", counter(|n| n.writes));
        counters(
            r,
            "device_repairs",
            "Entities found changed and repaired",
            counter(|n| n.repairs),
        );
        counters(
            r,
            "device_retries",
            "Rounds in which refused entities were tried again",
            counter(|n| n.retries),
        );
        counters(r, "device_connects", "Sessions opened", counter(|n| n.connects));
    }

    fn certificates(&self, r: &mut Registry) {
        let expiries = self.certificates.iter();
        let expiries = expiries.flat_map(|e| [("controller", e.own), ("authority", e.authority)]);
        let at = |validity: Validity| usize::try_from(validity.not_after).unwrap_or(0);
        let help = "When a certificate expires, in seconds since 1970";
        let values = expiries.map(|(name, validity)| (one("certificate", name), at(validity)));
        gauges(r, "certificate_not_after_seconds", help, values);
        let devices = self.devices.iter();
        let shown = devices.filter_map(|(_, name, n)| Some((one("device", name), n.certificate_not_after?)));
        let values = shown.map(|(labels, at)| (labels, usize::try_from(at).unwrap_or(0)));
        let help = "When the certificate expires that a device has shown, in seconds since 1970";
        gauges(r, "device_certificate_not_after_seconds", help, values);
    }

    fn links(&self, r: &mut Registry) {
        let states = self.links.iter().map(|l| (one("state", link_state(l)), 1));
        gauges(r, "links", "Links between switches by state", states);
        let each = self.links.iter().map(|l| {
            let [a, b] = [&l.a, &l.b].map(|end| format!("{}:{}", end.switch, end.port));
            (vec![("a", a), ("b", b)], usize::from(l.up))
        });
        gauges(r, "link_up", "Whether a link is used", each);
    }

    fn drops(&self, r: &mut Registry) {
        let counts = self.drops.counts.iter().map(|d| {
            // An attachment is never a label, so that tenants cannot add series.
            let port = d
                .place
                .as_deref()
                .and_then(|p| p.strip_prefix("port "))
                .unwrap_or_default();
            let (device, port) = (("device", d.device.to_string()), ("port", port.to_owned()));
            (vec![device, port, ("reason", d.reason.clone())], d.packets)
        });
        let help = "Packets that devices lost or refused, since they began to count";
        counters(r, "dropped_packets", help, counts);
        let missing: BTreeSet<&str> = self.drops.missing.iter().map(|m| m.device.as_str()).collect();
        let devices = self.devices.iter().map(|(_, name, _)| name);
        let unread = devices.map(|name| (one("device", name), usize::from(missing.contains(name.as_str()))));
        let help = "Whether a device did not return all of its losses";
        gauges(r, "drops_unread", help, unread);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vfabric_api::status::{DeviceReason, DropCount};

    use super::*;

    fn link(a: u16, fault: Option<LinkFault>) -> LinkStatus {
        let end = |switch: &str, port: u16| vfabric_api::topology::PortRef {
            switch: switch.parse().unwrap(),
            port: port.try_into().unwrap(),
        };
        LinkStatus {
            a: end("leaf1", a),
            b: end("spine1", 1),
            up: fault.is_none(),
            fault,
            reason: None,
            mismatch: None,
        }
    }

    fn lost(device: &str, place: Option<&str>, reason: &str, packets: u64) -> DropCount {
        DropCount {
            device: device.parse().unwrap(),
            place: place.map(str::to_owned),
            reason: reason.into(),
            host: None,
            packets,
            bytes: None,
        }
    }

    #[test]
    fn everything_is_shown_in_open_metrics_text() {
        let timings = AllTimings::default();
        timings.of("switch").applied(Duration::from_millis(20));
        let numbers = Numbers {
            state: DeviceState::Degraded,
            last_change: 9,
            epoch: 7,
            desired: 5,
            pending: 2,
            failed: 1,
            writes: 40,
            repairs: 3,
            retries: 4,
            connects: 2,
            certificate_not_after: Some(1_700_000_000),
        };
        let text = Snapshot {
            revision: 9,
            objects: vec![("vdc", 1), ("network", 2), ("router", 0), ("attachment", 3)],
            vnis_in_quarantine: 1,
            store_ok: true,
            set_aside: 3,
            devices: vec![("switch", "leaf1".into(), numbers), ("switch", "leaf2".into(), numbers)],
            certificates: Some(Expiry {
                own: Validity {
                    not_before: 0,
                    not_after: 1_800_000_000,
                },
                authority: Validity {
                    not_before: 0,
                    not_after: 1_900_000_000,
                },
            }),
            timings,
            links: vec![link(1, None), link(2, Some(LinkFault::Miswired))],
            drops: Drops {
                counts: vec![
                    lost("leaf1", None, "host_vni", 12),
                    lost("leaf1", Some("port 3"), "in-discards", 4),
                    lost("host1", Some("blue/web1"), "source-mac", 2),
                    lost("host1", Some("red/web1"), "source-mac", 3),
                ],
                missing: vec![DeviceReason {
                    device: "leaf2".parse().unwrap(),
                    reason: "does not answer".into(),
                }],
            },
            tables: vec![TableUse {
                switch: "leaf1".parse().unwrap(),
                table: "bridge_mac".into(),
                size: 10,
                used: 4,
                free: 6,
            }],
            provisioning: vec![Provisioning {
                switch: "leaf1".parse().unwrap(),
                in_service: true,
                waits_for: None,
                took_ms: Some(1500),
                last_error: None,
                arrivals: 2,
                steps: Vec::new(),
                left_out: 0,
            }],
        }
        .text();
        for line in [
            "vfabric_revision 9",
            "vfabric_store_ok 1",
            "vfabric_set_aside 3",
            r#"vfabric_switch_in_service{device="leaf1"} 1"#,
            r#"vfabric_switch_provisioning_milliseconds{device="leaf1"} 1500"#,
            r#"vfabric_switch_arrivals_total{device="leaf1"} 2"#,
            r#"vfabric_objects{kind="network"} 2"#,
            r#"vfabric_devices{kind="switch",state="degraded"} 2"#,
            r#"vfabric_device_epoch_lag{device="leaf1"} 2"#,
            r#"vfabric_device_pending{device="leaf1"} 2"#,
            r#"vfabric_device_failed{device="leaf1"} 1"#,
            r#"vfabric_device_writes_total{device="leaf1"} 40"#,
            r#"vfabric_device_retries_total{device="leaf1"} 4"#,
            r#"vfabric_apply_seconds_count{kind="switch"} 1"#,
            r#"vfabric_apply_seconds_bucket{le="0.025",kind="switch"} 1"#,
            r#"vfabric_certificate_not_after_seconds{certificate="controller"} 1800000000"#,
            r#"vfabric_certificate_not_after_seconds{certificate="authority"} 1900000000"#,
            r#"vfabric_links{state="miswired"} 1"#,
            r#"vfabric_link_up{a="leaf1:1",b="spine1:1"} 1"#,
            r#"vfabric_device_certificate_not_after_seconds{device="leaf1"} 1700000000"#,
            r#"vfabric_dropped_packets_total{device="leaf1",port="",reason="host_vni"} 12"#,
            r#"vfabric_dropped_packets_total{device="leaf1",port="3",reason="in-discards"} 4"#,
            r#"vfabric_dropped_packets_total{device="host1",port="",reason="source-mac"} 5"#,
            r#"vfabric_table_entries{device="leaf1",table="bridge_mac"} 4"#,
            r#"vfabric_table_size{device="leaf1",table="bridge_mac"} 10"#,
            r#"vfabric_drops_unread{device="leaf1"} 0"#,
            r#"vfabric_drops_unread{device="leaf2"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
    }
}
