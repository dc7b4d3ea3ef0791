// ICMP errors: should the sender of a refused packet get an error, and which one?
//
// A router says why it does not forward a packet: time exceeded, destination or port
// unreachable, and too big (RFC 792, RFC 1191, RFC 1812 section 4.3; RFC 4443). The error comes
// from the gateway's address in the sender's own subnet and takes the path by which the packet
// came. It is made here, so it needs no controller.
//
// First pass, ErrorDue: if a routed packet is dropped, an error may be sent about it, and
// the rate of the sender's subnet allows one, then the packet is resubmitted with the results of
// the first pass. Beyond the rate it is just dropped, so a flood of such packets costs one pass
// each. Second pass, IcmpError: the parser extracts the headers to quote, no table is looked up
// again, and the drop is counted (only here, not in the first pass).
//
// No error is sent (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)):
// - about ICMP errors, redirects, and ICMP whose type the parser cannot see (in fragments, after
//   extension headers);
// - about fragments except the first;
// - about packets to groups, broadcast or MARTIAN addresses: these are dropped for another reason;
// - to a source that is not a single station of a subnet of its network: its gateway, its broadcast
//   or network address (in IPv6 the anycast address of its routers, RFC 4291 section 2.6.1);
// - about IPv4 headers with options, and packets with fewer than 8 octets after the IP header.
//
// The quote is the IP header as received and 8 octets, as RFC 792 requires; this is enough for TCP,
// UDP and echo to find their socket. RFC 4443 asks for more, but the targets cannot compute the
// checksum of a payload that is cut.
//
// Decides: ErrorDue: `due`; meta.refused, error_src, lead, came_by. IcmpError: the message in place of the
// packet, meta.target = SENDER, frame_len, ipv4_new, error_pseudo; or drop_reason. CutQuote: the
// length of the message.

#ifndef FABRIC_ICMP_ERROR_P4
#define FABRIC_ICMP_ERROR_P4

const bit<16> ERROR_LEN_IPV4 = 56;   // IP header, ICMP header, quoted IP header, 8 octets
const bit<16> ERROR_LEN_IPV6 = 96;
const bit<16> QUOTED_OCTETS  = 8;

// Internetwork control (RFC 1812 section 4.3.2.5); the type of service is that of the packet.
const bit<8> TOS_NETWORK_CONTROL = 0xc0;
const bit<8> TOS_MASK            = 0x1c;   // without the bits of ECN (RFC 3168)

control ErrorDue(in headers_t hdr, inout metadata_t meta,
                 in standard_metadata_t standard_metadata, out bool due) {
    @id(0x13000019) direct_counter(CounterType.packets_and_bytes) icmp_source_ipv4_counter;
    @id(0x1300001a) direct_counter(CounterType.packets_and_bytes) icmp_source_ipv6_counter;
    @id(0x15000001) direct_meter<bit<2>>(MeterType.packets) icmp_source_ipv4_meter;
    @id(0x15000002) direct_meter<bit<2>>(MeterType.packets) icmp_source_ipv6_meter;
    bit<2> colour = 0;
    bool known = false;      // the source is one station of a subnet

    @id(0x12000004)
    @brief("ICMP errors by the colour of their subnet's meter: 0 was made, 2 was held back.")
    counter(4, CounterType.packets) icmp_errors;

    @id(0x0100002d)
    @brief("Errors come from the gateway's `address`; `hosts` masks the bits that number stations, 0 if none of them is special.")
    action error_from_ipv4(ipv4_t address, ipv4_t hosts) {
        icmp_source_ipv4_meter.read(colour);
        meta.error_src = V4_MAPPED ++ address;
        ipv4_t station = hdr.ipv4.src_addr & hosts;
        known = hdr.ipv4.src_addr != address
            && (hosts == 0 || (station != 0 && station != hosts));
    }

    @id(0x0100002e)
    @brief("The same for IPv6.")
    action error_from_ipv6(ipv6_t address, ipv6_t hosts) {
        icmp_source_ipv6_meter.read(colour);
        meta.error_src = address;
        known = hdr.ipv6.src_addr != address
            && (hosts == 0 || (hdr.ipv6.src_addr & hosts) != 0);
    }

    @id(0x0200001a)
    @brief("The IPv4 subnets of each network: where ICMP errors to their stations come from, and how many a second.")
    table icmp_source_ipv4 {
        key = {
            meta.bd           : exact @name("bd");
            hdr.ipv4.src_addr : lpm @name("src");
        }
        actions = { error_from_ipv4; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = icmp_source_ipv4_counter;
        meters = icmp_source_ipv4_meter;
        size = SIZE_SUBNETS;
    }

    @id(0x0200001b)
    @brief("The IPv6 subnets of each network: where ICMP errors to their stations come from, and how many a second.")
    table icmp_source_ipv6 {
        key = {
            meta.bd           : exact @name("bd");
            hdr.ipv6.src_addr : lpm @name("src");
        }
        actions = { error_from_ipv6; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = icmp_source_ipv6_counter;
        meters = icmp_source_ipv6_meter;
        size = SIZE_SUBNETS;
    }

    apply {
        due = false;
        if (meta.routed
            && (meta.drop_reason == drop_reason_t.TTL_EXPIRED
                || meta.drop_reason == drop_reason_t.NO_ROUTE
                || meta.drop_reason == drop_reason_t.TOO_BIG
                || (meta.drop_reason == drop_reason_t.GATEWAY_PROTOCOL
                    && meta.flow.protocol == PROTOCOL_UDP))) {
            if (hdr.ipv4.isValid()) {
                if (hdr.ipv4.ihl == 5 && hdr.ipv4.frag_offset == 0
                    && hdr.ipv4.total_len >= 20 + QUOTED_OCTETS
                    && meta.frame_len >= 34 + QUOTED_OCTETS
                    && (hdr.ipv4.protocol != PROTOCOL_ICMP
                        || (hdr.icmp.isValid()
                            && (hdr.icmp.type == ICMP_ECHO_REQUEST
                                || hdr.icmp.type == ICMP_ECHO_REPLY
                                || hdr.icmp.type >= ICMP_TIMESTAMP)))) {
                    icmp_source_ipv4.apply();
                }
            } else if (hdr.ipv6.payload_len >= QUOTED_OCTETS
                       && meta.frame_len >= 54 + QUOTED_OCTETS
                       && hdr.ipv6.next_hdr != IPV6_HOP_BY_HOP
                       && hdr.ipv6.next_hdr != IPV6_ROUTING
                       && hdr.ipv6.next_hdr != IPV6_AUTH
                       && hdr.ipv6.next_hdr != IPV6_DEST_OPTIONS
                       && (hdr.ipv6.next_hdr != PROTOCOL_ICMPV6
                           || (hdr.icmp.isValid() && hdr.icmp.type >= ICMPV6_ECHO_REQUEST
                               && hdr.icmp.type != ICMPV6_REDIRECT))) {
                icmp_source_ipv6.apply();
            }
            if (known) {
                icmp_errors.count((bit<32>)colour);
                if (colour == 0) {
                    due = true;
                    meta.refused = meta.drop_reason;
                    meta.came_by = standard_metadata.ingress_port;
                    if (meta.from_tunnel) {
                        meta.lead = (bit<16>)standard_metadata.packet_length - meta.frame_len;
                    }
                }
            }
        }
    }
}

control IcmpError(inout headers_t hdr, inout metadata_t meta,
                  in standard_metadata_t standard_metadata) {
    action make_ipv4(bit<8> type, bit<8> code) {
        hdr.ipv4.setValid();
        hdr.ipv4.version = 4;
        hdr.ipv4.ihl = 5;
        hdr.ipv4.tos = TOS_NETWORK_CONTROL | (hdr.quoted_ipv4.tos & TOS_MASK);
        hdr.ipv4.total_len = ERROR_LEN_IPV4;
        hdr.ipv4.identification = 0;    // RFC 6864 section 4.1: never in fragments
        hdr.ipv4.reserved = 0;
        hdr.ipv4.dont_fragment = 1;
        hdr.ipv4.more_fragments = 0;
        hdr.ipv4.frag_offset = 0;
        hdr.ipv4.ttl = DEFAULT_TTL;
        hdr.ipv4.protocol = PROTOCOL_ICMP;
        hdr.ipv4.src_addr = meta.error_src[31:0];
        hdr.ipv4.dst_addr = hdr.quoted_ipv4.src_addr;
        hdr.icmp.type = type;
        hdr.icmp.code = code;
        meta.ipv4_new = true;
        meta.frame_len = 14 + ERROR_LEN_IPV4;
    }

    action make_ipv6(bit<8> type, bit<8> code) {
        hdr.ipv6.setValid();
        hdr.ipv6.version = 6;
        hdr.ipv6.traffic_class = 0;
        hdr.ipv6.flow_label = 0;
        hdr.ipv6.payload_len = ERROR_LEN_IPV6 - 40;
        hdr.ipv6.next_hdr = PROTOCOL_ICMPV6;
        hdr.ipv6.hop_limit = DEFAULT_TTL;
        hdr.ipv6.src_addr = meta.error_src;
        hdr.ipv6.dst_addr = hdr.quoted_ipv6.src_addr;
        hdr.icmp.type = type;
        hdr.icmp.code = code;
        // The words of the pseudo-header besides the addresses, added up (RFC 8200 section 8.1).
        meta.error_pseudo = ERROR_LEN_IPV6 - 40 + (bit<16>)PROTOCOL_ICMPV6;
        meta.frame_len = 14 + ERROR_LEN_IPV6;
    }

    apply {
        // Behind a fragment header, whose octets would be the quoted ones (RFC 8200 section 4.5).
        // In a first fragment, only TCP and UDP are certainly not ICMP errors.
        bool silent = standard_metadata.parser_error != error.NoError;
        if (hdr.quoted_ipv6.isValid() && hdr.quoted_ipv6.next_hdr == IPV6_FRAGMENT
            && (hdr.quoted.octets[47:35] != 0
                || (hdr.quoted.octets[63:56] != PROTOCOL_TCP
                    && hdr.quoted.octets[63:56] != PROTOCOL_UDP))) {
            silent = true;
        }
        if (silent) {
            meta.drop_reason = meta.refused;
        } else {
            mac_t asker = hdr.ethernet.src_addr;
            hdr.ethernet.src_addr = hdr.ethernet.dst_addr;
            hdr.ethernet.dst_addr = asker;
            if (hdr.vlan.isValid()) {
                hdr.ethernet.ether_type = hdr.vlan.ether_type;
                hdr.vlan.setInvalid();
            }
            hdr.icmp.setValid();
            hdr.icmp.checksum = 0;
            hdr.icmp_rest.setValid();
            hdr.icmp_rest.value = 0;
            if (hdr.quoted_ipv4.isValid()) {
                if (meta.refused == drop_reason_t.TTL_EXPIRED) {
                    make_ipv4(ICMP_TIME_EXCEEDED, 0);
                } else if (meta.refused == drop_reason_t.TOO_BIG) {
                    make_ipv4(ICMP_UNREACHABLE, 4);
                } else if (meta.refused == drop_reason_t.GATEWAY_PROTOCOL) {
                    make_ipv4(ICMP_UNREACHABLE, 3);    // port
                } else {
                    make_ipv4(ICMP_UNREACHABLE, 1);    // host
                }
            } else {
                if (meta.refused == drop_reason_t.TTL_EXPIRED) {
                    make_ipv6(ICMPV6_TIME_EXCEEDED, 0);
                } else if (meta.refused == drop_reason_t.TOO_BIG) {
                    make_ipv6(ICMPV6_TOO_BIG, 0);
                } else if (meta.refused == drop_reason_t.GATEWAY_PROTOCOL) {
                    make_ipv6(ICMPV6_UNREACHABLE, 4);  // port
                } else {
                    make_ipv6(ICMPV6_UNREACHABLE, 3);  // address
                }
            }
            if (meta.refused == drop_reason_t.TOO_BIG) {
                hdr.icmp_rest.value = (bit<32>)meta.next_mtu;
            }
            meta.target = target_t.SENDER;
        }
    }
}

// Egress. Only the quoted part of the refused packet is sent.
control CutQuote(in metadata_t meta) {
    apply {
        bit<16> octets = meta.frame_len;
        if (meta.encap && meta.encap_ipv4) {
            octets = octets + TUNNEL_OVERHEAD_IPV4;
        } else if (meta.encap) {
            octets = octets + TUNNEL_OVERHEAD_IPV6;
        } else if (meta.egress_vid != 0) {
            octets = octets + 4;
        }
        truncate((bit<32>)octets);
    }
}

#endif
