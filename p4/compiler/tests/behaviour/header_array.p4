// Arrays of numbers inside a header: constant and computed index, reading and writing.
// in 0: 02 11223344
// out 1: 33 11223399
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> i; bit<8>[4] items; }
struct headers_t { h_t h; }
struct meta_t { bit<8>[2] pair; }

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { packet.extract(hdr.h); transition accept; }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        meta.pair[0] = hdr.h.items[hdr.h.i];
        meta.pair[hdr.h.i - 1] = 0x99;
        hdr.h.items[hdr.h.i + 1] = meta.pair[1];
        hdr.h.i = meta.pair[0];
    }
}

#include "frame.p4i"
