// What P4Info says about everything but tables of plain entries: counters, meters, registers, profiles, digests, value
// sets, headers to and from the controller, time-outs, and annotations with a structure.
#include <v1model.p4>

@controller_header("packet_in")
header to_controller_t {
    bit<9> port;
    @padding bit<7> zero;
}

@controller_header("packet_out")
header from_controller_t {
    bit<16> queue;
}

enum bit<8> state_t {
    idle = 0,
    busy = 1
}

header op_t {
    state_t state;
    bit<8> key;
    bit<32> value;
    bit<128> address;
}

struct headers_t {
    to_controller_t to;
    from_controller_t from;
    op_t op;
}

struct meta_t {
    bit<2> colour;
    bit<32> held;
}

struct seen_t {
    state_t state;
    bit<128> address;
    bit<9> port;
}

struct trusted_t {
    @match(ternary) bit<8> key;
    @match(range) bit<16> queue;
}

parser P(packet_in p, out headers_t h, inout meta_t m, inout standard_metadata_t s) {
    @name("trusted.keys") value_set<trusted_t>(16) trusted;
    value_set<bit<8>>(4) single;
    state start {
        p.extract(h.from);
        p.extract(h.op);
        transition select(h.op.key, h.from.queue) {
            trusted: keep;
            default: other;
        }
    }
    state keep {
        m.held = 1;
        transition accept;
    }
    state other {
        transition select(h.op.key) {
            single: keep;
            default: accept;
        }
    }
}

control V(inout headers_t h, inout meta_t m) {
    apply {}
}

control I(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {
    @brief("Packets by port")
    counter(512, CounterType.packets) by_port;
    direct_counter(CounterType.packets_and_bytes) of_entries;
    @unit["bytes", 8]
    meter(64, MeterType.bytes) rates;
    @colours[first = "green", worst = 2]
    direct_meter<bit<2>>(MeterType.packets) of_keys;
    @id(0x16000042)
    register<bit<32>>(1024) kept;
    action_profile(32) shared;

    action drop() {
        mark_to_drop(s);
    }

    action send(@format("port") bit<9> port, state_t state) {
        s.egress_spec = port;
        h.op.state = state;
        of_entries.count();
    }

    action colour() {
        of_keys.read(m.colour);
    }

    @annotated @text("of ", any, tokens)
    table counted {
        key = {
            h.op.address: lpm @name("address") @format("IPV6");
            h.op.state: exact;
        }
        actions = { send; drop; }
        default_action = drop();
        counters = of_entries;
        size = 4096;
        support_timeout = true;
    }

    table metered {
        key = { h.op.key: exact; }
        actions = { colour; @defaultonly NoAction; }
        const default_action = NoAction();
        meters = of_keys;
    }

    table profiled {
        key = { h.op.key: ternary; }
        actions = { send; drop; }
        implementation = shared;
    }

    apply {
        by_port.count((bit<32>)s.ingress_port);
        rates.execute_meter(3, m.colour);
        kept.read(m.held, 1);
        kept.write(1, m.held + 1);
        counted.apply();
        metered.apply();
        profiled.apply();
        digest<seen_t>(1, { h.op.state, h.op.address, s.ingress_port });
        h.to.setValid();
        h.to.port = s.ingress_port;
    }
}

control E(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {
    apply {}
}

control C(inout headers_t h, inout meta_t m) {
    apply {}
}

control D(packet_out p, in headers_t h) {
    apply {
        p.emit(h);
    }
}

V1Switch(P(), V(), I(), E(), C(), D()) main;
