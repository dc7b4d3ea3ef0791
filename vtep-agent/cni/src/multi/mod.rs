//! The meta plugin: several networks for one pod, by any CNI plugins.
//!
//! **Problem.** A runtime asks for one network. Pods want more, each from its own plugin, chosen in an annotation (Network
//! Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto Standard" v1.3, below "NPWG"). However an
//! ADD ends, the pod must have all of its interfaces or none; if it fails, every address that a delegate has allocated
//! must be released.
//!
//! **Model.** [`catalog`] finds pods and definitions, [`annotation`] reads what a pod selects, [`plan`] turns both into a list
//! of attachments, each with an interface name ([`names`]) and the configurations of its plugins ([`network`]). [`work`] carries
//! out the list: [`delegate`] runs the plugins, [`journal`] keeps their input, [`status`] reports the outcome.
//! [`follow`] and [`change`] do the same for running pods, whenever the catalog changes.
//!
//! **Invariants.**
//! - Only one process at a time works on a sandbox (a lock on a file), on its attachments one after the other (NPWG 7.3).
//! - An attachment is in the journal from before its first plugin runs until its DEL has succeeded. DEL gives each plugin the
//!   same octets as its ADD; it reads neither pods nor definitions, which may be gone or changed.
//! - Everything that a failed ADD has added is removed in reverse order; the first failure fails the pod (NPWG 7.2).
//! - A sandbox is identified by the runtime's id: a late DEL of an older sandbox does not touch a younger one with the same
//!   pod name.
//! - On a running pod, an interface that has not changed is not touched, and a failure of one interface leaves the others
//!   as they are.
//!
//! **Cost.** An ADD or DEL costs two or three durable writes and the plugins that it runs. Pods and definitions are read from
//! the folder once for an ADD; DEL reads only the sandbox's file.
//!
//! **Deviations from NPWG.** A wrong annotation fails the pod with code 7; the specification would ignore it, and the pod would
//! start with fewer interfaces than asked for. `ipam-claim-reference` and device ids need Kubernetes and are refused by name.
//! Configurations older than CNI 0.3.0 are refused.

pub mod annotation;
pub mod catalog;
pub mod change;
pub mod delegate;
pub mod follow;
pub mod journal;
pub mod names;
pub mod network;
pub mod plan;
pub mod result;
pub mod routes;
pub mod settings;
pub mod status;
pub mod work;
pub mod workload;
