// Fields of variable length: read, copied, written, and the errors of a length that does not fit.
#include "include/frame.p4"

header options_t { bit<8> length; varbit<64> body; }
struct headers { op_t op; options_t options; options_t copy; }
struct meta { }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start {
        p.extract(h.op);
        transition select(h.op.op) {
            0: accept;
            default: options;
        }
    }
    state options {
        // The length is in bits.
        p.extract(h.options, (bit<32>)p.lookahead<bit<8>>());
        transition accept;
    }
}

NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        if (s.parser_error == error.NoError) { h.op.b = 0; }
        else if (s.parser_error == error.HeaderTooShort) { h.op.b = 1; }
        else if (s.parser_error == error.PacketTooShort) { h.op.b = 2; }
        else if (s.parser_error == error.ParserInvalidArgument) { h.op.b = 3; }
        else { h.op.b = 4; }
        if (h.op.op == 2) {
            h.copy = h.options;
            h.copy.length = 0xff;
        } else if (h.op.op == 3) {
            h.options.setInvalid();
        }
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
