// Types made of types: generics with and without their arguments, new types, aliases, enums, tuples, lists of
// constants; functions with named, default and missing arguments, and two of one name.
#include "include/frame.p4"

type bit<16> mark_t;
typedef bit<32> word_t;
enum bit<8> op_kind { none = 0, pairs = 1, marks = 2, calls = 3, constants = 4, enums = 5 }
enum colour { red, green }

struct pair<A, B> { A first; B second; }
struct flagged<T> { T value; bool flag; }
header wrapped<T> { T value; }

struct headers { op_t op; wrapped<bit<16>> tail; }
struct meta { pair<bit<8>, flagged<bit<16>>> nested; mark_t mark; colour c; }

parser parse(packet_in p, out headers h, inout meta m, inout standard_metadata_t s) {
    state start { p.extract(h.op); p.extract(h.tail); transition accept; }
}
NO_CHECKSUMS(headers, meta)

// The type follows from the arguments.
T larger<T>(in T a, in T b, in bool second) { if (second) { return b; } return a; }
bit<16> scaled(in bit<16> x, in bit<16> by = 3, in bit<16> plus = 0) { return x * by + plus; }
// Functions with the same name, distinguished by the names and number of their parameters.
bit<16> over(in bit<16> x) { return x + 1; }
bit<16> over(in bit<16> x, in bit<16> y) { return x + y; }

const int LARGE = 1 << 70;
const bit<16> FROM_LARGE = (bit<16>)((LARGE >> 66) - 1);
const tuple<bit<8>, bit<16>> CONSTANTS = { 8w7, FROM_LARGE };
const string NAME = "a" ++ "b";

control pick(inout bit<16> x, in bit<16> y)(bool second) {
    apply { if (second) { x = y; } }
}

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    pick(true) second;
    register<bit<8>>(1) kept;
    apply {
        s.egress_spec = 1;
        if (h.op.op == op_kind.pairs) {
            m.nested = { 8w5, { 16w6, true } };
            pair<bit<8>, bit<16>> p = { second = 16w9, first = m.nested.first };
            h.op.b = p.second + m.nested.second.value;
            h.op.c = m.nested == { 8w5, { 16w6, true } } ? 32w1 : 32w2;
        } else if (h.op.op == op_kind.marks) {
            m.mark = (mark_t)h.op.b;
            word_t w = (word_t)(bit<16>)m.mark;
            h.op.c = w;
            h.tail.value = (bit<16>)larger(m.mark, (mark_t)16w0xbeef, h.op.a == 1);
        } else if (h.op.op == op_kind.calls) {
            h.op.b = scaled(plus = 1, x = h.op.b);
            h.op.c = (bit<32>)scaled(h.tail.value, 2);
            h.tail.value = over(y = 0x10, x = over(h.tail.value));
            second.apply(h.op.b, over(x = h.op.b));
        } else if (h.op.op == op_kind.constants) {
            h.op.a = CONSTANTS[0];
            h.op.b = CONSTANTS[1];
            bit<8> held;
            kept.read(held, 0);
            held = held + 1;
            kept.write(0, held);
            h.op.c = (bit<32>)held;
        } else if (h.op.op == op_kind.enums) {
            m.c = h.op.a == 1 ? colour.green : colour.red;
            h.op.b = m.c == colour.green ? 16w1 : 16w2;
            op_kind k = (op_kind)h.op.a;
            h.op.c = (bit<32>)(bit<8>)k;
        }
    }
}

NO_EGRESS(headers, meta)
control deparse(packet_out p, in headers h) { apply { p.emit(h); } }
SWITCH;
