//! The VXLAN VTEP agent of a Linux host.
//!
//! **Problem.** The controller decides which tenant networks, stations and workload interfaces a
//! host holds. A program on the host must create the kernel objects quickly, keep them right
//! whatever others do to them, and never harm what already works.
//!
//! **Model.** [`stream`] follows the controller and hands updates to [`agent`], a thread that
//! owns everything below: [`cache`] makes an update durable, [`desired`] turns entities into
//! [`object`]s, [`engine`] applies these to a [`datapath`]. The datapath of the kernel
//! ([`datapath::kernel`]) has one bridge and one VXLAN device (RFC 7348) per network that is in
//! use, all in a separate network namespace; static forwarding entries; neighbour entries
//! from which the kernel answers ARP (RFC 826) and neighbour solicitations (RFC 4861); a veth pair per
//! attachment; and packet filters that make each workload use only its own addresses.
//!
//! **Invariants.** The agent touches only links that it created; each carries the agent's group number
//! from the request that creates it. Correct objects are left alone, so a restart writes
//! nothing. Until the controller has sent everything once, the agent does not remove an object merely
//! because nobody has asked for it. An update is on disk before the kernel is touched. Without a controller the
//! host forwards and repairs as before.
//!
//! **Cost.** An update costs what it touches: one kernel request per entry, some ten per
//! attachment. A notification costs a comparison of the networks it names. Every minute, and
//! whenever a controller connects, everything is compared, with four dumps and one look into each
//! workload's namespace.
//!
//! **Separation.** Tenants' frames never reach the host's own network. A workload can send only from
//! its own addresses. An attachment can neither reach a namespace of the host or of another
//! vDC, nor delay the work on others ([`watch`]).
//!
//! **Pods.** Pods that start on this host are attached through the CNI plugin ([`below`]): the agent asks the
//! controller, which then sends the attachment like any other.
//!
//! **Enrolment.** A new host gets its certificate from the controller with a one-time token ([`enrol`]).
//!
//! **Not here.** Other datapaths. The fabric's leaf enforces which host may send in which
//! network.
//!
//! # Example
//! From the entities that the controller sends to the objects that the kernel gets:
//! ```
//! use vtep_agent::desired::Desired;
//! use vtep_agent::object::LocalVteps;
//! use vtep_proto::{HostEntity, v1};
//!
//! let network = v1::Network {
//!     vni: 5000,
//!     mtu: 1500,
//!     underlay: v1::IpFamily::Ipv4.into(),
//!     flood: vec![vec![10, 255, 0, 11]],
//!     ..v1::Network::default()
//! };
//! let object = v1::HostObject {
//!     object: Some(v1::host_object::Object::Network(network)),
//! };
//! let local = LocalVteps {
//!     ipv4: Some("10.255.1.1".parse().unwrap()),
//!     ipv6: None,
//! };
//! let mut desired = Desired::new(local, 9000);
//! desired.upsert(HostEntity::try_from(&object).unwrap());
//! let names: Vec<String> = desired.objects().map(|(key, _)| key.to_string()).collect();
//! assert_eq!(names, ["vfb5000 and vfx5000", "flood entry to 10.255.0.11 on vfx5000"]);
//! ```

pub mod agent;
pub mod below;
pub mod bench;
pub mod cache;
pub mod capture;
pub mod datapath;
pub mod desired;
pub mod engine;
pub mod enrol;
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
