// Macros with arguments, conditions and included files; text that is left out need not even be P4.
#include "include/frame.p4"
#include "include/numbers.p4"
#ifdef NUMBERS
#  define LEVEL 2
#else
#  error "numbers.p4 did not define it"
#endif

#if defined(NOT_DEFINED) || LEVEL < 2
this is no program
#elif LEVEL == 2 && !defined(NOT_DEFINED)
#  define RESULT TWICE(BASE)
#else
#  include "no/such/file.p4"
#endif

#if (LEVEL << 2) / 4 != 2 || (LEVEL > 1 ? 0 : 1)
neither is this
#endif

#undef LEVEL
#ifdef LEVEL
#error "still defined"
#endif

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    // Only the names of a macro's arguments are replaced in its text, and a macro is not expanded inside itself.
#define b b
    action mark() { h.op.b = RESULT; }
    TABLE_OF(marked, h.op.a, mark)
    apply {
        s.egress_spec = 1;
        marked.apply();
        h.op.c = /* BASE in a comment */ TWICE(ADD(1, 2)); // TWICE(
#ifdef __p4c__
        h.op.op = __p4c_major__;
#endif
    }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
