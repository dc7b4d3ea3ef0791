// Why a packet was dropped: the index of the counters `ingress_drops` and `egress_drops`.
//
// The numbers are part of the API: never reuse one, add at the end. The Rust crate has
// the same list (`fabric_pipeline::DropReason`); a test compares the two.

#ifndef FABRIC_DROP_REASONS_P4
#define FABRIC_DROP_REASONS_P4

enum bit<8> drop_reason_t {
    NONE             = 0,
    MALFORMED        = 1,   // cut short, wrong IPv4 or outer UDP checksum, or contradicting itself
    UNKNOWN_PORT     = 2,   // nothing is connected to this port and VLAN
    FABRIC_MAC       = 3,   // a tenant addressed a MAC address of the fabric's routers
    NOT_FOR_ROUTER   = 4,   // on an underlay port, but not addressed to this router
    HOST_SOURCE      = 5,   // a host sent from an underlay address that is not its own
    HOST_PROTOCOL    = 6,   // a host sent what hosts may not send in the underlay
    HOST_VNI         = 7,   // a host sent into a network in which it has no attachment
    LOCAL_PROTOCOL   = 8,   // addressed to this switch, which does not support that protocol
    UNKNOWN_VNI      = 9,   // a tunnel to this leaf, in a network that this leaf does not have
    INNER_VLAN       = 10,  // a tagged frame in a tunnel (RFC 7348 section 6.1)
    NO_ROUTER        = 11,  // to the gateway's MAC address, but not routable
    NO_ROUTE         = 12,  // no such address in the router's networks, and no static route to it
    TTL_EXPIRED      = 13,  // TTL or hop limit used up
    GATEWAY_PROTOCOL = 14,  // to a gateway's address, which only replies to echo requests
    NO_FLOOD_GROUP   = 15,  // no other member to flood to in that network
    SPLIT_HORIZON    = 16,  // would go back to where it came from
    NO_VTEP          = 17,  // the tunnel's far end is not known
    NO_UNDERLAY_ROUTE = 18, // no route to that underlay address
    RESERVED_MAC     = 19,  // link-local group address that bridges never forward
    OWN_PROBE        = 20,  // a station that probes for its own address must get no reply
    NO_NEIGHBOUR     = 21,  // egress: no neighbour known on that port
    NO_REPLICA       = 22,  // egress: no receiver has that replica number
    DOUBLE_TAG       = 23,  // on an access port: a VLAN tag after that of the port, or a service tag
    VXLAN_RESERVED   = 24,  // from a host: reserved bits of the VXLAN header are set (RFC 7348 section 5)
    OUTER_ADDRESS    = 25,  // an IPv4-mapped address in an IPv6 header of the underlay (RFC 4291 section 2.5.5.2)
    MARTIAN          = 26,  // routed, but its source or destination belongs to no station (RFC 1812 section 5.3.7)
    SOURCE_MAC       = 27,  // on an access port: not a MAC address of its attachment
    SOURCE_IP        = 28,  // on an access port: not an IP address of its attachment
    SOURCE_NEIGHBOUR = 29,  // on an access port: ARP or neighbour discovery for somebody else
    ROGUE_SERVER     = 30,  // on an access port: from a router or a DHCP server, or a packet that could hide that
    TOO_BIG          = 31,  // routed, but larger than the MTU of the network that it goes to
    FLOOD_LIMIT      = 32   // its sender exceeds its rate of flooded frames
}

const bit<32> DROP_REASONS = 64;

#endif
