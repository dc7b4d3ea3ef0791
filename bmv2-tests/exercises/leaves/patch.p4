// A patch panel: what comes in at a port leaves at another, whatever it is.

#include <core.p4>
#include <v1model.p4>

struct headers_t {
}

struct metadata_t {
}

parser PatchParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                   inout standard_metadata_t standard_metadata) {
    state start {
        transition accept;
    }
}

control Verify(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control PatchIngress(inout headers_t hdr, inout metadata_t meta,
                     inout standard_metadata_t standard_metadata) {
    action drop() {
        mark_to_drop(standard_metadata);
    }

    action send(bit<9> port) {
        standard_metadata.egress_spec = port;
    }

    table patch {
        key = { standard_metadata.ingress_port : exact; }
        actions = { send; drop; }
        default_action = drop();
        const entries = {
            1 : send(3);
            3 : send(1);
        }
    }

    apply {
        patch.apply();
    }
}

control PatchEgress(inout headers_t hdr, inout metadata_t meta,
                    inout standard_metadata_t standard_metadata) {
    apply { }
}

control Update(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control PatchDeparser(packet_out packet, in headers_t hdr) {
    apply { }
}

V1Switch(PatchParser(), Verify(), PatchIngress(), PatchEgress(), Update(), PatchDeparser()) main;
