// What one control passes to the next. Each control's header comment names the fields that it
// sets; a control has no other output.

#ifndef FABRIC_METADATA_P4
#define FABRIC_METADATA_P4

#include "headers.p4"
#include "drop_reasons.p4"

// What a port is for.
enum bit<2> port_kind_t {
    NONE   = 0,
    ACCESS = 1,   // a tenant's bare-metal machine
    HOST   = 2,   // the uplink of a Linux host: trusted only as far as Admission checks
    FABRIC = 3    // another switch of the fabric
}

// Where an admitted tenant frame is to go.
enum bit<3> target_t {
    NONE   = 0,
    PORT   = 1,   // out of an access port
    VTEP   = 2,   // through a tunnel to the VTEP numbered meta.vtep_id
    SENDER = 3,   // back to where it came from
    GROUP  = 4    // flooded
}

// The innermost addresses and ports that the parser saw. ECMP chooses paths by them.
struct flow_t {
    bit<128> src;
    bit<128> dst;
    bit<8>   protocol;
    bit<16>  src_port;
    bit<16>  dst_port;
}

// The fields that the second pass of a refused packet needs (control/icmp_error.p4).
const bit<8> KEPT_FOR_ERROR = 1;

struct metadata_t {
    // Parser.
    flow_t        flow;
    @field_list(KEPT_FOR_ERROR)
    bit<128>      outer_src;      // underlay addresses, IPv4-mapped if IPv4
    @field_list(KEPT_FOR_ERROR)
    bit<128>      outer_dst;
    bool          extra_tag;      // a VLAN tag where none may be: behind the first, or a service tag
    bool          hidden;         // SourceGuard cannot see into the packet, or it is for a DHCP client

    // Admission.
    port_kind_t   port_kind;
    replica_t     source;         // who sent it: a host's VTEP id, an access id, or 0
    bool          host_plain;     // from a host, admitted so far, and not a tunnel
    bool          guarded;        // an access port whose senders SourceGuard checks
    @field_list(KEPT_FOR_ERROR)
    vid_t         vid;            // VLAN it came with on an access port, 0 if none

    // OwnAddress.
    bool          local;          // addressed to this switch
    bool          originated;     // an underlay packet made here, not one in transit

    // Admission (access ports) or Termination (tunnels).
    @field_list(KEPT_FOR_ERROR)
    bool          from_tunnel;
    @field_list(KEPT_FOR_ERROR)
    vni_t         bd;             // bridge domain = VNI; 0 is the underlay
    vni_t         vrf;            // the network's router; 0 if it has none
    bit<16>       frame_len;      // octets of the tenant's frame, without VLAN tag

    // EdgeReply, Route, Bridge.
    target_t      target;
    bool          routed;
    vtep_t        vtep_id;        // for VTEP
    vid_t         egress_vid;     // for PORT: tag to send with, 0 for none
    @field_list(KEPT_FOR_ERROR)
    bit<16>       next_mtu;       // largest IP packet of the network that Route routes into

    // ErrorDue, in the first pass of a packet about which an ICMP error is to be sent.
    @field_list(KEPT_FOR_ERROR)
    drop_reason_t refused;        // why it was dropped; NONE in the first pass
    @field_list(KEPT_FOR_ERROR)
    bit<128>      error_src;      // the gateway that the error comes from, IPv4-mapped if IPv4
    @field_list(KEPT_FOR_ERROR)
    bit<16>       lead;           // octets before the tenant's frame
    @field_list(KEPT_FOR_ERROR)
    port_t        came_by;        // port of the first pass: BMv2 forgets it when it resubmits

    // Tunnel, or Replicate in the egress.
    bool          encap;
    bool          encap_ipv4;
    vni_t         encap_vni;
    bit<128>      encap_src;      // IPv4-mapped if encap_ipv4
    bit<128>      encap_dst;
    bit<16>       entropy;        // outer UDP source port, input of ECMP

    // Underlay.
    bit<128>      underlay_dst;
    bit<16>       path;
    bool          to_fabric;      // leaves through a fabric port

    // A sum over data and its checksum is compared with this; never written.
    bit<16>       zero;

    // Checksums to compute on the way out.
    bool          outer_ipv4_new;
    bool          ipv4_new;
    bool          nd_new;
    bit<16>       error_pseudo;   // ICMPv6 error: length and protocol of its pseudo-header

    // Set by the control that refuses the packet.
    drop_reason_t drop_reason;
}

#endif
