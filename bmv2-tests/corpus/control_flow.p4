// switch on values, for loops, exit, return, nested controls, functions, short circuit, copy-in and copy-out.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<16> mark; }
enum bit<8> kind { none = 0, first = 1, other = 7 }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

bit<16> twice(in bit<16> x) { return x << 1; }

bool bump(inout bit<16> x, in bool result) { x = x + 1; return result; }

void swap(inout bit<16> x, inout bit<16> y) { bit<16> t = x; x = y; y = t; }

control add(inout bit<16> x)(bit<16> n) {
    apply {
        if (x == 0xffff) { return; }
        x = x + n;
    }
}

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    add(1) one;
    add(16w0x100) many;
    action leave() { h.op.c = 0x11; exit; }
    action both(inout bit<16> x, inout bit<16> y) { x = 1; y = 2; }
    table leaving { key = { h.op.a: exact; } actions = { leave; NoAction; } default_action = NoAction(); }
    apply {
        s.egress_spec = 1;
        switch (h.op.op) {
            8w1: { h.op.b = twice(h.op.b); }
            8w2:
            8w3: { one.apply(h.op.b); many.apply(h.op.b); one.apply(h.op.b); }
            8w4: {
                leaving.apply();
                // Not reached after exit.
                h.op.c = 0x22;
            }
            8w5: {
                // The right operand is computed only where it decides.
                if (bump(h.op.b, false) && bump(h.op.b, true)) { h.op.c = 1; }
                if (bump(h.op.b, true) || bump(h.op.b, true)) { h.op.c = 2; }
            }
            8w6: {
                bit<32> sum = 0;
                for (bit<8> i = 0; i < h.op.a; i = i + 1) {
                    if (i == 3) { continue; }
                    if (i == 6) { break; }
                    sum = sum + (bit<32>)i;
                }
                for (bit<16> j in 16w1 .. 16w4) { h.op.b = h.op.b + j; }
                h.op.c = sum;
            }
            8w7: {
                bit<16> x = 0x1234;
                swap(h.op.b, x);
                h.op.c = (bit<32>)x;
            }
            8w8: {
                // Both parameters are the same field: it is copied out from left to right.
                both(h.op.b, h.op.b);
            }
            8w9: {
                kind k = (kind)h.op.a;
                switch (k) {
                    kind.none: { h.op.c = 10; }
                    kind.first: { h.op.c = 11; }
                    kind.other: { h.op.c = 17; }
                    default: { h.op.c = 99; }
                }
            }
            8w11: {
                // What was written before an action's exit stays for egress.
                m.mark = 1;
                leaving.apply();
                m.mark = 2;
            }
            default: { h.op.b = 0xdead; }
        }
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        // exit ends its own pipeline only.
        h.op.c = h.op.c | 0x80000000;
        if (h.op.op == 11) { h.op.b = m.mark; }
        if (h.op.op == 10) { exit; }
        h.op.c = h.op.c | 0x40000000;
    }
}

EMIT_ALL(headers)
SWITCH;
