// Resubmission: the packet as it came in, with the preserved fields, through ingress again.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta {
    @field_list(1) bit<8> rounds;
                   bit<8> lost;
}

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.op.op = m.lost;
        h.op.c = s.instance_type;
        h.op.b = h.op.b + 1;
        if (m.rounds < h.op.a) {
            m.rounds = m.rounds + 1;
            m.lost = 0xff;
            resubmit_preserving_field_list(1);
        }
        h.op.a = m.rounds;
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
