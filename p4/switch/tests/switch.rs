//! The effect of P4Runtime writes on packets, and P4Runtime's view of packets: a whole switch with ports in memory.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use p4_switch::p4runtime::streams::NEWS_QUEUE;
use p4_switch::serve::EVENT_QUEUE;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType, Lpm};
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::stream_message_response::Update;
use p4runtime_proto::p4::v1::update::Type;
use prost::Message as _;
use tonic::Code;

use support::Controller;
use support::switch::{PATIENCE, Switch};

const JSON: &[u8] = include_bytes!("data/entities.json");
const P4INFO: &[u8] = include_bytes!("data/entities.p4info.bin");
const L2: u32 = 41_579_476;
const ROUTE: u32 = 40_550_280;
const ACL: u32 = 42_978_102;
const SEND: u32 = 18_638_031;
const ROUTED: u32 = 23_319_391;
const PUNT: u32 = 18_768_590;
const SOURCE: u32 = 40_627_495;
const NO_ACTION: u32 = 21_257_015;
const LEARN: u32 = 398_033_514;
const METERED: u32 = 25_485_601;
const PORT_METER: u32 = 345_615_062;

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn config() -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(P4Info::decode(P4INFO).unwrap()),
        p4_device_config: JSON.to_vec(),
        cookie: None,
    }
}

fn entry(table_id: u32, matches: Vec<FieldMatchType>, action_id: u32, params: &[&[u8]]) -> v1::TableEntry {
    let matches = matches.into_iter().zip(1..);
    let params = params.iter().zip(1..).map(|(value, param_id)| v1::action::Param {
        param_id,
        value: value.to_vec(),
    });
    let action = v1::Action {
        action_id,
        params: params.collect(),
    };
    v1::TableEntry {
        table_id,
        r#match: matches
            .map(|(of, field_id)| v1::FieldMatch {
                field_id,
                field_match_type: Some(of),
            })
            .collect(),
        action: Some(v1::TableAction {
            r#type: Some(v1::table_action::Type::Action(action)),
        }),
        ..Default::default()
    }
}

fn exact(value: &[u8]) -> FieldMatchType {
    FieldMatchType::Exact(Exact { value: value.to_vec() })
}

/// To [`HOST`], an IPv4 packet to 10.0.0.1 in 60 octets.
fn frame() -> Vec<u8> {
    let mut frame = HOST.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46]);
    frame.resize(30, 0);
    frame.extend([10, 0, 0, 1]);
    frame.resize(60, 0);
    frame
}

/// A primary of a switch that sends frames to [`HOST`] out of port 2.
async fn forwarding() -> (Switch, Controller) {
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    c.write(Type::Insert, to_port_2()).await.unwrap();
    (switch, c)
}

/// Entries that send frames to [`HOST`] out of port 2.
fn to_port_2() -> Vec<Kind> {
    let ten = FieldMatchType::Lpm(Lpm {
        value: vec![10, 0, 0, 0],
        prefix_len: 8,
    });
    let entries = [
        entry(L2, vec![exact(&HOST)], SEND, &[&[2]]),
        entry(ROUTE, vec![ten], ROUTED, &[&[2]]),
    ];
    entries.map(Kind::TableEntry).into()
}

fn send(switch: &Switch, times: usize) {
    for _ in 0..times {
        assert!(switch.wires[0].send(&frame()));
    }
    for _ in 0..times {
        assert_eq!(switch.wires[1].receive(PATIENCE), Some(frame()));
    }
}

fn colours(counts: [(i64, i64); 3]) -> Option<v1::MeterCounterData> {
    let [green, yellow, red] = counts.map(|(packet_count, byte_count)| {
        Some(v1::CounterData {
            packet_count,
            byte_count,
        })
    });
    Some(v1::MeterCounterData { green, yellow, red })
}

fn rates(cburst: i64, pburst: i64) -> Option<v1::MeterConfig> {
    // No tokens are added as time passes, so colours depend only on the packets.
    Some(v1::MeterConfig {
        cburst,
        pburst,
        ..Default::default()
    })
}

fn meter(config: Option<v1::MeterConfig>, counter_data: Option<v1::MeterCounterData>) -> Kind {
    Kind::MeterEntry(v1::MeterEntry {
        meter_id: PORT_METER,
        index: Some(v1::Index { index: 1 }),
        config,
        counter_data,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn indirect_meters_count_by_colour() {
    let (switch, mut c) = forwarding().await;
    let some = Some(v1::MeterCounterData::default());
    c.write(Type::Modify, vec![meter(rates(100, 250), None)]).await.unwrap();
    send(&switch, 5);
    let counted = colours([(1, 60), (3, 180), (1, 60)]);
    let found = c.read(meter(None, some)).await.unwrap();
    assert_eq!(found, [meter(rates(100, 250), counted)]);
    let found = c.read(meter(None, None)).await.unwrap();
    assert_eq!(found, [meter(rates(100, 250), None)], "only where asked for");

    // Another pipeline that has the meter continues the counts.
    c.set(Set::ReconcileAndCommit, Some(config())).await.unwrap();
    assert_eq!(
        c.read(meter(None, some)).await.unwrap(),
        [meter(rates(100, 250), counted)]
    );

    // A new configuration leaves the counters alone, which can only be set to 0.
    c.write(Type::Modify, vec![meter(None, None)]).await.unwrap();
    assert_eq!(c.read(meter(None, some)).await.unwrap(), [meter(None, counted)]);
    let other = c.write(Type::Modify, vec![meter(None, colours([(1, 0), (0, 0), (0, 0)]))]);
    assert_eq!(support::update_codes(other.await), [Code::InvalidArgument]);
    c.write(Type::Modify, vec![meter(None, some)]).await.unwrap();
    send(&switch, 1);
    let fresh = colours([(1, 60), (0, 0), (0, 0)]);
    assert_eq!(c.read(meter(None, some)).await.unwrap(), [meter(None, fresh)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_meters_count_by_colour() {
    let (switch, mut c) = forwarding().await;
    let some = Some(v1::MeterCounterData::default());
    let mut acl = entry(ACL, vec![], METERED, &[]);
    // Only the port matters in the key.
    acl.r#match = vec![v1::FieldMatch {
        field_id: 4,
        field_match_type: Some(exact(&[1])),
    }];
    acl.priority = 1;
    acl.meter_config = rates(2, 3);
    let with = |data: Option<v1::MeterCounterData>| {
        Kind::TableEntry(v1::TableEntry {
            meter_counter_data: data,
            ..acl.clone()
        })
    };
    let not_zero = c.write(Type::Insert, vec![with(colours([(0, 0), (0, 0), (0, 9)]))]);
    assert_eq!(support::update_codes(not_zero.await), [Code::InvalidArgument]);
    c.write(Type::Insert, vec![with(some)]).await.unwrap();
    send(&switch, 5);
    let counted = colours([(2, 120), (1, 60), (2, 120)]);
    assert_eq!(c.read(with(some)).await.unwrap(), [with(counted)]);
    assert_eq!(c.read(with(None)).await.unwrap(), [with(None)], "only where asked for");
    let direct = |counter_data: Option<v1::MeterCounterData>| {
        let key = v1::TableEntry {
            action: None,
            meter_config: None,
            ..acl.clone()
        };
        Kind::DirectMeterEntry(v1::DirectMeterEntry {
            table_entry: Some(key),
            config: rates(2, 3),
            counter_data,
        })
    };
    assert_eq!(c.read(direct(some)).await.unwrap(), [direct(counted)]);

    c.set(Set::ReconcileAndCommit, Some(config())).await.unwrap();
    assert_eq!(
        c.read(with(some)).await.unwrap(),
        [with(counted)],
        "of the new pipeline too"
    );

    c.write(Type::Modify, vec![with(None)]).await.unwrap();
    assert_eq!(
        c.read(with(some)).await.unwrap(),
        [with(counted)],
        "unset leaves them alone"
    );
    c.write(Type::Modify, vec![direct(some)]).await.unwrap();
    let zero = colours([(0, 0); 3]);
    assert_eq!(c.read(with(some)).await.unwrap(), [with(zero)]);
    send(&switch, 1);
    c.write(Type::Modify, vec![with(some)]).await.unwrap();
    assert_eq!(c.read(with(some)).await.unwrap(), [with(zero)]);
    send(&switch, 1);
    c.write(Type::Delete, vec![with(None)]).await.unwrap();
    c.write(Type::Insert, vec![with(None)]).await.unwrap();
    assert_eq!(
        c.read(with(some)).await.unwrap(),
        [with(zero)],
        "a new entry starts at 0"
    );

    // A table without a direct meter has no such counters.
    let mut l2 = entry(L2, vec![exact(&[7])], SEND, &[&[2]]);
    l2.meter_counter_data = some;
    let none = c.write(Type::Insert, vec![Kind::TableEntry(l2)]).await;
    assert_eq!(support::update_codes(none), [Code::InvalidArgument]);
}

/// To and from hosts whose frames become packet-ins, without digests.
const PUNTED: [u8; 6] = [2, 0, 0, 0, 0, 7];
const KNOWN: [u8; 6] = [2, 0, 0, 0, 0, 8];

/// Sends frames to [`HOST`], numbered and of this size, each followed by one to [`PUNTED`]; all of the former must come
/// out, in order.
fn flood(mut switch: Switch, frames: std::ops::Range<u32>, size: usize) -> Switch {
    let [one, two] = &mut switch.wires;
    std::thread::scope(|scope| {
        let range = frames.clone();
        scope.spawn(move || {
            for n in range {
                let mut sent = frame();
                // The source is an unknown host.
                sent[8..12].copy_from_slice(&n.to_be_bytes());
                sent.resize(size, 0);
                assert!(one.send_waiting(&sent));
                sent[..14].copy_from_slice(&[&PUNTED[..], &KNOWN, &[0x88, 0xb5]].concat());
                assert!(one.send_waiting(&sent));
            }
        });
        for n in frames {
            let received = two.receive(PATIENCE).expect("no frame is lost to a client");
            assert_eq!(received[8..12], n.to_be_bytes(), "in order");
        }
    });
    switch
}

/// Packet-ins and digests that were lost so far.
fn lost(switch: &Switch) -> u64 {
    switch.plane.punted.lost.load(Ordering::Relaxed)
}

/// Waits until the server has taken all packet-ins and digests from the data plane.
async fn taken(switch: &Switch) {
    let waits = async {
        while switch.plane.punts_waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits)
        .await
        .expect("the server takes events");
}

/// Packet-ins and digests of a stream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct News {
    packets: u64,
    digests: u64,
}

/// Reads a stream until the number of received messages and of those lost since `lost_before` add up to `expected`.
async fn all_news(switch: &Switch, c: &mut Controller, lost_before: u64, expected: u64) -> News {
    let mut news = News::default();
    let read = async {
        while news.packets + news.digests + lost(switch) - lost_before < expected {
            // Losses cause no message.
            let next = tokio::time::timeout(Duration::from_millis(10), c.responses.message());
            match next.await.map(|message| message.unwrap().unwrap().update) {
                Ok(Some(Update::Packet(_))) => news.packets += 1,
                Ok(Some(Update::Digest(list))) => news.digests += list.data.len() as u64,
                _ => {}
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    let lost = lost(switch) - lost_before;
    assert!(read.is_ok(), "{news:?} and {lost} lost of {expected}");
    assert_eq!(news.packets + news.digests + lost, expected, "{news:?} and {lost} lost");
    news
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_stream_costs_no_packet_and_no_memory() {
    /// Packets of each kind: far more than all queues together hold.
    const MANY: u32 = 30_000;
    /// Size of packet-ins, so that they soon fill the windows of a connection.
    const SIZE: usize = 1000;
    /// Octets that may wait in the two ends of the connection: windows, buffers of the sockets.
    const CONNECTION: u64 = 16 << 20;
    let (switch, mut c) = forwarding().await;
    let entries = [
        entry(L2, vec![exact(&PUNTED)], PUNT, &[&[1]]),
        entry(SOURCE, vec![exact(&KNOWN)], NO_ACTION, &[]),
    ];
    c.write(Type::Insert, entries.map(Kind::TableEntry).into())
        .await
        .unwrap();

    // First only packet-ins, all different. There are no digests before one is configured.
    let flooded = tokio::task::spawn_blocking(move || flood(switch, 0..MANY, SIZE));
    let switch = flooded.await.unwrap();
    taken(&switch).await;
    let news = all_news(&switch, &mut c, 0, MANY.into()).await;
    assert_eq!(news.digests, 0);
    let bound = (NEWS_QUEUE + EVENT_QUEUE) as u64 + CONNECTION / SIZE as u64;
    assert!(news.packets <= bound, "{news:?} were kept; expected at most {bound}");
    let lost_packets = lost(&switch);
    assert!(lost_packets > 0, "more were sent than are kept");

    // Then digests, too. The client was away, and continues to read.
    let config = v1::digest_entry::Config {
        max_list_size: 10,
        max_timeout_ns: 1_000_000,
        ack_timeout_ns: 0,
    };
    let learn = Kind::DigestEntry(v1::DigestEntry {
        digest_id: LEARN,
        config: Some(config),
    });
    c.write(Type::Insert, vec![learn]).await.unwrap();
    let flooded = tokio::task::spawn_blocking(move || flood(switch, MANY..2 * MANY, SIZE));
    let switch = flooded.await.unwrap();
    taken(&switch).await;
    let news = all_news(&switch, &mut c, lost_packets, u64::from(2 * MANY)).await;
    assert!(news.packets > 0 && news.digests > 0, "{news:?}");

    // It continues as if nothing had happened, and so does another client.
    let ten = News {
        packets: 10,
        digests: 10,
    };
    let before = lost(&switch);
    let sent = tokio::task::spawn_blocking(move || flood(switch, 2 * MANY..2 * MANY + 10, SIZE));
    let switch = sent.await.unwrap();
    assert_eq!(all_news(&switch, &mut c, before, 20).await, ten);
    let mut other = Controller::open(switch.address, 20).await;
    assert_eq!(other.standing().await, (Code::Ok, 20));
    let sent = tokio::task::spawn_blocking(move || flood(switch, 3 * MANY..3 * MANY + 10, SIZE));
    let switch = sent.await.unwrap();
    assert_eq!(all_news(&switch, &mut other, before, 20).await, ten);
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_that_no_client_asked_for_take_no_place_and_are_not_counted() {
    /// More than wait between the data plane and the server.
    const MANY: u32 = 2 * EVENT_QUEUE as u32;
    let (switch, mut c) = forwarding().await;
    let learn = |max_list_size| {
        Kind::DigestEntry(v1::DigestEntry {
            digest_id: LEARN,
            config: Some(v1::digest_entry::Config {
                max_list_size,
                ..Default::default()
            }),
        })
    };
    let handed_over = |switch: &Switch| switch.plane.punted.queued.load(Ordering::Relaxed) + lost(switch);
    let once = |switch: Switch, from: u32, times: u32| {
        tokio::task::spawn_blocking(move || {
            for n in from..from + times {
                let mut sent = frame();
                sent[8..12].copy_from_slice(&n.to_be_bytes());
                assert!(switch.wires[0].send_waiting(&sent));
                assert_eq!(switch.wires[1].receive(PATIENCE), Some(sent));
            }
            switch
        })
    };
    // Each frame is of an unknown source, of which the program sends a digest.
    let switch = once(switch, 0, MANY).await.unwrap();
    assert_eq!(handed_over(&switch), 0);
    c.write(Type::Insert, vec![learn(1)]).await.unwrap();
    let switch = once(switch, MANY, 3).await.unwrap();
    let news = all_news(&switch, &mut c, 0, 3).await;
    assert_eq!((news.digests, handed_over(&switch)), (3, 3));
    // A pipeline that takes over the digest entry continues it; one that does not ends it.
    c.set(Set::ReconcileAndCommit, Some(config())).await.unwrap();
    let switch = once(switch, MANY + 3, 2).await.unwrap();
    all_news(&switch, &mut c, 0, 2).await;
    c.write(Type::Delete, vec![learn(1)]).await.unwrap();
    let switch = once(switch, MANY + 5, 4).await.unwrap();
    assert_eq!(handed_over(&switch), 5);
    c.write(Type::Insert, vec![learn(1)]).await.unwrap();
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    c.write(Type::Insert, to_port_2()).await.unwrap();
    let switch = once(switch, MANY + 9, 4).await.unwrap();
    assert_eq!(handed_over(&switch), 5);
}
