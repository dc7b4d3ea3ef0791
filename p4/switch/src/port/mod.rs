//! Ports: where frames come from and go to.
mod forward;
mod packet;

pub use forward::{Forwarder, Waker, start};
