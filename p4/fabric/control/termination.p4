// Termination: is this tunnel for me?
//
// A tunnel ends here if it is addressed to this leaf and its network is present on this
// leaf. Then the outer headers are removed, and the frame inside is the tenant's. Only
// packets from underlay ports get here, so VXLAN that a tenant sends in its own network
// stays in that network.
//
// Decides: meta.from_tunnel, bd, vrf, frame_len; the outer headers of terminated tunnels
// become invalid; drop_reason.

#ifndef FABRIC_TERMINATION_P4
#define FABRIC_TERMINATION_P4

// Ethernet, IP, UDP and VXLAN around a tenant's frame (RFC 7348 section 5).
const bit<16> TUNNEL_OVERHEAD_IPV4 = 50;
const bit<16> TUNNEL_OVERHEAD_IPV6 = 70;

control Termination(inout headers_t hdr, inout metadata_t meta,
                    in standard_metadata_t standard_metadata) {
    @id(0x13000005) direct_counter(CounterType.packets_and_bytes) vni_counter;

    @id(0x0100000a)
    @brief("The network is here; its router is `vrf`, 0 if it has none.")
    action set_network(vni_t vrf) {
        meta.bd = hdr.vxlan.vni;
        meta.vrf = vrf;
    }

    @id(0x0100000b)
    action refuse_network() {
        meta.drop_reason = drop_reason_t.UNKNOWN_VNI;
    }

    @id(0x02000005)
    @brief("The networks that have an attachment on this leaf or on a host under it.")
    table vni {
        key = {
            hdr.vxlan.vni : exact @name("vni");
        }
        actions = { set_network; @defaultonly refuse_network; }
        const default_action = refuse_network();
        counters = vni_counter;
        size = SIZE_NETWORKS;
    }

    apply {
        if (hdr.vlan.isValid() || meta.extra_tag) {
            meta.drop_reason = drop_reason_t.INNER_VLAN;
        } else if (hdr.ethernet.src_addr[40:40] == 1) {
            meta.drop_reason = drop_reason_t.MALFORMED;
        } else if (vni.apply().hit) {
            meta.from_tunnel = true;
            meta.frame_len = (bit<16>)standard_metadata.packet_length;
            if (hdr.outer_ipv4.isValid()) {
                meta.frame_len = meta.frame_len - TUNNEL_OVERHEAD_IPV4;
            } else {
                meta.frame_len = meta.frame_len - TUNNEL_OVERHEAD_IPV6;
            }
            hdr.outer_ethernet.setInvalid();
            hdr.outer_ipv4.setInvalid();
            hdr.outer_ipv6.setInvalid();
            hdr.outer_udp.setInvalid();
            hdr.vxlan.setInvalid();
        }
    }
}

#endif
