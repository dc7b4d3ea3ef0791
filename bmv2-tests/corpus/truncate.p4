// truncate() cuts the frame that leaves, headers included.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) { truncate(h.op.c); }
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply { if (h.op.op == 2) { truncate(h.op.c); } }
}

EMIT_ALL(headers)
SWITCH;
