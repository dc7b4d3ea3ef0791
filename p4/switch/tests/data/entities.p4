// One object of every kind that P4Runtime addresses, for tests of the server.
#include <core.p4>
#include <v1model.p4>

typedef bit<9> port_t;

@controller_header("packet_in")
header packet_in_t {
    bit<9> ingress_port;
    bit<7> reason;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9> egress_port;
    bit<7> pad;
}

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> type;
}

header ipv4_t {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;
    bit<16> length;
    bit<16> id;
    bit<3>  flags;
    bit<13> offset;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

struct headers_t {
    packet_in_t  packet_in;
    packet_out_t packet_out;
    ethernet_t   ethernet;
    ipv4_t       ipv4;
}

struct meta_t {
    bit<2>  color;
    bit<16> class;
}

struct learn_t {
    bit<48> src;
    bit<9>  port;
}

parser parse(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    value_set<bit<16>>(4) ip_types;
    state start {
        transition select(std.ingress_port) {
            510: packet_out;
            default: ethernet;
        }
    }
    state packet_out {
        pkt.extract(hdr.packet_out);
        transition ethernet;
    }
    state ethernet {
        pkt.extract(hdr.ethernet);
        transition select(hdr.ethernet.type) {
            0x0800: ipv4;
            ip_types: ipv4;
            default: accept;
        }
    }
    state ipv4 {
        pkt.extract(hdr.ipv4);
        transition accept;
    }
}

control check(inout headers_t hdr, inout meta_t meta) { apply { } }
control compute(inout headers_t hdr, inout meta_t meta) { apply { } }

control ingress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    counter(16, CounterType.packets_and_bytes) port_counter;
    meter(16, MeterType.bytes) port_meter;
    register<bit<32>>(16) state;
    direct_counter(CounterType.packets_and_bytes) route_counter;
    direct_meter<bit<2>>(MeterType.packets) acl_meter;
    action_profile(16) neighbours;
    action_selector(HashAlgorithm.crc16, 64, 16) paths;

    action drop() { mark_to_drop(std); }
    action send(port_t port) { std.egress_spec = port; }
    action flood(bit<16> group) { std.mcast_grp = group; }
    action punt(bit<7> reason) {
        std.egress_spec = 510;
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = std.ingress_port;
        hdr.packet_in.reason = reason;
    }
    action mirror() { clone(CloneType.I2E, 100); }
    action learn() { digest<learn_t>(1, { hdr.ethernet.src, std.ingress_port }); }
    action classify(bit<16> class) { meta.class = class; }
    action routed(port_t port) { route_counter.count(); std.egress_spec = port; }
    action metered() { acl_meter.read(meta.color); }

    table l2 {
        key = { hdr.ethernet.dst: exact; }
        actions = { send; flood; punt; @defaultonly drop; @tableonly mirror; }
        default_action = drop();
        size = 1024;
    }
    table source {
        key = { hdr.ethernet.src: exact; }
        actions = { NoAction; learn; }
        default_action = learn();
        size = 1024;
        support_timeout = true;
    }
    table route {
        key = { hdr.ipv4.dst: lpm; }
        actions = { routed; drop; }
        const default_action = drop();
        counters = route_counter;
        size = 8;
    }
    table acl {
        key = {
            hdr.ipv4.src: ternary;
            hdr.ipv4.length: range;
            hdr.ipv4.protocol: optional;
            std.ingress_port: exact;
        }
        actions = { metered; drop; NoAction; }
        default_action = NoAction();
        meters = acl_meter;
        size = 64;
    }
    table fixed {
        key = { hdr.ipv4.tos: ternary; }
        actions = { classify; NoAction; }
        const default_action = NoAction();
        const entries = {
            0x10 &&& 0xf0: classify(1);
            0x20 &&& 0xe0: classify(2);
        }
    }
    table nexthop {
        key = { meta.class: exact; }
        actions = { send; drop; }
        implementation = neighbours;
        size = 64;
    }
    table spread {
        key = {
            hdr.ipv4.dst: exact;
            hdr.ipv4.src: selector;
        }
        actions = { send; drop; }
        implementation = paths;
        size = 64;
    }
    apply {
        bit<32> seen;
        state.read(seen, 0);
        state.write(0, seen + 1);
        port_counter.count((bit<32>) std.ingress_port);
        port_meter.execute_meter((bit<32>) std.ingress_port, meta.color);
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            source.apply();
            l2.apply();
            if (hdr.ipv4.isValid()) {
                fixed.apply();
                route.apply();
                acl.apply();
                nexthop.apply();
                spread.apply();
            }
        }
    }
}

control egress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) { apply { } }

control deparse(packet_out pkt, in headers_t hdr) {
    apply {
        pkt.emit(hdr.packet_in);
        pkt.emit(hdr.ethernet);
        pkt.emit(hdr.ipv4);
    }
}

V1Switch(parse(), check(), ingress(), egress(), compute(), deparse()) main;
