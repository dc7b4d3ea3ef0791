// Range, optional and ternary keys, and which entry wins.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action mark(bit<8> x) { h.op.a = x; }
    table ranged { key = { h.op.b: range; h.op.op: exact; } actions = { mark; NoAction; } default_action = mark(0); }
    table maybe { key = { h.op.op: exact; h.op.b: optional; } actions = { mark; NoAction; } default_action = mark(0); }
    table masked { key = { h.op.c: ternary; } actions = { mark; NoAction; } default_action = mark(0); }
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) { ranged.apply(); }
        else if (h.op.op == 2) { maybe.apply(); }
        else { masked.apply(); }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
