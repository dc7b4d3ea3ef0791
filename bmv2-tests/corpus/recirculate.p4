// Recirculation: the packet as it would leave, through the parser and ingress again.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta {
    @field_list(1) bit<16> sum;
                   bit<8>  lost;
}

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.op.op = m.lost;
        // This is done here and not in egress: in egress a packet that is not a copy is a
        // normal one again.
        h.op.c = s.instance_type;
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        if (h.op.a > 0) {
            m.sum = m.sum + (bit<16>)h.op.a;
            h.op.a = h.op.a - 1;
            m.lost = 0xff;
            recirculate_preserving_field_list(1);
        }
        h.op.b = m.sum;
    }
}

EMIT_ALL(headers)
SWITCH;
