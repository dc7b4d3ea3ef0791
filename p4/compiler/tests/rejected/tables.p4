// Tables and their entries.
#include <core.p4>
#include <v1model.p4>

action g() {}

control C(inout bit<8> a, inout bit<8> b, in bit<8> t5) {
    action set(inout bit<8> x, bit<8> v) { x = v; }
    action only() {}
    action never() {}
    action g() {}
    table t1 { key = { a + b: exact; } actions = { only; } }                  // expect: the control plane needs a name
    table t2 { actions = { only; only; } }                                    // expect: only is given twice
    table t3 { default_action = only; actions = { only; } }                   // expect: default_action comes after actions
    table t4 { const entries = { 1: only(); } key = { a: exact; } actions = { only; } } // expect: entries comes after key
    table t5 { key = { t5: exact; } actions = { only; } }                     // expect: t5 is not a value
    table t6 { actions = { only; } const entries = { 1: only(); } }           // expect: table t6 has no key
    table t7 { actions = { set(a); } default_action = set(b, 1); }            // expect: differs from the one in the actions list
    table t8 { actions = { g; } default_action = .g; }                        // expect: g is not an action of table t8
    table t9 { actions = { @tableonly only; } default_action = only; }        // expect: marked @tableonly
    table u1 {
        key = { a: exact; b: lpm; }
        actions = { only; @defaultonly never; }
        entries = {
            (1, 2): never();                                                  // expect: marked @defaultonly
            (1 &&& 3, 2): only();                                             // expect: exact match takes no mask
            (1 .. 2, 2): only();                                              // expect: exact match takes no range
            (_, 2): only();                                                   // expect: exact match needs a value
            (1, 0x11 &&& 0xe1): only();                                       // expect: covers the high bits only
            priority = 3: (1, 3): only();                                     // expect: exact and lpm keys only have no priority
        }
    }
    table u2 {
        key = { a: ternary; }
        actions = { only; }
        entries = {
            1: only();                                                        // expect: the first entry needs a priority
            priority = 3: 2: only();
        }
    }
    table u3 {
        key = { a: ternary; }
        actions = { only; }
        priority_delta = 10;
        entries = {
            priority = 12: 1: only();
            2: only();
            3: only();                                                        // expect: priority -8 of this entry is outside
        }
    }
    table u4 { key = { a: optional; } actions = { only; } const entries = { 1 &&& 3: only(); } } // expect: optional match takes no mask
    table u5 { key = { a: ternary; } actions = { only; } priority_delta = 0; } // expect: priority_delta is a positive constant
    apply {
        if (t1.apply().action_run == t2.apply().action_run) {}                // expect: cannot compare action_run
    }
}
