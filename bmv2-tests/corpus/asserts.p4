// assert, assume and log_msg: a condition that holds changes nothing; if it does not hold, the packet is lost.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        log_msg("packet");
        log_msg("op {} a {}", { h.op.op, h.op.a });
        assert(h.op.op < 2);
        assume(h.op.isValid() && h.op.a != 9);
        h.op.b = 1;
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
