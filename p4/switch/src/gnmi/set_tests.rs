//! Changes of the configuration on interfaces in memory.

use super::super::ethernet::{Ethernet, Fec};
use super::super::memory::MemoryInterfaces;
use super::super::tree::{Counters, PipelineState};
use super::*;
use std::sync::Arc;
use tokio::sync::broadcast;

fn device(name: &str, id: u32) -> Interface {
    Interface {
        name: name.to_owned(),
        id,
        ifindex: 7,
        enabled: false,
        shut: false,
        is_up: false,
        mtu: 1500,
        mac: [0; 6],
        speed_bps: None,
        ethernet: Ethernet::default(),
        description: String::new(),
        counters: Counters::default(),
    }
}

fn switch() -> MemoryInterfaces {
    MemoryInterfaces::new("s", [device("p1", 1), device("p2", 2)]).with_spare([device("p3", 0), device("p4", 0)])
}

fn interface(name: &str) -> Vec<Elem> {
    vec![Elem::new("interfaces"), Elem::keyed("interface", "name", name)]
}

fn json(text: &str) -> gnmi::TypedValue {
    gnmi::TypedValue {
        value: Some(Wire::JsonIetfVal(text.into())),
    }
}

fn set(source: &dyn Interfaces, change: impl FnOnce(&mut Config) -> Result<(), Status>) -> Result<(), Status> {
    let from = Config::of(source);
    let mut to = from.clone();
    change(&mut to)?;
    apply(source, &steps(source, &from, &to)?)
}

fn update(config: &mut Config, name: &str, text: &str) -> Result<(), Status> {
    config.update(&interface(name), &json(text))
}

fn numbers(source: &dyn Interfaces) -> Vec<(String, u32)> {
    source.list().into_iter().map(|i| (i.name, i.id)).collect()
}

#[test]
fn a_new_port_has_a_number_and_is_enabled() {
    let s = switch();
    set(&s, |c| {
        update(
            c,
            "p3",
            r#"{"name":"p3","config":{"id":3,"description":"to the spine"}}"#,
        )
    })
    .unwrap();
    let p3 = s.get("p3").unwrap();
    assert_eq!((p3.id, p3.enabled, p3.mtu), (3, true, 1500));
    assert_eq!(p3.description, "to the spine");
    set(&s, |c| {
        update(
            c,
            "p4",
            r#"{"config":{"openconfig-p4rt:id":4,"enabled":false,"mtu":9000}}"#,
        )
    })
    .unwrap();
    let p4 = s.get("p4").unwrap();
    assert_eq!((p4.enabled, p4.mtu), (false, 9000));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    use tonic::Code;
    let refused = |name: &str, text: &str| {
        let s = switch();
        let both = set(&s, |c| {
            update(c, "p3", r#"{"config":{"id":3}}"#)?;
            update(c, name, text)
        });
        assert_eq!(numbers(&s).len(), 2, "{name} {text}");
        both.unwrap_err().code()
    };
    assert_eq!(refused("p9", r#"{"config":{"id":9}}"#), Code::NotFound);
    assert_eq!(refused("p4", r#"{"config":{"id":1}}"#), Code::AlreadyExists);
    assert_eq!(refused("p4", r#"{"config":{"id":3}}"#), Code::AlreadyExists);
    assert_eq!(refused("p4", r#"{"config":{"mtu":9000}}"#), Code::InvalidArgument);
    for id in ["0", "4294967040", "-1", "1.5", "true"] {
        assert_eq!(
            refused("p4", &format!(r#"{{"config":{{"id":{id}}}}}"#)),
            Code::InvalidArgument,
            "{id}"
        );
    }
    assert_eq!(
        refused("p4", r#"{"config":{"id":4,"name":"p5"}}"#),
        Code::InvalidArgument
    );
    assert_eq!(
        refused("p4", r#"{"config":{"id":4,"type":"softwareLoopback"}}"#),
        Code::InvalidArgument
    );
    assert_eq!(refused("a/b", r#"{"config":{"id":4}}"#), Code::InvalidArgument);
    assert_eq!(refused("p4", r#"{"state":{"id":4}}"#), Code::PermissionDenied);
    assert_eq!(refused("p4", r#"{"config":{"colour":4}}"#), Code::NotFound);
    assert_eq!(refused("*", r#"{"config":{"id":4}}"#), Code::InvalidArgument);
}

#[test]
fn deletions_are_before_replacements_and_these_before_updates() {
    let s = switch();
    set(&s, |c| {
        c.delete(&interface("p1"))?;
        c.delete(&interface("p9"))?;
        update(c, "p3", r#"{"config":{"id":1}}"#)
    })
    .unwrap();
    assert_eq!(numbers(&s), [("p2".to_owned(), 2), ("p3".to_owned(), 1)]);
    // A replacement of everything: the other interfaces are removed.
    let all = json(r#"{"interface":[{"name":"p4","config":{"name":"p4","id":8}}]}"#);
    set(&s, |c| c.replace(&[Elem::new("interfaces")], &all)).unwrap();
    assert_eq!(numbers(&s), [("p4".to_owned(), 8)]);
    set(&s, |c| {
        c.delete(&[Elem::new("interfaces"), Elem::keyed("interface", "name", "*")])
    })
    .unwrap();
    assert_eq!(numbers(&s), []);
    let hostname = ["system", "config", "hostname"].map(Elem::new);
    let always = set(&s, |c| c.delete(&hostname)).unwrap_err();
    assert_eq!(always.code(), tonic::Code::InvalidArgument);
}

#[test]
fn what_is_replaced_has_its_defaults_again() {
    let s = switch();
    set(&s, |c| {
        update(c, "p1", r#"{"config":{"description":"x","mtu":9000,"enabled":false}}"#)
    })
    .unwrap();
    set(&s, |c| c.replace(&interface("p1"), &json(r#"{"config":{"id":1}}"#))).unwrap();
    let p1 = s.get("p1").unwrap();
    assert_eq!((p1.description.as_str(), p1.enabled, p1.mtu), ("", true, 9000));
}

#[test]
fn what_somebody_shut_on_the_switch_itself_is_not_configured_so() {
    let s = switch();
    let open = |config: &mut Config| update(config, "p1", r#"{"config":{"enabled":true}}"#);
    // The device of p1 is down, although no request asked for that.
    assert_eq!(Config::of(&s).interfaces["p1"].enabled, Some(true));
    set(&s, |c| {
        c.update(&["system", "config", "hostname"].map(Elem::new), &json("\"x\""))
    })
    .unwrap();
    assert!(
        !s.get("p1").unwrap().enabled,
        "a request about something else opened it"
    );
    set(&s, open).unwrap();
    assert!(s.get("p1").unwrap().enabled);
    set(&s, |c| update(c, "p1", r#"{"config":{"enabled":false}}"#)).unwrap();
    let config = Config::of(&s).interfaces["p1"].clone();
    assert_eq!((config.enabled, s.get("p1").unwrap().shut), (Some(false), true));
    set(&s, open).unwrap();
    assert!(!s.get("p1").unwrap().shut);
}

/// Its MTU cannot be set.
struct Stubborn(MemoryInterfaces);

impl Interfaces for Stubborn {
    fn list(&self) -> Vec<Interface> {
        self.0.list()
    }
    fn get(&self, name: &str) -> Option<Interface> {
        self.0.get(name)
    }
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Status> {
        self.0.set_enabled(name, enabled)
    }
    fn set_mtu(&self, _: &str, _: u16) -> Result<(), Status> {
        Err(Status::failed_precondition("no"))
    }
    fn set_description(&self, name: &str, description: &str) -> Result<(), Status> {
        self.0.set_description(name, description)
    }
    fn set_ethernet(&self, name: &str, settings: Settings) -> Result<(), Status> {
        self.0.set_ethernet(name, settings)
    }
    fn check_new(&self, name: &str, id: u32) -> Result<(), Status> {
        self.0.check_new(name, id)
    }
    fn add(&self, name: &str, id: u32) -> Result<Interface, Status> {
        self.0.add(name, id)
    }
    fn remove(&self, name: &str) -> Result<(), Status> {
        self.0.remove(name)
    }
    fn pipeline(&self) -> PipelineState {
        self.0.pipeline()
    }
    fn hostname(&self) -> String {
        self.0.hostname()
    }
    fn set_hostname(&self, hostname: &str) -> Result<(), Status> {
        self.0.set_hostname(hostname)
    }
    fn changes(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.0.changes()
    }
}

#[test]
fn a_step_that_fails_undoes_those_before() {
    let s = Stubborn(switch());
    s.0.set_description("p1", "first").unwrap();
    let before = (s.list(), s.hostname());
    let failed = set(&s, |c| {
        c.delete(&interface("p1"))?;
        update(c, "p2", r#"{"config":{"id":5}}"#)?;
        update(c, "p3", r#"{"config":{"id":1}}"#)?;
        update(c, "p4", r#"{"config":{"id":4,"mtu":9000}}"#)
    });
    assert_eq!(failed.unwrap_err().message(), "no");
    assert_eq!((s.list(), s.hostname()), before);
}

#[test]
fn speed_negotiation_and_error_correction_are_set_together_and_deleted_one_by_one() {
    let s = switch();
    let wire = r#"{"ethernet":{"config":{"port-speed":"openconfig-if-ethernet:SPEED_25GB","auto-negotiate":false,"fec-mode":"FEC_RS528"}}}"#;
    set(&s, |c| update(c, "p1", wire)).unwrap();
    let p1 = s.get("p1").unwrap();
    assert_eq!(
        (p1.speed_bps, p1.ethernet.fec),
        (Some(25_000_000_000), Some(Fec::Rs528))
    );
    assert_eq!(p1.ethernet.config.auto_negotiate, Some(false));
    let leaf = |name: &str| {
        let mut path = interface("p1");
        path.extend(["ethernet", "config", name].map(Elem::new));
        path
    };
    set(&s, |c| c.delete(&leaf("fec-mode"))).unwrap();
    let p1 = s.get("p1").unwrap();
    // The device keeps what it has; nothing is asked of it any more.
    assert_eq!((p1.ethernet.config.fec, p1.ethernet.fec), (None, Some(Fec::Rs528)));
    for (name, value) in [
        ("port-speed", "\"SPEED_26GB\""),
        ("fec-mode", "\"FEC_RS\""),
        ("auto-negotiate", "1"),
        ("port-speed", "25"),
    ] {
        let refused = set(&s, |c| c.update(&leaf(name), &json(value))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(name), "{refused}");
    }
    // A replacement of the whole interface asks for nothing of this.
    set(&s, |c| c.replace(&interface("p1"), &json(r#"{"config":{"id":1}}"#))).unwrap();
    assert_eq!(s.get("p1").unwrap().ethernet.config, Settings::default());
}
