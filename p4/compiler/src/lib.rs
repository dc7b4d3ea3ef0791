//! P4_16 on v1model to BMv2 JSON and P4Info.

pub mod backend;
