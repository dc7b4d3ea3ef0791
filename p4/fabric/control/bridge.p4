// Bridge: where does this frame go, at layer 2?
//
// Frames to a known MAC address of the network are forwarded; all others are flooded. A
// frame from another leaf is flooded only to local members, and never goes back where it
// came from (split horizon). The same rule holds for unicast: here and, for frames that
// would leave through the fabric again, in leaf.p4.
//
// Decides: meta.target, vtep_id, encap_vni, egress_vid, egress_spec (for PORT), mcast_grp;
// drop_reason.

#ifndef FABRIC_BRIDGE_P4
#define FABRIC_BRIDGE_P4

control Bridge(inout headers_t hdr, inout metadata_t meta,
               inout standard_metadata_t standard_metadata) {
    @id(0x1300000b) direct_counter(CounterType.packets_and_bytes) bridge_mac_counter;
    @id(0x1300000c) direct_counter(CounterType.packets_and_bytes) bridge_flood_counter;
    bit<1> from_fabric = 0;

    @id(0x01000013)
    @brief("Behind VTEP `vtep_id`.")
    action bridge_to_vtep(@refers_to(remote_vtep, vtep_id) vtep_t vtep_id) {
        meta.target = target_t.VTEP;
        meta.vtep_id = vtep_id;
        meta.encap_vni = meta.bd;
    }

    @id(0x01000014)
    @brief("On an access port of this leaf, with VLAN tag `vid` (0 for none).")
    action bridge_to_access(port_t port, vid_t vid) {
        meta.target = target_t.PORT;
        meta.egress_vid = vid;
        standard_metadata.egress_spec = port;
    }

    @id(0x01000015)
    @brief("One copy to each replica of the group.")
    action flood(@refers_to(builtin::multicast_group_table, multicast_group_id) bit<16> group) {
        meta.target = target_t.GROUP;
        standard_metadata.mcast_grp = group;
    }

    @id(0x01000016)
    action no_flood() {
        meta.drop_reason = drop_reason_t.NO_FLOOD_GROUP;
    }

    @id(0x0200000b)
    @brief("MAC addresses of the attachments of each network on this leaf.")
    table bridge_mac {
        key = {
            meta.bd               : exact @name("bd");
            hdr.ethernet.dst_addr : exact @name("dmac");
        }
        actions = { bridge_to_vtep; bridge_to_access; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = bridge_mac_counter;
        size = SIZE_MACS;
    }

    @id(0x0200000c)
    @brief("Two groups per network: for frames from local members to all, for frames from other leaves to local members only.")
    table bridge_flood {
        key = {
            meta.bd     : exact @name("bd");
            from_fabric : exact @name("from_fabric");
        }
        actions = { flood; @defaultonly no_flood; }
        const default_action = no_flood();
        counters = bridge_flood_counter;
        size = SIZE_NETWORKS;
    }

    apply {
        if (meta.port_kind == port_kind_t.FABRIC) {
            from_fabric = 1;
        }
        if (hdr.ethernet.dst_addr[47:4] == 0x0180c200000) {
            meta.drop_reason = drop_reason_t.RESERVED_MAC;   // IEEE 802.1Q table 8-1
        } else if (hdr.ethernet.dst_addr[40:40] == 1) {
            bridge_flood.apply();
        } else if (bridge_mac.apply().hit) {
            if (meta.target == target_t.VTEP) {
                if (meta.vtep_id == meta.source) {
                    meta.drop_reason = drop_reason_t.SPLIT_HORIZON;
                }
            } else if (standard_metadata.egress_spec == standard_metadata.ingress_port
                       && meta.egress_vid == meta.vid) {
                meta.drop_reason = drop_reason_t.SPLIT_HORIZON;
            }
        } else {
            bridge_flood.apply();
        }
    }
}

#endif
