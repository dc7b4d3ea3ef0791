//! How a switch came from power-on to service: its steps, with times and troubles.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// What happened to a switch on its way into service. The provisioning server sees the first ones, the controller the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootStep {
    /// It asked for an address.
    Discovered,
    /// It got an address.
    Leased,
    /// It was refused something.
    Refused,
    /// There was no address for it.
    NoAddress,
    /// It gave its address back, or found it in use.
    Released,
    /// It fetched a whole image.
    ImageFetched,
    /// It began to fetch an image, and stopped.
    ImageBroken,
    /// It fetched a first-boot file.
    ScriptFetched,
    /// It asked for a file that is not served.
    NoFile,
    /// It was asked to prove its identity (Bootz).
    Challenged,
    /// It proved its identity, and its bootstrap data was sent.
    Enrolled,
    /// It reports that it applies its bootstrap data.
    Bootstrapping,
    /// It reports that it has applied its bootstrap data.
    Bootstrapped,
    /// It reports that it could not apply its bootstrap data.
    BootstrapFailed,
    /// The controller cannot reach it, or is refused.
    Unreachable,
    /// The controller is its primary (P4Runtime arbitration).
    Arbitrated,
    /// Its pipeline runs.
    PipelineLoaded,
    /// Its ports are configured as the fabric needs them (gNMI).
    Configured,
    /// What it holds was read back.
    ReadBack,
    /// It holds what it should.
    InSync,
    /// It refuses some entities.
    Degraded,
    /// A probe has crossed each of its links, both ways, to where the inventory says.
    CablingChecked,
    /// It holds what it should, and its links work.
    InService,
    /// It accepted a restart that an operator asked for.
    Rebooting,
    /// The controller renewed its certificate (gNSI Certz).
    CertificateRenewed,
    /// The session with it ended.
    Lost,
}

impl BootStep {
    /// The word for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Leased => "leased",
            Self::Refused => "refused",
            Self::NoAddress => "no address",
            Self::Released => "released",
            Self::ImageFetched => "image fetched",
            Self::ImageBroken => "image broken off",
            Self::ScriptFetched => "script fetched",
            Self::NoFile => "no such file",
            Self::Challenged => "challenged",
            Self::Enrolled => "enrolled",
            Self::Bootstrapping => "bootstrapping",
            Self::Bootstrapped => "bootstrapped",
            Self::BootstrapFailed => "bootstrap failed",
            Self::Unreachable => "unreachable",
            Self::Arbitrated => "arbitrated",
            Self::PipelineLoaded => "pipeline loaded",
            Self::Configured => "gNMI configured",
            Self::ReadBack => "read back",
            Self::InSync => "in sync",
            Self::Degraded => "degraded",
            Self::CablingChecked => "cabling checked",
            Self::InService => "in service",
            Self::Rebooting => "rebooting",
            Self::CertificateRenewed => "certificate renewed",
            Self::Lost => "lost",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_trouble(self) -> bool {
        match self {
            Self::Refused
            | Self::NoAddress
            | Self::ImageBroken
            | Self::NoFile
            | Self::BootstrapFailed
            | Self::Unreachable
            | Self::Degraded
            | Self::Lost => true,
            Self::Discovered
            | Self::Leased
            | Self::Released
            | Self::ImageFetched
            | Self::ScriptFetched
            | Self::Challenged
            | Self::Enrolled
            | Self::Bootstrapping
            | Self::Bootstrapped
            | Self::Arbitrated
            | Self::PipelineLoaded
            | Self::Configured
            | Self::ReadBack
            | Self::InSync
            | Self::CablingChecked
            | Self::InService
            | Self::Rebooting
            | Self::CertificateRenewed => false,
        }
    }
}

impl fmt::Display for BootStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// One step of a time line. A step that repeats with no other in between is one step with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineStep {
    /// What happened.
    pub step: BootStep,
    /// When it happened first, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// When it happened last, in milliseconds since 1970 (UTC).
    pub last_ms: u64,
    /// How often in a row.
    pub times: u64,
    /// Milliseconds since the step before it; absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Whether somebody should look at it.
    pub trouble: bool,
    /// In words.
    pub detail: String,
}

/// The time line of a switch, since it was last out of service or since the controller started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provisioning {
    /// The switch.
    pub switch: Name,
    /// Whether it is in service: it holds what it should, and a probe has crossed each of its links.
    pub in_service: bool,
    /// What it waits for, in words; absent when it is in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Milliseconds from its first step to service; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// The last trouble, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How often it came into service since the controller started.
    pub arrivals: u64,
    /// Its steps, oldest first.
    pub steps: Vec<TimelineStep>,
    /// Steps that were left out of the middle, because there were too many.
    pub left_out: u64,
}
