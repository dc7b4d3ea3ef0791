//! gNMI server: the ports and the name of the switch as OpenConfig trees.
//!
//! # Model
//! [`tree`] makes leaves of [`tree::Interface`] values, [`path`] selects them, [`set`] understands changes, and
//! [`subscribe`] remembers per subscription what was sent. They do no I/O; [`service`] is gRPC around them.
//! The source of the data is behind the trait [`tree::Interfaces`].
//!
//! # Served
//! `/interfaces/interface[name]/{config,state}` (openconfig-interfaces), its `ethernet/state`
//! (openconfig-if-ethernet), `state/id`, the P4Runtime port number (openconfig-p4rt), `/system/{config,state}/hostname`, `/system/state/boot-time`,
//! and the packet engine as `/components/component[name=pipeline]` with its device id and its losses.
//! Settable: interfaces (ports are added by setting `config/id`, and can be removed); their `config/enabled`, `config/mtu`,
//! `config/description`, and, where their device can do it ([`ethtool`]), `ethernet/config/{port-speed,auto-negotiate,fec-mode}`;
//! `/system/config/hostname`. Nothing survives a restart. `config/enabled` is the value of the
//! last `Set`, true by default; `state/enabled` is the device's actual state.
//!
//! # Cost
//! A change of one interface costs one interface per subscription. Queues are bounded; a slow subscriber gets merged
//! changes later and delays nobody.
//!
//! Source: the gNMI specification (openconfig/reference, `rpc/gnmi/gnmi-specification.md`); sections are given where they
//! matter.

pub mod ethernet;
pub mod ethtool;
pub mod memory;
pub mod netdev;
pub mod path;
pub mod service;
pub mod set;
pub mod subscribe;
pub mod tree;
