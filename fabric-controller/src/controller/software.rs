//! Software of switches: installed, checked by the switch, then run.
//!
//! A call only begins the installation, because a transfer takes minutes. The result is an event, `software_installed`
//! or `software_refused`. If the controller ends during the transfer, the transfer breaks off, the switch keeps the
//! software that it had, and the operator has to make the call again.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::ident::{Label, Name};
use vfabric_api::machine::{Install, InstallSpec, RebootSpec};
use vfabric_api::service::Origin;

use super::Controller;
use crate::device::machine::{Maintenance, Package};
use crate::store::Store;

/// Installations that wait.
const QUEUE: usize = 64;
/// Transfers at a time: they share the management network.
const AT_ONCE: usize = 4;

/// An installation that was asked for.
struct Job {
    switch: Name,
    package: Package,
    reboot: RebootSpec,
    origin: Origin,
}

/// Installations that wait.
pub(super) struct Jobs {
    queue: mpsc::Sender<Job>,
    /// Held until the task that works on them takes it.
    waiting: Mutex<Option<mpsc::Receiver<Job>>>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Self {
            queue,
            waiting: Mutex::new(Some(waiting)),
        }
    }
}

impl<S: Store> Controller<S> {
    /// Begins to install an image on a switch.
    pub(super) async fn begin_install(
        &self,
        name: &Name,
        spec: InstallSpec,
        origin: Origin,
    ) -> Result<Install, ApiError> {
        let (switch, _) = self.machine(name)?;
        self.access()?;
        let (image, content) = self.image(spec.image.clone()).await?;
        let refused = |detail: String| ApiError::new(ErrorCode::PreconditionFailed, detail);
        let software = image.software.ok_or_else(|| {
            refused(format!(
                "image `{}` names no software: upload it with the name of its version",
                image.name
            ))
        })?;
        let is_for = |model: &Label| image.models.is_empty() || image.models.contains(model);
        if let Some(model) = switch.model.as_ref().filter(|model| !is_for(model)) {
            return Err(refused(format!(
                "image `{}` is not for model `{model}` of switch `{name}`",
                image.name
            )));
        }
        let job = Job {
            switch: name.clone(),
            package: Package {
                version: software.to_string(),
                octets: image.octets,
                content,
            },
            reboot: spec.reboot,
            origin,
        };
        let full = || ApiError::new(ErrorCode::Unavailable, format!("{QUEUE} installations wait already"));
        self.software.queue.try_send(job).map_err(|_| full())?;
        Ok(Install {
            switch: name.clone(),
            software,
        })
    }

    /// Works on installations. Runs until dropped.
    pub(super) async fn install_all(&self, access: &Arc<dyn Maintenance>) {
        let waiting = self
            .software
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(waiting) = waiting else {
            return std::future::pending().await;
        };
        ReceiverStream::new(waiting)
            .for_each_concurrent(AT_ONCE, |job| self.install_one(access, job))
            .await;
    }

    async fn install_one(&self, access: &Arc<dyn Maintenance>, job: Job) {
        let (name, version) = (job.switch.clone(), job.package.version.clone());
        let (reason, words) = match self.try_install(access, job).await {
            Ok(()) => (
                EventReason::SoftwareInstalled,
                format!("{version} is installed; it restarts to run it"),
            ),
            Err(error) => (EventReason::SoftwareRefused, format!("{version}: {}", error.detail)),
        };
        tracing::info!(switch = %name, version, words, "software of a switch");
        self.about(&name, reason, words);
    }

    async fn try_install(&self, access: &Arc<dyn Maintenance>, job: Job) -> Result<(), ApiError> {
        let (name, version) = (&job.switch, job.package.version.clone());
        let (switch, state) = self.machine(name)?;
        let refused = |error| super::machines::refused(&error, name);
        access.install(&switch, job.package).await.map_err(refused)?;
        // While the software was transferred, the switch forwarded.
        self.drain_for(name, state, &job.reboot, job.origin).await?;
        access.activate(&switch, &version).await.map_err(refused)
    }
}
