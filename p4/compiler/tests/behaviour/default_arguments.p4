// Arguments that are left out take the values their parameters declare: of actions, functions and constructors.
// in 0: 00000000
// out 1: 05070902
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; bit<8> d; }
struct headers_t { h_t h; }
struct meta_t { }

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { packet.extract(hdr.h); transition accept; }
}

bit<8> plus(in bit<8> x, in bit<8> y = 7) { return x + y; }

control adder(inout bit<8> x)(bit<8> amount = 2) {
    apply { x = x + amount; }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    action set(out bit<8> x, in bit<8> y = 5) { x = y; }
    adder() two;
    apply {
        std.egress_spec = 1;
        set(hdr.h.a);
        hdr.h.b = plus(0);
        set(y = 9, x = hdr.h.c);
        two.apply(hdr.h.d);
    }
}

#include "frame.p4i"
