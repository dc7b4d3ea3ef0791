// The leaf: connects hosts and bare-metal machines, ends and starts tunnels, routes
// between the networks of a vDC.
//
// Each control decides one question, in this order. The first control that refuses a packet
// sets the drop reason, and the packet is counted under that reason.
//
//   PacketOut    did the controller send this?
//   Admission    who sends, and may they send in this network?
//   SourceGuard  is this machine who it says it is?
//   OwnAddress   is it for this switch?      Termination  does the tunnel end here?
//   EdgeReply    can it be answered here?
//   Route        where to, at layer 3?       Bridge       where to, at layer 2?
//   FloodRate    does it flood too much?
//   Tunnel       through which tunnel?       Underlay     through which port?
//   ErrorDue     should the sender hear?     IcmpError    what does it hear?
//   Replicate, Encap, LinkRewrite            what does it look like on the wire?
//
// A frame that came through a tunnel and leaves through one passes once: the outer
// headers come off in Termination and new ones go on in Encap. Only a refused packet that
// causes an ICMP error passes twice.

#include <core.p4>
#include <v1model.p4>

#include "include/headers.p4"
#include "include/drop_reasons.p4"
#include "include/metadata.p4"
#include "include/sizes.p4"
#include "include/parser.p4"
#include "control/packet_io.p4"
#include "control/admission.p4"
#include "control/source_guard.p4"
#include "control/echo.p4"
#include "control/own_address.p4"
#include "control/termination.p4"
#include "control/flow_hash.p4"
#include "control/edge_reply.p4"
#include "control/ttl.p4"
#include "control/martian.p4"
#include "control/route.p4"
#include "control/bridge.p4"
#include "control/flood_rate.p4"
#include "control/tunnel.p4"
#include "control/underlay.p4"
#include "control/icmp_error.p4"
#include "control/replicate.p4"
#include "control/encap.p4"
#include "control/checksums.p4"

// A tenant's frame, out of its tunnel: answered, routed, bridged or flooded.
control Overlay(inout headers_t hdr, inout metadata_t meta,
                inout standard_metadata_t standard_metadata) {
    EdgeReply() edge_reply;
    Route() route;
    Bridge() bridge;
    FloodRate() flood_rate;
    Tunnel() tunnel;

    apply {
        edge_reply.apply(hdr, meta);
        if (meta.bd == 0) {
            // A frame of an underlay link, not of a network: it is answered or dropped.
            if (meta.target == target_t.NONE && meta.drop_reason == drop_reason_t.NONE) {
                meta.drop_reason = drop_reason_t.NOT_FOR_ROUTER;
            }
        } else if (meta.target == target_t.NONE && meta.drop_reason == drop_reason_t.NONE) {
            route.apply(hdr, meta, standard_metadata);
            if (!meta.routed) {
                bridge.apply(hdr, meta, standard_metadata);
                if (meta.target == target_t.GROUP) {
                    flood_rate.apply(meta);
                }
            }
        }
        if (meta.drop_reason == drop_reason_t.NONE) {
            tunnel.apply(meta, standard_metadata);
        }
    }
}

control LeafIngress(inout headers_t hdr, inout metadata_t meta,
                    inout standard_metadata_t standard_metadata) {
    PacketOut() packet_io;
    Punt() punt;
    Admission() admission;
    SourceGuard() source_guard;
    OwnAddress() own_address;
    Termination() termination;
    FlowHash() flow_hash;
    Overlay() overlay;
    Underlay() underlay;
    ErrorDue() error_due;
    IcmpError() icmp_error;

    @id(0x12000002)
    @brief("Refused packets by drop_reason_t.")
    counter(DROP_REASONS, CounterType.packets_and_bytes) ingress_drops;

    apply {
        mark_to_drop(standard_metadata);
        if (hdr.packet_out.isValid()) {
            packet_io.apply(hdr, standard_metadata);
        } else {
            if (meta.refused == drop_reason_t.NONE) {
                admission.apply(hdr, meta, standard_metadata);
                if (meta.guarded && meta.drop_reason == drop_reason_t.NONE) {
                    source_guard.apply(hdr, meta);
                }
            } else {
                icmp_error.apply(hdr, meta, standard_metadata);
                if (meta.drop_reason == drop_reason_t.NONE) {
                    ingress_drops.count((bit<32>)(bit<8>)meta.refused);
                }
            }
            flow_hash.apply(meta);

            if (meta.drop_reason == drop_reason_t.NONE && hdr.outer_ethernet.isValid()) {
                own_address.apply(hdr, meta);
                // Of a host's own traffic only an echo request to this leaf is wanted.
                if (meta.host_plain && !meta.originated) {
                    meta.drop_reason = drop_reason_t.HOST_PROTOCOL;
                }
                if (meta.local && hdr.vxlan.isValid()) {
                    termination.apply(hdr, meta, standard_metadata);
                }
            }

            if (meta.drop_reason == drop_reason_t.NONE && !hdr.outer_ethernet.isValid()) {
                if (meta.port_kind == port_kind_t.FABRIC && !meta.from_tunnel
                    && hdr.ethernet.ether_type == ETHERTYPE_LLDP) {
                    punt.apply(hdr, punt_reason_t.LLDP, standard_metadata);
                } else {
                    overlay.apply(hdr, meta, standard_metadata);
                }
            }

            if (meta.drop_reason == drop_reason_t.NONE
                && (hdr.outer_ethernet.isValid() || meta.encap)) {
                underlay.apply(hdr, meta, standard_metadata);
                // A frame from another leaf is never bridged back into the fabric: two
                // leaves that disagree about a MAC address must not make a loop.
                if (meta.to_fabric && meta.from_tunnel && !meta.routed
                    && meta.target == target_t.VTEP
                    && meta.port_kind == port_kind_t.FABRIC) {
                    meta.drop_reason = drop_reason_t.SPLIT_HORIZON;
                }
            }

            if (meta.drop_reason != drop_reason_t.NONE) {
                bool due;
                error_due.apply(hdr, meta, standard_metadata, due);
                if (due) {
                    // Counted in the second pass.
                    resubmit_preserving_field_list(KEPT_FOR_ERROR);
                } else {
                    mark_to_drop(standard_metadata);
                    ingress_drops.count((bit<32>)(bit<8>)meta.drop_reason);
                }
            }
        }
    }
}

control LeafEgress(inout headers_t hdr, inout metadata_t meta,
                   inout standard_metadata_t standard_metadata) {
    Replicate() replicate;
    Encap() encap;
    LinkRewrite() link_rewrite;
    AccessTag() access_tag;
    CutQuote() cut_quote;

    @id(0x12000003)
    @brief("Copies that could not be sent, by drop_reason_t.")
    counter(DROP_REASONS, CounterType.packets_and_bytes) egress_drops;

    apply {
        bool pruned = false;
        if (standard_metadata.egress_rid != 0) {
            replicate.apply(meta, standard_metadata, pruned);
        }
        if (!pruned && meta.drop_reason == drop_reason_t.NONE) {
            if (meta.encap) {
                encap.apply(hdr, meta);
            }
            if (hdr.outer_ethernet.isValid()) {
                link_rewrite.apply(hdr, meta, standard_metadata);
            } else if (meta.egress_vid != 0) {
                access_tag.apply(hdr, meta);
            }
            if (hdr.quoted.isValid()) {
                cut_quote.apply(meta);
            }
        }
        if (pruned) {
            mark_to_drop(standard_metadata);
        } else if (meta.drop_reason != drop_reason_t.NONE) {
            mark_to_drop(standard_metadata);
            egress_drops.count((bit<32>)(bit<8>)meta.drop_reason);
        }
    }
}

V1Switch(LeafParser(), VerifyChecksums(), LeafIngress(), LeafEgress(),
         ComputeChecksums(), FabricDeparser()) main;
