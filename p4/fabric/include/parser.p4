// From octets to headers: the leaf's parser, the spine's, and the deparser of both.
//
// A frame to a MAC address of a fabric router (02:fa:b0:00 and the device id) that holds
// IP is a packet of the underlay: its headers go to outer_*, and inside VXLAN the tenant's
// frame follows. Every other frame is a tenant's, or one of the link (ARP, neighbour
// discovery, LLDP), and goes to the headers without prefix. VXLAN in such a frame is the
// tenant's own business and is not looked into.
//
// If a refused packet comes again for an ICMP error (control/icmp_error.p4), only the frame's own
// headers and the part that the error quotes are extracted.
//
// Decides: which headers are valid, meta.flow, meta.outer_src, meta.outer_dst, meta.extra_tag,
// meta.hidden.

#ifndef FABRIC_PARSER_P4
#define FABRIC_PARSER_P4

#include "metadata.p4"

const mac_t ROUTER_MAC      = 0x02fab0000000;
const mac_t ROUTER_MAC_MASK = 0xffffffff0000;

const port_t CPU_PORT = 510;

parser LeafParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                  inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.ingress_port, meta.refused) {
            (CPU_PORT, _):           parse_packet_out;
            (_, drop_reason_t.NONE): parse_frame;
            default:                 parse_refused;
        }
    }

    state parse_refused {
        packet.advance((bit<32>)meta.lead << 3);
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN: parse_refused_vlan;
            ETHERTYPE_IPV4: parse_quoted_ipv4;
            default:        parse_quoted_ipv6;
        }
    }

    state parse_refused_vlan {
        packet.extract(hdr.vlan);
        transition select(hdr.vlan.ether_type) {
            ETHERTYPE_IPV4: parse_quoted_ipv4;
            default:        parse_quoted_ipv6;
        }
    }

    state parse_quoted_ipv4 {
        packet.extract(hdr.quoted_ipv4);
        meta.flow.src = V4_MAPPED ++ hdr.quoted_ipv4.src_addr;
        meta.flow.dst = V4_MAPPED ++ hdr.quoted_ipv4.dst_addr;
        transition parse_quoted;
    }

    state parse_quoted_ipv6 {
        packet.extract(hdr.quoted_ipv6);
        meta.flow.src = hdr.quoted_ipv6.src_addr;
        meta.flow.dst = hdr.quoted_ipv6.dst_addr;
        transition parse_quoted;
    }

    state parse_quoted {
        packet.extract(hdr.quoted);
        transition accept;
    }

    // A packet from the controller leaves unchanged.
    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_frame {
        ethernet_h peek = packet.lookahead<ethernet_h>();
        transition select(peek.dst_addr, peek.ether_type) {
            (ROUTER_MAC &&& ROUTER_MAC_MASK, ETHERTYPE_IPV4): parse_outer_ethernet;
            (ROUTER_MAC &&& ROUTER_MAC_MASK, ETHERTYPE_IPV6): parse_outer_ethernet;
            default: parse_ethernet;
        }
    }

    state parse_outer_ethernet {
        packet.extract(hdr.outer_ethernet);
        transition select(hdr.outer_ethernet.ether_type) {
            ETHERTYPE_IPV4: parse_outer_ipv4;
            default:        parse_outer_ipv6;
        }
    }

    state parse_outer_ipv4 {
        packet.extract(hdr.outer_ipv4);
        meta.outer_src = V4_MAPPED ++ hdr.outer_ipv4.src_addr;
        meta.outer_dst = V4_MAPPED ++ hdr.outer_ipv4.dst_addr;
        meta.flow.src = meta.outer_src;
        meta.flow.dst = meta.outer_dst;
        meta.flow.protocol = hdr.outer_ipv4.protocol;
        // Only whole packets without options have their ports at the place where they are read.
        transition select(hdr.outer_ipv4.ihl, hdr.outer_ipv4.more_fragments,
                          hdr.outer_ipv4.frag_offset, hdr.outer_ipv4.protocol) {
            (5, 0, 0, PROTOCOL_UDP):  parse_outer_udp;
            (5, 0, 0, PROTOCOL_ICMP): parse_icmp;
            default: accept;
        }
    }

    state parse_outer_ipv6 {
        packet.extract(hdr.outer_ipv6);
        meta.outer_src = hdr.outer_ipv6.src_addr;
        meta.outer_dst = hdr.outer_ipv6.dst_addr;
        meta.flow.src = meta.outer_src;
        meta.flow.dst = meta.outer_dst;
        meta.flow.protocol = hdr.outer_ipv6.next_hdr;
        transition select(hdr.outer_ipv6.next_hdr) {
            PROTOCOL_UDP:    parse_outer_udp;
            PROTOCOL_ICMPV6: parse_outer_icmpv6;
            default: accept;
        }
    }

    state parse_outer_icmpv6 {
        packet.extract(hdr.icmp);
        transition select(hdr.icmp.type, hdr.outer_ipv6.payload_len) {
            (ICMPV6_NS, 24): parse_nd;
            (ICMPV6_NS, 32): parse_nd_with_option;
            default: accept;
        }
    }

    state parse_outer_udp {
        packet.extract(hdr.outer_udp);
        meta.flow.src_port = hdr.outer_udp.src_port;
        meta.flow.dst_port = hdr.outer_udp.dst_port;
        transition select(hdr.outer_udp.dst_port) {
            UDP_PORT_VXLAN: parse_vxlan;
            default: accept;
        }
    }

    state parse_vxlan {
        packet.extract(hdr.vxlan);
        transition parse_ethernet;
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        meta.flow.src = (bit<128>)hdr.ethernet.src_addr;
        meta.flow.dst = (bit<128>)hdr.ethernet.dst_addr;
        meta.flow.protocol = 0;
        meta.flow.src_port = 0;
        meta.flow.dst_port = 0;
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN:  parse_vlan;
            ETHERTYPE_ARP:   parse_arp;
            ETHERTYPE_IPV4:  parse_ipv4;
            ETHERTYPE_IPV6:  parse_ipv6;
            ETHERTYPE_SVLAN: parse_extra_tag;
            ETHERTYPE_QINQ1: parse_extra_tag;
            ETHERTYPE_QINQ2: parse_extra_tag;
            ETHERTYPE_LENGTH &&& ETHERTYPE_LENGTH_MASK: parse_llc;
            default: accept;
        }
    }

    state parse_vlan {
        packet.extract(hdr.vlan);
        transition select(hdr.vlan.ether_type) {
            ETHERTYPE_ARP:   parse_arp;
            ETHERTYPE_IPV4:  parse_ipv4;
            ETHERTYPE_IPV6:  parse_ipv6;
            ETHERTYPE_VLAN:  parse_extra_tag;
            ETHERTYPE_SVLAN: parse_extra_tag;
            ETHERTYPE_QINQ1: parse_extra_tag;
            ETHERTYPE_QINQ2: parse_extra_tag;
            ETHERTYPE_LENGTH &&& ETHERTYPE_LENGTH_MASK: parse_llc;
            default: accept;
        }
    }

    state parse_extra_tag {
        meta.extra_tag = true;
        transition accept;
    }

    // SNAP hides IP and ARP from everybody but the stations that know it.
    state parse_llc {
        transition select(packet.lookahead<bit<24>>()) {
            LLC_SNAP: parse_hidden;
            default: accept;
        }
    }

    state parse_hidden {
        meta.hidden = true;
        transition accept;
    }

    state parse_arp {
        packet.extract(hdr.arp);
        transition accept;
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        meta.flow.src = V4_MAPPED ++ hdr.ipv4.src_addr;
        meta.flow.dst = V4_MAPPED ++ hdr.ipv4.dst_addr;
        meta.flow.protocol = hdr.ipv4.protocol;
        transition select(hdr.ipv4.ihl, hdr.ipv4.more_fragments,
                          hdr.ipv4.frag_offset, hdr.ipv4.protocol) {
            (5, 0, 0, PROTOCOL_ICMP): parse_icmp;
            (5, 0, 0, PROTOCOL_TCP):  parse_ports;
            (5, 0, 0, PROTOCOL_UDP):  parse_ports;
            (5, 1, 0, PROTOCOL_UDP):  parse_first_part;
            default: accept;
        }
    }

    // The first fragment has the ports. ECMP does not use them, because later fragments have none.
    state parse_first_part {
        udp_h peek = packet.lookahead<udp_h>();
        transition select(peek.dst_port) {
            DHCP_CLIENT: parse_hidden;
            default: accept;
        }
    }

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        meta.flow.src = hdr.ipv6.src_addr;
        meta.flow.dst = hdr.ipv6.dst_addr;
        meta.flow.protocol = hdr.ipv6.next_hdr;
        transition select(hdr.ipv6.next_hdr) {
            PROTOCOL_ICMPV6: parse_icmpv6;
            PROTOCOL_TCP:    parse_ports;
            PROTOCOL_UDP:    parse_ports;
            IPV6_FRAGMENT:     parse_fragment;
            IPV6_HOP_BY_HOP:   parse_behind_header;
            IPV6_ROUTING:      parse_behind_header;
            IPV6_AUTH:         parse_behind_header;
            IPV6_DEST_OPTIONS: parse_behind_header;
            default: accept;
        }
    }

    // The parser does not look for UDP behind an extension header, nor at what follows a second one.
    state parse_behind_header {
        transition select(packet.lookahead<bit<8>>()) {
            PROTOCOL_UDP:      parse_hidden;
            IPV6_FRAGMENT:     parse_hidden;
            IPV6_HOP_BY_HOP:   parse_hidden;
            IPV6_ROUTING:      parse_hidden;
            IPV6_AUTH:         parse_hidden;
            IPV6_DEST_OPTIONS: parse_hidden;
            default: accept;
        }
    }

    state parse_fragment {
        fragment_h peek = packet.lookahead<fragment_h>();
        transition select(peek.next_hdr, peek.frag_offset) {
            (PROTOCOL_UDP, 0):      parse_first_part_ipv6;
            (IPV6_FRAGMENT, 0):     parse_hidden;
            (IPV6_HOP_BY_HOP, 0):   parse_hidden;
            (IPV6_ROUTING, 0):      parse_hidden;
            (IPV6_AUTH, 0):         parse_hidden;
            (IPV6_DEST_OPTIONS, 0): parse_hidden;
            default: accept;
        }
    }

    state parse_first_part_ipv6 {
        fragment_ports_h peek = packet.lookahead<fragment_ports_h>();
        transition select(peek.dst_port) {
            DHCPV6_CLIENT: parse_hidden;
            default: accept;
        }
    }

    // Ports are read and never changed, so they stay in the payload.
    state parse_ports {
        bit<32> ports = packet.lookahead<bit<32>>();
        meta.flow.src_port = ports[31:16];
        meta.flow.dst_port = ports[15:0];
        transition accept;
    }

    state parse_icmp {
        packet.extract(hdr.icmp);
        transition accept;
    }

    state parse_icmpv6 {
        packet.extract(hdr.icmp);
        transition select(hdr.icmp.type, hdr.ipv6.payload_len) {
            (ICMPV6_NS, 24): parse_nd;
            (ICMPV6_NS, 32): parse_nd_with_option;
            (ICMPV6_NA, 24): parse_nd;
            (ICMPV6_NA, 32): parse_nd_with_option;
            default: accept;
        }
    }

    // A solicitation or advertisement without option, or with one of 8 octets (source address, or nonce
    // of RFC 7527). One with more options is not answered here.
    state parse_nd {
        packet.extract(hdr.nd);
        transition accept;
    }

    state parse_nd_with_option {
        packet.extract(hdr.nd);
        packet.extract(hdr.nd_option);
        transition accept;
    }
}

// A spine looks no deeper than the underlay's transport header.
parser SpineParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                   inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default:  parse_frame;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_frame {
        ethernet_h peek = packet.lookahead<ethernet_h>();
        transition select(peek.dst_addr, peek.ether_type) {
            (ROUTER_MAC &&& ROUTER_MAC_MASK, ETHERTYPE_IPV4): parse_outer_ethernet;
            (ROUTER_MAC &&& ROUTER_MAC_MASK, ETHERTYPE_IPV6): parse_outer_ethernet;
            default: parse_ethernet;
        }
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition accept;
    }

    state parse_outer_ethernet {
        packet.extract(hdr.outer_ethernet);
        transition select(hdr.outer_ethernet.ether_type) {
            ETHERTYPE_IPV4: parse_outer_ipv4;
            default:        parse_outer_ipv6;
        }
    }

    state parse_outer_ipv4 {
        packet.extract(hdr.outer_ipv4);
        meta.outer_src = V4_MAPPED ++ hdr.outer_ipv4.src_addr;
        meta.outer_dst = V4_MAPPED ++ hdr.outer_ipv4.dst_addr;
        meta.flow.src = meta.outer_src;
        meta.flow.dst = meta.outer_dst;
        meta.flow.protocol = hdr.outer_ipv4.protocol;
        transition select(hdr.outer_ipv4.ihl, hdr.outer_ipv4.more_fragments,
                          hdr.outer_ipv4.frag_offset, hdr.outer_ipv4.protocol) {
            (5, 0, 0, PROTOCOL_UDP):  parse_outer_udp;
            (5, 0, 0, PROTOCOL_ICMP): parse_icmp;
            default: accept;
        }
    }

    state parse_outer_ipv6 {
        packet.extract(hdr.outer_ipv6);
        meta.outer_src = hdr.outer_ipv6.src_addr;
        meta.outer_dst = hdr.outer_ipv6.dst_addr;
        meta.flow.src = meta.outer_src;
        meta.flow.dst = meta.outer_dst;
        meta.flow.protocol = hdr.outer_ipv6.next_hdr;
        transition select(hdr.outer_ipv6.next_hdr) {
            PROTOCOL_UDP:    parse_outer_udp;
            PROTOCOL_ICMPV6: parse_icmp;
            default: accept;
        }
    }

    state parse_outer_udp {
        packet.extract(hdr.outer_udp);
        meta.flow.src_port = hdr.outer_udp.src_port;
        meta.flow.dst_port = hdr.outer_udp.dst_port;
        transition accept;
    }

    state parse_icmp {
        packet.extract(hdr.icmp);
        transition accept;
    }
}

control FabricDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.outer_ethernet);
        packet.emit(hdr.outer_ipv4);
        packet.emit(hdr.outer_ipv6);
        packet.emit(hdr.outer_udp);
        packet.emit(hdr.vxlan);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.vlan);
        packet.emit(hdr.arp);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.icmp);
        packet.emit(hdr.icmp_rest);
        packet.emit(hdr.quoted_ipv4);
        packet.emit(hdr.quoted_ipv6);
        packet.emit(hdr.quoted);
        packet.emit(hdr.nd);
        packet.emit(hdr.nd_option);
    }
}

#endif
