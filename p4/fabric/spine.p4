// The spine: connects leaves. It only routes the underlay; it does not use what is inside
// a tunnel, so it does not parse it.
//
//   PacketOut    did the controller send this?
//   SpinePort    is this one of our links?
//   OwnAddress   is it for this switch?
//   Underlay     through which port?
//   LinkRewrite  what does it look like on the wire?

#include <core.p4>
#include <v1model.p4>

#include "include/headers.p4"
#include "include/drop_reasons.p4"
#include "include/metadata.p4"
#include "include/sizes.p4"
#include "include/parser.p4"
#include "control/packet_io.p4"
#include "control/admission.p4"
#include "control/echo.p4"
#include "control/own_address.p4"
#include "control/flow_hash.p4"
#include "control/ttl.p4"
#include "control/underlay.p4"
#include "control/encap.p4"
#include "control/checksums.p4"

control SpineIngress(inout headers_t hdr, inout metadata_t meta,
                     inout standard_metadata_t standard_metadata) {
    PacketOut() packet_io;
    Punt() punt;
    PortAdmission() port;
    OwnAddress() own_address;
    FlowHash() flow_hash;
    Underlay() underlay;

    @id(0x12000002)
    @brief("Refused packets by drop_reason_t.")
    counter(DROP_REASONS, CounterType.packets_and_bytes) ingress_drops;

    apply {
        mark_to_drop(standard_metadata);
        if (hdr.packet_out.isValid()) {
            packet_io.apply(hdr, standard_metadata);
        } else {
            if (standard_metadata.parser_error != error.NoError
                || standard_metadata.checksum_error == 1) {
                meta.drop_reason = drop_reason_t.MALFORMED;
            } else {
                port.apply(hdr, meta, standard_metadata);
            }

            if (meta.drop_reason == drop_reason_t.NONE) {
                if (hdr.outer_ethernet.isValid()) {
                    flow_hash.apply(meta);
                    own_address.apply(hdr, meta);
                    if (meta.local) {
                        meta.drop_reason = drop_reason_t.LOCAL_PROTOCOL;
                    }
                    if (meta.drop_reason == drop_reason_t.NONE) {
                        underlay.apply(hdr, meta, standard_metadata);
                    }
                } else if (hdr.ethernet.ether_type == ETHERTYPE_LLDP) {
                    punt.apply(hdr, punt_reason_t.LLDP, standard_metadata);
                } else {
                    meta.drop_reason = drop_reason_t.NOT_FOR_ROUTER;
                }
            }

            if (meta.drop_reason != drop_reason_t.NONE) {
                mark_to_drop(standard_metadata);
                ingress_drops.count((bit<32>)(bit<8>)meta.drop_reason);
            }
        }
    }
}

control SpineEgress(inout headers_t hdr, inout metadata_t meta,
                    inout standard_metadata_t standard_metadata) {
    LinkRewrite() link_rewrite;

    @id(0x12000003)
    @brief("Packets that could not be sent, by drop_reason_t.")
    counter(DROP_REASONS, CounterType.packets_and_bytes) egress_drops;

    apply {
        if (hdr.outer_ethernet.isValid()) {
            link_rewrite.apply(hdr, meta, standard_metadata);
        }
        if (meta.drop_reason != drop_reason_t.NONE) {
            mark_to_drop(standard_metadata);
            egress_drops.count((bit<32>)(bit<8>)meta.drop_reason);
        }
    }
}

V1Switch(SpineParser(), VerifyChecksums(), SpineIngress(), SpineEgress(),
         ComputeChecksums(), FabricDeparser()) main;
