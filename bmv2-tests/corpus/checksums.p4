// Checksums over fields and the payload; verified on the way in, updated on the way out, partly by a nested control.
#include "include/frame.p4"

header sum_t { bit<16> words; bit<16> payload; }
struct headers { op_t op; sum_t sums; }
struct meta { }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start { p.extract(h.op); p.extract(h.sums); transition accept; }
}

control verify_sums(inout headers h, inout meta m) {
    apply {
        verify_checksum(h.op.op == 1, { h.op.op, h.op.a, h.op.b, h.op.c }, h.sums.words, HashAlgorithm.csum16);
        verify_checksum_with_payload(h.op.op == 2, { h.op.b }, h.sums.payload, HashAlgorithm.csum16);
    }
}

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.op.a = 7w0 ++ s.checksum_error;
    }
}

NO_EGRESS(headers, meta)

control update_words(in op_t op, inout bit<16> sum) {
    apply { update_checksum(op.op != 9, { op.op, op.a, op.b, op.c }, sum, HashAlgorithm.csum16); }
}

control update_sums(inout headers h, inout meta m) {
    update_words() words;
    apply {
        words.apply(h.op, h.sums.words);
        update_checksum_with_payload(h.op.op != 9, { h.op.b }, h.sums.payload, HashAlgorithm.csum16);
    }
}

EMIT_ALL(headers)
SWITCH;
