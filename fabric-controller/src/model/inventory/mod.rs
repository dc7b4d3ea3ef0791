//! The inventory: switches, links and hosts as objects that come, change and go.
//!
//! **Model.** An object has an identity ([`Uid`](super::number::Uid)) and a handle; neither is ever given to another
//! object, whatever its name. The values that appear in packets (the number and the addresses of its VTEP, the MAC
//! address of its router, the MAC address and the port of a host) are allocated once and stored with it.
//!
//! | state | who holds entries for it | it becomes | when |
//! | --- | --- | --- | --- |
//! | arriving | nobody | in service | it was read back, and has confirmed that it holds nothing |
//! | in service | itself, the others | drained | an operator drains it |
//! | drained | the same; paths avoid it, it gets no new attachments | in service | an operator ends that |
//! | in service, drained | | arriving | it becomes another machine (device id, MAC address) |
//! | arriving, in service, drained | | leaving | an operator removes it, and nothing uses it |
//! | leaving | those that have not confirmed yet | (not there) | every number of it is free again |
//! | any | | gone | an operator says that it is dead |
//! | gone | nobody; those around it shut it out | leaving | an operator removes it |
//!
//! A device that arrives may have been in the fabric before, under another identity, and may hold entities with numbers
//! that mean something else by now. So it is emptied before it is used. Only the devices of the first topology are in
//! service at once.
//!
//! The numbers of an object that leaves, or is gone, go into quarantine like those of tenants, held by every switch and
//! by the object itself; for a gone device, it is enough that its neighbours have shut it out. Other hosts need not
//! confirm: if a host still has an entry for an old VTEP address, the entry belongs to a network whose VNI the host
//! also holds, so a frame that it sends there belongs to the same tenant, or is refused. An object leaves only when all
//! its numbers are free. Until then it keeps its name, its ports and its numbers, and a request for one of them is
//! refused with a reason. So objects of the inventory never wait for a number, and no name belongs to two devices.
//!
//! **Cost.** A change costs what it touches: adding or removing a switch costs one path from and one path to each other
//! switch.

mod check;
mod diff;
mod put;
mod stored;
mod verbs;

pub use stored::{NEXT_KEY, PREFIX, StoredHost, StoredItem, StoredLink, StoredSwitch, item_key};
