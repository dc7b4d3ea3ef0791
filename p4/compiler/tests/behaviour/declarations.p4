// Every form of declaration, in every place that the grammar has for it. Each contributes to an octet of the output.
// in 0: 00 00 00 00 00 00 00 00 00 00 55
// out 1: 0a 01 09 0a 07 09 07 21 0f 09 55
// in 0: ff ff ff ff ff ff ff ff ff ff aa bb
// out 1: 0a 01 09 0a 07 09 07 20 0f 08 aa bb
#include <core.p4>
#include <v1model.p4>

;
const bit<8> TOP = 1;
typedef bit<8> octet_t;
type octet_t own_t;
enum bit<8> numbers_t { two = 2, three = 3, }
enum names_t { first, second, }
struct pair_t<T, U> { T a; U b; }
header generic_t<T> { T v; }
typedef generic_t<bit<8>> same_t;
typedef struct inner_t { bit<8> x; } outer_t;
header_union either_t { same_t a; generic_t<bit<16>> b; }
error { Odd, Even }
match_kind { unused, }
extern bit<8> never<T>(in T a);
extern Unused<T> {
    Unused(bit<8> n);
    T get(in T a);
    abstract void give(in T a);
}
parser other_t<H>(packet_in b, out H h);
control block_t<T>(inout T v);
package unused_t<T>(block_t<T> one, @optional other_t<T> two);

@pure bit<8> add(in bit<8> a, in bit<8> b = 1) {
    const bit<8> ZERO = 0;
    bit<8> sum = a + b;
    {
        const bit<8> NONE = ZERO;
        bit<8> all = sum;
        return all + NONE;
    }
}
T second<T, U>(in U a, in T b) { return b; }

header h_t {
    bit<8> parser_local;
    bit<8> state_local;
    bit<8> action_local;
    bit<8> control_local;
    bit<8> apply_local;
    bit<8> block_local;
    bit<8> function_local;
    bit<8> loop_local;
    bit<8> types;
    bit<8> objects;
}
struct headers_t { h_t h; same_t last; }
struct meta_t { bit<8> unused; }

parser whole(packet_in packet, out same_t last)(bit<8> n) {
    bit<8> m = n;
    state start { packet.extract(last); last.v = last.v + m - 9; transition accept; }
}
parser plain_parser(packet_in packet, inout bit<8> v) {
    state start { v = 1; }
    // Without a transition, a state rejects, so this one is not applied.
}

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    const bit<8> A = 3;
    bit<8> b = A;
    value_set<bit<8>>(4) none;
    whole(9) nested;
    state start {
        const bit<8> C = 4;
        bit<8> d = C + b;
        packet.extract(hdr.h);
        ;
        @name("block") {
            const bit<8> ONE = 1;
            bit<8> e = ONE;
            hdr.h.state_local = e;
        }
        hdr.h.parser_local = d + b;
        nested.apply(packet, hdr.last);
        transition select(hdr.h.types) {
            none: other;
            default: accept;
        }
    }
    state other { transition accept; }
}

control part(inout bit<8> v)(bit<8> n) {
    const bit<8> K = 2;
    bit<8> w = n * K;
    apply { v = v + w; }
}
control plain(inout bit<8> v) { apply { v = v + 1; } }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    const bit<8> A = 5;
    bit<8> b = A;
    part(3) made;
    @name("named") part(n = 1) made_too;
    register<bit<8>>(2) cells;
    action set(bit<8> v) {
        const bit<8> C = 1;
        bit<8> d = v + C;
        {
            bit<8> e = d + 1;
            hdr.h.action_local = e;
        }
    }
    @hidden table t {
        key = { hdr.h.types : exact; }
        actions = { set; NoAction; }
        const default_action = set(7);
        size = 4;
    }
    apply {
        const bit<8> C = 6;
        bit<8> d = C;
        t.apply();
        hdr.h.control_local = b + A;
        hdr.h.apply_local = d + TOP;
        {
            const bit<8> E = 8;
            bit<8> f = E;
            if (f == 8) {
                bit<8> g = f + 1;
                hdr.h.block_local = g;
            }
        }
        hdr.h.function_local = add(2) + second<bit<8>, bool>(true, 4);
        for (bit<8> i = 0, bit<8> j = 10; i < 3; i = i + 1, j = j - 1) {
            const bit<8> S = 2;
            bit<8> k = i * S;
            hdr.h.loop_local = hdr.h.loop_local + k + j;
        }
        made.apply(hdr.h.objects);
        made_too.apply(hdr.h.objects);
        plain.apply(hdr.h.objects);
        pair_t<bit<8>, bool> p = { a = 3, b = true };
        same_t g;
        g.setValid();
        g.v = 4;
        own_t o = (own_t)(octet_t)5;
        numbers_t n = numbers_t.two;
        hdr.h.types = p.a + g.v + (bit<8>)o + (bit<8>)n;
        names_t m = names_t.second;
        outer_t in_it = { 1 };
        if (m == names_t.second && p.b && std.parser_error != error.Odd) {
            hdr.h.types = hdr.h.types + in_it.x;
        }
        std.egress_spec = 1;
    }
}

#include "frame.p4i"
