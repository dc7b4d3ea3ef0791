// Headers of the fabric, and the stack of them that a packet can carry.
//
// A packet of the underlay carries the outer_* headers; a tenant's frame carries the ones
// without prefix. A VXLAN packet carries both. The parser puts a frame into one or the
// other by its destination MAC address (see parser.p4), so that everything that decides
// about tenants reads the same headers, whether the frame came through a tunnel or from
// an access port.

#ifndef FABRIC_HEADERS_P4
#define FABRIC_HEADERS_P4

typedef bit<9>   port_t;
typedef bit<48>  mac_t;
typedef bit<32>  ipv4_t;
typedef bit<128> ipv6_t;
typedef bit<24>  vni_t;      // a VNI; names a bridge domain or, for a router, a VRF
typedef bit<12>  vid_t;      // an 802.1Q VLAN identifier; 0 is "untagged"
typedef bit<16>  replica_t;  // who gets a copy, see control/replicate.p4
typedef bit<16>  vtep_t;     // fabric-wide number of a VTEP (leaf or host)

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<16> ETHERTYPE_ARP  = 0x0806;
const bit<16> ETHERTYPE_VLAN = 0x8100;
const bit<16> ETHERTYPE_IPV6 = 0x86dd;
const bit<16> ETHERTYPE_SVLAN = 0x88a8;   // IEEE 802.1Q service tag
const bit<16> ETHERTYPE_QINQ1 = 0x9100;   // the service tag of switches before the standard
const bit<16> ETHERTYPE_QINQ2 = 0x9200;
const bit<16> ETHERTYPE_LLDP = 0x88cc;
// A value below 0x0600 in place of an EtherType is the length of an LLC packet (IEEE 802.3).
const bit<16> ETHERTYPE_LENGTH      = 0x0000;
const bit<16> ETHERTYPE_LENGTH_MASK = 0xf800;
const bit<24> LLC_SNAP = 0xaaaa03;         // an EtherType follows (RFC 1042)

const bit<8> PROTOCOL_ICMP   = 1;
const bit<8> PROTOCOL_TCP    = 6;
const bit<8> PROTOCOL_UDP    = 17;
const bit<8> PROTOCOL_ICMPV6 = 58;

// Extension headers (RFC 8200 section 4, RFC 4302).
const bit<8> IPV6_HOP_BY_HOP   = 0;
const bit<8> IPV6_ROUTING      = 43;
const bit<8> IPV6_FRAGMENT     = 44;
const bit<8> IPV6_AUTH         = 51;
const bit<8> IPV6_DEST_OPTIONS = 60;

const bit<16> UDP_PORT_VXLAN = 4789;   // RFC 7348 section 5

// The ports of DHCP clients (RFC 2131 section 4.1, RFC 8415 section 7.2).
const bit<16> DHCP_CLIENT   = 68;
const bit<16> DHCPV6_CLIENT = 546;

const bit<8>  VXLAN_FLAG_VNI = 0x08;   // the I flag; all other bits are reserved

const bit<8> ICMP_ECHO_REQUEST   = 8;    // RFC 792
const bit<8> ICMP_ECHO_REPLY     = 0;
const bit<8> ICMP_UNREACHABLE    = 3;
const bit<8> ICMP_TIME_EXCEEDED  = 11;
const bit<8> ICMP_TIMESTAMP      = 13;   // the first of the other queries; below are errors
const bit<8> ICMPV6_UNREACHABLE   = 1;   // RFC 4443 section 3
const bit<8> ICMPV6_TOO_BIG       = 2;
const bit<8> ICMPV6_TIME_EXCEEDED = 3;
const bit<8> ICMPV6_ECHO_REQUEST = 128;  // RFC 4443
const bit<8> ICMPV6_ECHO_REPLY   = 129;
const bit<8> ICMPV6_RA           = 134;  // RFC 4861 section 4.2
const bit<8> ICMPV6_NS           = 135;  // RFC 4861 section 4.3
const bit<8> ICMPV6_NA           = 136;  // RFC 4861 section 4.4
const bit<8> ICMPV6_REDIRECT     = 137;  // RFC 4861 section 4.5

const bit<16> ARP_REQUEST = 1;
const bit<16> ARP_REPLY   = 2;

const bit<8> DEFAULT_TTL = 64;

// 128-bit fields hold IPv4 addresses in IPv4-mapped form (RFC 4291 section 2.5.5.2),
// so that one underlay table serves both families.
const bit<96> V4_MAPPED = 0x00000000_00000000_0000ffff;

header ethernet_h {
    mac_t   dst_addr;
    mac_t   src_addr;
    bit<16> ether_type;
}

header vlan_h {
    bit<3>  pcp;
    bit<1>  dei;
    vid_t   vid;
    bit<16> ether_type;
}

header ipv4_h {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;
    bit<16> total_len;
    bit<16> identification;
    bit<1>  reserved;
    bit<1>  dont_fragment;
    bit<1>  more_fragments;
    bit<13> frag_offset;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> hdr_checksum;
    ipv4_t  src_addr;
    ipv4_t  dst_addr;
}

header ipv6_h {
    bit<4>  version;
    bit<8>  traffic_class;
    bit<20> flow_label;
    bit<16> payload_len;
    bit<8>  next_hdr;
    bit<8>  hop_limit;
    ipv6_t  src_addr;
    ipv6_t  dst_addr;
}

header udp_h {
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> length;
    bit<16> checksum;
}

// RFC 8200 section 4.5. The parser looks at it; it stays in the payload.
header fragment_h {
    bit<8>  next_hdr;
    bit<8>  reserved;
    bit<13> frag_offset;
    bit<2>  reserved2;
    bit<1>  more_fragments;
    bit<32> identification;
}

// A fragment header and the ports behind it.
header fragment_ports_h {
    bit<64> fragment;
    bit<16> src_port;
    bit<16> dst_port;
}

// RFC 7348 section 5
header vxlan_h {
    bit<8>  flags;
    bit<24> reserved;
    vni_t   vni;
    bit<8>  reserved2;
}

// RFC 826 for IPv4 over Ethernet
header arp_h {
    bit<16> hw_type;
    bit<16> proto_type;
    bit<8>  hw_len;
    bit<8>  proto_len;
    bit<16> opcode;
    mac_t   sender_mac;
    ipv4_t  sender_ip;
    mac_t   target_mac;
    ipv4_t  target_ip;
}

// The part that ICMP and ICMPv6 have in common.
header icmp_h {
    bit<8>  type;
    bit<8>  code;
    bit<16> checksum;
}

// The second word of an ICMP or ICMPv6 error: unused, or the MTU of the next hop (RFC 1191
// section 4, RFC 4443 section 3.2).
header icmp_rest_h {
    bit<32> value;
}

// The first octets after the quoted IP header of an ICMP error.
header quoted_h {
    bit<64> octets;
}

// Body of a neighbour solicitation or advertisement (RFC 4861 sections 4.3, 4.4).
header nd_h {
    bit<1>  router;
    bit<1>  solicited;
    bit<1>  override;
    bit<29> reserved;
    ipv6_t  target;
}

// A neighbour discovery option of 8 octets (RFC 4861 section 4.6).
header nd_option_h {
    bit<8> type;
    bit<8> length;   // in units of 8 octets
    mac_t  mac;
}

// Why a packet is sent to the controller.
enum bit<7> punt_reason_t {
    NONE = 0,
    LLDP = 1   // link discovery, from a fabric port
}

@controller_header("packet_in")
header packet_in_h {
    port_t        ingress_port;
    punt_reason_t reason;
}

@controller_header("packet_out")
header packet_out_h {
    port_t egress_port;
    bit<7> pad;
}

struct headers_t {
    packet_out_h packet_out;
    packet_in_h  packet_in;
    ethernet_h   outer_ethernet;
    ipv4_h       outer_ipv4;
    ipv6_h       outer_ipv6;
    udp_h        outer_udp;
    vxlan_h      vxlan;
    ethernet_h   ethernet;
    vlan_h       vlan;
    arp_h        arp;
    ipv4_h       ipv4;
    ipv6_h       ipv6;
    icmp_h       icmp;
    icmp_rest_h  icmp_rest;      // from here to `quoted`: ICMP errors made here only
    ipv4_h       quoted_ipv4;
    ipv6_h       quoted_ipv6;
    quoted_h     quoted;
    nd_h         nd;
    nd_option_h  nd_option;
}

#endif
