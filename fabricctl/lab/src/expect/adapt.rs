//! Makes a user's topology and intent fit into a lab: names of real places are replaced by those of the lab.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use vfabric_api::intent::{Intent, Place};
use vfabric_api::topology::Topology;

use crate::plan::PREFIX;

/// First management address of a switch; the controller has .1, hosts begin at .128.
const FIRST_SWITCH: usize = 11;
/// Where the hosts' management addresses begin.
const FIRST_HOST: usize = 128;
/// The standard port of P4Runtime.
const P4RUNTIME_PORT: u16 = 9559;

/// Moves all management addresses of switches into one network of the lab.
///
/// # Errors
/// There are more switches than addresses.
pub fn topology(topology: &mut Topology) -> Result<()> {
    if topology.switches.len() > FIRST_HOST - FIRST_SWITCH {
        bail!("topology: switches: a run has room for {}", FIRST_HOST - FIRST_SWITCH);
    }
    for (octet, switch) in (FIRST_SWITCH..).zip(&mut topology.switches) {
        let ip = Ipv4Addr::new(172, 31, 254, u8::try_from(octet)?);
        switch.p4runtime = SocketAddr::new(IpAddr::V4(ip), P4RUNTIME_PORT);
    }
    Ok(())
}

/// Puts each workload into a network namespace of its own.
pub fn intent(intent: &mut Intent) {
    for vdc in &mut intent.vdcs {
        for attachment in &mut vdc.attachments {
            if let Place::Host { netns, .. } = &mut attachment.place {
                *netns = format!("{PREFIX}{}-{}", vdc.name, attachment.name);
            }
        }
    }
}
