// A clone session that replicates.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply { clone(CloneType.I2E, 9); mark_to_drop(s); }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply { h.op.b = s.egress_rid; h.op.a = s.egress_port[7:0]; }
}

EMIT_ALL(headers)
SWITCH;
