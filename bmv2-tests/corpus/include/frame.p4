// What most programs of this folder share: one small header, and the blocks that they leave empty.
#include <core.p4>
#include <v1model.p4>

// Eight octets: what to do, and three numbers to do it with.
header op_t {
    bit<8>  op;
    bit<8>  a;
    bit<16> b;
    bit<32> c;
}

#define PARSE_OP(HEADERS, META)                                                              \
    parser parse(packet_in p, out HEADERS h, inout META m, inout standard_metadata_t s) {    \
        state start { p.extract(h.op); transition accept; }                                  \
    }

#define EMIT_ALL(HEADERS)                                                                    \
    control deparse(packet_out p, in HEADERS h) { apply { p.emit(h); } }

#define NO_CHECKSUMS(HEADERS, META)                                                          \
    control verify_sums(inout HEADERS h, inout META m) { apply { } }                         \
    control update_sums(inout HEADERS h, inout META m) { apply { } }

#define NO_EGRESS(HEADERS, META)                                                             \
    control eg(inout HEADERS h, inout META m, inout standard_metadata_t s) { apply { } }

#define SWITCH V1Switch(parse(), verify_sums(), ig(), eg(), update_sums(), deparse()) main
