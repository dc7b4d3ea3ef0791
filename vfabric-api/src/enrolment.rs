//! Tokens with which new machines enrol.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorCode};
use crate::ident::Name;

/// Settings of an enrolment token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenSpec {
    /// Seconds until it expires: 60 to 604,800 (7 days); an hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 604_800)]
    pub lifetime_s: Option<u64>,
}

impl EnrolmentTokenSpec {
    /// Shortest, longest and usual life of a token, in seconds.
    const LIFETIME_S: (u64, u64, u64) = (60, 7 * 86_400, 3600);

    /// Seconds until the token expires.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`]: too short or too long.
    pub fn lifetime_s(&self) -> Result<u64, ApiError> {
        let (least, most, usual) = Self::LIFETIME_S;
        let lifetime_s = self.lifetime_s.unwrap_or(usual);
        if !(least..=most).contains(&lifetime_s) {
            let expected = format!("{least} to {most} seconds");
            return Err(ApiError::field(ErrorCode::Invalid, "lifetime_s", lifetime_s, expected));
        }
        Ok(lifetime_s)
    }
}

/// A host's enrolment token. It is shown only this once, and works for one key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostToken {
    /// The token.
    pub token: String,
    /// The host that it is for.
    pub host: Name,
    /// When it expires, in milliseconds since 1970 (UTC).
    pub expires_ms: u64,
    /// Fingerprint of the authority that vouches for the controller: `sha256:` and 64 hexadecimal digits. The host
    /// recognises the controller by it.
    pub authority: String,
}

/// A switch's enrolment token. It is shown only once. It works for one key, and only for the serial number in the
/// inventory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchToken {
    /// The token.
    pub token: String,
    /// The switch that it is for.
    pub switch: Name,
    /// When it expires, in milliseconds since 1970 (UTC).
    pub expires_ms: u64,
    /// Fingerprint of the authority that vouches for the controller: `sha256:` and 64 hexadecimal digits. The switch
    /// recognises the controller by it.
    pub authority: String,
}

impl fmt::Debug for SwitchToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchToken")
            .field("switch", &self.switch)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HostToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostToken")
            .field("host", &self.host)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}
