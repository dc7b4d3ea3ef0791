// Tables whose entries belong together, a profile and a register, so that a packet shows whether it met all of a change.
#include <core.p4>
#include <v1model.p4>

header frame_t {
    bit<48>  dst;
    bit<48>  src;
    bit<16>  type;
    bit<16>  a;
    bit<16>  b;
    bit<16>  c;
    bit<16>  d;
    bit<128> wide;
}

struct headers_t {
    frame_t frame;
}

struct meta_t {}

parser parse(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        pkt.extract(hdr.frame);
        transition accept;
    }
}

control check(inout headers_t hdr, inout meta_t meta) { apply { } }
control compute(inout headers_t hdr, inout meta_t meta) { apply { } }

control ingress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    register<bit<128>>(1) wide;
    action_profile(4) stamps;

    action mark(bit<16> a, bit<16> b) {
        hdr.frame.a = a;
        hdr.frame.b = b;
    }
    action finish(bit<16> c) { hdr.frame.c = c; }
    action stamp(bit<16> d) { hdr.frame.d = d; }

    table first {
        key = { hdr.frame.type: exact; }
        actions = { mark; NoAction; }
        default_action = NoAction();
    }
    // Its key comes from the entry of `first`.
    table second {
        key = { hdr.frame.a: exact; }
        actions = { finish; NoAction; }
        default_action = NoAction();
    }
    table third {
        key = { hdr.frame.type: exact; }
        actions = { stamp; NoAction; }
        implementation = stamps;
    }
    apply {
        first.apply();
        second.apply();
        third.apply();
        wide.read(hdr.frame.wide, 0);
        std.egress_spec = 2;
    }
}

control egress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) { apply { } }

control deparse(packet_out pkt, in headers_t hdr) {
    apply { pkt.emit(hdr.frame); }
}

V1Switch(parse(), check(), ingress(), egress(), compute(), deparse()) main;
