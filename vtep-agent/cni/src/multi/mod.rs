//! The meta plugin: several networks for one pod, by any CNI plugins.
//!
//! **Problem.** A runtime asks for one network. Pods want more, each by a plugin of its own, chosen in an annotation (Network
//! Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto Standard" v1.3, below "NPWG"). However an
//! ADD ends, the pod has all of its interfaces or none, and every address that a delegate has taken is given back.
//!
//! **Model.** [`catalog`] finds pods and definitions, [`annotation`] reads what a pod selects, [`plan`] turns both into a list
//! of attachments: each an interface name ([`names`]) and the configurations of its plugins ([`network`]). [`work`] carries
//! the list out: [`delegate`] runs the plugins, [`journal`] keeps what was given to them, [`status`] says what came of it.
//! [`follow`] and [`change`] do the same for pods that run, whenever the catalog changes.
//!
//! **Invariants.**
//! - A sandbox is worked on by one process at a time (a lock on a file), its attachments one after the other (NPWG 7.3).
//! - The journal names an attachment before its first plugin runs and until its DEL has succeeded. DEL hands each plugin the
//!   octets that its ADD was given; it reads neither pods nor definitions, which may be gone or changed.
//! - What a failed ADD has added is taken away in reverse order; the first failure fails the pod (NPWG 7.2).
//! - A sandbox is known by the runtime's id: a late DEL of an older sandbox touches nothing of a younger one with the same
//!   pod name.
//! - On a pod that runs, an interface that has not changed is not touched, and one that cannot be brought up leaves the others
//!   as they are.
//!
//! **Cost.** An ADD or DEL costs two or three durable writes and the plugins that it runs. Pods and definitions are read from
//! the folder once for an ADD; DEL reads the sandbox's file only.
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
