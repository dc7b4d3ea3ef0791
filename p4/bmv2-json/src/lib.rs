//! Typed schema of BMv2 JSON, shared by the compiler and the switch.
