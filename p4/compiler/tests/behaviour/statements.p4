// Every form of statement in functions, actions, parser states and the bodies of controls.
// in 0: 00 00 00 00 01 00 00 00
// out 1: 27 27 27 27 12 04 04 44
// in 0: 00 00 00 00 02 00 01 00
// out 1: 27 27 27 27 12 04 04 44
// in 0: 00 00 00 00 03 00 02 00
// out 1: 27 27 27 27 33 04 04 44
// in 0: 00 00 00 00 09 00 03 00
// out 1: 27 27 27 27 dd 04 04 44
// in 0: 00 00 00 00 00 00 e0 00
// out 1: 27 27 27 27 dd 04 e0 00
// in 0: 00 00 00 00 00 00 e1 00
// out 1: 27 27 27 27 dd 04 e1 00
// in 0: 00 00 00 00 00 00 e2 00
// out 1: 27 27 27 27 dd 04 e2 01
#include <core.p4>
#include <v1model.p4>

#define ALL(x) x = 5; x += 3; x -= 1; x *= 3; x <<= 1; x >>= 2; x |= 5; x &= 13; x ^= 6; x |+|= 250; x |-|= 250; \
    x[7:4] = 2; x[3:0] += 1; x[0+:4] = 7; (x) = x; ;

#define SUM(acc) for (bit<8> i in 1 .. 5) { if (i == 2) { continue; } else if (i == 4) break; acc += i; }

header h_t {
    bit<8> in_function;
    bit<8> in_action;
    bit<8> in_apply;
    bit<8> in_state;
    bit<8> cases;
    bit<8> loops;
    bit<8> ends;
    bit<8> more;
}
struct headers_t { h_t h; }
struct meta_t { bit<8> unused; }

bit<8> function(in bit<8> start) {
    bit<8> x = start;
    ALL(x)
    if (start == 0) {
        return x;
    }
    ;
    return 0;
}

bit<8> looping() {
    bit<8> sum = 0;
    SUM(sum)
    return sum;
}

void nothing(inout bit<8> x) {
    if (x == 0xff) {
        return;
    }
    x = x;
}

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.h);
        ;
        ALL(hdr.h.in_state)
        if (hdr.h.more == 1) {
            hdr.h.more = 2;
        } else {
            hdr.h.more = 0;
        }
        { nothing(hdr.h.more); }
        transition accept;
    }
}

control ended(inout h_t h) {
    action leave() { h.ends = 0xe2; exit; }
    action back() {
        if (h.ends == 0xe1) {
            return;
        }
        h.more = 0x44;
    }
    apply {
        if (h.ends == 0xe0) {
            return;
        }
        if (h.ends == 0xe2) {
            h.more = 1;
            leave();
        }
        back();
        if (h.more == 0x44) {
            h.ends = looping();
        }
    }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    ended() last;
    action one() {
        ALL(hdr.h.in_action)
        bit<8> sum = 0;
        SUM(sum)
        hdr.h.loops = sum;
    }
    action two() { }
    table t {
        key = { hdr.h.cases : exact; }
        actions = { one; two; }
        default_action = one();
    }
    apply {
        std.egress_spec = 1;
        hdr.h.in_function = function(0);
        ALL(hdr.h.in_apply)
        switch (t.apply().action_run) {
            two:
            one: {
                hdr.h.in_action += 0;
            }
            default: {
                hdr.h.in_action = 0;
            }
        }
        bit<8> again = 0;
        for (; again < 2; again += 1) {
            bit<8> sum = 0;
            SUM(sum)
            if (sum != hdr.h.loops) {
                hdr.h.loops = 0xee;
            }
        }
        switch (hdr.h.cases) {
            1:
            2: { hdr.h.cases = 0x12; }
            3: { hdr.h.cases = 0x33; }
            default: { hdr.h.cases = 0xdd; }
        }
        last.apply(hdr.h);
        ;
    }
}

#include "frame.p4i"
