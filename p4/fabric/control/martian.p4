// Martian: can this address be a source, a destination?
//
// A router does not forward a packet from or to an address that no station can have: this
// network (RFC 1122 section 3.2.1.3), loopback, link-local, multicast as a source, reserved and
// broadcast (RFC 1812 sections 4.2.2.11, 5.3.7; RFC 3927 section 7; RFC 4291 sections 2.5.3,
// 2.5.5, 2.5.6, 2.7; RFC 6890). Multicast is not a destination either, since nothing here routes
// it. The documentation prefixes are left alone: tenants use them in laboratories.
//
// The source of every routed packet is checked. The destination is checked only if no host route
// has the address. Then no static route may be used for it, and the packet gets this drop reason.
//
// Decides: drop_reason.

#ifndef FABRIC_MARTIAN_P4
#define FABRIC_MARTIAN_P4

control MartianSource(in headers_t hdr, inout metadata_t meta) {
    @id(0x13000012) direct_counter(CounterType.packets_and_bytes) martian_source_ipv4_counter;
    @id(0x13000013) direct_counter(CounterType.packets_and_bytes) martian_source_ipv6_counter;

    @id(0x01000025)
    @brief("Nobody's address.")
    action refuse_source() {
        meta.drop_reason = drop_reason_t.MARTIAN;
    }

    @id(0x02000013)
    @brief("IPv4 addresses that no routed packet comes from.")
    table martian_source_ipv4 {
        key = {
            hdr.ipv4.src_addr : ternary @name("src");
        }
        actions = { refuse_source; @defaultonly NoAction; }
        const default_action = NoAction();
        const entries = {
            (0x00000000 &&& 0xff000000) : refuse_source();   // 0.0.0.0/8
            (0x7f000000 &&& 0xff000000) : refuse_source();   // 127.0.0.0/8
            (0xa9fe0000 &&& 0xffff0000) : refuse_source();   // 169.254.0.0/16
            (0xe0000000 &&& 0xe0000000) : refuse_source();   // 224.0.0.0/3
        }
        counters = martian_source_ipv4_counter;
        size = 8;
    }

    @id(0x02000014)
    @brief("IPv6 addresses that no routed packet comes from.")
    table martian_source_ipv6 {
        key = {
            hdr.ipv6.src_addr : ternary @name("src");
        }
        actions = { refuse_source; @defaultonly NoAction; }
        const default_action = NoAction();
        const entries = {
            // ::/96, which holds :: and ::1; ::ffff:0:0/96; fe80::/10; ff00::/8
            (0 &&& 0xffffffff_ffffffff_ffffffff_00000000) : refuse_source();
            (0xffff_00000000 &&& 0xffffffff_ffffffff_ffffffff_00000000) : refuse_source();
            (0xfe800000_00000000_00000000_00000000 &&& 0xffc00000_00000000_00000000_00000000) : refuse_source();
            (0xff000000_00000000_00000000_00000000 &&& 0xff000000_00000000_00000000_00000000) : refuse_source();
        }
        counters = martian_source_ipv6_counter;
        size = 8;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            martian_source_ipv4.apply();
        } else {
            martian_source_ipv6.apply();
        }
    }
}

control MartianDestination(in headers_t hdr, inout metadata_t meta) {
    @id(0x13000014) direct_counter(CounterType.packets_and_bytes) martian_destination_ipv4_counter;
    @id(0x13000015) direct_counter(CounterType.packets_and_bytes) martian_destination_ipv6_counter;

    @id(0x01000026)
    @brief("Nobody's address.")
    action refuse_destination() {
        meta.drop_reason = drop_reason_t.MARTIAN;
    }

    @id(0x02000015)
    @brief("IPv4 addresses that no packet is routed to.")
    table martian_destination_ipv4 {
        key = {
            hdr.ipv4.dst_addr : ternary @name("dst");
        }
        actions = { refuse_destination; @defaultonly NoAction; }
        const default_action = NoAction();
        const entries = {
            (0x00000000 &&& 0xff000000) : refuse_destination();
            (0x7f000000 &&& 0xff000000) : refuse_destination();
            (0xa9fe0000 &&& 0xffff0000) : refuse_destination();
            (0xe0000000 &&& 0xe0000000) : refuse_destination();
        }
        counters = martian_destination_ipv4_counter;
        size = 8;
    }

    @id(0x02000016)
    @brief("IPv6 addresses that no packet is routed to.")
    table martian_destination_ipv6 {
        key = {
            hdr.ipv6.dst_addr : ternary @name("dst");
        }
        actions = { refuse_destination; @defaultonly NoAction; }
        const default_action = NoAction();
        const entries = {
            (0 &&& 0xffffffff_ffffffff_ffffffff_00000000) : refuse_destination();
            (0xffff_00000000 &&& 0xffffffff_ffffffff_ffffffff_00000000) : refuse_destination();
            (0xfe800000_00000000_00000000_00000000 &&& 0xffc00000_00000000_00000000_00000000) : refuse_destination();
            (0xff000000_00000000_00000000_00000000 &&& 0xff000000_00000000_00000000_00000000) : refuse_destination();
        }
        counters = martian_destination_ipv6_counter;
        size = 8;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            martian_destination_ipv4.apply();
        } else {
            martian_destination_ipv6.apply();
        }
    }
}

#endif
