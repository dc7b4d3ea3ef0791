// Entries age out; a hit starts the time again.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action send(bit<9> port) { s.egress_spec = port; }
    action drop() { mark_to_drop(s); }
    table aged {
        key = { h.op.op: exact; }
        actions = { send; drop; }
        default_action = drop();
        support_timeout = true;
    }
    apply { aged.apply(); }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
