// Entries share members of a profile: changing the member changes what both do. A miss runs the default action.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action send(bit<9> port, bit<16> mark) { s.egress_spec = port; h.op.b = mark; }
    action miss(bit<16> mark) { s.egress_spec = 3; h.op.b = mark; }
    action_profile(32w4) shared;
    table fwd {
        key = { h.op.a: exact; }
        actions = { send; miss; }
        default_action = miss(0xdead);
        implementation = shared;
    }
    apply { fwd.apply(); }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
