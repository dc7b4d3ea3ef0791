// Looking ahead into every type that has bits: headers inside structs, stacks, arrays and nested ones are valid and filled.
// in 0: 1122334455667788
// out 1: 112233445566778801
#include <core.p4>
#include <v1model.p4>

header byte_t { bit<8> v; }
enum bit<4> kind_t { one = 4, two = 5 }
type bit<4> half_t;
struct pair_t { byte_t[2] stack; }
struct all_t {
    byte_t single;
    pair_t pair;
    kind_t kind;
    half_t half;
    tuple<bit<8>, bool> t;
    bit<7> rest;
    int<8>[2] numbers;
}
header out_t {
    bit<8> a; bit<8> b; bit<8> c; bit<4> d; bit<4> e; bit<8> f; bit<1> g; bit<7> h; int<8> i; int<8> j; bit<8> valid;
}
struct headers_t { out_t o; }
struct meta_t { }

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        all_t all = packet.lookahead<all_t>();
        hdr.o.setValid();
        hdr.o.a = all.single.v;
        hdr.o.b = all.pair.stack[0].v;
        hdr.o.c = all.pair.stack[1].v;
        hdr.o.d = (bit<4>)all.kind;
        hdr.o.e = (bit<4>)all.half;
        hdr.o.f = all.t[0];
        hdr.o.g = (bit<1>)all.t[1];
        hdr.o.h = all.rest;
        hdr.o.i = all.numbers[0];
        hdr.o.j = all.numbers[1];
        hdr.o.valid = 0;
        if (all.single.isValid() && all.pair.stack[0].isValid() && all.pair.stack[1].isValid()) {
            hdr.o.valid = 1;
        }
        packet.advance(64);
        transition accept;
    }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply { std.egress_spec = 1; }
}

#include "frame.p4i"
