//! gNMI message types and service stubs.
