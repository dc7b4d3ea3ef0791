// Entries of the program: in the order of the source, or by priority; a table that the control plane may add to.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action mark(bit<8> x) { h.op.a = x; }
    table ordered {
        key = { h.op.b: ternary; h.op.op: exact; }
        actions = { mark; }
        const default_action = mark(0);
        const entries = {
            (0x1200 &&& 0xff00, 1) : mark(1);
            (0x1234, 1) : mark(2);
            (_, 1) : mark(3);
        }
    }
    table ranged {
        key = { h.op.b: range; }
        actions = { mark; }
        const default_action = mark(0);
        const entries = {
            const priority=20: 10 .. 20 : mark(4);
            const priority=30: 15 .. 30 : mark(5);
            const priority=10: _ : mark(6);
        }
    }
    table smallest {
        key = { h.op.b: range; }
        actions = { mark; }
        largest_priority_wins = false;
        priority_delta = 10;
        const default_action = mark(0);
        const entries = {
            const priority=20: 10 .. 20 : mark(4);
            15 .. 30 : mark(5);
            const priority=10: 20 .. 25 : mark(6);
        }
    }
    table prefixes {
        key = { h.op.c: lpm; }
        actions = { mark; }
        const default_action = mark(0);
        const entries = {
            0x0a000000 &&& 0xff000000 : mark(7);
            0x0a0b0000 &&& 0xffff0000 : mark(8);
            0x0a0b0c0d : mark(9);
        }
    }
    apply {
        s.egress_spec = 1;
        if (h.op.op == 2) { ranged.apply(); }
        else if (h.op.op == 3) { prefixes.apply(); }
        else if (h.op.op == 4) { smallest.apply(); }
        else { ordered.apply(); }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
