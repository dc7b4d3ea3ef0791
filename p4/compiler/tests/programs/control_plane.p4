// What P4Info and entries say about a program: names, ids, translated types, documentation, priorities.
#include <v1model.p4>

@p4runtime_translation("example.org/port", string)
type bit<9> port_id_t;

enum bit<16> EtherType {
    ipv4 = 0x0800,
    arp = 0x0806
}

struct stamp_t {
    bit<7> reserved;
    bit<9> port;
}

@controller_header("packet_in")
header packet_in_t {
    stamp_t stamp;
    @id(7) bit<16> reason;
}

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    EtherType type;
}

struct headers_t {
    packet_in_t packet_in;
    ethernet_t ethernet;
}

struct inner_t {
    bit<8> class;
}

struct meta_t {
    @name("mark") inner_t inner;
    @name(".whole") inner_t other;
    port_id_t port;
}

parser P(packet_in p, out headers_t h, inout meta_t m, inout standard_metadata_t s) {
    state start {
        p.extract(h.ethernet);
        m.inner.class = h.ethernet.dst[7:0];
        m.other.class = h.ethernet.src[7:0];
        m.port = (port_id_t)s.ingress_port;
        transition accept;
    }
}

control V(inout headers_t h, inout meta_t m) {
    apply {}
}

@name("ignored")
control I(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {
    @brief("Sends it on")
    action send(@id(4) @brief("Where to") port_id_t port) {
        s.egress_spec = (bit<9>)port;
    }

    action part() {
        h.ethernet.src = 0;
    }

    action called(bit<8> class) {
        part();
        m.inner.class = class;
    }

    @hidden
    action unseen() {
        s.egress_spec = 511;
    }

    action drop() {
        mark_to_drop(s);
    }

    @id(0x02000123)
    @brief("Classes to ports")
    @description("The first match in the order of priorities decides.")
    table class {
        key = {
            m.inner.class: ternary;
            m.other.class: range @name("second");
            m.port: optional;
            h.ethernet.isValid(): exact;
        }
        actions = {
            send;
            @defaultonly drop;
            @tableonly NoAction;
        }
        default_action = drop;
        largest_priority_wins = false;
        priority_delta = 10;
        entries = {
            const priority = 5: (1, 2 .. 3, _, true): NoAction();
            (1 &&& 3, _, _, true): NoAction();
            priority = 40: (_, 0 .. 255, _, true): NoAction();
        }
    }

    table type {
        key = {
            h.ethernet.type: exact;
            h.ethernet.dst & 48w0x010000000000: exact;
        }
        actions = {
            drop;
            NoAction;
        }
        const default_action = drop();
        const entries = {
            (EtherType.ipv4, 0): NoAction();
            (EtherType.arp, 0x010000000000): NoAction();
        }
    }

    table shared {
        key = { h.ethernet.src: selector; }
        actions = { drop; NoAction; }
        @name("ports")
        @max_group_size(16)
        @selector_size_semantics("sum_of_members")
        @max_member_weight(100)
        implementation = action_selector(HashAlgorithm.crc16, 128, 14);
    }

    @hidden
    table internal {
        actions = { unseen; }
        const default_action = unseen();
    }

    table never {
        actions = { drop; }
    }

    apply {
        called(8);
        class.apply();
        if (type.apply().hit) {
            shared.apply();
        } else {
            internal.apply();
        }
    }
}

control E(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {
    apply {}
}

control C(inout headers_t h, inout meta_t m) {
    apply {}
}

control D(packet_out p, in headers_t h) {
    apply {
        p.emit(h);
    }
}

@pkginfo(name = "control_plane", version = "1.2")
@platform_property(multicast_group_table_size = 10)
V1Switch(P(), V(), I(), E(), C(), D()) main;
