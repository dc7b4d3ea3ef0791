// Headers as values: validity, equality, assignment, initialisers, structs and tuples, and order of emission.
#include "include/frame.p4"

header pair_t { bit<4> x; bit<12> y; }
struct inner_t { pair_t p; pair_t q; }
struct headers { op_t op; inner_t in1; inner_t in2; }
struct meta { tuple<bit<8>, bit<8>> two; }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start {
        p.extract(h.op);
        p.extract(h.in1.p);
        p.extract(h.in1.q);
        transition accept;
    }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) {
            // Two invalid headers are equal, whatever they held; a valid and an invalid one never are.
            bit<1> a = h.in2.p == h.in2.q ? 1w1 : 1w0;
            bit<1> b = h.in1.p == h.in2.p ? 1w1 : 1w0;
            bit<1> c = h.in1.p == h.in1.q ? 1w1 : 1w0;
            h.op.b = 13w0 ++ a ++ b ++ c;
        } else if (h.op.op == 2) {
            h.in2 = h.in1;
            h.in1.q.setInvalid();
        } else if (h.op.op == 3) {
            h.in2.q = { 0xf, 0x123 };
            h.in1.p = { x = 0x5, y = 0x678 };
        } else if (h.op.op == 4) {
            pair_t t = h.in1.p;
            h.in1.p = h.in1.q;
            h.in1.q = t;
        } else if (h.op.op == 5) {
            m.two = { h.op.a, 8w3 };
            if (m.two == { 8w1, 8w3 }) { h.op.b = 1; }
            h.op.c = (bit<32>)m.two[1];
        } else if (h.op.op == 6) {
            // The content of a header that becomes valid again is undefined, so it is written before it is read.
            h.in1.p.setInvalid();
            h.in1.p.setValid();
            h.in1.p.x = 1;
            h.in1.p.y = 2;
        } else if (h.op.op == 7) {
            h.op.b = h.in1.p.minSizeInBytes() == 2 ? 16w7 : 16w0;
            h.op.setInvalid();
        }
    }
}

NO_EGRESS(headers, meta)

control deparse(packet_out p, in headers h) {
    apply {
        p.emit(h.op);
        p.emit(h.in2);
        p.emit(h.in1);
    }
}
SWITCH;
