// A selector picks a member of a group by a hash, here the identity of `a`; a member is skipped while its port is down.
// A miss runs the default action.
#include "include/frame.p4"

struct headers { op_t op; }
struct meta { }

PARSE_OP(headers, meta)
NO_CHECKSUMS(headers, meta)

control ig(inout headers h, inout meta m, inout standard_metadata_t s) {
    action send(bit<9> port) { s.egress_spec = port; }
    action miss() { s.egress_spec = 9; }
    @name("pool") action_selector(HashAlgorithm.identity, 32w16, 32w8) pool;
    table spread {
        key = { h.op.op: exact; h.op.a: selector; }
        actions = { send; miss; }
        const default_action = miss();
        implementation = pool;
    }
    apply { spread.apply(); }
}

NO_EGRESS(headers, meta)
EMIT_ALL(headers)
SWITCH;
