// Checksums: which packets arrived damaged, and which headers need a new checksum.
//
// IPv4 headers are verified if they are parsed (RFC 1812 section 5.2.2; a header with options
// is not). So is the outer UDP checksum of tunnelled frames, if there is one (RFC
// 7348 section 5). Code that changes the TTL also updates the checksum, so this file
// computes only those of headers that this switch made itself.

#ifndef FABRIC_CHECKSUMS_P4
#define FABRIC_CHECKSUMS_P4

control VerifyChecksums(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.outer_ipv4.isValid() && hdr.outer_ipv4.ihl == 5,
            { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.tos,
              hdr.outer_ipv4.total_len, hdr.outer_ipv4.identification,
              hdr.outer_ipv4.reserved, hdr.outer_ipv4.dont_fragment,
              hdr.outer_ipv4.more_fragments, hdr.outer_ipv4.frag_offset,
              hdr.outer_ipv4.ttl, hdr.outer_ipv4.protocol,
              hdr.outer_ipv4.src_addr, hdr.outer_ipv4.dst_addr },
            hdr.outer_ipv4.hdr_checksum, HashAlgorithm.csum16);
        verify_checksum(hdr.ipv4.isValid() && hdr.ipv4.ihl == 5,
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos,
              hdr.ipv4.total_len, hdr.ipv4.identification,
              hdr.ipv4.reserved, hdr.ipv4.dont_fragment,
              hdr.ipv4.more_fragments, hdr.ipv4.frag_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol,
              hdr.ipv4.src_addr, hdr.ipv4.dst_addr },
            hdr.ipv4.hdr_checksum, HashAlgorithm.csum16);
        // The whole datagram with its checksum and pseudo-header (RFC 768, RFC 8200 section
        // 8.1) must sum to zero. Fields of headers that are not there add nothing; each header
        // is a whole number of 16-bit words, so the others stay aligned.
        verify_checksum_with_payload(hdr.vxlan.isValid() && hdr.outer_udp.checksum != 0,
            { hdr.outer_ipv4.src_addr, hdr.outer_ipv4.dst_addr,
              hdr.outer_ipv6.src_addr, hdr.outer_ipv6.dst_addr,
              16w17, hdr.outer_udp.length,
              hdr.outer_udp.src_port, hdr.outer_udp.dst_port,
              hdr.outer_udp.length, hdr.outer_udp.checksum,
              hdr.vxlan.flags, hdr.vxlan.reserved, hdr.vxlan.vni, hdr.vxlan.reserved2,
              hdr.ethernet.dst_addr, hdr.ethernet.src_addr, hdr.ethernet.ether_type,
              hdr.vlan.pcp, hdr.vlan.dei, hdr.vlan.vid, hdr.vlan.ether_type,
              hdr.arp.hw_type, hdr.arp.proto_type, hdr.arp.hw_len, hdr.arp.proto_len,
              hdr.arp.opcode, hdr.arp.sender_mac, hdr.arp.sender_ip,
              hdr.arp.target_mac, hdr.arp.target_ip,
              hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos,
              hdr.ipv4.total_len, hdr.ipv4.identification,
              hdr.ipv4.reserved, hdr.ipv4.dont_fragment,
              hdr.ipv4.more_fragments, hdr.ipv4.frag_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.hdr_checksum,
              hdr.ipv4.src_addr, hdr.ipv4.dst_addr,
              hdr.ipv6.version, hdr.ipv6.traffic_class, hdr.ipv6.flow_label,
              hdr.ipv6.payload_len, hdr.ipv6.next_hdr, hdr.ipv6.hop_limit,
              hdr.ipv6.src_addr, hdr.ipv6.dst_addr,
              hdr.icmp.type, hdr.icmp.code, hdr.icmp.checksum,
              hdr.nd.router, hdr.nd.solicited, hdr.nd.override, hdr.nd.reserved,
              hdr.nd.target,
              hdr.nd_option.type, hdr.nd_option.length, hdr.nd_option.mac },
            meta.zero, HashAlgorithm.csum16);
    }
}

control ComputeChecksums(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(meta.outer_ipv4_new,
            { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.tos,
              hdr.outer_ipv4.total_len, hdr.outer_ipv4.identification,
              hdr.outer_ipv4.reserved, hdr.outer_ipv4.dont_fragment,
              hdr.outer_ipv4.more_fragments, hdr.outer_ipv4.frag_offset,
              hdr.outer_ipv4.ttl, hdr.outer_ipv4.protocol,
              hdr.outer_ipv4.src_addr, hdr.outer_ipv4.dst_addr },
            hdr.outer_ipv4.hdr_checksum, HashAlgorithm.csum16);
        update_checksum(meta.ipv4_new,
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos,
              hdr.ipv4.total_len, hdr.ipv4.identification,
              hdr.ipv4.reserved, hdr.ipv4.dont_fragment,
              hdr.ipv4.more_fragments, hdr.ipv4.frag_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol,
              hdr.ipv4.src_addr, hdr.ipv4.dst_addr },
            hdr.ipv4.hdr_checksum, HashAlgorithm.csum16);
        // A neighbour advertisement: pseudo-header (RFC 8200 section 8.1), then the message.
        update_checksum(meta.nd_new,
            { hdr.ipv6.src_addr, hdr.ipv6.dst_addr, 32w32, 24w0, hdr.ipv6.next_hdr,
              hdr.icmp.type, hdr.icmp.code,
              hdr.nd.router, hdr.nd.solicited, hdr.nd.override, hdr.nd.reserved,
              hdr.nd.target,
              hdr.nd_option.type, hdr.nd_option.length, hdr.nd_option.mac },
            hdr.icmp.checksum, HashAlgorithm.csum16);
        // An ICMP error (RFC 792), or an ICMPv6 error with its pseudo-header. Only one of the two
        // families has valid headers; those of the other add nothing.
        update_checksum(hdr.quoted.isValid(),
            { hdr.ipv6.src_addr, hdr.ipv6.dst_addr, meta.error_pseudo,
              hdr.icmp.type, hdr.icmp.code, hdr.icmp_rest.value,
              hdr.quoted_ipv4.version, hdr.quoted_ipv4.ihl, hdr.quoted_ipv4.tos,
              hdr.quoted_ipv4.total_len, hdr.quoted_ipv4.identification,
              hdr.quoted_ipv4.reserved, hdr.quoted_ipv4.dont_fragment,
              hdr.quoted_ipv4.more_fragments, hdr.quoted_ipv4.frag_offset,
              hdr.quoted_ipv4.ttl, hdr.quoted_ipv4.protocol, hdr.quoted_ipv4.hdr_checksum,
              hdr.quoted_ipv4.src_addr, hdr.quoted_ipv4.dst_addr,
              hdr.quoted_ipv6.version, hdr.quoted_ipv6.traffic_class,
              hdr.quoted_ipv6.flow_label, hdr.quoted_ipv6.payload_len,
              hdr.quoted_ipv6.next_hdr, hdr.quoted_ipv6.hop_limit,
              hdr.quoted_ipv6.src_addr, hdr.quoted_ipv6.dst_addr,
              hdr.quoted.octets },
            hdr.icmp.checksum, HashAlgorithm.csum16);
    }
}

#endif
