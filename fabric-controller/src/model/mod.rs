//! What the controller knows of tenants and of the fabric, and who uses whom.

mod ident;

pub use ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex, VdcId};
