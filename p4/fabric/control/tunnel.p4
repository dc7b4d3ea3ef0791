// Tunnel: does this frame leave through a tunnel, and to which underlay address?
//
// Towards a VTEP, or back to the VTEP from which the request came.
//
// Decides: meta.encap, encap_ipv4, encap_src, encap_dst, encap_vni (of replies);
// egress_spec and egress_vid of replies to access ports; drop_reason.

#ifndef FABRIC_TUNNEL_P4
#define FABRIC_TUNNEL_P4

control Tunnel(inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    @id(0x1300000d) direct_counter(CounterType.packets_and_bytes) remote_vtep_counter;

    @id(0x01000017)
    @brief("From our address `src` to the VTEP at `dst`, over IPv4.")
    action tunnel_ipv4(ipv4_t src, ipv4_t dst) {
        meta.encap = true;
        meta.encap_ipv4 = true;
        meta.encap_src = V4_MAPPED ++ src;
        meta.encap_dst = V4_MAPPED ++ dst;
    }

    @id(0x01000018)
    @brief("From our address `src` to the VTEP at `dst`, over IPv6.")
    action tunnel_ipv6(ipv6_t src, ipv6_t dst) {
        meta.encap = true;
        meta.encap_ipv4 = false;
        meta.encap_src = src;
        meta.encap_dst = dst;
    }

    @id(0x01000019)
    action no_vtep() {
        meta.drop_reason = drop_reason_t.NO_VTEP;
    }

    @id(0x0200000d)
    @brief("Where each VTEP is.")
    table remote_vtep {
        key = {
            meta.vtep_id : exact @name("vtep_id");
        }
        actions = { tunnel_ipv4; tunnel_ipv6; @defaultonly no_vtep; }
        const default_action = no_vtep();
        counters = remote_vtep_counter;
        size = SIZE_VTEPS;
    }

    apply {
        if (meta.target == target_t.VTEP) {
            remote_vtep.apply();
        } else if (meta.target == target_t.SENDER) {
            if (meta.from_tunnel) {
                meta.encap = true;
                meta.encap_ipv4 = meta.outer_dst[127:32] == V4_MAPPED;
                meta.encap_src = meta.outer_dst;
                meta.encap_dst = meta.outer_src;
                meta.encap_vni = meta.bd;
            } else {
                standard_metadata.egress_spec = standard_metadata.ingress_port;
                if (meta.refused != drop_reason_t.NONE) {
                    standard_metadata.egress_spec = meta.came_by;
                }
                meta.egress_vid = meta.vid;
            }
        }
    }
}

#endif
