// Order of evaluation: arguments from left to right, before the call; the left side before the right side; only one branch
// of ?:; and arguments are copied out in the order of the parameters.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<16> calls; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

// Each call appends a digit, so the result shows the order of the calls.
bit<16> step(inout bit<16> trace, in bit<16> digit) {
    trace = (trace << 4) | digit;
    return digit;
}

bit<16> minus(in bit<16> a, in bit<16> b) { return a - b; }
void set(out bit<16> a, out bit<16> b) { a = 1; b = 2; }
void through(in bit<16> old, inout bit<16> x) { x = x + 1; x = x + old; }

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action act(inout bit<16> x, bit<16> data) { x = x + data; }
    table t { key = { h.op.b: exact; } actions = { act(h.op.b); NoAction; } default_action = act(h.op.b, 0x100); }
    apply {
        s.egress_spec = 1;
        m.calls = 0;
        if (h.op.op == 1) {
            h.op.b = minus(step(m.calls, 5), step(m.calls, 3)) + step(m.calls, 1);
        } else if (h.op.op == 2) {
            h.op.b = h.op.a == 0 ? step(m.calls, 1) : step(m.calls, 2);
        } else if (h.op.op == 3) {
            // The value that is copied out last stays.
            set(h.op.b, h.op.b);
        } else if (h.op.op == 4) {
            // `old` is what the argument was before the call.
            through(h.op.b, h.op.b);
        } else if (h.op.op == 5) {
            // The key is read before the action writes it.
            t.apply();
            t.apply();
        } else if (h.op.op == 6) {
            bit<16> x = 0x1234;
            x[15:8] = x[7:0];
            x[7:0] = (x ++ x)[23:16];
            h.op.b = x;
        } else if (h.op.op == 7) {
            if (step(m.calls, 1) == 2 && step(m.calls, 2) == 2 || step(m.calls, 3) == 3) { h.op.b = 1; }
        }
        h.op.c = (bit<32>)m.calls;
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
