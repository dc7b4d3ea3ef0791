// Underlay: which port leads to an underlay address?
//
// Plain routing of outer packets, in transit or from this switch. A host's address leads to its
// port; another switch's address, or that of a host under it, leads to a path: a group of
// ports that are all on shortest paths to that switch. Members name the port to watch, so
// that the switch skips a dead link before the controller has heard of it.
//
// Decides: egress_spec, meta.to_fabric; TTL of packets in transit; drop_reason.

#ifndef FABRIC_UNDERLAY_P4
#define FABRIC_UNDERLAY_P4

control Underlay(inout headers_t hdr, inout metadata_t meta,
                 inout standard_metadata_t standard_metadata) {
    @id(0x1300000e) direct_counter(CounterType.packets_and_bytes) underlay_route_counter;
    DecrementTtl() ttl;
    bool on_path = false;
    @id(0x11000001) action_selector(HashAlgorithm.crc16, SIZE_PATH_MEMBERS, 14) paths;

    @id(0x0100001a)
    @brief("The address is that of the host on this port.")
    action to_host(port_t port) {
        standard_metadata.egress_spec = port;
    }

    @id(0x0100001b)
    @brief("The address is behind another switch.")
    action to_path(@refers_to(path, path) bit<16> path) {
        meta.path = path;
        on_path = true;
    }

    @id(0x0100001c)
    @brief("One way of a path.")
    action to_fabric_port(port_t port) {
        standard_metadata.egress_spec = port;
        meta.to_fabric = true;
    }

    @id(0x0100001d)
    action no_underlay_route() {
        meta.drop_reason = drop_reason_t.NO_UNDERLAY_ROUTE;
    }

    @id(0x0200000e)
    @brief("Loopbacks of switches and VTEP addresses of hosts; IPv4 addresses are IPv4-mapped.")
    table underlay_route {
        key = {
            meta.underlay_dst : lpm @name("dst");
        }
        actions = { to_host; to_path; @defaultonly no_underlay_route; }
        const default_action = no_underlay_route();
        counters = underlay_route_counter;
        size = SIZE_ROUTES;
    }

    @id(0x0200000f)
    @brief("The ways to each switch of the fabric; a path has the number of the switch it leads to.")
    table path {
        key = {
            meta.path    : exact @name("path");
            meta.entropy : selector;
        }
        actions = { to_fabric_port; }
        implementation = paths;
        size = SIZE_PATHS;
    }

    apply {
        if (meta.encap) {
            meta.underlay_dst = meta.encap_dst;
        } else {
            meta.underlay_dst = meta.outer_dst;
            if (!meta.originated) {
                bool expired;
                ttl.apply(hdr.outer_ipv4, hdr.outer_ipv6, expired);
                if (expired) {
                    meta.drop_reason = drop_reason_t.TTL_EXPIRED;
                }
            }
        }
        if (meta.drop_reason == drop_reason_t.NONE) {
            underlay_route.apply();
            if (on_path) {
                path.apply();
                if (!meta.to_fabric) {
                    // No such path, or one without a live member.
                    meta.drop_reason = drop_reason_t.NO_UNDERLAY_ROUTE;
                }
            }
        }
    }
}

#endif
