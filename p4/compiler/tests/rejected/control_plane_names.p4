// Names that the control plane could not tell apart, and externs' outputs that the target cannot write.
#include <core.p4>
#include <v1model.p4>
struct pair_t { bit<8> a; bit<8> b; }
struct headers_t { }
struct meta_t { pair_t pair; }
parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply {} }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    register<pair_t>(8) pairs;
    @name(".same") action a1() {}
    @name(".same") action a2() {}                     // expect: two actions are called same by the control plane
    @name(".twin") table t1 { actions = { a1; } default_action = a1; }
    @name(".twin") table t2 { actions = { a2; } default_action = a2; } // expect: two tables are called twin
    apply {
        t1.apply();
        t2.apply();
        pairs.read(meta.pair, 0);                     // expect: an extern of this target cannot write a pair_t
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) { apply {} }
control C(inout headers_t hdr, inout meta_t meta) { apply {} }
control D(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
