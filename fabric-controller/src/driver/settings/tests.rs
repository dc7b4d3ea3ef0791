//! What is set on a switch that reports something else, per target.

use gnmi_proto::gnmi::typed_value::Value;
use gnmi_proto::gnmi::{Notification, TypedValue, Update};
use vfabric_api::ethernet::{Breakout, PortSettings};

use super::seen::{Repair, key_of};
use super::*;

fn plan() -> Settings {
    let port = |port: u16, speed, fec| {
        let port = port.try_into().unwrap();
        let settings = PortSettings {
            port,
            speed,
            fec,
            auto_negotiate: None,
        };
        (port, settings)
    };
    Settings {
        hostname: Some("leaf1".into()),
        ports: [
            port(1, Some(Speed::G25), Some(Fec::Rs528)),
            port(2, None, Some(Fec::Disabled)),
        ]
        .into(),
        breakouts: vec![Breakout {
            component: "1/1".into(),
            ports: 4,
            speed: Speed::G25,
            lanes: None,
        }],
    }
}

fn path(text: &[&str]) -> Path {
    let elem = |name: &&str| match name.split_once('=') {
        Some((name, value)) if name == "interface" || name == "component" => keyed(name, "name", value),
        Some((name, value)) => keyed(name, "index", value),
        None => elem(name),
    };
    path_of(text.iter().map(elem))
}

fn says(text: &[&str], value: &str) -> Notification {
    let value = Some(Value::StringVal(value.into()));
    Notification {
        update: vec![Update {
            path: Some(path(text)),
            val: Some(TypedValue { value }),
            ..Update::default()
        }],
        ..Notification::default()
    }
}

/// Paths and values that are set.
fn set(repairs: &[Repair]) -> Vec<(String, String)> {
    let updates = repairs.iter().flat_map(|repair| &repair.updates);
    let value = |update: &Update| match update.val.as_ref().unwrap().value.as_ref().unwrap() {
        Value::JsonIetfVal(text) => String::from_utf8(text.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    updates
        .map(|update| (key_of(None, update.path.as_ref()), value(update)))
        .collect()
}

fn port(id: &str, leaf: &str) -> String {
    format!("/interfaces/interface[name={id}]/ethernet/config/{leaf}")
}

#[test]
fn what_differs_is_set_once_and_put_right_when_others_change_it() {
    let (plan, mut seen) = (plan(), Seen::default());
    seen.update(&says(&["system", "config", "hostname"], "blank"));
    let (repairs, _) = seen.repairs(Part::HostName, &plan, Dialect::OPENCONFIG);
    assert_eq!(
        set(&repairs),
        [("/system/config/hostname".to_owned(), "\"leaf1\"".to_owned())]
    );
    assert!(!repairs[0].is_drift, "nobody changed it: it was never right");
    seen.took(&repairs[0]);
    assert_eq!(
        seen.repairs(Part::HostName, &plan, Dialect::OPENCONFIG),
        (vec![], vec![])
    );
    seen.update(&says(&["system", "config", "hostname"], "mine"));
    let (repairs, _) = seen.repairs(Part::HostName, &plan, Dialect::OPENCONFIG);
    assert!(repairs[0].is_drift);
    assert_eq!(repairs[0].what, "the switch: hostname was `mine` instead of `leaf1`");
}

#[test]
fn targets_get_their_own_names_and_absent_ports_are_named() {
    let plan = plan();
    for (dialect, leaf, value) in [
        (Dialect::OPENCONFIG, "fec-mode", "\"openconfig-if-ethernet:FEC_RS528\""),
        (Dialect::SONIC, "port-fec", "\"openconfig-platform-ext:FEC_RS\""),
    ] {
        let mut seen = Seen::default();
        seen.update(&says(&["interfaces", "interface=Ethernet0", "config", "id"], "1"));
        let (repairs, faults) = seen.repairs(Part::Fec, &plan, dialect);
        assert_eq!(set(&repairs), [(port("Ethernet0", leaf), value.to_owned())]);
        assert_eq!(faults, ["the switch has no port 2"]);
        let (repairs, _) = seen.repairs(Part::Speed, &plan, dialect);
        let speed = "\"openconfig-if-ethernet:SPEED_25GB\"".to_owned();
        assert_eq!(set(&repairs), [(port("Ethernet0", "port-speed"), speed)]);
        // Reported with module names, and on an interface whose name is its number.
        seen.update(&says(
            &["interfaces", "interface=Ethernet0", "ethernet", "config", "port-speed"],
            "SPEED_25GB",
        ));
        seen.update(&says(
            &["interfaces", "interface=2", "ethernet", "config", leaf],
            "x:FEC_RS",
        ));
        assert_eq!(seen.repairs(Part::Speed, &plan, dialect), (vec![], vec![]));
        let (repairs, faults) = seen.repairs(Part::Fec, &plan, dialect);
        assert!(faults.is_empty() && repairs.len() == 2, "{repairs:?}");
    }
}

#[test]
fn a_breakout_is_set_whole_in_the_group_that_the_switch_has() {
    let plan = plan();
    let groups = "/components/component[name=1/1]/port/breakout-mode/groups/group";
    let whole = |index: u8| {
        let config = r#"{"breakout-speed":"openconfig-if-ethernet:SPEED_25GB","index":N,"num-breakouts":4}"#;
        format!(r#"{{"config":{config},"index":N}}"#).replace('N', &index.to_string())
    };
    let mut seen = Seen::default();
    for (dialect, index) in [(Dialect::OPENCONFIG, 0), (Dialect::SONIC, 1)] {
        let (repairs, _) = seen.repairs(Part::Breakout, &plan, dialect);
        assert_eq!(set(&repairs), [(format!("{groups}[index={index}]"), whole(index))]);
    }
    let group = [
        "components",
        "component=1/1",
        "port",
        "breakout-mode",
        "groups",
        "group=7",
        "config",
    ];
    let leaf = |name: &'static str| group.iter().copied().chain([name]).collect::<Vec<_>>();
    seen.update(&says(&leaf("num-breakouts"), "1"));
    let (repairs, _) = seen.repairs(Part::Breakout, &plan, Dialect::OPENCONFIG);
    assert_eq!(set(&repairs), [(format!("{groups}[index=7]"), whole(7))]);
    seen.update(&says(&leaf("num-breakouts"), "4"));
    seen.update(&says(&leaf("breakout-speed"), "SPEED_25GB"));
    assert_eq!(
        seen.repairs(Part::Breakout, &plan, Dialect::OPENCONFIG),
        (vec![], vec![])
    );
}
