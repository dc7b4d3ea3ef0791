//! The commands of simple_switch_CLI on a whole switch with ports in memory.

mod support;

use std::io::Cursor;

use p4_switch::commands::client;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;

use support::Controller;
use support::switch::{PATIENCE, Switch};

const PROGRAM: &str = r"
#include <core.p4>
#include <v1model.p4>
header x_t { bit<32> a; bit<32> b; }
struct H { x_t x; }
struct M { }
parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {
    state start { b.extract(h.x); transition accept; }
}
control V(inout H h, inout M m) { apply { } }
control MyIngress(inout H h, inout M m, inout standard_metadata_t s) {
    counter(8, CounterType.packets_and_bytes) seen;
    register<bit<32>>(8) last;
    meter(8, MeterType.packets) police;
    bit<2> colour;
    action forward(bit<9> port) { s.egress_spec = port; }
    action flood() { s.mcast_grp = 1; }
    action drop() { mark_to_drop(s); }
    action mark(bit<32> value) { h.x.b = value; }
    direct_counter(CounterType.packets) taken;
    direct_meter<bit<2>>(MeterType.packets) shaped;
    action forward_fast(bit<9> port) { taken.count(); shaped.read(colour); s.egress_spec = port; h.x.a = (bit<32>)colour; }
    action forward_none() { taken.count(); shaped.read(colour); }
    table measured {
        key = { h.x.b: exact; }
        actions = { forward_fast; forward_none; }
        default_action = forward_none();
        counters = taken;
        meters = shaped;
    }
    table ipv4_lpm {
        key = { h.x.a: lpm; }
        actions = { forward; flood; drop; }
        default_action = drop();
    }
    table acl {
        key = { h.x.a: ternary; h.x.b: range; }
        actions = { mark; NoAction; }
        default_action = NoAction();
    }
    apply {
        seen.count(0);
        last.write(0, h.x.a);
        police.execute_meter(32w0, colour);
        ipv4_lpm.apply();
        acl.apply();
        measured.apply();
    }
}
control E(inout H h, inout M m, inout standard_metadata_t s) { apply { } }
control U(inout H h, inout M m) { apply { } }
control D(packet_out b, in H h) { apply { b.emit(h); } }
V1Switch(P(), V(), MyIngress(), E(), U(), D()) main;
";

/// Sends lines to the switch, as the program does; returns what it prints.
async fn run(switch: &Switch, lines: &str) -> String {
    let (port, lines) = (switch.commands.port(), lines.to_owned());
    let ran = tokio::task::spawn_blocking(move || {
        let mut output = Vec::new();
        client::run("127.0.0.1", port, &mut Cursor::new(lines), &mut output).map(|()| output)
    });
    String::from_utf8(ran.await.unwrap().unwrap()).unwrap()
}

async fn started() -> Switch {
    let compiled = match p4_compiler::compile("program.p4", None, PROGRAM, &p4_compiler::Options::default()) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("{}", diagnostics.short()),
    };
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    let config = v1::ForwardingPipelineConfig {
        p4info: Some(compiled.p4info.clone()),
        p4_device_config: compiled.json.into_bytes(),
        cookie: None,
    };
    c.set(Set::VerifyAndCommit, Some(config)).await.unwrap();
    switch
}

fn frame(a: [u8; 4], b: u32) -> Vec<u8> {
    [a, b.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_tutorials_programs_the_switch() {
    let switch = started().await;
    let said = run(
        &switch,
        "# a comment\n\
         table_set_default ipv4_lpm drop\n\
         table_add MyIngress.ipv4_lpm MyIngress.forward 10.0.1.7/24 => 2\n\
         table_add ipv4_lpm flood 0x0a000200/24 =>\n\
         table_add acl mark 10.0.1.0&&&255.255.255.0 1->5 => 0xAB 1\n\
         table_add acl mark 0&&&0 0->0xffffffff => 0xCD 2\n\
         mc_mgrp_create 1\n\
         mc_node_create 0 1 2\n\
         mc_node_associate 1 0\n\
         table_num_entries acl\n",
    )
    .await;
    assert!(!said.contains("Error"), "{said}");
    assert!(
        said.contains("Entry has been added with handle 3") && said.ends_with("2\n"),
        "{said}"
    );

    let [one, two] = &switch.wires;
    assert!(one.send(&frame([10, 0, 1, 1], 3)));
    assert_eq!(
        two.receive(PATIENCE),
        Some(frame([10, 0, 1, 1], 0xab)),
        "smaller priorities win"
    );
    assert!(one.send(&frame([10, 0, 2, 1], 3)));
    for wire in [one, two] {
        assert_eq!(wire.receive(PATIENCE), Some(frame([10, 0, 2, 1], 0xcd)));
    }
    let said = run(
        &switch,
        "counter_read seen 0\nregister_read last 0\nregister_write last 1 0x1234\nregister_read last 1\n",
    )
    .await;
    assert_eq!(
        said,
        "seen[0]=  BmCounterValue(packets=2, bytes=16)\nlast[0]= 167772673\nlast[1]= 4660\n"
    );

    let said = run(
        &switch,
        "counter_reset seen\ncounter_read seen 0\n\
         table_modify ipv4_lpm forward 0 1\n\
         table_delete acl 2\n\
         mc_node_update 0 1\n\
         meter_set_rates police 0 0.5:10 1:20\n\
         meter_array_set_rates police 0.5:10 1:20\n\
         mirroring_add 5 2\nmirroring_add 5 1\nmirroring_delete 5\n\
         table_dump acl\nshow_tables\nshow_actions\nmc_dump\nhelp\n",
    )
    .await;
    assert!(!said.contains("Error"), "{said}");
    assert!(
        said.contains("packets=0, bytes=0") && said.contains("MyIngress.acl"),
        "{said}"
    );
    assert!(
        said.contains("Priority: 2") && !said.contains("Priority: 1\n"),
        "{said}"
    );
    assert!(one.send(&frame([10, 0, 1, 1], 3)));
    assert_eq!(one.receive(PATIENCE), Some(frame([10, 0, 1, 1], 0xcd)));
    assert!(one.send(&frame([10, 0, 2, 1], 3)));
    assert_eq!(one.receive(PATIENCE), Some(frame([10, 0, 2, 1], 0xcd)));

    let said = run(&switch, "table_clear acl\ntable_num_entries acl\ntable_delete acl 3\n").await;
    assert!(said.starts_with("Cleared acl\n0\nError"), "{said}");
    assert!(one.send(&frame([10, 0, 1, 1], 3)));
    assert_eq!(one.receive(PATIENCE), Some(frame([10, 0, 1, 1], 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_meters_and_counters_are_those_of_entries() {
    const RED: u32 = 2;
    let switch = started().await;
    let said = run(
        &switch,
        "table_add measured forward_fast 7 => 2\n\
         meter_array_set_rates shaped 0.000001:1 0.00001:2\n\
         meter_get_rates shaped 0\n\
         meter_array_set_rates shaped 0.0000005:1 0.00000125:2\n\
         meter_get_rates shaped 0\n\
         meter_array_set_rates shaped 0:1 0:1\n\
         table_add measured forward_fast 8 => 2\n",
    )
    .await;
    assert!(!said.contains("Error"), "{said}");
    let rates = "0: info rate = 0.000001, burst size = 1\n1: info rate = 0.00001, burst size = 2\n";
    assert!(said.contains(rates), "{said}");
    let rates = "0: info rate = 0.0000005, burst size = 1\n1: info rate = 0.00000125, burst size = 2\n";
    assert!(
        said.contains(rates),
        "half a unit a second, and one and a quarter: {said}"
    );
    let [one, two] = &switch.wires;
    let colours = |entry: u32| {
        [(); 3].map(|()| {
            assert!(one.send(&frame([0; 4], entry)));
            let octets = two.receive(PATIENCE).unwrap();
            u32::from_be_bytes(octets[..4].try_into().unwrap())
        })
    };
    for entry in [7, 8] {
        assert_eq!(
            colours(entry),
            [0, RED, RED],
            "entry {entry}: a burst of one and no rate"
        );
    }
    let said = run(
        &switch,
        "counter_read taken 0\ncounter_write taken 1 40 4000\ncounter_read taken 1\n\
         meter_set_rates shaped 1 1:1000 1:1000\ntable_modify measured forward_fast 1 2\n",
    )
    .await;
    assert!(said.contains("taken[0]=  BmCounterValue(packets=3,"), "{said}");
    assert!(said.contains("taken[1]=  BmCounterValue(packets=40,"), "{said}");
    assert_eq!(colours(8), [0, 0, 0], "its rates outlive a modification: {said}");
    assert_eq!(colours(7), [RED; 3]);
    let said = run(
        &switch,
        "counter_reset taken\ncounter_read taken 0\nmeter_set_rates shaped 9 1:1 1:1\n",
    )
    .await;
    assert!(said.contains("packets=0,") && said.contains("handle 9"), "{said}");
}

/// P4Runtime has whole units a second; the rates themselves keep their fractions, also under another pipeline.
#[tokio::test(flavor = "multi_thread")]
async fn rates_below_one_a_second_are_kept_when_the_program_is_replaced() {
    let switch = started().await;
    let said = run(
        &switch,
        "meter_array_set_rates shaped 0.0000005:1 0.0000015:2\n\
         table_add measured forward_fast 7 => 2\n\
         meter_set_rates police 3 0.00000025:4 9000000000000:5\n",
    )
    .await;
    assert!(said.contains("Error"), "a rate that P4Runtime cannot express: {said}");
    let said = run(&switch, "meter_set_rates police 3 0.00000025:4 8000000000:5\n").await;
    assert!(!said.contains("Error"), "{said}");
    let mut c = Controller::primary(switch.address).await;
    let compiled = p4_compiler::compile("program.p4", None, PROGRAM, &p4_compiler::Options::default());
    let compiled = compiled.unwrap_or_else(|diagnostics| panic!("{}", diagnostics.short()));
    let police = compiled.p4info.meters[0].preamble.as_ref().unwrap().id;
    let cell = v1::entity::Entity::MeterEntry(v1::MeterEntry {
        meter_id: police,
        index: Some(v1::Index { index: 3 }),
        ..v1::MeterEntry::default()
    });
    let found = c.read(cell).await.unwrap();
    let [v1::entity::Entity::MeterEntry(found)] = found.as_slice() else {
        panic!("{found:?}");
    };
    let config = found.config.unwrap();
    assert_eq!(
        (config.cir, config.pir),
        (0, 8_000_000_000_000_000),
        "whole units, rounded down"
    );
    let config = v1::ForwardingPipelineConfig {
        p4info: Some(compiled.p4info.clone()),
        p4_device_config: compiled.json.into_bytes(),
        cookie: None,
    };
    c.set(Set::ReconcileAndCommit, Some(config)).await.unwrap();
    let said = run(&switch, "meter_get_rates shaped 0\nmeter_get_rates police 3\n").await;
    for rates in [
        "0: info rate = 0.0000005, burst size = 1\n1: info rate = 0.0000015, burst size = 2\n",
        "0: info rate = 0.00000025, burst size = 4\n1: info rate = 8000000000, burst size = 5\n",
    ] {
        assert!(said.contains(rates), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_set_by_commands() {
    let switch = started().await;
    let queues = &switch.plane.queues;
    assert_eq!(run(&switch, "set_queue_depth 5 2\nset_queue_rate 100 2 0\n").await, "");
    assert_eq!((queues.waiting(1), queues.waiting(2)), (None, Some(0)));
    assert_eq!(run(&switch, "set_queue_depth 5\n").await, "");
    assert_eq!(queues.waiting(1), Some(0));
    let said = run(&switch, "set_queue_depth 5 2 1\n").await;
    assert!(said.contains("--priority-queues"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_what_is_wrong_and_the_next_command_runs() {
    let switch = started().await;
    for (line, words) in [
        ("table_add nothere forward 10.0.0.0/8 => 1", "no table \"nothere\""),
        ("table_add ipv4_lpm nothere 10.0.0.0/8 => 1", "no action \"nothere\""),
        (
            "table_add ipv4_lpm forward 10.0.0.0/8 =>",
            "takes 1 parameters, 0 are given",
        ),
        ("table_add ipv4_lpm forward 10.0.0.0/8 => 512", "9 bits"),
        ("table_add ipv4_lpm forward 10.0.0.0 => 1", "prefix"),
        ("table_add ipv4_lpm forward => 1", "1 match fields, 0 are given"),
        ("table_add ipv4_lpm forward 10.0.0.0/8 1", "=> is expected"),
        ("table_add acl mark 0&&&0 0->1 =>", "a priority"),
        ("table_add ipv4_lpm mark 10.0.0.0/8 => 1", "has no action"),
        ("table_delete ipv4_lpm 77", "no entry was added with handle 77"),
        ("counter_read seen 8", "Error: counter_read"),
        ("counter_read nothere 8", "no counter"),
        ("mc_node_associate 1 0", "no node 0"),
        ("mirroring_add_mc 1 1", "no multicast group 1"),
        ("meter_set_rates police 0 1 2", "joined by `:`"),
        ("set_crc16_parameters x", "no such command"),
        ("frobnicate", "no such command"),
    ] {
        let said = run(&switch, &format!("{line}\ntable_num_entries ipv4_lpm\n")).await;
        assert!(said.starts_with("Error: ") && said.contains(words), "{line}: {said}");
        assert!(said.ends_with("\n0\n"), "{line}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_refused_and_others_go_on() {
    use std::io::{Read as _, Write as _};
    let switch = started().await;
    let commands = switch.commands;
    let closed = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(commands).unwrap();
        // As a Thrift client begins.
        stream
            .write_all(&[0x80, 0x01, 0x00, 0x01, 0, 0, 0, 4, b'a', b'\n'])
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    assert_eq!(closed.await.unwrap(), b"");
    assert_eq!(run(&switch, "table_num_entries acl\nexit\nfrobnicate\n").await, "0\n");
    // A switch without a program reports that.
    let bare = Switch::start().await;
    assert!(run(&bare, "show_tables\n").await.contains("no forwarding pipeline"));
}
