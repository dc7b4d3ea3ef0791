// Header unions: at most one member is valid, and the frame that leaves shows which one.
#include "include/frame.p4"

header small_t { bit<8> x; }
header large_t { bit<16> x; bit<16> y; }
header_union body_t { small_t small; large_t large; }
struct headers { op_t op; body_t body; body_t copy; }
struct meta { }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start {
        p.extract(h.op);
        transition select(h.op.op) {
            1: small;
            2: large;
            default: accept;
        }
    }
    state small { p.extract(h.body.small); transition accept; }
    state large { p.extract(h.body.large); transition accept; }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (!h.body.isValid()) { h.op.b = 0xdead; }
        if (h.op.a == 1) {
            // Making one member valid makes the other invalid.
            h.body.large.setValid();
            h.body.large.x = 0x1111;
            h.body.large.y = 0x2222;
            if (h.body.small.isValid()) { h.op.b = 0xbad0; }
        } else if (h.op.a == 2) {
            h.body.small = { 0x33 };
            if (h.body.large.isValid()) { h.op.b = 0xbad1; }
        } else if (h.op.a == 3) {
            h.copy = h.body;
        } else if (h.op.a == 4) {
            h.body.small.setInvalid();
        }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
