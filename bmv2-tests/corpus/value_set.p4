// A parser value set: which operations carry a second header is the control plane's choice.
#include "include/frame.p4"

header more_t { bit<16> x; }
struct headers { op_t op; more_t more; }
struct meta { }
struct pair_t { bit<8> op; bit<8> a; }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    @name("with_more") value_set<bit<8>>(4) with_more;
    @name("pairs") value_set<pair_t>(4) pairs;
    state start {
        p.extract(h.op);
        transition select(h.op.op) {
            with_more: more;
            default: try_pairs;
        }
    }
    state try_pairs {
        transition select(h.op.op, h.op.a) {
            pairs: more;
            (0, _): accept;
            default: accept;
        }
    }
    state more { p.extract(h.more); transition accept; }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.more.isValid()) { h.more.x = ~h.more.x; }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
