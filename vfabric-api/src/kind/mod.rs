//! The kinds of tenant objects: one file each, with what a user writes ([`Spec`]) and what the API shows ([`View`]).
//!
//! A new kind is a new file here and a row in the table below; then the compiler names every other place that must change
//! (`docs/new-kind.md` lists them).

mod attachment;
mod network;
pub(crate) mod prefix;
mod router;
mod vdc;

pub use attachment::{AllowedAddress, Attachment, AttachmentSpec, Migration, MigrationPhase, Place};
pub use network::{AddressRange, Network, NetworkSpec, SubnetSpec};
pub use router::{Router, RouterSpec, StaticRoute};
pub use vdc::{AssignedPort, Limits, Vdc, VdcSpec, VlanRange, VniRange};

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::ident::Name;
use crate::labels::{Labels, Selector};
use crate::refusal::refusal;
use crate::strict::Strict;

/// Makes the enums over all kinds. Each row: the kind and its number in the store, the type that a user writes, the type that the
/// API shows, the singular and the plural. An object needs only objects of kinds with smaller numbers.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $rank:literal, $spec:ty, $view:ty, $word:literal, $plural:literal;)*) => {
        /// The kinds of tenant objects.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind = $rank,)*
        }

        impl Kind {
            /// Every kind; kinds that others need come first.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The singular, such as `network`.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            /// The plural, as in `/v1/vdcs/{vdc}/networks`.
            pub fn plural(self) -> &'static str {
                match self {
                    $(Self::$kind => $plural,)*
                }
            }
        }

        /// The content of an object, as a user writes it.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Spec {
            $($(#[$doc])* $kind($spec),)*
        }

        impl Spec {
            /// Kind of the object.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Reads what a user wrote of a kind.
            ///
            /// # Errors
            /// [`crate::error::ErrorCode::Invalid`], with the field: it does not have the form of that kind.
            pub fn read(kind: Kind, json: serde_json::Value) -> Result<Self, ApiError> {
                match kind {
                    $(Kind::$kind => parse(json).map(Self::$kind),)*
                }
            }

            /// Name of the object.
            pub fn name(&self) -> &Name {
                match self {
                    $(Self::$kind(spec) => &spec.name,)*
                }
            }

            /// Labels of the object.
            pub fn labels(&self) -> &Labels {
                match self {
                    $(Self::$kind(spec) => &spec.labels,)*
                }
            }

            /// The body of a request that creates or replaces it.
            ///
            /// # Errors
            /// Never, as long as the maps of specs have strings as keys.
            pub fn body(&self) -> serde_json::Result<serde_json::Value> {
                match self {
                    $(Self::$kind(spec) => serde_json::to_value(spec),)*
                }
            }
        }

        /// One object with its status.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum View {
            $($(#[$doc])* $kind($view),)*
        }

        impl View {
            /// Name of the object.
            pub fn name(&self) -> &Name {
                match self {
                    $(Self::$kind(view) => &view.spec.name,)*
                }
            }

            /// Revision that last changed it.
            pub fn revision(&self) -> u64 {
                match self {
                    $(Self::$kind(view) => view.revision,)*
                }
            }

            /// Labels of the object.
            pub fn labels(&self) -> &Labels {
                match self {
                    $(Self::$kind(view) => &view.spec.labels,)*
                }
            }

            /// Whether a selector selects the object.
            pub fn is_selected(&self, selector: &Selector) -> bool {
                match self {
                    $(Self::$kind(view) => selector.is_empty() || selector.selects(&Spec::$kind(view.spec.clone()), view.owner.as_ref()),)*
                }
            }

            /// Reads an object of a kind, because its JSON does not contain the kind.
            ///
            /// # Errors
            /// It does not have the form of that kind.
            pub fn read(kind: Kind, json: serde_json::Value) -> serde_json::Result<Self> {
                match kind {
                    $(Kind::$kind => serde_json::from_value(json).map(Self::$kind),)*
                }
            }
        }
    };
}

kinds! {
    /// Virtual data centre.
    Vdc = 0, VdcSpec, Vdc, "vdc", "vdcs";
    /// Tenant network.
    Network = 1, NetworkSpec, Network, "network", "networks";
    /// Router.
    Router = 2, RouterSpec, Router, "router", "routers";
    /// Attachment.
    Attachment = 3, AttachmentSpec, Attachment, "attachment", "attachments";
}

/// Reads a document; an error names the field.
fn parse<T: DeserializeOwned>(json: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Strict(&json)).map_err(|error| refusal(&error, Some(&json)))
}

impl Kind {
    /// Its number in the keys of the store.
    pub fn rank(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub fn of_rank(rank: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.rank() == rank)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    /// Accepts the singular and the plural.
    fn from_str(text: &str) -> Result<Self, String> {
        let known = |kind: &&Self| text == kind.word() || text == kind.plural();
        Self::ALL.iter().find(known).copied().ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|kind| kind.word()).collect();
            format!("expected one of: {}", words.join(", "))
        })
    }
}

/// Identifies an object by its vDC, kind and name (for a vDC itself, `name` is the vDC's).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The vDC.
    pub vdc: Name,
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: Name,
}

impl Key {
    /// Key of a vDC.
    pub fn vdc(name: Name) -> Self {
        Self {
            vdc: name.clone(),
            kind: Kind::Vdc,
            name,
        }
    }

    /// Key of an object inside a vDC.
    pub fn new(vdc: Name, kind: Kind, name: Name) -> Self {
        Self { vdc, kind, name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Vdc => write!(f, "vdc `{}`", self.vdc),
            kind => write!(f, "{kind} `{}` of vdc `{}`", self.name, self.vdc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_the_order_in_which_they_need_each_other() {
        for (rank, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.rank()), rank);
            assert_eq!(Kind::of_rank(kind.rank()), Some(*kind));
            assert_eq!(kind.word().parse(), Ok(*kind));
            assert_eq!(kind.plural().parse(), Ok(*kind));
        }
        assert_eq!(Kind::of_rank(200), None);
        let error = "port".parse::<Kind>().unwrap_err();
        assert!(error.contains("attachment"), "{error}");
    }
}
