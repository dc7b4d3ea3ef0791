//! gNOI and gNSI: what an operator or the controller does to the switch as a machine.
//!
//! | service | here |
//! | --- | --- |
//! | gNOI System | `Time`; `Reboot` (COLD and WARM: the process restarts with an empty pipeline), `RebootStatus`, `CancelReboot` |
//! | gNOI Healthz | `Get` and `List`: the threads that forward |
//! | gNOI OS | `Install`, `Activate`, `Verify`; without the operator's program ([`os`]) `Verify`, and `Activate` of the version that runs |
//! | gNSI Certz | `Rotate` of the one TLS profile [`certz::PROFILE`], `GetProfileList`, `CanGenerateCSR` |
//!
//! Other calls of these services get `UNIMPLEMENTED`. Who may call what is decided in [`crate::access`].
//!
//! Sources: gnoi.system 1.4.0, gnoi.healthz 1.3.0, gnoi.os 0.1.4, gnsi.certz.v1.

pub mod certz;
pub mod healthz;
pub mod os;
pub mod system;

use std::sync::Arc;

use futures::future::BoxFuture;

/// The process as these services see it.
pub trait Machine: Send + Sync + 'static {
    /// Whether the threads that forward reply in time.
    fn is_forwarding(&self) -> BoxFuture<'_, bool>;

    /// Stops serving, and starts the program again in the same process.
    fn restart(&self, reason: &str);
}

/// What is served.
pub struct Gnoi {
    /// The process.
    pub machine: Arc<dyn Machine>,
    /// The restart that started this process, if one did.
    pub came_from: Option<system::Restart>,
    /// The TLS profile; none without TLS.
    pub profile: Option<Arc<certz::Profile>>,
    /// How software is installed; none: packages bring it.
    pub os: Option<os::Settings>,
}
