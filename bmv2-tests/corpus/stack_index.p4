// Elements of a stack by an index from the packet. An index beyond the end means no element.
#include "include/frame.p4"

header item_t { bit<8> x; }
struct headers { op_t op; item_t[3] items; }
struct meta { }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start {
        p.extract(h.op);
        p.extract(h.items.next);
        p.extract(h.items.next);
        p.extract(h.items.next);
        transition accept;
    }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) { h.op.c = (bit<32>)h.items[h.op.a].x; }
        else if (h.op.op == 2) { h.items[h.op.a].x = h.op.b[7:0]; }
        else if (h.op.op == 3) { h.items[h.op.a].setInvalid(); }
        else if (h.op.op == 4) { h.op.c = h.items[h.op.a].isValid() ? 32w1 : 32w0; }
        else if (h.op.op == 5) { h.items[h.op.a] = h.items[h.op.b]; }
        else if (h.op.op == 6) { h.items[h.op.a].x = h.items[h.op.a].x + h.items[h.op.b].x; }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
