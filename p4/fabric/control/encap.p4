// Encap: what does the packet look like on the wire?
//
// Egress. Puts VXLAN (RFC 7348) around frames that leave through a tunnel, a VLAN tag on
// frames that leave through a tagged access port, and on every underlay packet the MAC
// addresses of the link.
//
// - Outer TTL 64 and "do not fragment": VTEPs do not fragment (RFC 7348 section 4.3).
// - Outer traffic class 0: tenants do not choose the underlay's; nothing of ECN is copied
//   outwards, so nothing has to be copied back (RFC 6040 section 4.1, compatibility mode).
// - Outer UDP checksum 0, also over IPv6, which RFC 6935 section 5 permits for tunnels and
//   RFC 7348 section 5 asks receivers to accept. A Linux VTEP needs `udp6zerocsumrx`.
//
// Decides: the outer headers, the VLAN tag; outer_ipv4_new; drop_reason.

#ifndef FABRIC_ENCAP_P4
#define FABRIC_ENCAP_P4

control Encap(inout headers_t hdr, inout metadata_t meta) {
    apply {
        hdr.outer_ethernet.setValid();
        hdr.outer_udp.setValid();
        hdr.vxlan.setValid();

        if (meta.encap_ipv4) {
            hdr.outer_ethernet.ether_type = ETHERTYPE_IPV4;
            hdr.outer_ipv4.setValid();
            hdr.outer_ipv4.version = 4;
            hdr.outer_ipv4.ihl = 5;
            hdr.outer_ipv4.tos = 0;
            hdr.outer_ipv4.total_len = meta.frame_len + 36;
            hdr.outer_ipv4.identification = 0;
            hdr.outer_ipv4.reserved = 0;
            hdr.outer_ipv4.dont_fragment = 1;
            hdr.outer_ipv4.more_fragments = 0;
            hdr.outer_ipv4.frag_offset = 0;
            hdr.outer_ipv4.ttl = DEFAULT_TTL;
            hdr.outer_ipv4.protocol = PROTOCOL_UDP;
            hdr.outer_ipv4.src_addr = meta.encap_src[31:0];
            hdr.outer_ipv4.dst_addr = meta.encap_dst[31:0];
            meta.outer_ipv4_new = true;
        } else {
            hdr.outer_ethernet.ether_type = ETHERTYPE_IPV6;
            hdr.outer_ipv6.setValid();
            hdr.outer_ipv6.version = 6;
            hdr.outer_ipv6.traffic_class = 0;
            hdr.outer_ipv6.flow_label = 0;
            hdr.outer_ipv6.payload_len = meta.frame_len + 16;
            hdr.outer_ipv6.next_hdr = PROTOCOL_UDP;
            hdr.outer_ipv6.hop_limit = DEFAULT_TTL;
            hdr.outer_ipv6.src_addr = meta.encap_src;
            hdr.outer_ipv6.dst_addr = meta.encap_dst;
        }

        hdr.outer_udp.src_port = meta.entropy;
        hdr.outer_udp.dst_port = UDP_PORT_VXLAN;
        hdr.outer_udp.length = meta.frame_len + 16;
        hdr.outer_udp.checksum = 0;

        hdr.vxlan.flags = VXLAN_FLAG_VNI;
        hdr.vxlan.reserved = 0;
        hdr.vxlan.vni = meta.encap_vni;
        hdr.vxlan.reserved2 = 0;
    }
}

// Whose MAC address is on the other side of the link?
control LinkRewrite(inout headers_t hdr, inout metadata_t meta,
                    in standard_metadata_t standard_metadata) {
    @id(0x13000010) direct_counter(CounterType.packets_and_bytes) neighbour_counter;

    @id(0x01000022)
    @brief("Underlay packets leave this port from our MAC address to the neighbour's.")
    action rewrite(mac_t smac, mac_t dmac) {
        hdr.outer_ethernet.src_addr = smac;
        hdr.outer_ethernet.dst_addr = dmac;
    }

    @id(0x01000023)
    action no_neighbour() {
        meta.drop_reason = drop_reason_t.NO_NEIGHBOUR;
    }

    @id(0x02000011)
    @brief("The one switch or host on the other side of each underlay port.")
    table neighbour {
        key = {
            standard_metadata.egress_port : exact @name("port");
        }
        actions = { rewrite; @defaultonly no_neighbour; }
        const default_action = no_neighbour();
        counters = neighbour_counter;
        size = SIZE_PORTS;
    }

    apply {
        neighbour.apply();
    }
}

control AccessTag(inout headers_t hdr, in metadata_t meta) {
    apply {
        hdr.vlan.setValid();
        hdr.vlan.pcp = 0;
        hdr.vlan.dei = 0;
        hdr.vlan.vid = meta.egress_vid;
        hdr.vlan.ether_type = hdr.ethernet.ether_type;
        hdr.ethernet.ether_type = ETHERTYPE_VLAN;
    }
}

#endif
