//! Events without a transaction: devices that were lost, objects that wait or are refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// The kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventReason {
    /// The session with a device ended.
    DeviceLost,
    /// A device holds what it should, after it did not.
    DeviceInSync,
    /// A device refuses some entities.
    DeviceDegraded,
    /// A link is not used any more, or only where there is no other path.
    LinkDown,
    /// A link is used again.
    LinkUp,
    /// A device refused an entity that an object asks for.
    Refused,
    /// An object waits for a number that still has another meaning somewhere.
    Waiting,
    /// An object no longer waits.
    Released,
    /// A change was refused because it does not fit a switch, a pool or a limit.
    Exhausted,
    /// Changes cannot be stored.
    StoreFault,
    /// Changes can be stored again.
    StoreWorks,
    /// A stored row could not be loaded.
    SetAside,
    /// A switch or host has come into service.
    Arrived,
    /// An object has left the inventory.
    Left,
    /// A machine that asked for an address or for enrolment was refused: a stranger, a clone, or one that contradicts the inventory.
    EnrolmentRefused,
    /// A switch accepted a restart that an operator asked for.
    Rebooting,
    /// A switch has another version of its software, and restarts to run it.
    SoftwareInstalled,
    /// A switch did not accept another version of its software, and still runs the earlier one.
    SoftwareRefused,
    /// A switch reports that a part of it does not work, or its clock is wrong.
    MachineTrouble,
    /// A switch has no trouble any more.
    MachineWell,
    /// The controller renewed a switch's certificate.
    CertificateRenewed,
    /// A switch's certificate expires soon, and the controller could not renew it; the old one is in use.
    CertificateTrouble,
    /// An operator replaced the machine of a switch.
    MachineReplaced,
    /// An operator retired a switch; it is leaving.
    Retired,
    /// A workload that migrates is served by its new host.
    MigrationActive,
    /// A migration is over.
    MigrationFinished,
    /// A migration was rolled back: the workload is served where it was.
    MigrationRolledBack,
    /// More happened at once than could be noted.
    Overflow,
}

impl EventReason {
    /// Whether it needs attention.
    pub fn is_warning(self) -> bool {
        match self {
            Self::DeviceLost
            | Self::DeviceDegraded
            | Self::LinkDown
            | Self::Refused
            | Self::Exhausted
            | Self::StoreFault
            | Self::SetAside
            | Self::EnrolmentRefused
            | Self::SoftwareRefused
            | Self::MachineTrouble
            | Self::CertificateTrouble
            | Self::MigrationRolledBack
            | Self::Overflow => true,
            Self::DeviceInSync
            | Self::LinkUp
            | Self::Waiting
            | Self::Released
            | Self::StoreWorks
            | Self::Arrived
            | Self::Left
            | Self::Rebooting
            | Self::SoftwareInstalled
            | Self::MachineWell
            | Self::CertificateRenewed
            | Self::MachineReplaced
            | Self::Retired
            | Self::MigrationActive
            | Self::MigrationFinished => false,
        }
    }
}

/// An event. If the same thing happens again, `count` rises and the event gets a new number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number. Later events have greater numbers, also after a restart of the controller.
    pub number: u64,
    /// When it happened last, in milliseconds since 1970 (UTC), by the controller's clock.
    pub time_ms: u64,
    /// When it happened first.
    pub first_ms: u64,
    /// How often it happened.
    pub count: u64,
    /// The kind of event.
    pub reason: EventReason,
    /// Whether it needs attention.
    pub warning: bool,
    /// The vDC that it concerns; absent: the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdc: Option<Name>,
    /// The object that it is about, such as `attachment acme/web1` or `link leaf1:1 - spine1:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The switch or host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Name>,
    /// What happened, in words.
    pub detail: String,
}

/// Events in order, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The events.
    pub items: Vec<Event>,
    /// Give this as `after` to get later events.
    pub upto: u64,
}
