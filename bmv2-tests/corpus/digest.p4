// What the program learns goes to the control plane, beside the packet.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }
struct seen_t { bit<9> port; bit<8> a; bit<32> c; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (h.op.op == 1) {
            digest<seen_t>(1, { s.ingress_port, h.op.a, h.op.c });
        }
        // The digest is made of what the fields hold when ingress ends.
        h.op.c = h.op.c + 1;
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
