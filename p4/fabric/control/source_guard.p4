// SourceGuard: is this machine who it says it is?
//
// On a guarded access port a frame must come from a MAC address of the port's attachment, and from
// an IP address that belongs to that MAC address: the attachment's own, the link-local address
// that is derived from the MAC address (RFC 4291 appendix A), or another one that the attachment
// may use. Sender addresses in ARP (RFC 826) and neighbour discovery (RFC 4861) are checked
// against the same entries.
//
// A station without an address may probe for one (RFC 5227, RFC 4862), ask for one (RFC 2131), and
// send to multicast groups from :: (RFC 4861, RFC 3810).
//
// Only the fabric acts as a router or DHCP server here. Router advertisements, redirects and packets
// to the port of DHCP clients are refused (clients do not check the port that a packet comes
// from). So are packets that could hide these: extension headers of packets with hop limit
// 255, as neighbour discovery has (RFC 6980, RFC 7113); UDP behind IPv4 options or IPv6 extension
// headers, and in the first fragment of a broadcast; SNAP (RFC 1042).
//
// Decides: drop_reason.

#ifndef FABRIC_SOURCE_GUARD_P4
#define FABRIC_SOURCE_GUARD_P4

const bit<16> DHCP_SERVER = 67;    // RFC 2131 section 4.1

control SourceGuard(in headers_t hdr, inout metadata_t meta) {
    @id(0x13000016) direct_counter(CounterType.packets_and_bytes) source_mac_counter;
    @id(0x13000017) direct_counter(CounterType.packets_and_bytes) source_ipv4_counter;
    @id(0x13000018) direct_counter(CounterType.packets_and_bytes) source_ipv6_counter;
    ipv4_t ipv4 = 0;       // the address that the frame claims
    ipv6_t ipv6 = 0;
    bool claims_ipv4 = false;
    bool claims_ipv6 = false;

    @id(0x01000028)
    @brief("The MAC address is the attachment's.")
    action permit_mac() { }

    @id(0x01000029)
    action refuse_mac() {
        meta.drop_reason = drop_reason_t.SOURCE_MAC;
    }

    @id(0x0100002a)
    @brief("The address goes with this MAC address.")
    action permit_ip() { }

    @id(0x0100002b)
    @brief("The address is somebody else's: a gateway's inside an allowed prefix.")
    action refuse_ip() {
        meta.drop_reason = drop_reason_t.SOURCE_IP;
    }

    @id(0x02000017)
    @brief("The MAC addresses that may speak on each access id.")
    table source_mac {
        key = {
            meta.bd               : exact @name("bd");
            meta.source           : exact @name("access_id");
            hdr.ethernet.src_addr : exact @name("smac");
        }
        actions = { permit_mac; @defaultonly refuse_mac; }
        const default_action = refuse_mac();
        counters = source_mac_counter;
        size = SIZE_SOURCE_MACS;
    }

    @id(0x02000018)
    @brief("The IPv4 addresses that each MAC address of an access id may speak from.")
    table source_ipv4 {
        key = {
            meta.source           : exact @name("access_id");
            hdr.ethernet.src_addr : exact @name("smac");
            ipv4                  : lpm @name("src");
        }
        actions = { permit_ip; refuse_ip; }
        const default_action = refuse_ip();
        counters = source_ipv4_counter;
        size = SIZE_SOURCE_IPS;
    }

    @id(0x02000019)
    @brief("The IPv6 addresses that each MAC address of an access id may speak from.")
    table source_ipv6 {
        key = {
            meta.source           : exact @name("access_id");
            hdr.ethernet.src_addr : exact @name("smac");
            ipv6                  : lpm @name("src");
        }
        actions = { permit_ip; refuse_ip; }
        const default_action = refuse_ip();
        counters = source_ipv6_counter;
        size = SIZE_SOURCE_IPS;
    }

    apply {
        if (source_mac.apply().hit) {
            if (meta.hidden) {
                meta.drop_reason = drop_reason_t.ROGUE_SERVER;
            } else if (hdr.ipv4.isValid()) {
                ipv4 = hdr.ipv4.src_addr;
                claims_ipv4 = true;
                if (hdr.ipv4.protocol == PROTOCOL_UDP) {
                    if (hdr.ipv4.ihl != 5
                        || (hdr.ipv4.more_fragments == 1 && hdr.ipv4.frag_offset == 0
                            && hdr.ethernet.dst_addr[40:40] == 1)
                        || meta.flow.dst_port == DHCP_CLIENT) {
                        meta.drop_reason = drop_reason_t.ROGUE_SERVER;
                    } else if (ipv4 == 0 && meta.flow.src_port == DHCP_CLIENT
                               && meta.flow.dst_port == DHCP_SERVER) {
                        claims_ipv4 = false;
                    }
                }
            } else if (hdr.ipv6.isValid()) {
                ipv6 = hdr.ipv6.src_addr;
                claims_ipv6 = ipv6 != 0 || hdr.ipv6.dst_addr[127:120] != 0xff;
                if (hdr.icmp.isValid()) {
                    if (hdr.icmp.type == ICMPV6_RA || hdr.icmp.type == ICMPV6_REDIRECT) {
                        meta.drop_reason = drop_reason_t.ROGUE_SERVER;
                    } else if (hdr.icmp.type == ICMPV6_NS || hdr.icmp.type == ICMPV6_NA) {
                        // Only one option was checked, so more are refused. An advertisement is only for
                        // the address that it comes from.
                        if (!hdr.nd.isValid()
                            || (hdr.icmp.type == ICMPV6_NA && hdr.nd.target != ipv6)
                            || (hdr.nd_option.isValid() && hdr.nd_option.type <= 2
                                && hdr.nd_option.mac != hdr.ethernet.src_addr)) {
                            meta.drop_reason = drop_reason_t.SOURCE_NEIGHBOUR;
                        }
                    }
                } else if (hdr.ipv6.next_hdr == PROTOCOL_UDP) {
                    if (meta.flow.dst_port == DHCPV6_CLIENT) {
                        meta.drop_reason = drop_reason_t.ROGUE_SERVER;
                    }
                } else if (hdr.ipv6.hop_limit == 255
                           && (hdr.ipv6.next_hdr == IPV6_HOP_BY_HOP || hdr.ipv6.next_hdr == IPV6_ROUTING
                               || hdr.ipv6.next_hdr == IPV6_FRAGMENT || hdr.ipv6.next_hdr == IPV6_AUTH
                               || hdr.ipv6.next_hdr == IPV6_DEST_OPTIONS)) {
                    meta.drop_reason = drop_reason_t.ROGUE_SERVER;
                }
            } else if (hdr.arp.isValid()) {
                ipv4 = hdr.arp.sender_ip;
                claims_ipv4 = ipv4 != 0 || hdr.arp.opcode != ARP_REQUEST;
                if (hdr.arp.hw_type != 1 || hdr.arp.proto_type != ETHERTYPE_IPV4
                    || hdr.arp.hw_len != 6 || hdr.arp.proto_len != 4
                    || hdr.arp.sender_mac != hdr.ethernet.src_addr) {
                    meta.drop_reason = drop_reason_t.SOURCE_NEIGHBOUR;
                }
            }

            if (meta.drop_reason == drop_reason_t.NONE) {
                if (claims_ipv4) {
                    source_ipv4.apply();
                } else if (claims_ipv6) {
                    source_ipv6.apply();
                }
            }
        }
    }
}

#endif
