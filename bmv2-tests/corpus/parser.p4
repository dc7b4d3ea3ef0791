// What a parser can do besides extracting: look ahead, skip, verify, select by mask, by range and by several keys, and fail.
#include "include/frame.p4"

header byte_t { bit<8> x; }
struct headers { op_t op; byte_t one; byte_t two; }
struct meta { bit<16> ahead; bit<8> skipped; }
error { NotEven, Odd }

parser inner(packet_in p, out byte_t h, in bit<8> skip) {
    state start {
        p.advance((bit<32>)skip << 3);
        p.extract(h);
        transition accept;
    }
}

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    inner() sub;
    state start {
        p.extract(h.op);
        transition select(h.op.op, h.op.a) {
            (0x01, _): ahead;
            (0x02, 0x10 .. 0x20): one;
            (0x02, 0x80 &&& 0xc0): two;
            (0x03, _): check;
            (0x04, 0): accept;
            (0x04, 1): missing;
            (0x05, _): nested;
            (0x06, _): reject;
            (0x00, _): accept;
        }
    }
    state ahead { m.ahead = p.lookahead<bit<16>>(); transition one; }
    state one { p.extract(h.one); transition accept; }
    state two { p.extract(h.one); p.extract(h.two); transition accept; }
    state check { verify(h.op.a[0:0] == 0, error.NotEven); transition one; }
    state nested { sub.apply(p, h.two, h.op.a); transition accept; }
    state missing { p.extract(h.one); p.extract(h.two); transition accept; }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.op.b = m.ahead;
        if (s.parser_error == error.NoError) { h.op.c = 0; }
        else if (s.parser_error == error.NotEven) { h.op.c = 1; }
        else if (s.parser_error == error.NoMatch) { h.op.c = 2; }
        else if (s.parser_error == error.PacketTooShort) { h.op.c = 3; }
        else { h.op.c = 0xff; }
        if (h.one.isValid()) { h.one.x = h.one.x + 1; }
        if (h.two.isValid()) { h.two.x = h.two.x + 2; }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
