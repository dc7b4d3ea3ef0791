// truncate limits the frame that leaves, including headers that are added later; of several limits the smallest is used.
// in 0: 0102030405060708aaaaaaaaaaaaaaaa
// out 1: 11111111111111110102
// in 0: ff02030405060708aaaaaaaaaaaaaaaa
// out 1: 1111111111111111ff02030405060708aaaaaaaa
#include <core.p4>
#include <v1model.p4>
#define OWN_EGRESS

header h_t { bit<8> kind; bit<56> rest; }
struct headers_t { h_t added; h_t h; }
struct meta_t {}

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { packet.extract(hdr.h); transition accept; }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        truncate(20);
        if (hdr.h.kind == 1) {
            truncate(10);
        }
    }
}

control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
        hdr.added.setValid();
        hdr.added.kind = 0x11;
        hdr.added.rest = 0x11111111111111;
        if (hdr.h.kind == 1) {
            truncate(12);
        }
    }
}

#include "frame.p4i"
