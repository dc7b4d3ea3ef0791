//! The kinds of tenant objects, one module each.
//!
//! **Model.** A kind implements [`TenantObject`] for the type that the store keeps: how an object is checked and
//! completed, how it is added to and removed from the indexes, which numbers it has, and which contributions decide its status.
//! The table at the end of this file lists the kinds; [`Stored`] and the calls by kind are made from it. Nothing else in the
//! model, the store or the readers depends on the kind of an object.
//!
//! **A new kind** needs a file here and a row in the table, a file and a row in `vfabric_api::kind`, and its names in a
//! [`Vdc`]. If devices should hold something for it, it also needs a contribution (`ident::Source`, `crate::view`) and a
//! file in `render`. `docs/new-kind.md` adds one, step by step.

mod attachment;
mod network;
mod router;
mod vdc;

use std::fmt;
use std::sync::Arc;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Name, OwnerName};
use vfabric_api::kind::{Key, Kind, Spec, View};
use vfabric_api::labels::MAX_LABELS;
use vfabric_api::status;

pub use attachment::{At, Attachment, StoredAttachment, Target};
pub use network::{Network, OnLeaf, StoredNetwork};
pub use router::{Router, StoredRouter};
pub use vdc::Vdc;
pub(super) use vdc::attachments_to_drain;

use super::Model;
use super::change::Applied;
use super::fields::Fields;
use super::number::{Number, Uid};
use crate::ident::{Owner, Source};

/// A kind of tenant object. The type is what the store keeps: what a user wrote, and what was allocated.
trait TenantObject: Sized {
    /// What a user writes.
    type Spec;

    /// Checks what a user wrote, and completes it.
    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &Self::Spec) -> Result<Self, ApiError>;

    /// An object that uses this one, which therefore cannot be deleted.
    fn user(_: &Model, _: &Key) -> Option<Key> {
        None
    }

    /// The current object.
    fn find(model: &Model, key: &Key) -> Option<Arc<Self>>;

    /// Sets the object, without a check. The objects that it needs exist; the numbers that it takes are free or in quarantine.
    fn put(self: Arc<Self>, model: &mut Model, key: &Key, applied: &mut Applied);

    /// Removes it from the model. Nothing uses it.
    fn remove(model: &mut Model, key: &Key, applied: &mut Applied);

    /// The names of this kind in a vDC, in order.
    fn names(vdc: &Vdc) -> Box<dyn Iterator<Item = &Name> + '_>;

    /// Its name in contributions; none if it has no contributions of its own.
    fn owner(_: &Model, _: &Key) -> Option<Owner> {
        None
    }

    /// What the user wrote.
    fn spec(&self) -> Spec;

    /// Its identity; none for a kind that has no meaning in packets.
    fn uid_mut(&mut self) -> Option<&mut Uid> {
        None
    }

    /// Networks of its vDC that it needs.
    fn networks(&self) -> &[Name] {
        &[]
    }

    /// Its numbers that occur in packets, as far as the model knows the objects to which they refer.
    fn numbers(&self, _: &Model, _: &Key) -> Vec<Number> {
        Vec::new()
    }

    /// The contributions that decide its status.
    fn followed(&self, _: &Key) -> Followed {
        Followed::default()
    }

    /// The object as the API shows it.
    fn view(&self, seen: Seen) -> View;
}

/// Sources of an object's status.
pub struct Followed {
    /// Objects whose contributions ask devices for it.
    pub asked: Vec<Key>,
    /// The contributions that count.
    pub counts: fn(&Source) -> bool,
    /// Objects that delay it while they wait for a number.
    pub waits: Vec<Key>,
    /// The device that it is on.
    pub device: Option<Name>,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            asked: Vec::new(),
            counts: |_| true,
            waits: Vec::new(),
            device: None,
        }
    }
}

/// The member of a row that names the object's owner.
const OWNER: &str = "owner";

/// Reads a row.
struct Row;

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Row)
    }
}

impl Stored {
    /// The same object with another owner.
    pub(super) fn owned_by(self, owner: Option<OwnerName>) -> Self {
        Self { owner, ..self }
    }

    /// The part of it that users chose.
    pub fn written(&self) -> Written {
        Written {
            spec: self.spec(),
            owner: self.owner.clone(),
        }
    }
}

/// The part of an object that users chose; plans and the history compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What the user wrote.
    pub spec: Spec,
    /// Its owner; none if it has none.
    pub owner: Option<OwnerName>,
}

impl Written {
    /// As one document.
    pub fn document(&self) -> serde_json::Value {
        let mut document = self.spec.body().unwrap_or_default();
        if let (Some(members), Some(owner)) = (document.as_object_mut(), &self.owner) {
            members.insert(OWNER.to_owned(), owner.as_str().into());
        }
        document
    }
}

/// What the API shows about an object in addition to its content.
pub struct Seen {
    /// Its owner.
    pub owner: Option<OwnerName>,
    /// The progress of the devices.
    pub applied: status::Applied,
    /// The router that joins it.
    pub router: Option<Name>,
    /// How many objects of each kind are in it, by rank.
    pub counts: Counts,
    /// Revision that last changed it.
    pub revision: u64,
}

/// A number for each kind, by rank.
pub type Counts = [usize; Kind::ALL.len()];

/// Makes [`Stored`] and the functions by kind. Each row has the kind and the stored type.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($stored:ty);)*) => {
        /// The stored form of an object, by kind. It is shared with the store and with readers, and boxed because most
        /// objects are much smaller than the largest.
        #[derive(Debug, Clone, PartialEq, Eq)]
        enum Content {
            $($(#[$doc])* $kind(Arc<$stored>),)*
        }

        /// An object with everything that is not derived from others: the unit of the store.
        ///
        /// A row is a map with one member that is named after the kind, and `owner` if it has one.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Stored {
            content: Content,
            /// Its owner; none if it has none.
            pub owner: Option<OwnerName>,
        }

        impl Serialize for Stored {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_map(None)?;
                match &self.content {
                    $(Content::$kind(object) => row.serialize_entry(Kind::$kind.word(), object.as_ref())?,)*
                }
                if let Some(owner) = &self.owner {
                    row.serialize_entry(OWNER, owner)?;
                }
                row.end()
            }
        }

        impl<'de> Visitor<'de> for Row {
            type Value = Stored;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stored object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<Stored, A::Error> {
                let (mut content, mut owner) = (None, None);
                while let Some(member) = row.next_key::<String>()? {
                    match member.as_str() {
                        OWNER if owner.is_none() => owner = Some(row.next_value()?),
                        $(word if word == Kind::$kind.word() && content.is_none() => {
                            content = Some(Content::$kind(Arc::new(row.next_value()?)));
                        })*
                        word => return Err(de::Error::custom(format_args!("`{word}` is unknown or repeated"))),
                    }
                }
                let content = content.ok_or_else(|| de::Error::custom("it has no kind"))?;
                Ok(Stored { content, owner })
            }
        }

        impl Stored {
            /// Its identity; none if it has no meaning in packets.
            pub fn uid_mut(&mut self) -> Option<&mut Uid> {
                match &mut self.content {
                    $(Content::$kind(object) => Arc::make_mut(object).uid_mut(),)*
                }
            }

            /// Its kind.
            pub fn kind(&self) -> Kind {
                match &self.content {
                    $(Content::$kind(_) => Kind::$kind,)*
                }
            }

            /// What the user wrote.
            pub fn spec(&self) -> Spec {
                match &self.content {
                    $(Content::$kind(object) => object.spec(),)*
                }
            }

            /// Networks of its vDC that it needs.
            pub fn networks(&self) -> &[Name] {
                match &self.content {
                    $(Content::$kind(object) => object.networks(),)*
                }
            }

            /// The contributions that decide its status.
            pub fn followed(&self, key: &Key) -> Followed {
                match &self.content {
                    $(Content::$kind(object) => object.followed(key),)*
                }
            }

            /// The object as the API shows it.
            pub fn view(&self, seen: Seen) -> View {
                match &self.content {
                    $(Content::$kind(object) => object.view(seen),)*
                }
            }

            /// Its numbers, as far as the model knows the objects to which they refer.
            pub(super) fn numbers(&self, model: &Model, key: &Key) -> Vec<Number> {
                match &self.content {
                    $(Content::$kind(object) => object.numbers(model, key),)*
                }
            }
        }

        impl Vdc {
            /// Its objects of a kind, by name. A vDC is not in itself.
            pub fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &Name> + '_> {
                match kind {
                    $(Kind::$kind => <$stored>::names(self),)*
                }
            }
        }

        impl Model {
            /// An object as it would be stored.
            pub fn stored(&self, key: &Key) -> Option<Stored> {
                let content = match key.kind {
                    $(Kind::$kind => <$stored>::find(self, key).map(Content::$kind),)*
                };
                Some(Stored { content: content?, owner: self.owners.get(key).cloned() })
            }

            /// The name of an object in contributions; none if it has no contributions of its own, or does not exist.
            pub fn owner(&self, key: &Key) -> Option<Owner> {
                match key.kind {
                    $(Kind::$kind => <$stored>::owner(self, key),)*
                }
            }

            /// Sets an object, whatever its earlier state. The objects that it needs exist, and the numbers that it
            /// takes are free or in quarantine; `applied` records what came and went with it.
            pub fn put(&mut self, key: &Key, next: Option<Stored>, applied: &mut Applied) {
                let (content, owner) = next.map_or((None, None), |next| (Some(next.content), next.owner));
                match owner {
                    Some(owner) => self.owners.insert(key.clone(), owner),
                    None => self.owners.remove(key),
                };
                match (key.kind, content) {
                    $((Kind::$kind, Some(Content::$kind(object))) => object.put(self, key, applied),
                      (Kind::$kind, _) => <$stored>::remove(self, key, applied),)*
                }
            }

            /// An object that uses this one.
            pub(super) fn user(&self, key: &Key) -> Option<Key> {
                match key.kind {
                    $(Kind::$kind => <$stored>::user(self, key),)*
                }
            }

            /// Checks and completes an object. Returns it as it would be stored, without an owner.
            pub(super) fn check(&self, path: &str, key: &Key, spec: &Spec) -> Result<Stored, ApiError> {
                let fields = Fields(path);
                if key.kind != Kind::Vdc && !self.vdcs.contains_key(&key.vdc) {
                    return Err(ApiError::not_found(Key::vdc(key.vdc.clone())));
                }
                let labels = spec.labels().len();
                if labels > MAX_LABELS {
                    return Err(fields.invalid("labels", labels, format!("at most {MAX_LABELS} labels")));
                }
                let content = match spec {
                    $(Spec::$kind(spec) => {
                        <$stored>::check(self, &fields, key, spec).map(|checked| Content::$kind(Arc::new(checked)))
                    })*
                };
                Ok(Stored { content: content?, owner: None })
            }
        }
    };
}

kinds! {
    /// A vDC.
    Vdc(vfabric_api::kind::VdcSpec);
    /// A network with its VNI.
    Network(StoredNetwork);
    /// A router with its VRF.
    Router(StoredRouter);
    /// An attachment with its addresses.
    Attachment(StoredAttachment);
}

/// What the store's keys of objects start with.
pub const STORE_PREFIX: &[u8] = b"object/";

/// The store's key of an object. Kinds sort in the order in which they are to be loaded.
pub fn store_key(key: &Key) -> Vec<u8> {
    format!("object/{}/{}/{}", key.kind.rank(), key.vdc, key.name).into_bytes()
}

/// The object that a key of the store stands for.
pub fn parse_store_key(key: &[u8]) -> Option<Key> {
    let mut parts = std::str::from_utf8(key).ok()?.strip_prefix("object/")?.split('/');
    let kind = Kind::of_rank(parts.next()?.parse().ok()?)?;
    let found = Key::new(parts.next()?.parse().ok()?, kind, parts.next()?.parse().ok()?);
    (store_key(&found) == key).then_some(found)
}
