// OwnAddress: is this underlay packet addressed to this switch?
//
// The loopback answers echo requests, so that people can ping the switch. VXLAN to the
// loopback of a leaf is left to Termination.
//
// Decides: meta.local, originated, outer_dst (of a reply); drop_reason.

#ifndef FABRIC_OWN_ADDRESS_P4
#define FABRIC_OWN_ADDRESS_P4

control OwnAddress(inout headers_t hdr, inout metadata_t meta) {
    Echo() echo;
    @id(0x13000004) direct_counter(CounterType.packets_and_bytes) local_address_counter;

    @id(0x01000009)
    @brief("The address is ours.")
    action set_local() {
        meta.local = true;
    }

    @id(0x02000004)
    @brief("The switch's own loopback addresses, which are also a leaf's VTEP addresses.")
    table local_address {
        key = {
            meta.outer_dst : exact @name("address");
        }
        actions = { set_local; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = local_address_counter;
        size = 16;
    }

    apply {
        if (local_address.apply().hit && !hdr.vxlan.isValid()) {
            bool replied;
            echo.apply(hdr.outer_ipv4, hdr.outer_ipv6, hdr.icmp, replied);
            if (replied) {
                meta.local = false;
                meta.originated = true;
                meta.outer_ipv4_new = hdr.outer_ipv4.isValid();
                meta.outer_dst = meta.outer_src;
            } else {
                meta.drop_reason = drop_reason_t.LOCAL_PROTOCOL;
            }
        }
    }
}

#endif
