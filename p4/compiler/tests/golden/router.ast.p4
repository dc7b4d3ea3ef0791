header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> kind;
}
header ipv4_t {
    bit<8> ver;
    bit<8> tos;
    bit<16> len;
    bit<8> ttl;
    bit<8> proto;
    bit<16> csum;
    bit<32> src;
    bit<32> dst;
}
struct headers_t {
    ethernet_t eth;
    ipv4_t ip;
}
struct meta_t {
    @field_list(1) bit<16> hash;
    bit<2> color;
    bool fresh;
}
struct learn_t {
    bit<48> mac;
    bit<9> port;
}
parser P(packet_in b, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    value_set<bit<16>>(4) ip_types;
    state start {
        b.extract(hdr.eth);
        transition select(hdr.eth.kind) {
            ip_types: ip;
            2048: ip;
            1536 .. 2047: accept;
        }
    }
    state ip {
        b.extract(hdr.ip);
        verify(hdr.ip.ver == 4, error.ParserInvalidArgument);
        transition accept;
    }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply {
        verify_checksum(hdr.ip.isValid(), { hdr.ip.ver, hdr.ip.tos, hdr.ip.len, hdr.ip.ttl, hdr.ip.proto, hdr.ip.src, hdr.ip.dst }, hdr.ip.csum, HashAlgorithm.csum16);
    }
}
bit<8> less(inout bit<8> v, in bit<8> by = 1) {
    if (v < by) {
        v = 0;
        return 0;
    }
    v = v - by;
    return v;
}
control Ttl(inout ipv4_t ip)(bit<8> by) {
    apply {
        if (less(ip.ttl, by) == 0) {
            exit;
        }
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_meter<bit<2>>(MeterType.bytes) rate;
    action_selector(HashAlgorithm.crc16, 64, 14) paths;
    register<bit<32>>(16) seen;
    Ttl(1) ttl;
    action drop() {
        mark_to_drop(sm);
    }
    action out_port(bit<9> port) {
        sm.egress_spec = port;
    }
    action paint() {
        rate.read(meta.color);
    }
    action learn() {
        digest<learn_t>(1, { hdr.eth.src, sm.ingress_port });
    }
    table smac {
        key = {
            hdr.eth.src: exact;
        }
        actions = {
            learn;
            NoAction;
        }
        const default_action = learn();
        support_timeout = true;
        size = 64;
    }
    table route {
        key = {
            hdr.ip.dst: lpm;
            meta.hash: selector;
        }
        actions = {
            out_port;
            drop;
        }
        implementation = paths;
        size = 128;
    }
    table acl {
        key = {
            hdr.ip.src: ternary;
            hdr.ip.proto: range;
            hdr.ip.tos: optional;
            hdr.ip.isValid(): exact;
        }
        actions = {
            drop;
            paint;
            @defaultonly NoAction;
        }
        counters = hits;
        meters = rate;
        const entries = {
            (167772160 &&& 4278190080, 1 .. 6, _, true): drop();
            (_, _, 3, true): paint();
        }
    }
    apply {
        smac.apply();
        if (hdr.ip.isValid()) {
            hash(meta.hash, HashAlgorithm.crc16, 16w0x0, { hdr.ip.src, hdr.ip.dst }, 32w0x10000);
            switch (acl.apply().action_run) {
                drop: {
                    return;
                }
                default: {
                    ttl.apply(hdr.ip);
                }
            }
            if (route.apply().miss) {
                clone_preserving_field_list(CloneType.I2E, 32w0x5, 8w1);
            }
            bit<32> n;
            seen.read(n, 3);
            seen.write(3, n |+| 1);
            for (bit<8> i in 8w1 .. 3) {
                hdr.ip.tos[3:0] = hdr.ip.tos[3:0] + i[3:0];
            }
        }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
    }
}
control C(inout headers_t hdr, inout meta_t meta) {
    apply {
    }
}
control D(packet_out b, in headers_t hdr) {
    apply {
        b.emit(hdr);
    }
}
V1Switch(P(), V(), I(), E(), C(), D()) main;
