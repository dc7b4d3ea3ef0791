//! Installer images that switches fetch from the provisioning server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Label;

/// An image that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Name of the file.
    pub name: Label,
    /// SHA-256 of its content, in lower-case hexadecimal.
    pub sha256: String,
    /// Its size in octets.
    pub octets: u64,
    /// The release that it is, as the inventory's `software` names it; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Label>,
    /// Models that it is for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Label>,
    /// When it was uploaded, in milliseconds since 1970 (UTC); absent if it was copied by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_ms: Option<u64>,
    /// Switches whose software it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<crate::ident::Name>,
}

/// What the caller says about an image that it uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Name of the file.
    pub name: Label,
    /// SHA-256 that its content must have, in lower-case hexadecimal.
    pub sha256: String,
    /// The release that it is.
    pub software: Option<Label>,
    /// Models that it is for; empty: all.
    pub models: Vec<Label>,
    /// Its size in octets, if the caller said it.
    pub octets: Option<u64>,
}

/// The content of an image as it arrives; an error if it breaks off.
#[cfg(feature = "server")]
pub type Content = futures::stream::BoxStream<'static, std::io::Result<bytes::Bytes>>;

/// The stored form of a SHA-256 digest; `None` for any other text.
pub fn digest(text: &str) -> Option<String> {
    let is_one = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| text.to_ascii_lowercase())
}
