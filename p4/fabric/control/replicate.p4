// Replicate: who is this copy of a flooded frame for?
//
// Egress. A copy's replica number names the receiver: below 0x8000 it is a VTEP's number,
// otherwise 0x8000 plus an access id of this leaf. So the table grows with VTEPs, not with
// networks times VTEPs. The sender's own number is pruned (split horizon).
//
// Decides: meta.encap, encap_ipv4, encap_src, encap_dst, encap_vni; meta.egress_vid;
// drop_reason; `pruned`.

#ifndef FABRIC_REPLICATE_P4
#define FABRIC_REPLICATE_P4

control Replicate(inout metadata_t meta, in standard_metadata_t standard_metadata,
                  out bool pruned) {
    @id(0x1300000f) direct_counter(CounterType.packets_and_bytes) replica_counter;

    @id(0x0100001e)
    @brief("To a VTEP, from our address `src` to its address `dst`.")
    action replicate_ipv4(ipv4_t src, ipv4_t dst) {
        meta.encap = true;
        meta.encap_ipv4 = true;
        meta.encap_src = V4_MAPPED ++ src;
        meta.encap_dst = V4_MAPPED ++ dst;
        meta.encap_vni = meta.bd;
    }

    @id(0x0100001f)
    @brief("The same over IPv6.")
    action replicate_ipv6(ipv6_t src, ipv6_t dst) {
        meta.encap = true;
        meta.encap_ipv4 = false;
        meta.encap_src = src;
        meta.encap_dst = dst;
        meta.encap_vni = meta.bd;
    }

    @id(0x01000020)
    @brief("To an access port, with VLAN tag `vid` (0 for none).")
    action replicate_access(vid_t vid) {
        meta.egress_vid = vid;
    }

    @id(0x01000021)
    action no_replica() {
        meta.drop_reason = drop_reason_t.NO_REPLICA;
    }

    @id(0x02000010)
    @brief("What each replica number stands for on this leaf.")
    table replica {
        key = {
            standard_metadata.egress_rid : exact @name("replica")
                @refers_to(builtin::multicast_group_table, replica.instance);
        }
        actions = { replicate_ipv4; replicate_ipv6; replicate_access; @defaultonly no_replica; }
        const default_action = no_replica();
        counters = replica_counter;
        size = SIZE_REPLICAS;
    }

    apply {
        pruned = standard_metadata.egress_rid == meta.source;
        if (!pruned) {
            replica.apply();
        }
    }
}

#endif
