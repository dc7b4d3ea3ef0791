// Numbers: wrapping, saturating, signed, shifts, concatenation, slices, and widths beyond a machine word.
#include "include/frame.p4"

header wide_t { bit<8> a; bit<8> b; int<8> x; int<8> y; bit<256> big; bit<136> odd; }
struct headers { wide_t w; op_t op; }
struct meta { }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start { p.extract(h.op); p.extract(h.w); transition accept; }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) {
            h.op.b = (h.w.a + h.w.b) ++ (h.w.a - h.w.b);
            h.op.c = (h.w.a |+| h.w.b) ++ (h.w.a |-| h.w.b) ++ (bit<8>)(h.w.x |+| h.w.y) ++ (bit<8>)(h.w.x |-| h.w.y);
        } else if (h.op.op == 2) {
            h.op.b = (h.w.a * h.w.b) ++ (h.w.a ^ h.w.b);
            h.op.c = (h.w.a & h.w.b) ++ (h.w.a | h.w.b) ++ ~h.w.a ++ (bit<8>)(-h.w.x);
        } else if (h.op.op == 3) {
            h.op.b = (h.w.a << h.w.b) ++ (h.w.a >> h.w.b);
            h.op.c = (bit<8>)(h.w.x >> h.w.b) ++ (bit<8>)(h.w.x << h.w.b) ++ 16w0;
        } else if (h.op.op == 4) {
            // Comparisons see the sign.
            h.op.b = h.w.x < h.w.y ? 16w1 : 16w0;
            h.op.c = (bit<8>)h.w.x < (bit<8>)h.w.y ? 32w1 : 32w0;
            // Widening keeps the sign.
            h.w.odd[31:0] = (bit<32>)(int<32>)h.w.x;
        } else if (h.op.op == 5) {
            h.w.big = h.w.big + 1;
            h.w.odd = h.w.odd << 8;
        } else if (h.op.op == 6) {
            h.w.big = h.w.big * 3;
            h.w.odd = ~h.w.odd;
        } else if (h.op.op == 7) {
            h.w.big[255:128] = h.w.big[127:0];
            h.w.odd = h.w.big[135:0] ^ h.w.odd;
        } else if (h.op.op == 8) {
            h.w.big = h.w.big >> 130;
            h.w.odd = (bit<136>)h.w.big;
        } else if (h.op.op == 9) {
            h.op.b[11:4] = h.w.a;
            h.op.c[15:8] = h.w.b;
            h.op.c[7:0] = h.w.a[3:0] ++ h.w.a[7:4];
        } else if (h.op.op == 10) {
            h.op.c = h.w.big > (bit<256>)h.w.odd ? 32w1 : 32w0;
            h.op.b = h.w.big[135:0] == h.w.odd ? 16w1 : 16w0;
        } else if (h.op.op == 11) {
            const bit<8> ten = 10;
            h.op.b = (16w1000 / 16w7) + (bit<16>)(ten % 3);
            h.op.c = (bit<32>)(bit<64>)0x1_0000_0001;
        }
    }
}

NO_EGRESS(headers, meta)

control deparse(packet_out p, in headers h) { apply { p.emit(h.op); p.emit(h.w); } }
SWITCH;
