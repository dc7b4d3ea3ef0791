#include <core.p4>
#include <v1model.p4>
const bit<8> A = undefined_name;                // expect: undefined_name is not declared
struct S { bit<8> a; bit<4> a; }                // expect: field a is declared twice
const bit<8> B = 8w3 + 4w1;                     // expect: '+' does not work on bit<8> and bit<4>
bit<8> f(in bit<8> x) { x = 1; return x; }      // expect: this cannot be assigned to
bit<8> g(in bit<8> x) { if (x == 0) return 1; } // expect: g does not return a value on every path
const bit<8> C = (1 << 3)[9];                   // expect: int cannot be indexed
