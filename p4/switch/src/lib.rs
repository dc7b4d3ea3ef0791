//! A software P4 target that executes BMv2 JSON and serves P4Runtime and gNMI.
pub mod access;
pub mod commands;
pub mod device;
pub mod forwarding;
pub mod gnmi;
pub mod links;
pub mod p4runtime;
pub mod port;
pub mod queues;
pub mod serve;
pub mod startup;
