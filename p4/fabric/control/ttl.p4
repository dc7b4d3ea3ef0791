// DecrementTtl: one hop less (RFC 1812 section 5.3.1).
//
// The checksum is updated only for the word that changes, so options are not read again, and
// a checksum that was wrong before stays wrong. RFC 1624 equation 3: HC' = ~(~HC + ~m + m'). The word falls
// by 0x0100, so ~m + m' is always 0xfeff. The older equation of RFC 1141 gives 0xffff where a
// computed checksum is 0x0000, and the next router drops that packet.
//
// Decides: TTL and checksum; `expired` if no hop is left.

#ifndef FABRIC_TTL_P4
#define FABRIC_TTL_P4

control DecrementTtl(inout ipv4_h ipv4, inout ipv6_h ipv6, out bool expired) {
    apply {
        expired = false;
        if (ipv4.isValid()) {
            if (ipv4.ttl <= 1) {
                expired = true;
            } else {
                ipv4.ttl = ipv4.ttl - 1;
                bit<17> sum = (bit<17>)(~ipv4.hdr_checksum) + 0xfeff;
                ipv4.hdr_checksum = ~(sum[15:0] + (bit<16>)sum[16:16]);
            }
        } else if (ipv6.isValid()) {
            if (ipv6.hop_limit <= 1) {
                expired = true;
            } else {
                ipv6.hop_limit = ipv6.hop_limit - 1;
            }
        }
    }
}

#endif
