//! A switch as a machine: what it says about its clock, software and health (gNOI), and how to restart it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorCode};
use crate::ident::{Label, Name};

/// Longest reason of a restart, in characters.
pub(crate) const REASON: usize = 200;

/// What a switch said about itself when it was last asked. A field is absent if the switch
/// lacks the service for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineStatus {
    /// When it was asked, in milliseconds since 1970 (UTC).
    pub asked_ms: u64,
    /// How far its clock is ahead of the controller's, in milliseconds; negative: behind. The error is at most the
    /// duration of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// When it was started last, by its own clock, in milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// The version of the software that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// Its components, each with its health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Services that it does not have, as in `gnoi.healthz`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What is wrong, in words; empty if nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// A part of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Its name, as in `chassis`.
    pub name: String,
    /// Whether it works; absent: the switch does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

/// How a switch is restarted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RebootSpec {
    /// Without draining it first.
    #[serde(default)]
    pub now: bool,
    /// Seconds (fractions allowed) to wait until the drain is applied; 30 when left out, at most 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 300)]
    pub wait_s: Option<f64>,
    /// Why, for the switch's log and the time line (at most 200 characters).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl RebootSpec {
    /// Usual and longest wait for a drain, in seconds.
    const WAIT_S: (f64, f64) = (30.0, 300.0);

    /// How long to wait for the drain.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`]: a field is out of range.
    pub fn wait(&self) -> Result<std::time::Duration, ApiError> {
        let (usual, most) = Self::WAIT_S;
        let wait_s = self.wait_s.unwrap_or(usual);
        if !(0.0..=most).contains(&wait_s) {
            let expected = format!("0 to {most} seconds");
            return Err(ApiError::field(ErrorCode::Invalid, "wait_s", wait_s, expected));
        }
        if self.reason.chars().count() > REASON || self.reason.chars().any(char::is_control) {
            let expected = format!("at most {REASON} characters, none of them a control character");
            return Err(ApiError::field(ErrorCode::Invalid, "reason", &self.reason, expected));
        }
        Ok(std::time::Duration::from_secs_f64(wait_s))
    }
}

/// Which software a switch gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallSpec {
    /// The image, as it was uploaded. Its `software` is the name of the version.
    pub image: Label,
    /// How the switch is restarted afterwards.
    #[serde(default)]
    pub reboot: RebootSpec,
}

/// Software that is being installed. An event reports the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Install {
    /// The switch.
    pub switch: Name,
    /// The version.
    pub software: Label,
}

/// A restart that a switch has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reboot {
    /// The switch.
    pub switch: Name,
    /// Whether the switch was drained for the restart, and has to be put back into
    /// service.
    pub drained: bool,
    /// When it was started last before this, by its own clock, in milliseconds since 1970 (UTC); absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// How often it had come into service since the controller started.
    pub arrivals: u64,
}
