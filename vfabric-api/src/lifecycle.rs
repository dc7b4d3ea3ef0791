//! A switch's machine is replaced by another, or the switch leaves the fabric: one call each.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorCode};
use crate::ident::{Label, Mac, Name};
use crate::inventory::ItemChange;
use crate::machine::RebootSpec;

/// How a switch is taken out of the paths before something is done to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DrainFirst {
    /// Without draining it first.
    pub now: bool,
    /// Seconds to wait until the drain is applied by the other devices.
    pub wait_s: Option<f64>,
    /// Why.
    pub reason: String,
}

impl DrainFirst {
    /// How long to wait for the drain.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`]: a field is out of range.
    pub fn wait(&self) -> Result<Duration, ApiError> {
        let as_reboot = RebootSpec {
            now: self.now,
            wait_s: self.wait_s,
            reason: self.reason.clone(),
        };
        as_reboot.wait()
    }
}

/// The machine that becomes a switch of the inventory (RMA). What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceSpec {
    /// Its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Label>,
    /// MAC address of its management port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Label>,
    /// Release of the software that it should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Label>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Without draining it first: what it forwards is lost until its neighbours notice.
    #[serde(default)]
    pub now: bool,
    /// Seconds (fractions allowed) to wait until the drain is applied by the other devices; 30 when left out, at most 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 300)]
    pub wait_s: Option<f64>,
    /// Why, for the history and the events (at most 200 characters).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl ReplaceSpec {
    /// How it is taken out of the paths.
    pub fn drain(&self) -> DrainFirst {
        DrainFirst {
            now: self.now,
            wait_s: self.wait_s,
            reason: self.reason.clone(),
        }
    }

    /// Checks what can be checked without the inventory.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`]: it names no machine, or a field is out of range.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.serial.is_none() && self.mac.is_none() {
            let expected = "the serial number of the new machine, its MAC address, or both";
            return Err(ApiError::field(ErrorCode::Invalid, "serial", "", expected));
        }
        self.drain().wait().map(drop)
    }
}

/// How a switch leaves the fabric for good.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireSpec {
    /// Also removes the hosts under it, and attachments there.
    #[serde(default)]
    pub cascade: bool,
    /// Its machine is dead: nobody waits until it has confirmed that it holds nothing.
    #[serde(default)]
    pub dead: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Without draining it first: what it forwards is lost until its neighbours notice.
    #[serde(default)]
    pub now: bool,
    /// Seconds (fractions allowed) to wait until the drain is applied by the other devices; 30 when left out, at most 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 300)]
    pub wait_s: Option<f64>,
    /// Why, for the history and the events (at most 200 characters).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl RetireSpec {
    /// How it is taken out of the paths.
    pub fn drain(&self) -> DrainFirst {
        DrainFirst {
            now: self.now,
            wait_s: self.wait_s,
            reason: self.reason.clone(),
        }
    }
}

/// What was done to a switch, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lifecycle {
    /// The switch.
    pub switch: Name,
    /// Whether this is only a plan.
    pub dry_run: bool,
    /// Whether it was drained for this.
    pub drained: bool,
    /// The steps in words: those that are done, and those that follow without a further call.
    pub steps: Vec<String>,
    /// What changes in the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<ItemChange>,
    /// Revision of the intent with the change; absent in a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// How often the switch had come into service since the controller started.
    pub arrivals: u64,
}
