// Admission: who sends, and may they send in this network?
//
// An access port belongs to exactly one network per VLAN. A host port is not trusted. It
// may send link traffic (ARP, neighbour discovery), and whole IP packets from one of the
// host's own underlay addresses with an echo request to this leaf or a well-formed VXLAN
// frame of a network in which the host has an attachment. Fragments, IP options and IPv6
// extension headers are refused, because they could carry a VXLAN header past this check.
// Other ICMP is refused, because an error about a tunnel changes the path MTU of everybody's
// packets (RFC 5927). A fabric port is trusted: the leaf on the other side has checked.
//
// Decides: meta.port_kind, source, guarded, vid, host_plain; for access ports bd, vrf, frame_len;
// drop_reason.

#ifndef FABRIC_ADMISSION_P4
#define FABRIC_ADMISSION_P4

// What is this port, and to which network does its VLAN belong?
control PortAdmission(inout headers_t hdr, inout metadata_t meta,
                      inout standard_metadata_t standard_metadata) {
    @id(0x13000001) direct_counter(CounterType.packets_and_bytes) port_vlan_counter;

    @id(0x01000001)
    @brief("A tenant's bare-metal machine: frames belong to network `bd`, whose router is `vrf`.")
    action set_access(vni_t bd, vni_t vrf, replica_t access_id) {
        meta.port_kind = port_kind_t.ACCESS;
        meta.bd = bd;
        meta.vrf = vrf;
        meta.source = access_id;
    }

    @id(0x01000027)
    @brief("The same; every sender is held to the addresses of the attachment.")
    action set_guarded_access(vni_t bd, vni_t vrf, replica_t access_id) {
        set_access(bd, vrf, access_id);
        meta.guarded = true;
    }

    @id(0x01000002)
    @brief("The uplink of a host.")
    action set_host() {
        meta.port_kind = port_kind_t.HOST;
    }

    @id(0x01000003)
    @brief("A link to another switch.")
    action set_fabric() {
        meta.port_kind = port_kind_t.FABRIC;
    }

    @id(0x01000004)
    action refuse_port() {
        meta.drop_reason = drop_reason_t.UNKNOWN_PORT;
    }

    @id(0x02000001)
    @brief("What each port, or VLAN of an access port, is for; VLAN 0 is for untagged frames.")
    table port_vlan {
        key = {
            standard_metadata.ingress_port : exact @name("port");
            meta.vid                       : exact @name("vid");
        }
        actions = { set_access; set_guarded_access; set_host; set_fabric; @defaultonly refuse_port; }
        const default_action = refuse_port();
        counters = port_vlan_counter;
        size = SIZE_PORT_VLANS;
    }

    apply {
        // The tag of a frame inside a tunnel says nothing about the port.
        if (hdr.vlan.isValid() && !hdr.vxlan.isValid()) {
            meta.vid = hdr.vlan.vid;
        }
        // Address tables hold IPv4 addresses in IPv4-mapped form, so an IPv4-mapped address in
        // an IPv6 header would be taken for the IPv4 address.
        if (hdr.outer_ipv6.isValid()
            && (hdr.outer_ipv6.src_addr[127:32] == V4_MAPPED
                || hdr.outer_ipv6.dst_addr[127:32] == V4_MAPPED)) {
            meta.drop_reason = drop_reason_t.OUTER_ADDRESS;
        } else {
            port_vlan.apply();
        }
    }
}

// Removes the tag; meta.bd has the same information. A second tag, or a service tag, is refused:
// on an untagged port of the same network it would come out as another network's tag.
control AccessAdmission(inout headers_t hdr, inout metadata_t meta,
                        inout standard_metadata_t standard_metadata) {
    apply {
        meta.frame_len = (bit<16>)standard_metadata.packet_length;
        if (hdr.outer_ethernet.isValid()) {
            meta.drop_reason = drop_reason_t.FABRIC_MAC;
        } else if (hdr.ethernet.src_addr[40:40] == 1) {
            meta.drop_reason = drop_reason_t.MALFORMED;
        } else if (meta.extra_tag) {
            meta.drop_reason = drop_reason_t.DOUBLE_TAG;
        } else if (hdr.vlan.isValid()) {
            meta.frame_len = meta.frame_len - 4;
            hdr.ethernet.ether_type = hdr.vlan.ether_type;
            hdr.vlan.setInvalid();
        }
    }
}

// Is this really the host, and is the host in that network?
control HostAdmission(inout headers_t hdr, inout metadata_t meta,
                      inout standard_metadata_t standard_metadata) {
    @id(0x13000002) direct_counter(CounterType.packets_and_bytes) host_source_counter;
    @id(0x13000003) direct_counter(CounterType.packets_and_bytes) host_vni_counter;

    @id(0x13000011) direct_counter(CounterType.packets_and_bytes) host_refusal_counter;

    @id(0x01000005)
    @brief("The sender is the host with this VTEP number.")
    action set_source_host(vtep_t vtep_id) {
        meta.source = vtep_id;
    }

    @id(0x01000006)
    action refuse_source() {
        meta.drop_reason = drop_reason_t.HOST_SOURCE;
    }

    @id(0x01000007)
    @brief("The host has an attachment of this network.")
    action permit() { }

    @id(0x01000008)
    action refuse_vni() {
        meta.drop_reason = drop_reason_t.HOST_VNI;
    }

    @id(0x01000024)
    @brief("Counts for this host.")
    action count_refusal() { }

    @id(0x02000002)
    @brief("The underlay addresses of the host behind each host port.")
    table host_source {
        key = {
            standard_metadata.ingress_port : exact @name("port");
            meta.outer_src                 : exact @name("outer_src");
        }
        actions = { set_source_host; @defaultonly refuse_source; }
        const default_action = refuse_source();
        counters = host_source_counter;
        size = SIZE_HOSTS;
    }

    @id(0x02000003)
    @brief("The networks that each host under this leaf has attachments of.")
    table host_vni {
        key = {
            meta.source   : exact @name("vtep_id");
            hdr.vxlan.vni : exact @name("vni");
        }
        actions = { permit; @defaultonly refuse_vni; }
        const default_action = refuse_vni();
        counters = host_vni_counter;
        size = SIZE_HOST_VNIS;
    }

    @id(0x02000012)
    @brief("The hosts under this leaf: the counter tells the frames refused for their VNI.")
    table host_refusal {
        key = {
            meta.source : exact @name("vtep_id");
        }
        actions = { count_refusal; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = host_refusal_counter;
        size = SIZE_HOSTS;
    }

    apply {
        bit<16> len = (bit<16>)standard_metadata.packet_length;
        if (hdr.outer_ipv4.isValid()
            && (hdr.outer_ipv4.ihl != 5 || hdr.outer_ipv4.more_fragments == 1
                || hdr.outer_ipv4.frag_offset != 0)) {
            meta.drop_reason = drop_reason_t.HOST_PROTOCOL;
        } else if (host_source.apply().hit) {
            if (hdr.vxlan.isValid()) {
                bool fits = false;    // all lengths agree with the frame's
                if (hdr.outer_ipv4.isValid()) {
                    fits = hdr.outer_ipv4.version == 4
                        && hdr.outer_ipv4.total_len == len - 14
                        && hdr.outer_udp.length == len - 34;
                } else if (hdr.outer_ipv6.isValid()) {
                    fits = hdr.outer_ipv6.version == 6
                        && hdr.outer_ipv6.payload_len == len - 54
                        && hdr.outer_udp.length == len - 54;
                }
                if (!fits) {
                    meta.drop_reason = drop_reason_t.MALFORMED;
                } else if (hdr.vxlan.flags != VXLAN_FLAG_VNI || hdr.vxlan.reserved != 0
                           || hdr.vxlan.reserved2 != 0) {
                    meta.drop_reason = drop_reason_t.VXLAN_RESERVED;
                } else if (hdr.vlan.isValid() || meta.extra_tag) {
                    meta.drop_reason = drop_reason_t.INNER_VLAN;
                } else if (!host_vni.apply().hit) {
                    host_refusal.apply();
                }
            } else {
                meta.host_plain = true;
            }
        }
    }
}

control Admission(inout headers_t hdr, inout metadata_t meta,
                  inout standard_metadata_t standard_metadata) {
    PortAdmission() port;
    AccessAdmission() access;
    HostAdmission() host;

    apply {
        if (standard_metadata.parser_error != error.NoError
            || standard_metadata.checksum_error == 1) {
            meta.drop_reason = drop_reason_t.MALFORMED;
        } else {
            port.apply(hdr, meta, standard_metadata);
            // A solicitation sent to the router's own MAC address (a neighbour that checks
            // whether this router is still there) belongs to the link, not to the underlay.
            if (hdr.nd.isValid() && !hdr.ethernet.isValid()) {
                hdr.ethernet = hdr.outer_ethernet;
                hdr.ipv6 = hdr.outer_ipv6;
                hdr.outer_ethernet.setInvalid();
                hdr.outer_ipv6.setInvalid();
            }
            if (meta.port_kind == port_kind_t.ACCESS) {
                access.apply(hdr, meta, standard_metadata);
            } else if (meta.port_kind == port_kind_t.HOST && hdr.outer_ethernet.isValid()) {
                host.apply(hdr, meta, standard_metadata);
            }
        }
    }
}

#endif
