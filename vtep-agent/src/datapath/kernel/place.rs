//! Places: the network namespaces into which workloads' interfaces go.
//!
//! A place is a name in `/run/netns`. Before each action there, the agent checks the name: it must be the name of a
//! network namespace, not of one of the host's own, and not a second name for the place of another vDC.
//! ([`crate::desired`] handles two vDCs that name the same place.)

use std::collections::{BTreeMap, HashMap};

use vtep_proto::Attachment;
use vtep_proto::v1::ErrorCode;

use super::Kernel;
use super::overlay::Overlay;
use super::snapshot::Snapshot;
use crate::datapath::{Expected, StepError};
use crate::netns::{Netns, NetnsId};
use crate::object::port_name;

/// The known places.
pub(super) struct Places {
    /// Namespaces of the host itself, with descriptions.
    own: Vec<(NetnsId, String)>,
    /// The ports into each namespace: the name under which it was opened, and the vDC.
    used: HashMap<NetnsId, BTreeMap<String, (String, String)>>,
    /// The namespace that each port leads into.
    of_port: HashMap<String, NetnsId>,
}

impl Places {
    pub(super) fn new(home: NetnsId, overlay: &Overlay) -> Self {
        let mut own = vec![
            (home, "the host's own network namespace".to_owned()),
            (
                overlay.netns().id(),
                format!("{}, which holds the host's bridges", overlay.name()),
            ),
        ];
        // If the agent runs in a separate namespace, the machine's own is refused, too.
        match Netns::of_init() {
            Ok(init) => own.push((init.id(), "the network namespace of process 1".to_owned())),
            Err(error) => tracing::warn!(%error, "cannot see the network namespace of process 1"),
        }
        Self {
            own,
            used: HashMap::new(),
            of_port: HashMap::new(),
        }
    }

    /// Notes that a port is gone.
    pub(super) fn forget(&mut self, port: &str) {
        if let Some(id) = self.of_port.remove(port)
            && let Some(ports) = self.used.get_mut(&id)
        {
            ports.remove(port);
            if ports.is_empty() {
                self.used.remove(&id);
            }
        }
    }

    /// The namespace that a port leads into, by name.
    pub(super) fn netns_of(&self, port: &str) -> Option<&str> {
        let ports = self.used.get(self.of_port.get(port)?)?;
        ports.get(port).map(|(netns, _)| netns.as_str())
    }

    fn note(&mut self, port: String, id: NetnsId, a: &Attachment) {
        self.forget(&port);
        let user = (a.netns.clone(), a.vdc().to_owned());
        self.used.entry(id).or_default().insert(port.clone(), user);
        self.of_port.insert(port, id);
    }

    /// Another name under which another vDC uses the namespace.
    fn other_name(&self, id: NetnsId, a: &Attachment) -> Option<String> {
        let users = self.used.get(&id)?.values();
        let mut others = users.filter(|(name, vdc)| *name != a.netns && vdc != a.vdc());
        others.next().map(|(name, _)| name.clone())
    }
}

impl Kernel {
    /// Learns where the ports of an earlier run lead.
    pub(super) fn learn_places(&mut self, snapshot: &Snapshot, expected: &Expected) {
        for link in snapshot.links().iter().filter(|l| l.is_port()) {
            let unknown = self.places.netns_of(&link.name).is_none();
            if let Some(a) = expected.get(&link.name).filter(|_| unknown) {
                // The comparison decides whether the port may be there.
                let _ = self.place(a);
            }
        }
    }

    /// Opens the place of an attachment.
    pub(super) fn place(&mut self, a: &Attachment) -> Result<Netns, StepError> {
        let namespace = self.worker.open(&a.netns)?;
        let refused = |why: String| {
            StepError::new(
                ErrorCode::PlaceRefused,
                format!("netns {} of attachment {}: {why}", a.netns, a.id),
            )
        };
        if let Some((_, what)) = self.places.own.iter().find(|(id, _)| *id == namespace.id()) {
            return Err(refused(format!("it is {what}")));
        }
        // Numbers of namespaces are reused: check the namespace that the other name has now.
        if let Some(name) = self.places.other_name(namespace.id(), a).filter(|_| !a.shared_netns)
            && self.worker.open(&name).is_ok_and(|other| other.id() == namespace.id())
        {
            return Err(refused(format!(
                "it is the same namespace as {name}, which another vDC uses"
            )));
        }
        self.places.note(port_name(&a.id), namespace.id(), a);
        Ok(namespace)
    }
}
