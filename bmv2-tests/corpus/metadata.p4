// What a program learns about a packet from the switch, and how a drop ends.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        if (!h.op.isValid()) {
            // The language does not define what the fields of an invalid header hold.
        } else if (h.op.op == 1) {
            h.op.b = 7w0 ++ s.ingress_port;
            h.op.c = s.packet_length;
            s.egress_spec = 3;
        } else if (h.op.op == 2) {
            s.egress_spec = 511;
        } else if (h.op.op == 3) {
            mark_to_drop(s);
            // A port that is set later undoes the drop.
            s.egress_spec = 4;
        } else if (h.op.op == 4) {
            s.egress_spec = 5;
            s.priority = 7;
        } else if (h.op.op == 5) {
            s.egress_spec = 6;
            // The clock does not stand at 0.
            h.op.a = s.ingress_global_timestamp > 0 ? 8w1 : 8w0;
        }
        // If nothing sets a port, it is 0.
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        if (!h.op.isValid()) { return; }
        if (h.op.op == 4) {
            h.op.a = 5w0 ++ s.priority;
            h.op.b = 7w0 ++ s.egress_port;
            h.op.c = s.instance_type;
        }
        if (h.op.op == 6) { mark_to_drop(s); }
        if (h.op.op == 7) {
            // In egress the port is fixed.
            s.egress_spec = 9;
        }
        if (h.op.op == 5) { h.op.b = s.egress_global_timestamp >= s.ingress_global_timestamp ? 16w1 : 16w0; }
    }
}

EMIT_ALL(headers)
SWITCH;
