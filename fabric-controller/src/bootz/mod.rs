//! Enrolment of switches in the controller: where its keys, certificates and vouchers are ([`settings`]).
//! [`fabric_bootz::enrol`] makes the decisions; the controller provides the inventory.

pub mod settings;
