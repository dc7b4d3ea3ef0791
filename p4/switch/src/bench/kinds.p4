// One table of each match kind, for `p4-switch bench p4runtime`.
#include <core.p4>
#include <v1model.p4>

header key_t {
    bit<48> mac;
    bit<32> source;
    bit<32> destination;
    bit<8> protocol;
    bit<16> source_port;
    bit<16> destination_port;
}

struct headers_t {
    key_t key;
}

struct metadata_t {}

parser parse(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    state start {
        packet.extract(hdr.key);
        transition accept;
    }
}

control verify_nothing(inout headers_t hdr, inout metadata_t meta) {
    apply {}
}

control ingress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    action forward(bit<9> port, bit<48> mac) {
        standard.egress_spec = port;
        hdr.key.mac = mac;
    }
    table exact_kind {
        key = {
            hdr.key.mac: exact @name("mac");
        }
        actions = { forward; NoAction; }
        size = 4194304;
    }
    table lpm_kind {
        key = {
            hdr.key.destination: lpm @name("destination");
        }
        actions = { forward; NoAction; }
        size = 4194304;
    }
    table ternary_kind {
        key = {
            hdr.key.source: ternary @name("source");
            hdr.key.destination: ternary @name("destination");
            hdr.key.protocol: ternary @name("protocol");
            hdr.key.source_port: ternary @name("source_port");
            hdr.key.destination_port: ternary @name("destination_port");
        }
        actions = { forward; NoAction; }
        size = 4194304;
    }
    table range_kind {
        key = {
            hdr.key.source: exact @name("source");
            hdr.key.destination_port: range @name("destination_port");
        }
        actions = { forward; NoAction; }
        size = 4194304;
    }
    table optional_kind {
        key = {
            hdr.key.source: optional @name("source");
            hdr.key.protocol: optional @name("protocol");
            hdr.key.destination_port: optional @name("destination_port");
        }
        actions = { forward; NoAction; }
        size = 4194304;
    }
    apply {
        exact_kind.apply();
        lpm_kind.apply();
        ternary_kind.apply();
        range_kind.apply();
        optional_kind.apply();
    }
}

control egress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    apply {}
}

control compute_nothing(inout headers_t hdr, inout metadata_t meta) {
    apply {}
}

control deparse(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.key);
    }
}

V1Switch(parse(), verify_nothing(), ingress(), egress(), compute_nothing(), deparse()) main;
