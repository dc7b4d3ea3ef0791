//! P4Runtime message types and service stubs.
