extern tally {
    tally(bit<32> size, string unit);
    void add(in bit<32> index, in bit<8> amount);
    bit<8> sum(in bit<32> index);
}
extern bit<16> fold_octets<T>(in T data);
header h_t {
    bit<8> a;
    bit<16> b;
}
struct headers_t {
    h_t h;
}
struct meta_t {
}
parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.h);
        transition accept;
    }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply {
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    tally(16, "octets") octets;
    apply {
        octets.add(1, hdr.h.a);
        hdr.h.a = octets.sum(1);
        hdr.h.b = fold_octets({ hdr.h.a, 8w1 });
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
    }
}
control C(inout headers_t hdr, inout meta_t meta) {
    apply {
    }
}
control D(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}
V1Switch(P(), V(), I(), E(), C(), D()) main;
