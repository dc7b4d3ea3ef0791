// Parameters, types, externs, instances: what may stand where.
#include <core.p4>
#include <v1model.p4>

extern X { X(); void put(in bit<8> v); }
extern Own { Own(); void Own(); }                              // expect: a constructor has no return type
extern Twice { void f(bit<8> a); void f(bit<8> a); }           // expect: f is declared twice
extern Both { void f<T>(out T a); void f<T>(out T b); }
extern Virtual { Virtual(); abstract bit<8> f(in bit<8> x); }
control Any();
parser Some(packet_in p);
package Box(Any a);
struct Gen<T> { T a; }
header GenHeader<T> { T a; }
header H { bit<8> a; }
header V2 { varbit<8> a; varbit<8> b; }
struct Plain { H h; bit<8> a; }

control c1(in X x) { apply {} }                                // expect: a parameter of type X cannot have a direction
control c2(inout string s) { apply {} }                        // expect: a parameter of type string cannot have a direction
control c3()(Box b) { apply {} }                               // expect: a parameter cannot be package Box
control c4(Any a) { apply {} }                                 // expect: a parameter cannot have type Any
control c5() { action a(X x) {} apply {} }                     // expect: an action cannot have a parameter of extern type X
control c6() { action a(int x) {} apply {} }                   // expect: an action cannot have a parameter of type int
void f1(out bit<8> a = 1) {}                                   // expect: parameter a is written and cannot have a default value
extern void f2(@optional in bit<8> a = 1);                     // expect: optional parameter a cannot have a default value
void f3(@optional in bit<8> a) {}                              // expect: @optional is only allowed on parameters
bit<8> f4() { return 1; }
void f5(in bit<8> a = f4()) {}                                 // expect: a default value must be known at compile time
void f6<T>(in T T) {}                                          // expect: T is declared twice
void f7() { f7(); }                                            // expect: no function or action f7 is declared
bool f8<T>(in T a, in T b) { return a == b; }                  // expect: values of T cannot be compared
extern Any f9();                                               // expect: Any cannot be returned
typedef Gen G1;                                                // expect: write the type arguments of this generic type out
typedef Gen<Gen<bit<8>>> G2;                                   // expect: contains its own type as a type argument
typedef GenHeader<int> G3;                                     // expect: field a of GenHeader<int> cannot have type int
typedef tuple<X, bit<8>> G4;                                   // expect: a tuple, list or stack cannot hold a X
type bit<4> N;
enum N E1 { a = 1 }                                            // expect: an enum's underlying type must be bit<w> or int<w>
enum bit<4> E2 { a = 16 }                                      // expect: 16 does not fit bit<4>
const N n1 = (N)8w1;                                           // expect: cannot cast bit<8> to N
const bit<8> m1 = 8w7 / -1;                                    // expect: '/' is not defined on negative numbers
@deprecated(1) const bit<8> m2 = 0;                            // expect: @deprecated needs a string
@pair[1] @pair[2] const bit<8> m3 = 0;                         // expect: structured annotation @pair is given twice
@mixed(1) @mixed[1] const bit<8> m5 = 0;                       // expect: structured annotation @mixed is given twice
struct M6 { @match(1 + 1) bit<8> f; }                          // expect: @match needs the name of a match kind
@p4runtime_translation("uri", bool) type bit<8> M4;            // expect: bool cannot be an annotation's value
c1() outside;                                                  // expect: a parser or control cannot be instantiated outside
Virtual() v;                                                   // expect: abstract method f needs an implementation
extern Self { void take(Self other); }                         // expect: extern Self refers to itself here
struct Holder<T> { tuple<T, T> t; }
const Holder<_> m7 = { t = { 0, 0 } };                         // expect: an int has no place in it
header Late { @length(size) varbit<8> data; bit<8> size; }     // expect: size is not declared before this field
extern main {}                                                 // expect: main must be an instance of a package
