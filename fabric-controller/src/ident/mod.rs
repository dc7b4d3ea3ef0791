//! Handles of objects in memory: small, fast to hash, never shown. Those of switches and hosts are stored with them.

mod source;

pub use source::{Owner, Source};

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Position in the table of its kind.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl From<$name> for usize {
            fn from(id: $name) -> Self {
                id.index()
            }
        }

        impl From<usize> for $name {
            /// Tables are bounded far below 2^32 by memory.
            fn from(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    };
}

handle!(
    /// A vDC.
    VdcId
);
handle!(
    /// A tenant network.
    NetworkId
);
handle!(
    /// A router.
    RouterId
);
handle!(
    /// An attachment.
    AttachmentId
);
handle!(
    /// A switch. Never given to another one, and to no host.
    SwitchIndex
);
handle!(
    /// A host. Never given to another one, and to no switch.
    HostIndex
);

/// A device: the handle of its switch or host in the inventory. Never given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub u32);
