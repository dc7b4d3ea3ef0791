//! The inventory: switches, links and hosts, and how they are changed.
//!
//! A topology file ([`crate::topology`]) describes a fabric; the inventory is what the controller stores of it, with
//! an identity for each object that is never reused.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::{Label, Mac, Name};
use crate::machine::MachineStatus;
use crate::status::SetAside;
use crate::topology::{Fabric, Host, Link, PortRef, Switch, Topology};

/// Names an object of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKey {
    /// The settings of the fabric as a whole.
    Fabric,
    /// A switch.
    Switch(Name),
    /// A host.
    Host(Name),
    /// A link, by its ends in order.
    Link(PortRef, PortRef),
}

impl ItemKey {
    /// The key of a link; it does not matter which end is named first.
    pub fn link(link: &Link) -> Self {
        if link.a <= link.b {
            Self::Link(link.a.clone(), link.b.clone())
        } else {
            Self::Link(link.b.clone(), link.a.clone())
        }
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fabric => f.write_str("fabric"),
            Self::Switch(name) => write!(f, "switch `{name}`"),
            Self::Host(name) => write!(f, "host `{name}`"),
            Self::Link(a, b) => write!(f, "link {}:{} - {}:{}", a.switch, a.port, b.switch, b.port),
        }
    }
}

/// The content of an object of the inventory, as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Settings of the fabric as a whole.
    Fabric(Fabric),
    /// A switch.
    Switch(Switch),
    /// A host.
    Host(Host),
    /// A link.
    Link(Link),
}

impl Item {
    /// Its name.
    pub fn key(&self) -> ItemKey {
        match self {
            Self::Fabric(_) => ItemKey::Fabric,
            Self::Switch(s) => ItemKey::Switch(s.name.clone()),
            Self::Host(h) => ItemKey::Host(h.name.clone()),
            Self::Link(l) => ItemKey::link(l),
        }
    }
}

/// A machine that becomes a switch. A value that is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMachine {
    /// Its serial number.
    pub serial: Option<Label>,
    /// MAC address of its management port.
    pub mac: Option<Mac>,
    /// Its model.
    pub model: Option<Label>,
    /// Release of the software that it should run.
    pub software: Option<Label>,
}

/// One step of a transaction that changes the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventoryChange {
    /// Adds an object or changes it.
    Put(Item),
    /// Takes an object out of service. It leaves the inventory when every device has confirmed that it holds nothing of
    /// it.
    Remove {
        /// The object.
        key: ItemKey,
        /// Also removes what uses it: the links of a switch, the hosts under a leaf, the attachments there.
        cascade: bool,
    },
    /// Paths avoid a switch while there are others; a switch or host gets no new attachments.
    Drain(ItemKey),
    /// Ends a drain.
    Undrain(ItemKey),
    /// The operator declares that a device is dead and will not come back in its old state.
    Gone(ItemKey),
    /// Another machine becomes a switch, whose role stays.
    NewMachine {
        /// The switch.
        switch: Name,
        /// The values in which the new machine differs.
        machine: NewMachine,
        /// Certificates of the switch that were made before this time no longer count; in seconds since 1970.
        since_s: u64,
    },
    /// Changes the inventory to match a topology file.
    Import(Box<Topology>),
    /// A leaving object has left: no device holds anything of it. Only the controller itself makes this change.
    Left(ItemKey),
    /// An arriving object holds none of its old entities any more. Only the controller itself makes this change.
    Arrived(ItemKey),
}

/// State of an object of the inventory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// It is used.
    #[default]
    InService,
    /// It is new, or other hardware. Entities that it may still hold from before are removed before other devices use
    /// it.
    Arriving,
    /// Paths avoid it, and it gets no new attachments.
    Drained,
    /// It was removed; devices have not all confirmed yet. Its name and numbers are not free before they have.
    Leaving,
    /// An operator said that it is dead.
    Gone,
}

impl ItemState {
    /// True while devices hold entries for it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::InService | Self::Drained)
    }

    /// True while it is part of the fabric: neither removed nor dead.
    pub fn is_wanted(self) -> bool {
        matches!(self, Self::InService | Self::Drained | Self::Arriving)
    }
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InService => "in service",
            Self::Arriving => "arriving",
            Self::Drained => "drained",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
        })
    }
}

/// What happened, or would happen, to an object of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemAction {
    /// It is new.
    Added,
    /// It changed.
    Changed,
    /// It is removed.
    Removed,
}

/// A changed field of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// The field, such as `uplink`.
    pub field: String,
    /// Its value before.
    pub from: String,
    /// Its value now.
    pub to: String,
}

/// One line of a difference between inventories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemChange {
    /// What happens to it.
    pub action: ItemAction,
    /// The object in words, such as ``switch `leaf3` ``.
    pub item: String,
    /// The fields that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

impl fmt::Display for ItemChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            ItemAction::Added => '+',
            ItemAction::Changed => '~',
            ItemAction::Removed => '-',
        };
        write!(f, "{sign} {}", self.item)?;
        for change in &self.fields {
            write!(f, "\n    {}: {} -> {}", change.field, change.from, change.to)?;
        }
        Ok(())
    }
}

/// A switch of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchItem {
    /// As the operator wrote it.
    pub spec: Switch,
    /// Its identity, which never changes and is never reused.
    pub uid: u64,
    /// Fabric-wide number of its VTEP, 1 to 32767; absent for a spine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtep_id: Option<u16>,
    /// Its state in the inventory.
    pub state: ItemState,
    /// What it waits for while it is leaving, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// What the switch said about itself when it was last asked; absent before that, and if it has none of
    /// the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,
}

/// A host of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostItem {
    /// As the operator wrote it.
    pub spec: Host,
    /// Its identity, which never changes and is never reused.
    pub uid: u64,
    /// Fabric-wide number of its VTEP, 1 to 32767.
    pub vtep_id: u16,
    /// Its state in the inventory.
    pub state: ItemState,
    /// What it waits for while it is leaving, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

/// A link of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkItem {
    /// As the operator wrote it.
    pub spec: Link,
    /// Its identity, which never changes and is never reused.
    pub uid: u64,
}

/// The whole inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inventory {
    /// Settings of the fabric as a whole.
    pub fabric: Fabric,
    /// Every switch, in the order in which they were added.
    pub switches: Vec<SwitchItem>,
    /// Every link.
    pub links: Vec<LinkItem>,
    /// Every host.
    pub hosts: Vec<HostItem>,
    /// Stored rows that could not be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
}

impl Inventory {
    /// As a topology file, without objects that are leaving or gone and those that depend on them.
    pub fn topology(&self) -> Topology {
        let switches: Vec<Switch> = self
            .switches
            .iter()
            .filter(|s| s.state.is_wanted())
            .map(|s| s.spec.clone())
            .collect();
        let there = |end: &PortRef| switches.iter().any(|s| s.name == end.switch);
        let links = self.links.iter().map(|l| &l.spec);
        let hosts = self.hosts.iter().filter(|h| h.state.is_wanted()).map(|h| &h.spec);
        Topology {
            fabric: self.fabric.clone(),
            links: links.filter(|l| there(&l.a) && there(&l.b)).cloned().collect(),
            hosts: hosts.filter(|h| there(&h.uplink)).cloned().collect(),
            switches,
        }
    }
}
