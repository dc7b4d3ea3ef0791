// hit, miss, action_run, and default actions that the control plane changes.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action one() { h.op.b = 1; }
    action two(bit<16> x) { h.op.b = x; }
    action three() { h.op.b = 3; }
    table t { key = { h.op.a: exact; } actions = { one; two; three; } default_action = three(); }
    table u { key = { h.op.a: exact; } actions = { one; two; @defaultonly three; } default_action = three(); }
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) {
            if (t.apply().hit) { h.op.c = 1; } else { h.op.c = 2; }
        } else if (h.op.op == 2) {
            if (t.apply().miss) { h.op.c = 3; }
        } else {
            switch (u.apply().action_run) {
                one: { h.op.c = 4; }
                two:
                three: { h.op.c = 5; }
                default: { h.op.c = 6; }
            }
            h.op.c = h.op.c + 0x10;
        }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
