// Route: where does this packet go, at layer 3?
//
// Frames to the anycast gateway's MAC address are routed in the VRF of their network.
// Every attachment of the router's networks has a host route: the leaf knows the VTEP, the
// network and the MAC address of each, so one look-up returns all that the rewrite needs.
// The gateways' own addresses are host routes too; they answer echo requests. If no host route
// matches, the longest prefix of the router's static routes leads to an attachment. The same table has
// the prefixes of the router's own networks, with `no_route`: an address in them that no station has must
// not match a shorter prefix. A packet larger than the MTU of the network that it goes to is refused, with
// "do not fragment" or without, because the leaf does not fragment.
//
// Decides: meta.routed, target, vtep_id, encap_vni, egress_vid, next_mtu, egress_spec (for PORT);
// the frame's MAC addresses and TTL; ipv4_new; drop_reason.

#ifndef FABRIC_ROUTE_P4
#define FABRIC_ROUTE_P4

control Route(inout headers_t hdr, inout metadata_t meta,
              inout standard_metadata_t standard_metadata) {
    Echo() echo;
    DecrementTtl() ttl;
    MartianSource() martian_source;
    MartianDestination() martian_destination;
    @id(0x13000008) direct_counter(CounterType.packets_and_bytes) router_mac_counter;
    @id(0x13000009) direct_counter(CounterType.packets_and_bytes) ipv4_host_counter;
    @id(0x1300000a) direct_counter(CounterType.packets_and_bytes) ipv6_host_counter;
    @id(0x1300001c) direct_counter(CounterType.packets_and_bytes) ipv4_route_counter;
    @id(0x1300001d) direct_counter(CounterType.packets_and_bytes) ipv6_route_counter;
    bool to_gateway = false;

    @id(0x0100000e)
    @brief("The frame is for the router.")
    action set_routed() {
        meta.routed = true;
    }

    @id(0x0100000f)
    @brief("Behind VTEP `vtep_id`, in network `vni` with IP packets up to `mtu` octets, at MAC address `dmac`.")
    action route_to_vtep(vni_t vni, @refers_to(remote_vtep, vtep_id) vtep_t vtep_id, mac_t dmac,
                         bit<16> mtu) {
        meta.target = target_t.VTEP;
        meta.next_mtu = mtu;
        meta.vtep_id = vtep_id;
        meta.encap_vni = vni;
        hdr.ethernet.src_addr = hdr.ethernet.dst_addr;
        hdr.ethernet.dst_addr = dmac;
    }

    @id(0x01000010)
    @brief("On an access port of this leaf, with VLAN tag `vid` (0 for none), at `dmac`; IP packets up to `mtu` octets.")
    action route_to_access(port_t port, vid_t vid, mac_t dmac, bit<16> mtu) {
        meta.target = target_t.PORT;
        meta.next_mtu = mtu;
        meta.egress_vid = vid;
        standard_metadata.egress_spec = port;
        hdr.ethernet.src_addr = hdr.ethernet.dst_addr;
        hdr.ethernet.dst_addr = dmac;
    }

    @id(0x01000011)
    @brief("The address of a gateway: it is this leaf.")
    action route_to_gateway() {
        to_gateway = true;
    }

    @id(0x0100002c)
    @brief("The broadcast address of a subnet: packets are not routed to it (RFC 2644).")
    action refuse_broadcast() {
        meta.drop_reason = drop_reason_t.MARTIAN;
    }

    @id(0x01000012)
    action no_route() {
        meta.drop_reason = drop_reason_t.NO_ROUTE;
    }

    @id(0x02000008)
    @brief("The MAC address that gateways have.")
    table router_mac {
        key = {
            hdr.ethernet.dst_addr : exact @name("dmac");
        }
        actions = { set_routed; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = router_mac_counter;
        size = 16;
    }

    @id(0x02000009)
    @brief("IPv4 addresses of the attachments and gateways of each router on this leaf, and broadcast addresses.")
    table ipv4_host {
        key = {
            meta.vrf          : exact @name("vrf");
            hdr.ipv4.dst_addr : exact @name("dst");
        }
        actions = { route_to_vtep; route_to_access; route_to_gateway; refuse_broadcast; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = ipv4_host_counter;
        size = SIZE_ADDRESSES;
    }

    @id(0x0200000a)
    @brief("IPv6 addresses of the attachments and gateways of each router on this leaf.")
    table ipv6_host {
        key = {
            meta.vrf          : exact @name("vrf");
            hdr.ipv6.dst_addr : exact @name("dst");
        }
        actions = { route_to_vtep; route_to_access; route_to_gateway; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = ipv6_host_counter;
        size = SIZE_ADDRESSES;
    }

    @id(0x0200001d)
    @brief("Static IPv4 routes of each router on this leaf.")
    table ipv4_route {
        key = {
            meta.vrf          : exact @name("vrf");
            hdr.ipv4.dst_addr : lpm @name("dst");
        }
        actions = { route_to_vtep; route_to_access; no_route; }
        const default_action = no_route();
        counters = ipv4_route_counter;
        size = SIZE_STATIC;
    }

    @id(0x0200001e)
    @brief("Static IPv6 routes of each router on this leaf.")
    table ipv6_route {
        key = {
            meta.vrf          : exact @name("vrf");
            hdr.ipv6.dst_addr : lpm @name("dst");
        }
        actions = { route_to_vtep; route_to_access; no_route; }
        const default_action = no_route();
        counters = ipv6_route_counter;
        size = SIZE_STATIC;
    }

    action answer() {
        mac_t asker = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = hdr.ethernet.dst_addr;
        hdr.ethernet.dst_addr = asker;
        meta.target = target_t.SENDER;
    }

    apply {
        if (router_mac.apply().hit) {
            if (meta.vrf == 0) {
                meta.drop_reason = drop_reason_t.NO_ROUTER;
            } else if (hdr.ipv4.isValid() || hdr.ipv6.isValid()) {
                bool has_host_route = false;
                if (hdr.ipv4.isValid()) {
                    if (ipv4_host.apply().hit) {
                        has_host_route = true;
                    }
                } else if (ipv6_host.apply().hit) {
                    has_host_route = true;
                }
                if (!has_host_route) {
                    martian_destination.apply(hdr, meta);
                    if (meta.drop_reason == drop_reason_t.NONE) {
                        if (hdr.ipv4.isValid()) {
                            ipv4_route.apply();
                        } else {
                            ipv6_route.apply();
                        }
                    }
                }
                if (meta.drop_reason == drop_reason_t.NONE) {
                    martian_source.apply(hdr, meta);
                }
            } else {
                meta.drop_reason = drop_reason_t.NO_ROUTER;
            }

            if (to_gateway && meta.drop_reason == drop_reason_t.NONE) {
                bool replied;
                echo.apply(hdr.ipv4, hdr.ipv6, hdr.icmp, replied);
                if (replied) {
                    answer();
                    meta.ipv4_new = hdr.ipv4.isValid();
                } else {
                    meta.drop_reason = drop_reason_t.GATEWAY_PROTOCOL;
                }
            } else if (meta.drop_reason == drop_reason_t.NONE) {
                bool expired;
                ttl.apply(hdr.ipv4, hdr.ipv6, expired);
                if (expired) {
                    meta.drop_reason = drop_reason_t.TTL_EXPIRED;
                } else if (meta.frame_len > meta.next_mtu + 14) {
                    meta.drop_reason = drop_reason_t.TOO_BIG;
                }
            }
        }
    }
}

#endif
