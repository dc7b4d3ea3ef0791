// Longest prefix, with an exact key beside it, and a prefix of length 0.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action mark(bit<8> x) { h.op.a = x; }
    table routes {
        key = { h.op.op: exact @name("vrf"); h.op.c: lpm @name("dst"); }
        actions = { mark; }
        default_action = mark(0xff);
    }
    apply { s.egress_spec = 1; routes.apply(); }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
