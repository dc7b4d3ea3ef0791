// Each line says which warning it gets; the others get none.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t h; }
struct meta_t { bit<8> m; }

bit<8> helper(in bit<8> x) { return x; }
bit<8> forgotten(in bit<8> x) { return x; }                // warn: unused
T generic<T>(in T x) { return x; }
control Spare() { apply {} }                               // warn: unused

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) {
            1: accept;
            default: accept;
            2: reject;                                     // warn: unreachable
        }
    }
    state orphan { transition accept; }                    // warn: unreachable
}

control V(inout headers_t hdr, inout meta_t meta) { apply {} }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    bit<8> outside;                                        // warn: uninitialized
    bit<8> by_action;
    bit<8> nothing;                                        // warn: unused
    counter(8, CounterType.packets) counts;                // warn: unused
    action set() { by_action = 1; }
    action data(bit<8> used, bit<8> ignored) { meta.m = used; } // warn: unused
    action idle() {}                                       // warn: unused
    action hides(bit<8> outside) { meta.m = outside; }     // warn: shadow
    table applied { key = { hdr.h.a: exact; } actions = { set; data; hides; } default_action = set; }
    table never { actions = { set; } default_action = set; } // warn: unused
    @noWarn("unused") bit<8> quiet;
    @noWarn("unused") action asleep(bit<8> x) { bit<8> y; }
    apply {
        bit<8> late;
        meta.m = outside + by_action;
        meta.m = late;                                     // warn: uninitialized
        late = 1;
        bit<8> branched;
        if (hdr.h.a == 1) { branched = 1; } else { branched = 2; }
        meta.m = generic(helper(branched));
        bit<8> half;
        if (hdr.h.a == 1) { half = 1; }
        meta.m = half;                                     // warn: uninitialized
        bit<8> ended;
        if (hdr.h.a == 3) { return; } else { ended = 1; }
        meta.m = ended;
        bit<8> part;
        part[3:0] = 1;
        meta.m = part;
        bit<8> counted;
        for (bit<8> i in 0 .. 3) { counted = i; meta.m = counted; }
        applied.apply();
        meta.m = 300;                                      // warn: overflow
        @noWarn("overflow") { meta.m = 400; }
        if (hdr.h.a == 4) {
            exit;
            meta.m = 2;                                    // warn: unreachable
        }
    }
}

control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) { apply {} }
control C(inout headers_t hdr, inout meta_t meta) { apply {} }
control D(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
