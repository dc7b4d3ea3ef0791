// Inputs of a checksum that are not plain fields: widened, joined and computed values. csum16 over
// 0000 00ab, abcd, 0001 + 0002: the complement of 0x00ab + 0xabcd + 0x0003 = 0xac7b.
// in 0: abcd 0001 0000
// out 1: abcd 0001 5384
// exit leaves egress early; the input is computed all the same: 0x00ab + 0xab00 + 0x0003 = 0xabae.
// in 0: ab00 0001 0000
// out 1: ab00 0001 5451
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<16> c; bit<16> sum; }
struct headers_t { h_t h; }
struct meta_t { }

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { packet.extract(hdr.h); transition accept; }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply { std.egress_spec = 1; }
}

#define OWN_EGRESS
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    action leave() { exit; }
    apply {
        if (hdr.h.b == 0) leave();
        hdr.h.sum = 1;
    }
}

#define OWN_CHECKSUM
control C(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum(true, { (bit<32>)hdr.h.a, hdr.h.a ++ hdr.h.b, hdr.h.c + 2 }, hdr.h.sum, HashAlgorithm.csum16);
    }
}

#include "frame.p4i"
