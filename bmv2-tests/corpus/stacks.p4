// Header stacks: next and last while parsing, push and pop and indexes after.
#include "include/frame.p4"

header item_t { bit<1> bottom; bit<7> x; }
struct headers { op_t op; item_t[4] items; }
struct meta { bit<8> last; bit<32> index; }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start {
        p.extract(h.op);
        transition select(h.op.op) {
            0: accept;
            default: item;
        }
    }
    state item {
        p.extract(h.items.next);
        m.last = (bit<8>)h.items.last.x;
        m.index = h.items.lastIndex;
        transition select(h.items.last.bottom) {
            0: item;
            1: accept;
        }
    }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.op.a = m.last;
        h.op.b = m.index[15:0];
        if (s.parser_error == error.StackOutOfBounds) { h.op.c = 0xffffffff; }
        if (h.op.op == 2) {
            h.items.push_front(1);
            h.items[0].setValid();
            h.items[0] = { 0, 0x55 };
        } else if (h.op.op == 3) {
            h.items.pop_front(2);
        } else if (h.op.op == 4) {
            h.items[1].x = h.items[0].x + 1;
        } else if (h.op.op == 5) {
            // Pushing more than there is room for loses the last ones.
            h.items.push_front(3);
        } else if (h.op.op == 6) {
            h.items[2].setInvalid();
        }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
