// Clones from ingress and from egress, with and without preserved fields.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta {
    @field_list(1, 2) bit<16> kept;
    @field_list(2)    bit<8>  also;
                      bit<8>  lost;
}

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        m.kept = 0x1234;
        m.also = 0x56;
        m.lost = 0x78;
        if (h.op.op == 1) { clone(CloneType.I2E, 5); }
        if (h.op.op == 2) { clone_preserving_field_list(CloneType.I2E, 5, 1); }
        if (h.op.op == 3) { clone_preserving_field_list(CloneType.I2E, 5, 2); }
        // The clone of ingress is the packet as it came in.
        h.op.a = 0xee;
    }
}

control eg(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        // 1: clone of ingress, 2: clone of egress.
        if (s.instance_type == 1 || s.instance_type == 2) {
            h.op.b = m.kept;
            h.op.c = m.also ++ m.lost ++ (bit<16>)s.instance_type;
        } else {
            h.op.b = 0xaaaa;
            if (h.op.op == 4) { clone(CloneType.E2E, 5); }
            if (h.op.op == 5) { clone_preserving_field_list(CloneType.E2E, 5, 2); }
            // The clone of egress is the packet as egress leaves it.
            h.op.a = 0xdd;
        }
    }
}

EMIT_ALL(headers)
SWITCH;
