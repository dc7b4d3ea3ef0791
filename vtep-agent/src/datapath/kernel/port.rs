//! Ports: a veth pair from the bridge into a workload's namespace.

use std::os::fd::AsRawFd;

use vtep_proto::v1::ErrorCode;
use vtep_proto::{Attachment, Mode};

use super::interface::{self, Interface};
use super::link::{self, Link};
use super::netlink::Netlink;
use super::{Kernel, entry};
use crate::datapath::{Done, Outcome, Step, StepError};
use crate::error::NetlinkError;
use crate::netns::Netns;
use crate::object::{Object, bridge_name, port_name, vxlan_name};

impl Kernel {
    /// Makes a port as it must be; leaves alone what is right.
    pub(super) fn ensure_port(&mut self, step: &Step) -> Outcome {
        let Step::Ensure(Object::Port(port)) = step else {
            return Err(StepError::new(ErrorCode::Invalid, "a stray port cannot be asked for"));
        };
        let a = &port.attachment;
        let namespace = match self.place(a) {
            Ok(namespace) => namespace,
            Err(e) => {
                // A call that has not returned says nothing about the place.
                if e.code != ErrorCode::Kernel {
                    self.remove_orphan(a)?;
                }
                return Err(e);
            }
        };
        let Some(bridge) = self.index(&bridge_name(a.vni))? else {
            self.release(a)?;
            let message = format!("network {} is not on this host", a.vni);
            return Err(StepError::new(ErrorCode::NetworkNotFound, message));
        };
        let (host, interface, done) = match self.find_pair(a, &namespace)? {
            Some((host, interface)) => (host, interface, Done::InPlace),
            None => {
                let (host, interface) = self.create_pair(a, bridge, &namespace)?;
                (host, interface, Done::Rebuilt)
            }
        };
        let changed = self.set_host_end(a, bridge, &host, done)?;
        // Do not wait here: a workload can take its interface down again and again.
        let wait = changed || done == Done::Rebuilt;
        if wait || !interface.is_right(a) {
            let a = a.clone();
            self.worker.run(&namespace, &a.netns.clone(), move || {
                let mut netlink = Netlink::open()?;
                interface::configure(&mut netlink, &interface, &a)?;
                link::await_carrier(&mut netlink, &a.interface, wait)?;
                if wait {
                    interface::await_addresses(&mut netlink, &a)?;
                }
                Ok(())
            })?;
        }
        link::await_carrier(&mut self.netlink, &host.name, wait)?;
        Ok(done)
    }

    /// The pair as it is. If its ends are not where they should be, it is deleted.
    fn find_pair(&mut self, a: &Attachment, namespace: &Netns) -> Result<Option<(Link, Interface)>, StepError> {
        let name = port_name(&a.id);
        let host = link::get(&mut self.netlink, &name)?;
        if let Some(host) = &host {
            let other = host.attachment_id().filter(|id| *id != a.id);
            if let (true, Some(other)) = (host.is_port(), other) {
                let message = format!("link {name} is the port of attachment {other}: names collide");
                return Err(StepError::new(ErrorCode::NameInUse, message));
            }
            if !host.is_port() {
                let message = format!("link {name} exists and was not made by this agent");
                return Err(StepError::new(ErrorCode::NameInUse, message));
            }
        }
        let interface = self.read_interface(a, namespace)?;
        match (host, interface) {
            (Some(host), Some(interface)) if interface.is_other_end_of(&host) => Ok(Some((host, interface))),
            (host, interface) => {
                if let Some(host) = host {
                    self.discard(vec![(host.index, name.clone())])?;
                }
                match interface {
                    Some(_) => {
                        let (interface, netns) = (&a.interface, &a.netns);
                        let message = format!("interface {interface} exists already in netns {netns}");
                        Err(StepError::new(ErrorCode::NameInUse, message))
                    }
                    None => Ok(None),
                }
            }
        }
    }

    fn read_interface(&mut self, a: &Attachment, namespace: &Netns) -> Result<Option<Interface>, NetlinkError> {
        let name = a.interface.clone();
        self.worker.run(namespace, &a.netns, move || {
            Interface::read(&mut Netlink::open()?, &name)
        })
    }

    fn create_pair(&mut self, a: &Attachment, bridge: u32, namespace: &Netns) -> Result<(Link, Interface), StepError> {
        self.netlink
            .request(link::create_port(a, bridge, namespace.file().as_raw_fd()))?;
        let host = link::get(&mut self.netlink, &port_name(&a.id))?;
        let name = a.interface.clone();
        let interface = self.worker.run(namespace, &a.netns, move || {
            Interface::read_new(&mut Netlink::open()?, &name)
        })?;
        let gone = || {
            StepError::new(
                ErrorCode::Kernel,
                format!("the port of attachment {} vanished at once", a.id),
            )
        };
        Ok((host.ok_or_else(gone)?, interface.ok_or_else(gone)?))
    }

    /// Options first, then the entry without which the port takes no frame, then up. A port whose workload is not
    /// here gets no entry. Returns whether something had to change.
    fn set_host_end(&mut self, a: &Attachment, bridge: u32, host: &Link, done: Done) -> Result<bool, NetlinkError> {
        // Before the port comes up: without it, frames from the port are dropped.
        let tunnel = self.index(&vxlan_name(a.vni))?;
        self.filter.set_port(host.index, a, tunnel)?;
        let name = host.name.clone();
        let entries = match done {
            // A new port has none yet. The kernel would look through all entries of the bridge for them.
            Done::Rebuilt => Vec::new(),
            Done::InPlace => entry::dump_fdb(&mut self.netlink, None, host.index)?,
        };
        let at_port = || {
            entries
                .iter()
                .filter(|e| e.index == host.index && e.of_bridge && !e.local)
        };
        let serves = a.mode == Mode::Serving;
        let known = at_port().any(|e| e.mac == a.mac.octets() && e.fixed) && host.master == Some(bridge);
        let mut requests = Vec::new();
        if host.master != Some(bridge) {
            requests.push(link::enslave(host.index, bridge, &name));
        }
        let [set, up] = link::set_workload_port(host.index, a);
        let right = host.port_is_right(a, bridge);
        if !right {
            requests.push(set);
        }
        if !known && serves {
            requests.push(entry::set_port_station(host.index, &name, a.mac));
        }
        let old = at_port().filter(|e| (e.mac != a.mac.octets() || !serves) && host.master == Some(bridge));
        requests.extend(old.map(|e| entry::remove_port_station(host.index, &name, e.mac)));
        if !right {
            requests.push(up);
        }
        let changed = !requests.is_empty();
        self.netlink.batch(requests).into_iter().collect::<Result<(), _>>()?;
        Ok(changed)
    }

    /// Takes the workload's end of a port out of use. False if it cannot be found; the pair is deleted at once then.
    pub(super) fn retire_interface(&mut self, host: &Link) -> bool {
        let (Some(netns), Some(peer)) = (self.places.netns_of(&host.name).map(str::to_owned), host.peer) else {
            return false;
        };
        let Ok(namespace) = self.worker.open(&netns) else {
            return false;
        };
        let index = host.index;
        let retired = self.worker.run(&namespace, &netns, move || {
            let mut netlink = Netlink::open()?;
            let found = link::get_by_index(&mut netlink, peer)?;
            // The workload may have moved it elsewhere; its index may be that of another link here.
            match found.filter(|l| l.is_ours() && l.peer == Some(index)) {
                Some(own) => netlink.request(link::retire(own.index, &own.name)).map(|()| true),
                None => Ok(false),
            }
        });
        retired.unwrap_or_else(|error| {
            tracing::debug!(netns, %error, "an interface cannot be taken out of use");
            false
        })
    }

    /// The namespace is gone, and the workload's end with it. If the host's end still exists (the namespace lives on
    /// without a name), nobody uses it.
    fn remove_orphan(&mut self, a: &Attachment) -> Result<(), NetlinkError> {
        let name = port_name(&a.id);
        match link::get(&mut self.netlink, &name)? {
            Some(host) if host.is_port() && host.attachment_id() == Some(&a.id) => {
                self.discard(vec![(host.index, name)])
            }
            _ => Ok(()),
        }
    }

    /// Takes the port out of whatever network it is in: it belongs to another now.
    fn release(&mut self, a: &Attachment) -> Result<(), NetlinkError> {
        let name = port_name(&a.id);
        match link::get(&mut self.netlink, &name)? {
            Some(host) if host.is_port() && host.attachment_id() == Some(&a.id) && host.master.is_some() => {
                self.netlink.request(link::release(host.index, &name))
            }
            _ => Ok(()),
        }
    }
}
