//! The controller's driver against `p4-switch`'s P4Runtime server, over mutual TLS. The two share only the message
//! types, so each checks the other. The server has no dataplane here.

use std::sync::Arc;

use fabric_controller::device::ports::Ports;
use fabric_controller::{
    device::driver::{Batch, Driver, DriverError, Event, Warning, Write},
    driver::p4runtime::{P4RuntimeDriver, SwitchConfig},
    entity::{Entity as DeviceEntity, SwitchEntity},
};
use fabric_identity::testing::Authority;
use fabric_identity::{Dialer, Subject};
use gnmi_proto::gnmi::g_nmi_server::GNmiServer;
use p4_switch::gnmi::{
    self,
    memory::MemoryInterfaces,
    tree::{Counters, Interface, Interfaces as _},
};
use p4_switch::p4runtime::{
    action::Call,
    entries::Entries,
    error::EntityError,
    info::Info,
    ports::PortNames,
    server::Server,
    service::Service,
    state::State,
    streams::PuntCounters,
    target::{ColourCounts, CounterValue, Device, InitialEntry, Op, Owner, Target},
};
use p4runtime_client::{
    entity::{ActionCall, CloneValue, GroupMember, Match, Port, Replica, TableAction, TableKey},
    pipeline::Pipeline,
};
use p4runtime_grpc::p4_runtime_server::P4RuntimeServer;
use p4runtime_proto::p4::config::v1::{
    Action, ActionProfile, ActionRef, MatchField, P4Info, Preamble, Table,
    action::Param,
    match_field::{Match as MatchKind, MatchType},
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use vfabric_api::provisioning::BootStep;

const ROUTE: u32 = 0x0200_0001;
const ACL: u32 = 0x0200_0002;
const SPREAD: u32 = 0x0200_0003;
const FORWARD: u32 = 0x0100_0001;
const PATHS: u32 = 0x1100_0001;

/// A switch without a dataplane.
struct NoPackets;

impl Target for NoPackets {
    fn initial_entries(&self, _: usize) -> Vec<InitialEntry> {
        Vec::new()
    }
    fn initial_default(&self, _: usize) -> Option<Call> {
        None
    }
    fn adopt(&mut self, _: usize, _: &Entries) {}
    fn apply(&mut self, _: &State, _: Vec<Op>) -> Result<(), EntityError> {
        Ok(())
    }
    fn counter(&self, _: usize, _: usize) -> CounterValue {
        CounterValue::default()
    }
    fn direct_counter(&self, _: usize, _: Owner) -> CounterValue {
        CounterValue::default()
    }
    fn meter_colours(&self, _: usize, _: usize) -> ColourCounts {
        ColourCounts::default()
    }
    fn direct_meter_colours(&self, _: usize, _: Owner) -> ColourCounts {
        ColourCounts::default()
    }
    fn register(&self, _: usize, _: usize) -> Vec<u8> {
        Vec::new()
    }
    fn since_last_hit_ns(&self, _: usize, _: u32) -> u64 {
        0
    }
    fn activate(&mut self) {}
}

impl Device for NoPackets {
    fn load(&self, _: &mut Info, _: &[u8]) -> Result<Box<dyn Target>, EntityError> {
        Ok(Box::new(Self))
    }
    fn cpu_port(&self) -> Option<u32> {
        Some(510)
    }
    fn ports(&self) -> Arc<PortNames> {
        Arc::new(PortNames::new((0..512).map(|port| (format!("p{port}"), port))))
    }
    fn punted(&self) -> Arc<PuntCounters> {
        Arc::default()
    }
    fn packet_out(&self, _: Vec<u8>) -> Result<(), EntityError> {
        Ok(())
    }
}

fn preamble(id: u32, name: &str) -> Option<Preamble> {
    Some(Preamble {
        id,
        name: name.into(),
        alias: name.into(),
        ..Default::default()
    })
}

fn p4info() -> P4Info {
    let field = |id, kind: MatchType, bitwidth| MatchField {
        id,
        name: format!("f{id}"),
        bitwidth,
        r#match: Some(MatchKind::MatchType(kind.into())),
        ..Default::default()
    };
    let table = |id, name: &str, match_fields, implementation_id| Table {
        preamble: preamble(id, name),
        match_fields,
        action_refs: vec![ActionRef {
            id: FORWARD,
            ..Default::default()
        }],
        implementation_id,
        size: 1024,
        ..Default::default()
    };
    let (exact, lpm, ternary) = (MatchType::Exact, MatchType::Lpm, MatchType::Ternary);
    P4Info {
        tables: vec![
            table(ROUTE, "route", vec![field(1, exact, 24), field(2, lpm, 128)], 0),
            table(ACL, "acl", vec![field(1, ternary, 32), field(2, ternary, 16)], 0),
            table(SPREAD, "spread", vec![field(1, lpm, 32)], PATHS),
        ],
        actions: vec![Action {
            preamble: preamble(FORWARD, "forward"),
            params: vec![Param {
                id: 1,
                name: "port".into(),
                bitwidth: 9,
                ..Default::default()
            }],
        }],
        action_profiles: vec![ActionProfile {
            preamble: preamble(PATHS, "paths"),
            table_ids: vec![SPREAD],
            with_selector: true,
            size: 64,
            max_group_size: 16,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn forward(port: u16) -> ActionCall {
    ActionCall::new(FORWARD, [(1, port.to_be_bytes())])
}

/// One entity of each kind that the fabric uses, in the order of creation.
fn entities() -> Vec<SwitchEntity> {
    let member = |member_id, port| GroupMember {
        member_id,
        weight: 1,
        watch_port: Some(Port(port)),
    };
    let route = Match::builder().exact(1, 10_000u32.to_be_bytes()).lpm(
        2,
        128,
        [0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9],
        64,
    );
    let acl = Match::builder().ternary(2, 53u16.to_be_bytes(), 0xffu16.to_be_bytes());
    let spread = Match::builder().lpm(1, 32, [10, 0, 0, 1], 24);
    let clone = CloneValue {
        replicas: vec![Replica::new(Port(510), 0)],
        class_of_service: 0,
        packet_length_bytes: 128,
    };
    vec![
        SwitchEntity::member(PATHS, 1, forward(1)),
        SwitchEntity::member(PATHS, 2, forward(2)),
        SwitchEntity::group(PATHS, 1, vec![member(2, 2), member(1, 1)], 16),
        SwitchEntity::multicast_group(7, vec![Replica::new(Port(2), 1), Replica::new(Port(1), 1)]),
        SwitchEntity::clone_session(3, clone),
        SwitchEntity::table(TableKey::new(ROUTE, route), forward(300)),
        SwitchEntity::table(TableKey::with_priority(ACL, acl, 10), forward(3)),
        SwitchEntity::table(TableKey::new(SPREAD, spread), TableAction::Group(1)),
    ]
}

/// Serves a fresh switch without gNMI and returns its address.
async fn serve(authority: &Authority) -> String {
    serve_with(authority, None).await
}

/// As [`serve`], with these ports over gNMI.
async fn serve_with(authority: &Authority, ports: Option<Arc<MemoryInterfaces>>) -> String {
    let issued = authority.issue("switch/leaf1");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(issued.cert, issued.key))
        .client_ca_root(Certificate::from_pem(&authority.pem));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = Arc::new(Server::new(1, Arc::new(NoPackets)));
    tokio::spawn(
        tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(P4RuntimeServer::new(Service(server)))
            .add_optional_service(ports.map(|ports| GNmiServer::new(gnmi::service::Service::new(ports))))
            .serve_with_incoming(incoming),
    );
    address
}

fn driver(address: &str, authority: &Authority, switch: &str) -> P4RuntimeDriver {
    let subject = Subject::Switch(switch.to_owned());
    let dialer = Dialer::new(authority.credentials("controller"), subject).unwrap();
    P4RuntimeDriver::new(SwitchConfig {
        name: "leaf1".into(),
        address: address.into(),
        device_id: 1,
        tls: Some(dialer),
        pipeline: Arc::new(Pipeline::new(p4info(), "program".into())),
    })
}

fn batch(write: impl Fn(Arc<DeviceEntity>) -> Write, entities: Vec<SwitchEntity>) -> Batch {
    let wrap = |entity| write(Arc::new(DeviceEntity::Switch(entity)));
    Batch {
        epoch: 1,
        writes: entities.into_iter().map(wrap).collect(),
    }
}

async fn held(driver: &mut P4RuntimeDriver) -> Vec<SwitchEntity> {
    let mut held: Vec<SwitchEntity> = Vec::new();
    for entity in driver.read_back().await.unwrap() {
        let DeviceEntity::Switch(entity) = entity else {
            panic!("not of a switch");
        };
        held.push(entity);
    }
    held.sort_by(|a, b| a.key().cmp(b.key()));
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_armed_read_back_and_found_right_after_a_restart() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let name = "leaf1";
    let mut first = driver(&address, &authority, name);
    first.connect().await.unwrap();
    assert_eq!(held(&mut first).await, []);
    let results = first.apply(&batch(Write::Insert, entities())).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut wanted = entities();
    wanted.sort_by(|a, b| a.key().cmp(b.key()));
    assert_eq!(held(&mut first).await, wanted);

    // The controller's successor takes over without pushing the pipeline, which
    // would wipe the entries.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let mut second = driver(&address, &authority, name);
    second.connect().await.unwrap();
    assert_eq!(held(&mut second).await, wanted);
    let Event::Disconnected(DriverError::NotPermitted(_)) = first.next_event().await else {
        panic!("the first driver does not know that it was replaced");
    };
    let refused = first.apply(&batch(Write::Insert, entities())).await;
    assert!(matches!(refused, Err(DriverError::NotPermitted(_))), "{refused:?}");
    first.disconnect().await;

    // Removing all entities in reverse order leaves nothing.
    let mut removed = entities();
    removed.reverse();
    let results = second.apply(&batch(Write::Delete, removed)).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(held(&mut second).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_remembers_the_revision_it_was_brought_to_and_shows_it_as_no_entity() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let mut first = driver(&address, &authority, "leaf1");
    first.connect().await.unwrap();
    assert_eq!((held(&mut first).await, first.brought_to()), (vec![], None));
    first.apply(&batch(Write::Insert, entities())).await.unwrap();
    first.synced(7).await.unwrap();
    let of_both = held(&mut first).await;
    assert_eq!((of_both.len(), first.brought_to()), (entities().len(), Some(7)));
    first.disconnect().await;
    for revision in [7, 300] {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let mut next = driver(&address, &authority, "leaf1");
        next.connect().await.unwrap();
        assert_eq!(
            (held(&mut next).await, next.brought_to()),
            (of_both.clone(), Some(revision))
        );
        next.synced(300).await.unwrap();
        next.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_entity_does_not_take_others_with_it() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let mut driver = driver(&address, &authority, "leaf1");
    driver.connect().await.unwrap();
    let key = |n: u8| TableKey::new(ROUTE, Match::builder().exact(1, [n]));
    let writes = vec![
        SwitchEntity::table(key(1), forward(1)),
        SwitchEntity::table(key(2), ActionCall::bare(0x0100_00ff)),
        SwitchEntity::table(key(3), forward(3)),
    ];
    let results = driver.apply(&batch(Write::Insert, writes)).await.unwrap();
    assert!(results[0].is_ok() && results[2].is_ok());
    let error = results[1].as_ref().unwrap_err();
    assert!(!error.retryable && !error.message.is_empty(), "{error:?}");
    assert_eq!(held(&mut driver).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_with_another_name_is_not_trusted() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let mut driver = driver(&address, &authority, "leaf2");
    let error = driver.connect().await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("wrong peer: expected `spiffe://test/switch/leaf2`"),
        "{text}"
    );
    let stranger = Authority::new();
    let mut foreign = self::driver(&address, &stranger, "leaf1");
    assert!(foreign.connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_replaced_is_not_let_in_again() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let mut old = driver(&address, &authority, "leaf1");
    old.connect().await.unwrap();
    let made = old.certificate().unwrap().not_before;
    old.disconnect().await;
    let made = u64::try_from(made).unwrap() + fabric_bootz::authority::BACKDATED.as_secs();
    // The machine was replaced later: the certificate names the right switch and is trusted, but belongs to the old
    // machine.
    let mut replaced = driver(&address, &authority, "leaf1").expecting_since(made + 90);
    let error = replaced.connect().await.unwrap_err();
    assert!(matches!(error, DriverError::NotPermitted(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("90 s before the machine of `leaf1` was replaced"),
        "{error}"
    );
    let mut new = driver(&address, &authority, "leaf1").expecting_since(made);
    new.connect().await.unwrap();
}

/// A port of a switch that nobody has changed.
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
        speed_bps: None,
        ethernet: Default::default(),
        description: String::new(),
        counters: Counters::default(),
    }
}

/// The next repair or warning.
async fn next(driver: &mut P4RuntimeDriver) -> Event {
    loop {
        match driver.next_event().await {
            Event::Port { .. } | Event::OnWire(..) | Event::Warning(_, None) => {}
            other => return other,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_set_on_ports_over_gnmi_is_put_right() {
    let authority = Authority::new();
    let switch = Arc::new(MemoryInterfaces::new("s", [port("a", 1), port("b", 2), port("c", 3)]));
    let address = serve_with(&authority, Some(Arc::clone(&switch))).await;
    let plan = Ports::default();
    let planned = |n: u16, mtu: u16| (n.try_into().unwrap(), mtu);
    plan.set([planned(1, 1600), planned(2, 1600)].into());
    let mut driver = driver(&address, &authority, "leaf1");
    driver.keep_ports(plan.clone());
    // A change before the controller watches the switch.
    switch.set_enabled("a", false).unwrap();
    driver.connect().await.unwrap();
    assert_eq!(
        next(&mut driver).await,
        Event::Repaired("port 1 (a) was disabled".into())
    );
    assert!(switch.get("a").unwrap().enabled);
    let Event::Step(configured) = next(&mut driver).await else {
        panic!("the ports are configured");
    };
    let words = "ports: 2; settings that were changed: 1";
    assert_eq!(
        (configured.step, configured.detail.as_str()),
        (BootStep::Configured, words)
    );
    // Changes while the controller watches, of everything that an operator with the rights can set.
    switch.set_enabled("b", false).unwrap();
    assert_eq!(
        next(&mut driver).await,
        Event::Repaired("port 2 (b) was disabled".into())
    );
    switch.set_mtu("b", 1400).unwrap();
    let small = "port 2 (b) had an MTU of 1400 instead of at least 1600 octets";
    assert_eq!(next(&mut driver).await, Event::Repaired(small.into()));
    switch.remove("a").unwrap();
    let gone = "port 1 (a) was no longer a port";
    assert_eq!(next(&mut driver).await, Event::Repaired(gone.into()));
    let now = ["a", "b"].map(|name| switch.get(name).map(|p| (p.id, p.enabled, p.mtu)));
    assert_eq!(now, [Some((1, true, 9000)), Some((2, true, 1600))]);
    // A port that the fabric does not use is left alone, until it uses it.
    switch.set_enabled("c", false).unwrap();
    switch.set_enabled("a", false).unwrap();
    assert_eq!(
        next(&mut driver).await,
        Event::Repaired("port 1 (a) was disabled".into())
    );
    assert!(!switch.get("c").unwrap().enabled);
    plan.set([planned(3, 1600), planned(4, 1600)].into());
    let absent = Event::Warning(Warning::Ports, Some("the switch has no port 4".into()));
    let both = [next(&mut driver).await, next(&mut driver).await];
    assert_eq!(both, [Event::Repaired("port 3 (c) was disabled".into()), absent]);
    assert!(switch.get("c").unwrap().enabled);
}
