// Connects ports 1 and 2, without a controller. Packets from other ports are dropped.
#include <core.p4>
#include <v1model.p4>

struct headers_t {}
struct meta_t {}

parser parse(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start { transition accept; }
}

control check(inout headers_t hdr, inout meta_t meta) { apply { } }
control compute(inout headers_t hdr, inout meta_t meta) { apply { } }

control ingress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    action drop() { mark_to_drop(std); }
    action send(bit<9> port) { std.egress_spec = port; }
    table wires {
        key = { std.ingress_port: exact; }
        actions = { send; drop; }
        const default_action = drop();
        const entries = {
            1: send(2);
            2: send(1);
        }
    }
    apply { wires.apply(); }
}

control egress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) { apply { } }
control deparse(packet_out pkt, in headers_t hdr) { apply { } }

V1Switch(parse(), check(), ingress(), egress(), compute(), deparse()) main;
