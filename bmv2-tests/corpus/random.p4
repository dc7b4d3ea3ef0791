// random stays inside its bounds, both included; bounds that contain nothing leave the result alone.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<16> r; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    register<bit<32>>(16) seen;
    apply {
        s.egress_spec = 1;
        random(m.r, 16w3, 16w5);
        bit<32> n;
        seen.read(n, (bit<32>)m.r);
        seen.write((bit<32>)m.r, n + 1);
        if (m.r < 3 || m.r > 5) { h.op.a = 0xff; }
        random(h.op.b, h.op.b, h.op.b);
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
