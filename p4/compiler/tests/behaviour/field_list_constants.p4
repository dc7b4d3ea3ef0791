// Numbers of field lists are constant expressions: what is kept over a resubmission must not depend on how they are written.
// in 0: 0100000000000000
// out 1: 01a1a2a3a4a5a600
#include <core.p4>
#include <v1model.p4>

const bit<8> FIRST = 1;
const bool FLAG = true;
const int BASE = 7;
enum bit<8> lists { named = 1, other = 2 }

header h_t { bit<8> round; bit<8> a; bit<8> b; bit<8> c; bit<8> d; bit<8> e; bit<8> f; bit<8> g; }
struct headers_t { h_t h; }
struct inner_t { @field_list(lists.named) bit<8> e; }
struct meta_t {
    @field_list(FIRST) bit<8> a;
    @field_list(1 + 1, BASE - 6) bit<8> b;
    @field_list((bit<8>)1) bit<8> c;
    @field_list[FIRST] bit<8> d;
    inner_t inner;
    @pragma field_list FLAG ? 1 : 2
    bit<8> f;
    @field_list(lists.other) bit<8> g;
}

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { packet.extract(hdr.h); transition accept; }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        if (std.instance_type == 0) {
            meta.a = 0xa1;
            meta.b = 0xa2;
            meta.c = 0xa3;
            meta.d = 0xa4;
            meta.inner.e = 0xa5;
            meta.f = 0xa6;
            meta.g = 0xa7;
            resubmit_preserving_field_list(lists.named);
        } else {
            hdr.h.a = meta.a;
            hdr.h.b = meta.b;
            hdr.h.c = meta.c;
            hdr.h.d = meta.d;
            hdr.h.e = meta.inner.e;
            hdr.h.f = meta.f;
            hdr.h.g = meta.g;
        }
    }
}

#include "frame.p4i"
