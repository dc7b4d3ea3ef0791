// EdgeReply: can this request about a neighbour be answered here?
//
// The leaf answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861) for
// addresses that the fabric knows: from bare-metal ports for addresses of their network, from
// hosts for the leaf's own loopback (bridge domain 0). A request that cannot be
// answered goes on and is flooded. A station that probes for the address it is about to
// use (RFC 5227, RFC 4862) gets no reply if that address is its own.
//
// Decides: meta.target = SENDER with the reply in place of the request; nd_new;
// drop_reason.

#ifndef FABRIC_EDGE_REPLY_P4
#define FABRIC_EDGE_REPLY_P4

control EdgeReply(inout headers_t hdr, inout metadata_t meta) {
    @id(0x13000006) direct_counter(CounterType.packets_and_bytes) arp_reply_counter;
    @id(0x13000007) direct_counter(CounterType.packets_and_bytes) nd_reply_counter;
    mac_t owner = 0;
    bit<1> is_router = 0;

    @id(0x0100000c)
    @brief("The address belongs to this MAC address.")
    action reply_arp(mac_t mac) {
        owner = mac;
    }

    @id(0x0100000d)
    @brief("The address belongs to this MAC address; `router` is the R flag of the answer.")
    action reply_nd(mac_t mac, bit<1> router) {
        owner = mac;
        is_router = router;
    }

    @id(0x02000006)
    @brief("IPv4 addresses of a network: of its attachments and of its gateway.")
    table arp_reply {
        key = {
            meta.bd           : exact @name("bd");
            hdr.arp.target_ip : exact @name("address");
        }
        actions = { reply_arp; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = arp_reply_counter;
        size = SIZE_ADDRESSES;
    }

    @id(0x02000007)
    @brief("IPv6 addresses of a network: of its attachments and of its gateway.")
    table nd_reply {
        key = {
            meta.bd       : exact @name("bd");
            hdr.nd.target : exact @name("address");
        }
        actions = { reply_nd; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = nd_reply_counter;
        size = SIZE_ADDRESSES;
    }

    action make_arp_reply() {
        hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = owner;
        ipv4_t asked = hdr.arp.target_ip;
        hdr.arp.opcode = ARP_REPLY;
        hdr.arp.target_mac = hdr.arp.sender_mac;
        hdr.arp.target_ip = hdr.arp.sender_ip;
        hdr.arp.sender_mac = owner;
        hdr.arp.sender_ip = asked;
        meta.target = target_t.SENDER;
    }

    // RFC 4861 section 7.2.4.
    action make_advertisement() {
        hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = owner;
        hdr.ipv6.dst_addr = hdr.ipv6.src_addr;
        hdr.ipv6.src_addr = hdr.nd.target;
        hdr.ipv6.payload_len = 32;
        hdr.ipv6.hop_limit = 255;
        hdr.icmp.type = ICMPV6_NA;
        hdr.icmp.code = 0;
        hdr.nd.router = is_router;
        hdr.nd.solicited = 1;
        hdr.nd.override = 1;
        hdr.nd.reserved = 0;
        hdr.nd_option.setValid();
        hdr.nd_option.type = 2;     // target link-layer address
        hdr.nd_option.length = 1;
        hdr.nd_option.mac = owner;
        meta.frame_len = 86;        // 14 Ethernet, 40 IPv6, 32 advertisement
        meta.nd_new = true;
        meta.target = target_t.SENDER;
    }

    apply {
        if (hdr.arp.isValid()) {
            if (hdr.arp.opcode == ARP_REQUEST && hdr.arp.hw_type == 1
                && hdr.arp.proto_type == ETHERTYPE_IPV4 && arp_reply.apply().hit) {
                if (owner == hdr.ethernet.src_addr) {
                    meta.drop_reason = drop_reason_t.OWN_PROBE;
                } else {
                    make_arp_reply();
                }
            }
        } else if (hdr.nd.isValid() && hdr.icmp.type == ICMPV6_NS
                   && hdr.ipv6.hop_limit == 255 && hdr.icmp.code == 0) {
            if (nd_reply.apply().hit) {
                if (owner == hdr.ethernet.src_addr) {
                    meta.drop_reason = drop_reason_t.OWN_PROBE;
                } else {
                    make_advertisement();
                    if (hdr.ipv6.dst_addr == 0) {
                        // The sender has no address yet: reply to all nodes (RFC 4861 section 7.2.4).
                        hdr.ipv6.dst_addr = 0xff02_0000_0000_0000_0000_0000_0000_0001;
                        hdr.ethernet.dst_addr = 0x3333_0000_0001;
                        hdr.nd.solicited = 0;
                    }
                }
            }
        }
    }
}

#endif
