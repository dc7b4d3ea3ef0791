//! Programs as users of bmv2 send them, over P4Runtime: objects that the P4Info does not name, the wrapper of the
//! tutorials' library, parameters without bits, undefined hashes.

mod support;

use p4_switch::queues::Setting;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType};
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::update::Type;
use prost::Message as _;
use tonic::Code;

use support::Controller;
use support::switch::{PATIENCE, Switch};

/// A program with one header of two octets `v` and `r`; `ingress` is the body of its ingress control.
fn compile(ingress: &str) -> p4_compiler::Compiled {
    compile_with(ingress, "apply { }")
}

/// As [`compile`], with a body for the egress control.
fn compile_with(ingress: &str, egress: &str) -> p4_compiler::Compiled {
    let text = format!(
        r#"
#include <core.p4>
#include <v1model.p4>
header x_t {{ bit<8> v; bit<8> r; }}
struct H {{ x_t x; }}
struct M {{ }}
parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {{
    state start {{ b.extract(h.x); transition accept; }}
}}
control V(inout H h, inout M m) {{ apply {{ }} }}
control I(inout H h, inout M m, inout standard_metadata_t s) {{ {ingress} }}
control E(inout H h, inout M m, inout standard_metadata_t s) {{ {egress} }}
control U(inout H h, inout M m) {{ apply {{ }} }}
control D(packet_out b, in H h) {{ apply {{ b.emit(h); }} }}
V1Switch(P(), V(), I(), E(), U(), D()) main;
"#
    );
    match p4_compiler::compile("program.p4", None, &text, &p4_compiler::Options::default()) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("{}", diagnostics.short()),
    }
}

fn config(compiled: &p4_compiler::Compiled) -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(compiled.p4info.clone()),
        p4_device_config: compiled.json.clone().into_bytes(),
        cookie: None,
    }
}

/// The frame that leaves port 1 for a frame that arrives there.
fn through(switch: &Switch, frame: &[u8]) -> Option<Vec<u8>> {
    assert!(switch.wires[0].send(frame));
    switch.wires[0].receive(PATIENCE)
}

fn entries_of(table_id: u32) -> Kind {
    Kind::TableEntry(v1::TableEntry {
        table_id,
        ..Default::default()
    })
}

/// Tables with hidden parts in every place, each of which sets another bit of `r`.
const HIDDEN: &str = r#"
    action bits(bit<8> b) { h.x.r = h.x.r | b; }
    @hidden action hidden_bits(bit<8> b) { h.x.r = h.x.r | b; }
    @hidden table exact_keys {
        key = { h.x.v: exact; }
        actions = { bits; hidden_bits; }
        const entries = { 1: bits(0x01); 2: hidden_bits(0x01); 1: bits(0x80); }
    }
    @hidden table prefixes {
        key = { h.x.v: lpm; }
        actions = { bits; }
        const entries = { 0 &&& 0xf0: bits(0x80); 0 &&& 0xfc: bits(0x02); }
    }
    @hidden table masks {
        key = { h.x.v: ternary; }
        actions = { bits; }
        const entries = { 1 &&& 0xff: bits(0x04); 2 &&& 0xfe: bits(0x04); _: bits(0x80); }
    }
    @hidden table ranges {
        key = { h.x.v: range; }
        actions = { bits; }
        const entries = { 1 .. 2: bits(0x08); 0 .. 9: bits(0x80); }
    }
    @hidden table validity {
        key = { h.x.isValid(): exact; }
        actions = { bits; }
        const entries = { true: bits(0x10); }
    }
    @hidden table defaults {
        actions = { bits; }
        const default_action = bits(0x20);
    }
    table named {
        key = { h.x.v: exact; }
        actions = { bits; @defaultonly hidden_bits; }
        const default_action = hidden_bits(0x40);
    }
    table constants {
        key = { h.x.v: exact; }
        actions = { bits; hidden_bits; }
        const entries = { 2: hidden_bits(0x80); 3: bits(0x80); }
    }
    apply {
        s.egress_spec = 1;
        exact_keys.apply(); prefixes.apply(); masks.apply(); ranges.apply();
        validity.apply(); defaults.apply(); named.apply(); constants.apply();
    }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_p4info_does_not_name_runs() {
    let compiled = compile(HIDDEN);
    let named = |name: &str| {
        let is_it = |t: &&p4runtime_proto::p4::config::v1::Table| t.preamble.as_ref().is_some_and(|p| p.alias == name);
        compiled
            .p4info
            .tables
            .iter()
            .find(is_it)
            .and_then(|t| Some(t.preamble.as_ref()?.id))
    };
    assert_eq!(named("exact_keys"), None, "hidden");
    let (table, constants) = (named("named").unwrap(), named("constants").unwrap());
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    for action in [Set::VerifyAndCommit, Set::ReconcileAndCommit] {
        c.set(action, Some(config(&compiled))).await.unwrap();
        assert_eq!(through(&switch, &[1, 0]), Some(vec![1, 0x7f]));
        assert_eq!(through(&switch, &[2, 0]), Some(vec![2, 0xff]));

        // Only named objects can be read, and nobody can write the others.
        let read = c.read(entries_of(constants)).await.unwrap();
        let mut actions: Vec<_> = read
            .iter()
            .map(|entity| match entity {
                Kind::TableEntry(entry) => entry.action.is_some(),
                _ => panic!("{entity:?}"),
            })
            .collect();
        actions.sort_unstable();
        assert_eq!(actions, [false, true]);
        assert_eq!(c.read(entries_of(0)).await.unwrap().len(), 2);
        let default = v1::TableEntry {
            table_id: table,
            is_default_action: true,
            ..Default::default()
        };
        let read = c.read(Kind::TableEntry(default.clone())).await.unwrap();
        assert_eq!(read, [Kind::TableEntry(default)]);
        let unnamed = v1::TableEntry {
            table_id: table,
            r#match: vec![v1::FieldMatch {
                field_id: 1,
                field_match_type: Some(FieldMatchType::Exact(Exact { value: vec![1] })),
            }],
            action: Some(v1::TableAction {
                r#type: Some(v1::table_action::Type::Action(v1::Action {
                    action_id: u32::MAX,
                    params: vec![v1::action::Param {
                        param_id: 1,
                        value: vec![1],
                    }],
                })),
            }),
            ..Default::default()
        };
        let written = c.write(Type::Insert, vec![Kind::TableEntry(unnamed)]).await;
        assert_eq!(support::update_codes(written), [Code::InvalidArgument]);
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct P4DeviceConfig {
    #[prost(bool, tag = "1")]
    reassign: bool,
    #[prost(bytes = "vec", tag = "3")]
    device_data: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrapper_of_the_tutorials_library_is_a_device_config() {
    let compiled = compile("apply { s.egress_spec = 1; h.x.r = h.x.v + 1; }");
    let wrapper = P4DeviceConfig {
        reassign: true,
        device_data: compiled.json.clone().into_bytes(),
    };
    let wrapped = v1::ForwardingPipelineConfig {
        p4_device_config: wrapper.encode_to_vec(),
        ..config(&compiled)
    };
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::Verify, Some(wrapped.clone())).await.unwrap();
    c.set(Set::VerifyAndSave, Some(wrapped.clone())).await.unwrap();
    c.set(Set::Commit, None).await.unwrap();
    assert_eq!(through(&switch, &[1, 0]), Some(vec![1, 2]));
    c.set(Set::VerifyAndCommit, Some(wrapped.clone())).await.unwrap();
    c.set(Set::ReconcileAndCommit, Some(wrapped.clone())).await.unwrap();
    assert_eq!(through(&switch, &[7, 0]), Some(vec![7, 8]));
    let get = v1::GetForwardingPipelineConfigRequest {
        device_id: 1,
        response_type: 0,
    };
    let read = c.client.get_forwarding_pipeline_config(get).await.unwrap().into_inner();
    assert_eq!(read.config, Some(wrapped), "as it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_may_have_no_bits() {
    let compiled = compile(
        r"
        action set(bit<8> a, bit<0> none, bit<8> b) { h.x.r = a - b; }
        table t { key = { h.x.v: exact; } actions = { set; NoAction; } default_action = NoAction(); }
        apply { s.egress_spec = 1; t.apply(); }",
    );
    let id = |of: &Option<p4runtime_proto::p4::config::v1::Preamble>| of.as_ref().unwrap().id;
    let table_id = id(&compiled.p4info.tables[0].preamble);
    let is_set = |a: &&p4runtime_proto::p4::config::v1::Action| a.params.len() == 3;
    let action_id = id(&compiled.p4info.actions.iter().find(is_set).unwrap().preamble);
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::VerifyAndCommit, Some(config(&compiled))).await.unwrap();
    let entry = |none: &[u8]| {
        let values = [&[9][..], none, &[2]];
        let param = |(value, param_id): (&&[u8], u32)| v1::action::Param {
            param_id,
            value: value.to_vec(),
        };
        Kind::TableEntry(v1::TableEntry {
            table_id,
            r#match: vec![v1::FieldMatch {
                field_id: 1,
                field_match_type: Some(FieldMatchType::Exact(Exact { value: vec![5] })),
            }],
            action: Some(v1::TableAction {
                r#type: Some(v1::table_action::Type::Action(v1::Action {
                    action_id,
                    params: values.iter().zip(1..).map(param).collect(),
                })),
            }),
            ..Default::default()
        })
    };
    let beyond = c.write(Type::Insert, vec![entry(&[1])]).await;
    assert_eq!(support::update_codes(beyond), [Code::InvalidArgument]);
    c.write(Type::Insert, vec![entry(&[0])]).await.unwrap();
    assert_eq!(through(&switch, &[5, 0]), Some(vec![5, 7]));
    assert_eq!(c.read(entries_of(table_id)).await.unwrap(), [entry(&[0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_hash_is_a_hash() {
    let compiled = compile("apply { s.egress_spec = 1; hash(h.x.r, HashAlgorithm.random, 8w0, { h.x.v }, 16w255); }");
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::VerifyAndCommit, Some(config(&compiled))).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for v in 0..32 {
        let out = through(&switch, &[v, 0]).unwrap();
        assert_eq!(through(&switch, &[v, 0]), Some(out.clone()), "equal input, equal hash");
        seen.insert(out[1]);
    }
    assert!(seen.len() > 16, "it spreads: {seen:?}");
}

/// A program that sends three copies of each frame to port 2 and writes what it sees of the queue into them.
const QUEUES: &str = r"
    apply { s.mcast_grp = 1; s.priority = (bit<3>) h.x.v; }
";

#[tokio::test(flavor = "multi_thread")]
async fn queues_have_a_depth_and_programs_see_how_many_wait() {
    let compiled = compile_with(
        QUEUES,
        "apply { h.x.v = (bit<8>) s.enq_qdepth; h.x.r = (bit<8>) s.deq_qdepth; }",
    );
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::VerifyAndCommit, Some(config(&compiled))).await.unwrap();
    let replica = |instance| v1::Replica {
        instance,
        port_kind: Some(v1::replica::PortKind::Port(vec![2])),
        ..Default::default()
    };
    let group = v1::MulticastGroupEntry {
        multicast_group_id: 1,
        replicas: (1..=3).map(replica).collect(),
        ..Default::default()
    };
    let group = Kind::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry {
        r#type: Some(v1::packet_replication_engine_entry::Type::MulticastGroupEntry(group)),
    });
    c.write(Type::Insert, vec![group]).await.unwrap();
    let sent = |want: &[[u8; 2]]| {
        assert!(switch.wires[0].send(&[0, 9]));
        for want in want {
            assert_eq!(switch.wires[1].receive(PATIENCE), Some(want.to_vec()));
        }
    };
    sent(&[[0, 0], [0, 0], [0, 0]]);
    let queues = &switch.plane.queues;
    assert_eq!(queues.waiting(2), None);
    // All three are in the queue before the first leaves.
    assert!(queues.set(Some(2), None, Setting::Depth(3)));
    sent(&[[0, 2], [1, 1], [2, 0]]);
    assert!(queues.set(Some(2), None, Setting::Depth(2)));
    sent(&[[0, 1], [1, 0]]);
    assert_eq!((queues.lost(2), queues.waiting(2)), (1, Some(0)));
    assert!(queues.set(Some(2), None, Setting::Rate(1000)));
    sent(&[[0, 1], [1, 0]]);
    // A priority without a queue.
    assert!(switch.wires[0].send(&[1, 9]));
    sent(&[[0, 1], [1, 0]]);
    assert_eq!(queues.lost(2), 1 + 1 + 3 + 1);
}
