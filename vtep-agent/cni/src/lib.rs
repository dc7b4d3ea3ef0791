//! The CNI plugin of the fabric.
//!
//! **Problem.** Container runtimes start a program for each interface of a container (Container Network Interface 1.1).
//! It must be quick, must report truthfully what is in place, and must leave nothing behind however it ends.
//!
//! **Model.** The program holds no state. [`config`] reads what the runtime wants, [`command`] turns each verb into one
//! request to the host's VTEP agent over a unix socket ([`protocol`]), and [`result`] writes the reply in the requested version
//! of CNI. The agent keeps the journal, asks the controller, and creates the interface.
//!
//! **Invariants.** ADD succeeds only if host and leaf have applied the attachment. DEL succeeds if the attachment is already gone.
//! No error text of DEL contains words that runtimes take for "it is gone" ([`error`]). No input makes it panic.
//!
//! **Cost.** One process and one request over the socket for each call; the agent does the work.
//!
//! **Several networks for one pod.** The meta plugin ([`multi`], program `vfabric-multi`) runs any CNI plugins, including this
//! one.
//!
//! # Example
//! A MAC address in `CNI_ARGS` comes before one in the configuration:
//! ```
//! use vfabric_cni::config::Config;
//!
//! let conf = br#"{ "cniVersion": "1.0.0", "name": "blue-web", "type": "vfabric",
//!                  "vdc": "blue", "network": "web", "mac": "02:00:00:00:00:01" }"#;
//! let config = Config::parse(conf).unwrap();
//! let wish = config.wish("MAC=02:00:00:00:00:02").unwrap();
//! assert_eq!((wish.vdc.as_str(), wish.network.as_str()), ("blue", "web"));
//! assert_eq!(wish.mac.as_deref(), Some("02:00:00:00:00:02"));
//!
//! let error = Config::parse(br#"{ "cniVersion": "9.9.9" }"#).unwrap_err();
//! assert!(error.to_string().contains("cniVersion"), "{error}");
//! ```

pub mod command;
pub mod config;
pub mod error;
pub mod exec;
pub mod ipam;
pub mod multi;
pub mod protocol;
pub mod result;
