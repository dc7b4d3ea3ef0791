//! The Simple Test Framework (STF): packets in, packets expected, and the control-plane commands between them.
//!
//! # Problem
//! A P4 compiler and a switch can only be tested together. STF files say what a program does with packets. Many programs
//! already have one, and it means the same on every switch.
//!
//! # Model
//! Text -> [`Script`] (`parse`) -> commands with all names resolved against the BMv2 JSON ([`names::Names`])
//! -> a [`target::Target`]. The runner ([`run::run`]) keeps everything that targets need not know: the handle of a
//! multicast node, the entry behind an alias, the expected frames.
//!
//! # Language
//! That of p4c's bmv2 back end. One statement a line, `#` starts a comment, key words in any case:
//!
//! | statement | meaning |
//! | --- | --- |
//! | `add T [PRIO] K:V ... A(P:V, ...) [= ID]` | an entry; larger `PRIO` wins; keys left out match anything (exact: 0) |
//! | `remove all`, `remove ID` | entries that `add` made |
//! | `setdefault T A(P:V, ...)` | default action |
//! | `packet PORT HEX...` | a frame comes in |
//! | `expect PORT [HEX...] [$]` | a frame leaves: these leading digits, `*` is any, `$` means no more octets follow |
//! | `no_packet` | no frame leaves that was not expected, whichever port |
//! | `wait [MS]` | time passes (1000 ms) |
//! | `mirroring_add S PORT`, `mirroring_add_mc S GROUP`, `mirroring_delete S` | clone session |
//! | `mc_mgrp_create G`, `mc_node_create RID PORT...`, `mc_node_update H PORT...`, `mc_node_associate G H` | multicast; nodes have handles 0, 1 ... |
//! | `check_counter C(INDEX or $ID) [bytes or packets OP N]` | array cell, or direct counter of the entry `ID` |
//! | `counter_read`, `counter_write C I BYTES PACKETS` | |
//! | `register_read`, `register_write R I V`, `register_reset R` | |
//! | `meter_set_rates M I RATE:BURST RATE:BURST`, `meter_array_set_rates M ...` | rates in units a microsecond |
//!
//! Values are decimal, `0x` or `0b`. In a ternary key, digits written as `*` and digits that are left out match
//! anything. An LPM key is `V/LENGTH`, or the digits up to the first `*`.
//!
//! These additions are for objects that the public files do not use:
//!
//! | statement | meaning |
//! | --- | --- |
//! | `K:V&&&M`, `K:LOW->HIGH` in `add` | ternary with any mask; range |
//! | `add T K:V ... member(N)`, `group(N)` in place of an action | indirect tables |
//! | `act_prof_member P N A(P:V, ...)`, `act_prof_group P N MEMBER...` | members and groups of action profiles |
//! | `pvs_add S V...` | member of a parser value set: a value for each field of it |
//! | `meter_set_rates $ID ...` | direct meter of an entry |
//! | `check_register R(INDEX) OP N` | |
//! | `expect_digest D V...` | the next digest of that name has these fields |
//! | `port_down P`, `port_up P` | link state, which watch ports see |
//! | `act_prof_group P N M@PORT...` | members that count only while a port is up |
//! | `check_idle $ID OP MS` | time since the entry was last hit |
//!
//! # What it does not do
//! Statements that have no effect on a switch without P4_14 (`mirroring_get` and the like) are read and skipped.

mod command;
mod lex;
pub mod names;
mod parse;
mod pattern;
mod pre;
pub mod run;
pub mod target;

pub use command::{Command, Script, Statement};
pub use parse::ParseError;
pub use pattern::Pattern;
