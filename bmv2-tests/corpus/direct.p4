// Direct counters and meters: one for each entry.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { bit<2> colour; }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_meter<bit<2>>(MeterType.packets) rate;
    action send(bit<9> port) {
        hits.count();
        rate.read(m.colour);
        s.egress_spec = port;
    }
    action drop() { hits.count(); mark_to_drop(s); }
    action none() { hits.count(); rate.read(m.colour); mark_to_drop(s); }
    table counted {
        key = { h.op.op: exact; }
        actions = { send; none; }
        default_action = none();
        counters = hits;
        meters = rate;
    }
    apply {
        counted.apply();
        h.op.a = (bit<8>)m.colour;
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
