//! The VXLAN VTEP agent of a Linux host.
//!
//! **Problem.** The controller says which tenant networks, stations and workload interfaces a
//! host holds. Somebody on the host must make kernel objects of that, quickly, keep them so
//! whatever others do to them, and never harm what already works.
//!
//! **Model.** [`stream`] follows the controller and hands updates to [`agent`], a thread that
//! owns everything below: [`cache`] makes an update durable, [`desired`] turns entities into
//! [`object`]s, [`engine`] brings a [`datapath`] to them. The datapath of the kernel
//! ([`datapath::kernel`]) has one bridge and one VXLAN device (RFC 7348) per network that is in
//! use, all in a network namespace of their own; static forwarding entries; neighbour entries
//! that answer ARP (RFC 826) and neighbour solicitations (RFC 4861) on the spot; a veth pair per
//! attachment; and packet filters that hold each workload to its addresses.
//!
//! **Invariants.** Only links that this agent made are touched; they carry its group number
//! from the request on that creates them. What is right is left alone: a restart writes
//! nothing. Nothing is removed because nobody asked for it before the controller has once said
//! everything. An update is on disk before the kernel is touched. Without a controller the
//! host forwards and repairs as before.
//!
//! **Cost.** An update costs what it touches: one kernel request per entry, some ten per
//! attachment. A notification costs a comparison of the networks it names. Every minute, and
//! whenever a controller connects, everything is compared in four dumps and one look into each
//! workload's namespace.
//!
//! **Separation.** Tenants' frames meet nothing of the host's own network. A workload speaks from
//! its addresses only. An attachment can neither reach a namespace of the host or of another
//! vDC, nor hold up the work on others ([`watch`]).
//!
//! **From below.** Pods that start on this host are attached through the CNI plugin ([`below`]): the agent asks the
//! controller, and the attachment comes back as every other does.
//!
//! **Not here.** Other datapaths. The fabric's leaf enforces which host may speak in which
//! network.

pub mod agent;
pub mod below;
pub mod bench;
pub mod cache;
pub mod capture;
pub mod datapath;
pub mod desired;
pub mod engine;
pub mod error;
pub mod metrics;
pub mod netns;
pub mod object;
pub mod status;
pub mod stream;
pub mod trace;
pub mod watch;

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let said = c.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = c.source();
    }
    text
}
