//! What the API returns: objects with their status, and the state of the devices.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;
use crate::inventory::ItemState;
pub use crate::kind::{Attachment, Network, Router, Vdc, View};
use crate::topology::{PortRef, Role};

/// Progress of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Every device it concerns has applied it.
    Applied,
    /// Some device has not confirmed yet.
    Pending,
    /// Some device refused it; `waiting` says why.
    Failed,
}

/// How many devices have applied something, and why the others have not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Revision of the intent that this is about.
    pub revision: u64,
    /// The overall progress.
    pub progress: Progress,
    /// Devices it concerns.
    pub devices: usize,
    /// How many of these devices have applied it.
    pub applied: usize,
    /// Devices that have not applied it, each with the reason in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<DeviceReason>,
}

/// Why a device has not applied something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReason {
    /// The switch or host.
    pub device: Name,
    /// The reason in words.
    pub reason: String,
}

/// State of the controller's session with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Not reachable; tried again with backoff.
    Disconnected,
    /// Reachable; being read back and repaired.
    Syncing,
    /// Holds what it should.
    InSync,
    /// Reachable, but it refuses some entities.
    Degraded,
}

/// State of any device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStatus {
    /// State of the controller's session with it.
    pub state: DeviceState,
    /// Highest revision of the intent it has fully applied.
    pub epoch: u64,
    /// Entities it should hold.
    pub desired: usize,
    /// Entities not confirmed yet.
    pub pending: usize,
    /// Entities it refused, with the reason in words (the first few).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Entities written to it (inserted, modified or deleted) since the controller started.
    pub writes: u64,
    /// Repairs of differences: found by a read-back, on the ports of a switch, or by the
    /// host's agent.
    pub repairs: u64,
    /// Rounds in which the controller retried entities that the device had refused.
    #[serde(default)]
    pub retries: u64,
    /// Times the controller connected to it.
    pub connects: u64,
    /// Last error, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Warnings in words: a certificate that expires soon, a wrong clock, ports that cannot be
    /// corrected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchStatus {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub role: Role,
    /// P4Runtime device id.
    pub device_id: u16,
    /// Its state in the inventory.
    #[serde(default)]
    pub item: ItemState,
    /// Loopback, IPv4.
    #[schema(value_type = String, format = "ipv4")]
    pub loopback_ipv4: Ipv4Addr,
    /// Loopback, IPv6.
    #[schema(value_type = String, format = "ipv6")]
    pub loopback_ipv6: Ipv6Addr,
    /// Its state.
    pub status: DeviceStatus,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// Its name.
    pub name: Name,
    /// The leaf port at the other end of its uplink.
    pub uplink: PortRef,
    /// Its VTEP address, IPv4.
    #[schema(value_type = String, format = "ipv4")]
    pub vtep_ipv4: Ipv4Addr,
    /// Its VTEP address, IPv6.
    #[schema(value_type = String, format = "ipv6")]
    pub vtep_ipv6: Ipv6Addr,
    /// Its state in the inventory.
    #[serde(default)]
    pub item: ItemState,
    /// Its state.
    pub status: DeviceStatus,
}

/// A link between two switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkStatus {
    /// One end.
    pub a: PortRef,
    /// The other end.
    pub b: PortRef,
    /// Whether the controller routes over it.
    pub up: bool,
    /// Why not; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<LinkFault>,
    /// The same in words, naming switches and ports. For a link in use: why its state is unknown, because
    /// there is no session with either end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Speed or forward error correction that its ends do not share, or that is not as the inventory says: in words, with the port to
    /// look at. Absent while nothing of that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
}

/// Why a link is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkFault {
    /// A switch reports its port down.
    PortDown,
    /// The controller's probes no longer arrive.
    Silent,
    /// The controller has no session with a switch at one end, and nothing else shows that the link works.
    Unanswered,
    /// A spine at one end is new or came back empty, and does not hold yet what it should.
    Filling,
    /// The cable leads elsewhere than the topology says.
    Miswired,
    /// It was down before the controller started; nothing is known of it yet.
    Unknown,
}

/// The fabric at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FabricStatus {
    /// Name of the fabric.
    pub name: Name,
    /// Revision of the intent.
    pub revision: u64,
    /// Switches, and how many are in sync.
    pub switches: Count,
    /// Hosts, and how many are in sync.
    pub hosts: Count,
    /// Links, and how many are known to be up; a link without a session with either end does not count.
    pub links: Count,
    /// vDCs.
    pub vdcs: usize,
    /// Tenant networks.
    pub networks: usize,
    /// Routers.
    pub routers: usize,
    /// Attachments.
    pub attachments: usize,
    /// VNIs that were released, but not yet confirmed as removed by every device.
    pub vnis_in_quarantine: usize,
    /// Why changes cannot be stored; absent while they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_fault: Option<String>,
    /// Stored rows that could not be loaded when the controller started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
    /// Warnings: devices that are not in sync, certificates that expire soon, wrong clocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// The switch or host; absent if the warning is about the controller itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Name>,
    /// What is wrong, in words.
    pub reason: String,
}

/// A stored row that was not loaded. Its known numbers are not given to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetAside {
    /// The object, or the row's key if it is not an object's.
    pub object: String,
    /// Why it could not be loaded.
    pub reason: String,
}

/// A count and a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many are in order.
    pub ok: usize,
    /// How many there are.
    pub total: usize,
}

/// All lost frames of the devices that could be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drops {
    /// What was lost, where and why.
    pub counts: Vec<DropCount>,
    /// Devices that did not report all their losses, each with the reason in words; the missing losses are not in `counts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<DeviceReason>,
}

/// Frames that were lost at one place for one reason, since its counter started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropCount {
    /// The switch or host that lost them.
    pub device: Name,
    /// The place on it: `port 3` of a switch, an attachment (`VDC/NAME`) or link of a host. Absent for the
    /// pipeline of a switch as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The reason, as named by the pipeline (`host_vni` ...), by gNMI (`in-discards` ...), or by the host's filter and links
    /// (`source-mac`, `sent, queue full` ...).
    pub reason: String,
    /// The host that sent them, if the reason is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Name>,
    /// How many packets.
    pub packets: u64,
    /// How many octets, if they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How full a table of a switch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableUse {
    /// The switch.
    pub switch: Name,
    /// The table.
    pub table: String,
    /// Size of the table in the program, in entries.
    pub size: usize,
    /// Entries that it should hold.
    pub used: usize,
    /// Entries that still fit.
    pub free: usize,
}

/// An entity that an object asks a device for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectEntity {
    /// The switch or host.
    pub device: Name,
    /// The entity.
    #[serde(flatten)]
    pub entity: DeviceEntity,
}

/// One entity of a device, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceEntity {
    /// Table (or kind of kernel object).
    pub table: String,
    /// Its key, in words.
    pub key: String,
    /// Its action or content, in words.
    pub action: String,
    /// True when the device is known to hold exactly this.
    pub applied: bool,
    /// Objects that asked for it, in words; if there are very many, only some.
    #[serde(default)]
    pub asked_by: Vec<String>,
}
