// A program with a place for each kind of text: `$place$`, or `$place|default text$`.
#include <core.p4>
#include <v1model.p4>

const bit<8> K = 5;
const bool YES = true;
const string TEXT = "text";
typedef bit<8> octet_t;
type bit<8> own_t;
enum names_t { first, second }
enum bit<8> numbers_t { two = 2, five = 5 }
error { Odd }
header h_t { bit<8> a; bit<8> b; bit<16> c; int<8> s; $header field$ }
header one_t { bit<8> v; }
header two_t { bit<16> v; }
header_union either_t { one_t x; two_t y; $union field$ }
struct pair_t { bit<8> l; bit<8> r; }
struct both_t<T, U> { T l; U r; }
struct wrapped_t<T> { T v; }
struct more_t { bit<8> v; $struct field$ }
struct H { h_t h; h_t[8] stack; either_t u; }
struct M { bit<8> m; bool flag; more_t more; }
bit<8> f(in bit<8> x, in bit<8> y = 1) { return x + y; }
T same<T>(in T x) { return x; }
void swap(inout bit<8> x, out bit<8> y) { y = x; }
$top$
bit<8> in_function(inout H h, inout M m) {
    $function$
    return h.h.b;
}
parser Sub(packet_in packet, out one_t last) { state start { packet.extract(last); transition accept; } }
parser P(packet_in packet, out H h, inout M m, inout standard_metadata_t s) {
    $parser local$
    state start {
        packet.extract(h.h);
        $state$
        { $state block$ }
        if (h.h.a == 1) { $state branch$ } else { $state else$ }
        $transition|transition other;$
    }
    $parser state$
    state other { transition accept; }
}
control V(inout H h, inout M m) { apply { } }
control sub(inout bit<8> v) { apply { v = v + 1; } }
control made(inout bit<8> v)(bit<8> n) { apply { v = v + n; } }
control I(inout H h, inout M m, inout standard_metadata_t s) {
    sub() part;
    register<bit<8>>(4) cells;
    $control local$
    action a() { }
    action b(bit<8> x) { h.h.b = x; }
    action c(inout bit<8> y, bit<8> x) { y = x; }
    action of_action(bit<8> x) {
        $action$
        h.h.b = x;
    }
    table t {
        key = { h.h.a : exact; $key$ }
        actions = { a; b; c(h.h.b); $actions$ }
        $table$
    }
    table u {
        key = { h.h.a : ternary; h.h.b : ternary; }
        actions = { a; b; }
        $entries$
    }
    table v {
        $whole table|actions = { of_action; } default_action = of_action(1);$
    }
    apply {
        s.egress_spec = 1;
        t.apply();
        u.apply();
        v.apply();
        h.h.b = in_function(h, m);
        $apply$
        { $block$ }
        if (h.h.a == 2) { $branch$ } else { $else$ }
        switch (h.h.a) { 3: { $case$ } $label|4$: { } default: { $default case$ } }
        for (bit<8> i = 0; i < 2; i = i + 1) { $loop$ }
        for (bit<8> i in 1 .. 2) { $range loop$ }
    }
}
control E(inout H h, inout M m, inout standard_metadata_t s) { apply { } }
control C(inout H h, inout M m) { apply { } }
control D(packet_out packet, in H h) { apply { packet.emit(h); } }
$main|V1Switch(P(), V(), I(), E(), C(), D()) main;$
