// Echo: turns an echo request into its reply (RFC 792, RFC 4443 section 4.2).
//
// The checksum is updated for the one word that changes; swapping source and destination does
// not change the sum of ICMPv6's pseudo-header. ICMPv6 follows RFC 1624 equation 3. In ICMP the
// word becomes 0, so the rest may be all zeros, and then only 0xffff is right. The request looks
// the same if the rest sums to 0xffff, for which 0x0000 and 0xffff are both right (RFC
// 1071 section 2, one's complement has two zeros). So here the sum is added to the checksum
// itself, which gives 0xffff in both cases.
//
// Decides: `replied`; the caller swaps the MAC addresses and has the IPv4 checksum made.

#ifndef FABRIC_ECHO_P4
#define FABRIC_ECHO_P4

control Echo(inout ipv4_h ipv4, inout ipv6_h ipv6, inout icmp_h icmp, out bool replied) {
    apply {
        replied = false;
        if (icmp.isValid() && icmp.code == 0) {
            bit<17> sum;
            if (ipv4.isValid() && icmp.type == ICMP_ECHO_REQUEST) {
                ipv4_t address = ipv4.src_addr;
                ipv4.src_addr = ipv4.dst_addr;
                ipv4.dst_addr = address;
                ipv4.ttl = DEFAULT_TTL;
                icmp.type = ICMP_ECHO_REPLY;
                sum = (bit<17>)icmp.checksum + 0x0800;      // the word fell from 0x0800 to 0
                icmp.checksum = sum[15:0] + (bit<16>)sum[16:16];
                replied = true;
            } else if (ipv6.isValid() && icmp.type == ICMPV6_ECHO_REQUEST) {
                ipv6_t address6 = ipv6.src_addr;
                ipv6.src_addr = ipv6.dst_addr;
                ipv6.dst_addr = address6;
                ipv6.hop_limit = DEFAULT_TTL;
                icmp.type = ICMPV6_ECHO_REPLY;
                sum = (bit<17>)(~icmp.checksum) + 0x0100;   // the word rose by 0x0100
                icmp.checksum = ~(sum[15:0] + (bit<16>)sum[16:16]);
                replied = true;
            }
        }
    }
}

#endif
