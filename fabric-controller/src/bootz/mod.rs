//! Enrolment of switches in the controller: where its keys, certificates and vouchers are ([`settings`]). What is decided with
//! them is [`fabric_bootz::enrol`]'s; the inventory for it comes from the controller.

pub mod settings;
