//! Writes, and how many of them go together.

use std::sync::Arc;

use crate::entity::Entity;

/// What a driver can take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most writes in one batch.
    pub batch: usize,
    /// True when the device applies the writes of a batch in the given order, so that one
    /// batch may hold what refers to each other. P4Runtime does not promise it (section
    /// 12.2: a server may reorder), a vtep agent does.
    pub ordered: bool,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The device does not hold this key.
    Insert(Arc<Entity>),
    /// The device holds this key with another content.
    Modify(Arc<Entity>),
    /// The device holds this; afterwards it must not.
    Delete(Arc<Entity>),
}

impl Write {
    /// The entity that is written or deleted.
    pub fn entity(&self) -> &Arc<Entity> {
        match self {
            Self::Insert(e) | Self::Modify(e) | Self::Delete(e) => e,
        }
    }
}

/// Writes for one round trip. Unless [`Limits::ordered`], all are of one rank and either
/// all deletions or none, so that a device may apply them in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Revision of the intent to which these writes bring the device closer.
    pub epoch: u64,
    /// The writes, at most [`Limits::batch`].
    pub writes: Vec<Write>,
}
