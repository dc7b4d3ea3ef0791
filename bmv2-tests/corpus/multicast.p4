// Replication with egress_rid, pruning of the port that a packet came in by, and drops.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        // A group wins over a port.
        s.egress_spec = 9;
        s.mcast_grp = h.op.b;
        if (h.op.op == 1) { mark_to_drop(s); }
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        h.op.a = s.egress_port[7:0];
        h.op.c = (bit<16>)s.instance_type[15:0] ++ s.egress_rid;
        if (s.egress_port == s.ingress_port) { mark_to_drop(s); }
    }
}

EMIT_ALL(headers)
SWITCH;
