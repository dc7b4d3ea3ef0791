//! Every P4Runtime message gets an answer and none causes a panic: valid messages with random damage, and plain noise.

use std::collections::BTreeMap;
use std::sync::Arc;

use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::p4runtime::pipeline::Pipeline;
use p4_switch::p4runtime::server::Server;
use p4_switch::p4runtime::{info::Info, packet, read};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::write_request::Atomicity;
use proptest::prelude::*;
use prost::Message as _;

const JSON: &[u8] = include_bytes!("data/entities.json");
const P4INFO: &[u8] = include_bytes!("data/entities.p4info.bin");

/// Cases per property: seconds, not minutes; the nightly run raises it with PROPTEST_CASES.
const CASES: u32 = 256;

fn config() -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(P4Info::decode(P4INFO).unwrap()),
        p4_device_config: JSON.to_vec(),
        cookie: None,
    }
}

fn device() -> MemoryDevice {
    MemoryDevice::new(Some(510), BTreeMap::from([(1, "p1".to_owned())]))
}

/// Ids of the test program, and some that do not exist.
fn ids() -> Vec<u32> {
    let info = P4Info::decode(P4INFO).unwrap();
    let tables = info.tables.iter().filter_map(|table| table.preamble.as_ref());
    let actions = info.actions.iter().filter_map(|action| action.preamble.as_ref());
    let profiles = info
        .action_profiles
        .iter()
        .filter_map(|profile| profile.preamble.as_ref());
    let mut ids: Vec<_> = tables
        .chain(actions)
        .chain(profiles)
        .map(|preamble| preamble.id)
        .collect();
    ids.extend([
        0,
        1,
        u32::MAX,
        311_073_007,
        345_615_062,
        381_083_224,
        398_033_514,
        56_046_568,
    ]);
    ids
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0xff; 6])
    ]
}

fn field_match() -> impl Strategy<Value = v1::FieldMatch> {
    use v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
    let kind = prop_oneof![
        value().prop_map(|value| FieldMatchType::Exact(Exact { value })),
        (value(), -1..64).prop_map(|(value, prefix_len)| FieldMatchType::Lpm(Lpm { value, prefix_len })),
        (value(), value()).prop_map(|(value, mask)| FieldMatchType::Ternary(Ternary { value, mask })),
        (value(), value()).prop_map(|(low, high)| FieldMatchType::Range(Range { low, high })),
        value().prop_map(|value| FieldMatchType::Optional(Optional { value })),
    ];
    (0u32..6, prop::option::of(kind)).prop_map(|(field_id, field_match_type)| v1::FieldMatch {
        field_id,
        field_match_type,
    })
}

fn id() -> impl Strategy<Value = u32> {
    prop::sample::select(ids())
}

fn action() -> impl Strategy<Value = v1::Action> {
    let param = (0u32..3, value()).prop_map(|(param_id, value)| v1::action::Param { param_id, value });
    (id(), prop::collection::vec(param, 0..3)).prop_map(|(action_id, params)| v1::Action { action_id, params })
}

fn entity() -> impl Strategy<Value = v1::Entity> {
    use v1::entity::Entity as Kind;
    use v1::table_action::Type;
    let table_action = prop_oneof![
        action().prop_map(Type::Action),
        (0u32..4).prop_map(Type::ActionProfileMemberId),
        (0u32..4).prop_map(Type::ActionProfileGroupId),
    ];
    let entry = (
        id(),
        prop::collection::vec(field_match(), 0..4),
        prop::option::of(table_action),
        -1..5,
        any::<bool>(),
    );
    let entry = entry.prop_map(
        |(table_id, matches, action, priority, is_default_action)| v1::TableEntry {
            table_id,
            r#match: matches,
            action: action.map(|action| v1::TableAction { r#type: Some(action) }),
            priority,
            is_default_action,
            ..Default::default()
        },
    );
    let index = prop::option::of((-1i64..20).prop_map(|index| v1::Index { index }));
    let member = (id(), 0u32..4, prop::option::of(action())).prop_map(|(action_profile_id, member_id, action)| {
        Kind::ActionProfileMember(v1::ActionProfileMember {
            action_profile_id,
            member_id,
            action,
        })
    });
    let group = (id(), 0u32..4, prop::collection::vec((0u32..4, -1..3), 0..3), -1..9).prop_map(
        |(profile, group_id, members, max_size)| {
            let members = members
                .into_iter()
                .map(|(member_id, weight)| v1::action_profile_group::Member {
                    member_id,
                    weight,
                    watch_kind: None,
                });
            Kind::ActionProfileGroup(v1::ActionProfileGroup {
                action_profile_id: profile,
                group_id,
                members: members.collect(),
                max_size,
            })
        },
    );
    let kind = prop_oneof![
        4 => entry.prop_map(Kind::TableEntry),
        2 => member,
        2 => group,
        1 => (id(), index.clone(), any::<i64>()).prop_map(|(counter_id, index, n)| Kind::CounterEntry(v1::CounterEntry {
            counter_id, index, data: Some(v1::CounterData { byte_count: n, packet_count: n }) })),
        1 => (id(), index, value()).prop_map(|(register_id, index, value)| Kind::RegisterEntry(v1::RegisterEntry {
            register_id, index, data: Some(v1::P4Data { data: Some(v1::p4_data::Data::Bitstring(value)) }) })),
        1 => (id(), prop::collection::vec(field_match(), 0..3)).prop_map(|(value_set_id, matches)| Kind::ValueSetEntry(
            v1::ValueSetEntry { value_set_id, members: vec![v1::ValueSetMember { r#match: matches }] })),
    ];
    kind.prop_map(|kind| v1::Entity { entity: Some(kind) })
}

fn updates() -> impl Strategy<Value = Vec<v1::Update>> {
    let update = (0..5, entity()).prop_map(|(kind, entity)| v1::Update {
        r#type: kind,
        entity: Some(entity),
    });
    prop::collection::vec(update, 0..40)
}

/// Everything that a wildcard read of tables, members and groups returns, in any order.
fn everything(pipeline: &mut Pipeline) -> Vec<Vec<u8>> {
    use v1::entity::Entity as Kind;
    let requests = [
        Kind::TableEntry(v1::TableEntry::default()),
        Kind::ActionProfileMember(v1::ActionProfileMember::default()),
        Kind::ActionProfileGroup(v1::ActionProfileGroup::default()),
        Kind::ValueSetEntry(v1::ValueSetEntry::default()),
        Kind::RegisterEntry(v1::RegisterEntry::default()),
        Kind::CounterEntry(v1::CounterEntry::default()),
    ]
    .map(|entity| v1::Entity { entity: Some(entity) });
    let mut plan = read::plan(&mut pipeline.state, &*pipeline.target, None, &requests);
    let mut found = Vec::new();
    while let Some(page) = plan.next_page(&pipeline.state, &*pipeline.target) {
        found.extend(page.entities.iter().map(v1::Entity::encode_to_vec));
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn a_failed_all_or_none_batch_leaves_no_trace(first in updates(), second in updates()) {
        let mut pipeline = Pipeline::load(&device(), config()).unwrap();
        pipeline.write(&device(), None, &first, Atomicity::ContinueOnError);
        let before = everything(&mut pipeline);
        let results = pipeline.write(&device(), None, &second, Atomicity::RollbackOnError);
        if results.iter().any(Result::is_err) {
            prop_assert!(results.iter().all(Result::is_err));
            prop_assert_eq!(everything(&mut pipeline), before);
        }
    }

    #[test]
    fn reconciling_with_the_same_pipeline_changes_nothing(first in updates()) {
        let mut old = Pipeline::load(&device(), config()).unwrap();
        old.write(&device(), None, &first, Atomicity::ContinueOnError);
        let before = everything(&mut old);
        let mut new = Pipeline::load(&device(), config()).unwrap();
        new.inherit(&mut old, &device()).unwrap();
        prop_assert_eq!(everything(&mut new), before);
    }

    #[test]
    fn noise_is_no_panic(noise in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..1842) {
        let mut damaged = P4INFO.to_vec();
        for (place, byte) in damaged.iter_mut().skip(at).zip(&noise).take(4) {
            *place ^= byte;
        }
        if let Ok(p4info) = P4Info::decode(damaged.as_slice()) {
            let _ = Pipeline::load(&device(), v1::ForwardingPipelineConfig { p4info: Some(p4info), ..config() });
        }
        let server = Server::new(1, Arc::new(device()));
        if let Ok(request) = v1::WriteRequest::decode(noise.as_slice()) {
            let _ = server.write(&request);
        }
        if let Ok(message) = v1::StreamMessageRequest::decode(noise.as_slice()) {
            let (stream, _outgoing) = server.streams.open(fabric_identity::Liveness::default());
            let _ = server.receive(stream, Default::default(), message);
        }
        let info = Info::new(&P4Info::decode(P4INFO).unwrap()).unwrap();
        let _ = packet::from_frame(info.packet_in.as_deref(), &noise, &Default::default());
    }
}
