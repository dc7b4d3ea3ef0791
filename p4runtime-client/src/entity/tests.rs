use p4runtime_proto::p4::v1 as p4;
use prost::Message as _;

use super::*;

fn call(port: u16) -> ActionCall {
    ActionCall::new(0x0100_0001, [(1, port.to_be_bytes())])
}

fn samples() -> Vec<Entity> {
    let key = TableKey::with_priority(
        0x0200_0001,
        Match::builder()
            .exact(1, 10_000u32.to_be_bytes())
            .lpm(2, 32, [10, 0, 3, 4], 24)
            .ternary(3, [0x12, 0x34], [0xff, 0x00])
            .range(4, 16, 80u16.to_be_bytes(), 443u16.to_be_bytes())
            .optional(5, [6]),
        10,
    );
    let extra = TableExtra {
        meter: Some(MeterRates {
            cir: 1,
            cburst: 2,
            pir: 3,
            pburst: 4,
            eburst: 5,
        }),
        idle_timeout_ns: 7,
        metadata: b"why".to_vec(),
    };
    let one_shot = TableAction::OneShot(
        OneShot {
            members: vec![OneShotMember {
                action: call(1),
                weight: 2,
                watch_port: Some(Port(1)),
            }],
            group_action: Some(call(3)),
            selection_mode: 1,
            size_semantics: 2,
        }
        .into(),
    );
    let plain = TableKey::new(2, Match::builder().exact(1, [1]));
    let backups = vec![BackupReplica {
        port: Port(511),
        instance: 3,
    }];
    vec![
        Entity::table_with(key.clone(), call(300), extra),
        Entity::table(key, one_shot),
        Entity::table(plain.clone(), TableAction::Group(4)),
        Entity::table(plain, TableAction::Member(4)),
        Entity::default_action(2, ActionCall::bare(9)),
        Entity::member(3, 1, call(0)),
        Entity::group(
            3,
            1,
            vec![
                GroupMember {
                    member_id: 2,
                    weight: 1,
                    watch_port: Some(Port(300)),
                },
                GroupMember {
                    member_id: 1,
                    weight: 1,
                    watch_port: None,
                },
            ],
            8,
        ),
        Entity::multicast_group(
            5,
            vec![
                Replica::new(Port(2), 0x8001),
                Replica {
                    port: Port(1),
                    instance: 1,
                    backups,
                },
            ],
        ),
        Entity::clone_session(
            6,
            CloneValue {
                replicas: vec![Replica::new(Port(510), 0)],
                class_of_service: 1,
                packet_length_bytes: 128,
            },
        ),
        Entity::digest(
            7,
            DigestConfig {
                max_timeout_ns: 1,
                max_list_size: 2,
                ack_timeout_ns: 3,
            },
        ),
        Entity::meter(
            8,
            0,
            MeterRates {
                cir: 1,
                cburst: 1,
                pir: 1,
                pburst: 1,
                eburst: 0,
            },
        ),
        Entity::counter(9, 1, CounterValue { bytes: 64, packets: 1 }),
        Entity::value_set(
            10,
            vec![
                Match::builder().exact(1, [2]).build(),
                Match::builder().exact(1, [1]).build(),
            ],
        ),
        Entity::register(
            11,
            3,
            RegisterData::from_proto(&p4::P4Data {
                data: Some(p4::p4_data::Data::Bitstring(vec![1, 2])),
            }),
        ),
    ]
}

#[test]
fn every_kind_survives_the_wire() {
    for entity in samples() {
        let wire = entity.to_proto().encode_to_vec();
        let back = p4::Entity::decode(&*wire).unwrap();
        assert_eq!(Entity::from_proto(&back).unwrap(), entity);
        let (key, value) = entity.clone().into_parts();
        assert_eq!(Entity::from_parts(key, value), Some(entity));
    }
}

#[test]
fn keys_and_values_of_different_kinds_do_not_join() {
    let samples = samples();
    for a in &samples {
        for b in &samples {
            let (a, b) = (a.clone().into_parts(), b.clone().into_parts());
            let joined = Entity::from_parts(a.0, b.1.clone());
            let same_kind = std::mem::discriminant(&a.1) == std::mem::discriminant(&b.1);
            assert_eq!(joined.is_some(), same_kind);
        }
    }
}

#[test]
fn members_and_replicas_are_sets() {
    let a = Entity::multicast_group(1, vec![Replica::new(Port(2), 1), Replica::new(Port(1), 1)]);
    let b = Entity::multicast_group(1, vec![Replica::new(Port(1), 1), Replica::new(Port(2), 1)]);
    assert_eq!(a, b);
}

#[test]
#[allow(deprecated)]
fn deprecated_ports_read_like_new_ones() {
    let mut wire = Entity::multicast_group(1, vec![Replica::new(Port(2), 1)]).to_proto();
    let want = Entity::from_proto(&wire).unwrap();
    let Some(p4::entity::Entity::PacketReplicationEngineEntry(entry)) = &mut wire.entity else {
        panic!("not a replication entry");
    };
    let Some(p4::packet_replication_engine_entry::Type::MulticastGroupEntry(group)) = &mut entry.r#type else {
        panic!("not a multicast group");
    };
    group.replicas[0].port_kind = Some(p4::replica::PortKind::EgressPort(2));
    assert_eq!(Entity::from_proto(&wire).unwrap(), want);
}

#[test]
fn broken_messages_are_errors() {
    let entity = |entity| p4::Entity { entity: Some(entity) };
    let no_action = p4::TableEntry::default();
    let odd_port = p4::PacketReplicationEngineEntry {
        r#type: Some(p4::packet_replication_engine_entry::Type::MulticastGroupEntry(
            p4::MulticastGroupEntry {
                multicast_group_id: 1,
                replicas: vec![p4::Replica {
                    port_kind: Some(p4::replica::PortKind::Port(b"Ethernet0".to_vec())),
                    ..Default::default()
                }],
                ..Default::default()
            },
        )),
    };
    let negative = p4::MeterEntry {
        index: Some(p4::Index { index: -1 }),
        ..Default::default()
    };
    for broken in [
        p4::Entity::default(),
        entity(p4::entity::Entity::TableEntry(no_action)),
        entity(p4::entity::Entity::PacketReplicationEngineEntry(odd_port)),
        entity(p4::entity::Entity::MeterEntry(negative)),
    ] {
        assert!(Entity::from_proto(&broken).is_err(), "{broken:?}");
    }
}

#[test]
fn an_entry_is_small() {
    // The controller holds millions of them twice.
    assert!(size_of::<EntityKey>() <= 32, "{}", size_of::<EntityKey>());
    assert!(size_of::<EntityValue>() <= 40, "{}", size_of::<EntityValue>());
}
