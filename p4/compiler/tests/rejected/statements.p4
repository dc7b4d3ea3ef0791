// Calls, statements, states, selects.
#include <core.p4>
#include <v1model.p4>

extern Both { Both(); void f<T>(out T a); void f<T>(out T b); }
header H { bit<8> a; }
header V { varbit<8> a; }
header V2 { varbit<8> a; varbit<8> b; }
struct Plain { bit<8> a; }
control Any() { apply {} }
extern void generic<T>(in T x);
type bit<8> N;
enum Color { red, green }

action loose() {}
void caller() { loose(); }                                 // expect: a function cannot call an action
bit<8> wrong(in bit<8> p) { bit<8> p = 1; return p; }      // expect: p hides a parameter

parser P1(packet_in p, out H h, out Plain s, out V v, out V2 w, in bit<8> run) {
    value_set<bit<8>>(run) set;                            // expect: a value set's size must be a constant
    state start {
        p.extract(s);                                      // expect: only a header can be extracted
        p.extract(v);                                      // expect: extracted with its size as second argument
        p.extract(h, 8);                                   // expect: a size is only given for a header with a varbit field
        p.extract(w, 8);                                   // expect: a header with more than one varbit field
        p.extract(_);                                      // expect: cannot infer which header is extracted
        v = p.lookahead<V>();                              // expect: V has no fixed width
        p.lookahead<void>();                               // expect: void has no fixed width
        loose();                                           // expect: a parser cannot call an action
        transition select(h) { default: accept; }          // expect: select cannot look at a value of type H
    }
    state next {
        return;                                            // expect: return is not allowed in a parser
    }
    state last {
        transition select(h.a) {
            run &&& 0xf: accept;                           // expect: this value must be known at compile time
            0 .. run: accept;                              // expect: this value must be known at compile time
            default: reject;
        }
    }
}

parser P2(packet_in p) {                                   // expect: no path of this parser reaches accept or reject
    state start { transition other; }
    state other { transition start; }
}

control C(inout H h, in Color color, in N n, in tuple<bit<8>> t)() {
    Any() inner;
    Both() both;
    bit<8> x;
    X(x) bad;                                              // expect: no type X is declared
    Any c = Any();                                         // expect: a variable cannot have type Any
    apply {
        H h = h;                                           // expect: h hides a parameter
        verify(true, error.NoError);                       // expect: verify can only be called in a parser
        generic(5);                                        // expect: cannot infer a width
        generic(inner);                                    // expect: an argument cannot have type Any
        generic({ a = 8w1 });                              // expect: cannot infer which struct this is
        both.f(x);                                         // expect: this call of f is ambiguous
        Plain s = t;                                       // expect: expected Plain, found tuple<bit<8>>
        switch (x) { 1: {} 1: {} }                         // expect: this label is given twice
        switch (x) { default: {} 1: {} }                   // expect: no label can follow default
        switch (x) { default: {} default: {} }             // expect: default is given twice
        h.a = {#};                                         // expect: expected bit<8>, found {#}
    }
}
