// Indirect counters, meters and registers, indexed by the packet.
#define V1MODEL_VERSION 20200408
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<2> colour; bit<32> old; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    counter<bit<8>>(16, CounterType.packets_and_bytes) seen;
    meter<bit<8>>(4, MeterType.bytes) rate;
    register<bit<32>, bit<8>>(8) sums;
    register<bit<9>, bit<8>>(2) narrow;
    apply {
        s.egress_spec = 1;
        seen.count(h.op.a);
        @atomic {
            sums.read(m.old, h.op.a);
            sums.write(h.op.a, m.old + h.op.c);
        }
        h.op.c = m.old;
        rate.execute_meter(h.op.op, m.colour);
        h.op.op = (bit<8>)m.colour;
        narrow.write(1, h.op.b[8:0]);
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
