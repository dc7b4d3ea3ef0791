//! Host name, speed, negotiation and forward error correction over gNMI on a served `p4-switch` with ports in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fabric_controller::device::driver::{Event, Warning};
use fabric_controller::device::ports::Ports;
use fabric_controller::device::settings::{OnWire, Settings};
use fabric_controller::driver::settings::keep_settings;
use p4_switch::gnmi::ethernet::Fec;
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnmi::tree::{Counters, Interface, Interfaces as _};
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use vfabric_api::ethernet::{Breakout, PortSettings, Speed};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn port(name: &str, id: u32) -> Interface {
    Interface {
        name: name.into(),
        id,
        ifindex: id,
        enabled: true,
        shut: false,
        is_up: true,
        mtu: 9000,
        mac: [0; 6],
        speed_bps: Some(10_000_000_000),
        ethernet: Default::default(),
        description: String::new(),
        counters: Counters::default(),
    }
}

async fn start(interfaces: &Arc<MemoryInterfaces>) -> Channel {
    let device = Arc::new(MemoryDevice::new(Some(510), BTreeMap::from([(1, "a".to_owned())])));
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServeConfig {
        device_id: 1,
        tls: None,
        pipeline: None,
        gnoi: None,
        commands: None,
    };
    let (_, events) = mpsc::channel(EVENT_QUEUE);
    let interfaces = Arc::clone(interfaces);
    tokio::spawn(serve(
        config,
        listener,
        device,
        interfaces,
        events,
        std::future::pending(),
    ));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, so)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

/// Waits for an event.
async fn event(events: &mut mpsc::Receiver<Event>, is_it: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.recv().await.unwrap();
            if is_it(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

fn wanted(speed: Speed) -> Settings {
    let port = PortSettings {
        port: 1.try_into().unwrap(),
        speed: Some(speed),
        fec: Some(vfabric_api::ethernet::Fec::Rs528),
        auto_negotiate: Some(false),
    };
    Settings {
        hostname: Some("leaf1".into()),
        ports: [(port.port, port)].into(),
        breakouts: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_gets_its_name_speed_and_error_correction_and_keeps_them() {
    let interfaces = Arc::new(MemoryInterfaces::new("blank", [port("a", 1), port("b", 2)]));
    let channel = start(&interfaces).await;
    let plan = Ports::default();
    plan.set_settings(wanted(Speed::G25));
    let (sender, mut events) = mpsc::channel(64);
    tokio::spawn(keep_settings(channel, plan.follow_settings(), sender));
    let is = |bps: u64| {
        let a = interfaces.get("a").unwrap();
        let wire = (a.speed_bps, a.ethernet.auto_negotiate, a.ethernet.fec);
        interfaces.hostname() == "leaf1" && wire == (Some(bps), Some(false), Some(Fec::Rs528))
    };
    until("it is set as the inventory says", || is(25_000_000_000)).await;
    // What the ports use is reported, also of a port for which nothing is asked.
    for (port, speed) in [(2u16, Speed::G10), (1, Speed::G25)] {
        let news = Event::OnWire(port.try_into().unwrap(), OnWire::Speed(Some(speed)));
        event(&mut events, |event| *event == news).await;
    }
    assert_eq!(
        interfaces.get("b").unwrap().speed_bps,
        Some(10_000_000_000),
        "left alone"
    );
    // Somebody else changes both.
    interfaces.set_hostname("mine").unwrap();
    let Event::Repaired(what) = event(&mut events, |event| matches!(event, Event::Repaired(_))).await else {
        unreachable!()
    };
    assert!(what.contains("hostname was `mine`"), "{what}");
    let mut config = interfaces.get("a").unwrap().ethernet.config;
    config.speed_bps = Some(1_000_000_000);
    interfaces.set_ethernet("a", config).unwrap();
    let Event::Repaired(what) = event(&mut events, |event| matches!(event, Event::Repaired(_))).await else {
        unreachable!()
    };
    assert!(what.contains("port 1 (a): port-speed was `SPEED_1GB`"), "{what}");
    until("it is as before", || is(25_000_000_000)).await;
    // The inventory changes.
    plan.set_settings(wanted(Speed::G100));
    until("it follows the inventory", || is(100_000_000_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_does_not_have_is_named_once_and_absent_ports_are_named() {
    let interfaces = Arc::new(MemoryInterfaces::new("leaf1", [port("b", 2)]));
    let channel = start(&interfaces).await;
    let plan = Ports::default();
    let breakouts = vec![Breakout {
        component: "1/1".into(),
        ports: 4,
        speed: Speed::G25,
        lanes: None,
    }];
    plan.set_settings(Settings {
        breakouts,
        ..wanted(Speed::G25)
    });
    let (sender, mut events) = mpsc::channel(64);
    tokio::spawn(keep_settings(channel, plan.follow_settings(), sender));
    let mut said = BTreeMap::new();
    while said.len() < 3 {
        let warned = event(&mut events, |event| matches!(event, Event::Warning(_, Some(_)))).await;
        if let Event::Warning(about, Some(words)) = warned {
            said.insert(about, words);
        }
    }
    assert_eq!(said[&Warning::Speed], "the switch has no port 1");
    assert_eq!(said[&Warning::Fec], "the switch has no port 1");
    let breakout = &said[&Warning::Breakout];
    assert!(
        breakout.contains("breakouts: this target cannot set it over gNMI"),
        "{breakout}"
    );
    // The inventory no longer asks for it: nothing is wrong any more.
    plan.set_settings(Settings {
        hostname: Some("leaf1".into()),
        ..Settings::default()
    });
    let mut well = std::collections::BTreeSet::new();
    while well.len() < 3 {
        let ended = event(&mut events, |event| matches!(event, Event::Warning(_, None))).await;
        if let Event::Warning(about, None) = ended
            && said.contains_key(&about)
        {
            well.insert(about);
        }
    }
}
