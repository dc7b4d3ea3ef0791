// Every algorithm over the octets "123456789", whose CRCs are in every catalogue, with base and bound.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<72> text; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        m.text = 72w0x313233343536373839;
        if (h.op.op == 1) { hash(h.op.c, HashAlgorithm.crc32, 32w0, { m.text }, 33w0x100000000); }
        else if (h.op.op == 2) { hash(h.op.c, HashAlgorithm.crc16, 32w0, { m.text }, 32w0x10000); }
        else if (h.op.op == 3) { hash(h.op.c, HashAlgorithm.csum16, 32w0, { m.text }, 32w0x10000); }
        else if (h.op.op == 4) { hash(h.op.c, HashAlgorithm.xor16, 32w0, { m.text }, 32w0x10000); }
        else if (h.op.op == 5) { hash(h.op.c, HashAlgorithm.identity, 32w0, { h.op.a, h.op.b }, 32w0x1000000); }
        // base + hash mod max: 0xbb3d is 47933, and 47933 mod 100 is 33.
        else if (h.op.op == 6) { hash(h.op.c, HashAlgorithm.crc16, 32w1000, { m.text }, 32w100); }
        // With a bound of 0 the result is the base.
        else if (h.op.op == 7) { hash(h.op.c, HashAlgorithm.crc16, 32w77, { m.text }, 32w0); }
        // Fields are packed without padding between them.
        else if (h.op.op == 8) {
            hash(h.op.c, HashAlgorithm.crc32, 32w0,
                 { m.text[71:68], m.text[67:40], m.text[39:39], m.text[38:0] }, 33w0x100000000);
        }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
