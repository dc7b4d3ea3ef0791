//! Pods that take a workload's attachment over from a pod on another host: its live migration, asked for from below.
//!
//! **Problem.** To migrate a virtual machine, Kubernetes starts a second pod on the target host. Its ADD asks for the addresses that
//! the first pod uses. It must get them, silent, and neither pod's DEL may take them away from the other.
//!
//! **Model.** A host that attaches a pod may name the workload in it ([`Spot::workload`]). The attachment's name is a digest of that
//! identity and the interface, so it is the same on every host. What a request means follows from where the attachment is:
//!
//! | the attachment | ADD | DEL |
//! | --- | --- | --- |
//! | does not exist | it begins here | nothing |
//! | is here | nothing | it is deleted; if it migrates, it is at its target from now on |
//! | is to come here | nothing | it does not come; it is where it was |
//! | is on another host, and stays there | it migrates here: `prepared` | nothing |
//! | is on another host, and migrates elsewhere | refused | nothing |
//!
//! From `prepared` on it is a migration like any other ([`super::migration`]).
//!
//! **Authority** ([`permit`], checked by the writer). The vDC is assigned to the host (to the other one it is, because what is in use
//! cannot be taken away from a vDC). The attachment was asked for by a host, with
//! the same identity: who does not know it cannot name it, because its name is a digest. Network, MAC address and IP addresses stay.

use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::kind::{AttachmentSpec, Key, Migration, MigrationPhase, Place, Spec, View};
use vfabric_api::service::{Change, FabricService as _, Origin, Transaction};
use vfabric_api::status::Attachment;
use vtep_proto::POD_NETNS;

use super::Controller;
use super::below::{forbidden, id_of};
use super::migration::{finished, under_way};
use super::writer::What;
use crate::driver::vtep::Spot;
use crate::model::Model;
use crate::store::Store;

/// Start of the name of an attachment that belongs to a workload.
pub(super) const PREFIX: &str = "workload-";
/// Seconds until the target is given up, the most that there are: the pod's DEL ends it, and a machine with much memory takes hours.
const TIMEOUT_S: u32 = 86_400;
/// How often a decision is made again because somebody else has changed the attachment meanwhile.
const TRIES: usize = 5;

/// What became of an attachment when a pod gave it up.
pub(super) enum Left {
    /// It is the pod's alone, and has to be deleted.
    Here,
    /// It stays, at another host; with the revision in which this host lost its part, if it had one.
    Elsewhere(Option<u64>),
}

/// Whether a host may ask for a migration: `held` and `asked` are the attachment before and after.
pub(super) fn permit(
    model: &Model,
    host: &Name,
    vdc: &Name,
    (held, asked): (&AttachmentSpec, &AttachmentSpec),
) -> Result<(), ApiError> {
    let hosts = model.vdc(vdc).map(|vdc| &vdc.spec.hosts);
    if !hosts.is_some_and(|hosts| hosts.contains(host)) {
        return Err(forbidden(format!("vDC `{vdc}` is not assigned to host `{host}`")));
    }
    let Place::Host { netns, .. } = &held.place else {
        return Err(forbidden("only a pod's attachment can be taken over"));
    };
    let is_of_pods = held.name.as_str().starts_with(PREFIX) && netns.starts_with(POD_NETNS);
    let comes_here = asked.migration.as_ref().is_some_and(|m| {
        let into_pod = m.netns.as_ref().is_some_and(|netns| netns.starts_with(POD_NETNS));
        m.host == *host && m.phase == MigrationPhase::Prepared && into_pod
    });
    let otherwise_same = AttachmentSpec {
        migration: None,
        ..asked.clone()
    };
    if !is_of_pods || !comes_here || *held != otherwise_same {
        return Err(forbidden(
            "a host may take over a workload's attachment as it is, for one of its own pods",
        ));
    }
    Ok(())
}

/// The namespace that an attachment is to come to; none: empty.
pub(super) fn netns_of(spec: &AttachmentSpec) -> &str {
    let netns = spec.migration.as_ref().and_then(|m| m.netns.as_deref());
    netns.unwrap_or_default()
}

/// Refuses a pod that asks for something else than what the workload has.
fn is_same_workload(held: &Attachment, asked: &AttachmentSpec) -> Result<(), ApiError> {
    let other = |field: &str, value: String, has: String| {
        let expected = format!("{has}, which the workload has on its host, or none");
        Err(ApiError::field(ErrorCode::Taken, field, value, expected))
    };
    if asked.network != held.spec.network {
        return other("network", asked.network.to_string(), held.spec.network.to_string());
    }
    if let Some(mac) = asked.mac.filter(|mac| *mac != held.mac) {
        return other("mac", mac.to_string(), held.mac.to_string());
    }
    match asked.ips.iter().find(|ip| !held.ips.contains(ip)) {
        Some(ip) => other("ips", ip.to_string(), format!("{:?}", held.ips)),
        None => Ok(()),
    }
}

impl<S: Store> Controller<S> {
    fn is_assigned(&self, host: &Name, vdc: &Name) -> bool {
        let published = self.published();
        let found = published
            .object(&Key::vdc(vdc.clone()))
            .map(|object| object.stored.spec());
        matches!(found, Some(Spec::Vdc(vdc)) if vdc.hosts.contains(host))
    }

    async fn attachment(&self, key: &Key) -> Result<Option<Attachment>, ApiError> {
        match self.get(key).await {
            Ok(View::Attachment(attachment)) => Ok(Some(attachment)),
            Ok(_) => Ok(None),
            Err(e) if e.code == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Attaches a pod whose workload has its attachment already, here or on another host; returns the attachment's id once this host
    /// is ready. None if the workload begins here.
    pub(super) async fn take_over(
        &self,
        host: &Name,
        key: &Key,
        asked: &AttachmentSpec,
    ) -> Result<Option<String>, ApiError> {
        let Place::Host { netns, interface, .. } = &asked.place else {
            return Ok(None);
        };
        // Any other host gets the same refusal whether there is such a workload or not.
        if !self.is_assigned(host, &key.vdc) {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let Some(held) = self.attachment(key).await? else {
                return Ok(None);
            };
            is_same_workload(&held, asked)?;
            let comes = under_way(&held.spec);
            if held.spec.place == asked.place || comes.as_ref().is_some_and(|(_, target)| *target == asked.place) {
                self.wait_for_place(host, key).await?;
                return Ok(Some(id_of(key)));
            }
            let busy = |why: String| Err(ApiError::new(ErrorCode::InUse, format!("{key}: {why}")));
            if let Some((migration, _)) = comes {
                return busy(format!(
                    "the workload migrates to another pod on host `{}`",
                    migration.host
                ));
            }
            if matches!(&held.spec.place, Place::Host { host: at, .. } if at == host) {
                return busy("the workload is in another pod of this host".to_owned());
            }
            let migration = Migration {
                host: host.clone(),
                netns: Some(netns.clone()),
                interface: Some(interface.clone()),
                phase: MigrationPhase::Prepared,
                timeout_s: TIMEOUT_S,
            };
            let spec = AttachmentSpec {
                migration: Some(migration),
                ..held.spec
            };
            let origin = Origin {
                author: format!("host {host}"),
                reason: "a pod takes its workload over".to_owned(),
                // The permissions of a host are checked separately. The attachment keeps its owner.
                force: true,
                ..Origin::default()
            };
            let change = Change::Replace(key.vdc.clone(), Spec::Attachment(spec));
            let transaction = Transaction {
                expect: Some((key.clone(), held.revision)),
                ..Transaction::one(change, origin)
            };
            match self.send(What::OfHost(host.clone(), transaction)).await {
                Ok(_) => {}
                Err(e) if e.code == ErrorCode::PreconditionFailed => continue,
                Err(e) => return Err(e),
            }
            if let Err(why) = self.wait_for_place(host, key).await {
                if let Err(error) = self.call_off(&asked.place, key).await {
                    // The host has a journal and gives it up when it can.
                    warn!(%host, %key, %error, "a takeover cannot be called off");
                }
                return Err(why);
            }
            info!(target: "audit", %host, attachment = %key, "prepared for a takeover by the host");
            return Ok(Some(id_of(key)));
        }
        let why = format!("{key} is changed all the time");
        Err(ApiError::new(ErrorCode::Unavailable, why))
    }

    /// Ends a migration to a place, if there is one.
    async fn call_off(&self, to: &Place, key: &Key) -> Result<Option<u64>, ApiError> {
        let Some(held) = self.attachment(key).await? else {
            return Ok(None);
        };
        match under_way(&held.spec) {
            Some((_, target)) if target == *to => self.end(key, held.revision, None).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Ends the migration that an attachment has at a revision: at this place, or where it was.
    async fn end(&self, key: &Key, revision: u64, at: Option<&Place>) -> Result<u64, ApiError> {
        let (patch, why) = match at {
            Some(target) => (finished(target), "the source's pod is gone"),
            None => (
                serde_json::json!({"migration": null}),
                "the target's pod is gone, or was not ready",
            ),
        };
        self.change_migration(key, revision, patch, why).await
    }

    /// A pod gives up its workload's attachment.
    pub(super) async fn leave(&self, host: &Name, spot: &Spot, key: &Key) -> Result<Left, ApiError> {
        let here = Place::Host {
            host: host.clone(),
            netns: spot.netns.clone(),
            interface: spot.interface.clone(),
        };
        let mut last = ApiError::new(ErrorCode::Unavailable, format!("{key} is changed all the time"));
        for _ in 0..TRIES {
            let Some(held) = self.attachment(key).await? else {
                return Ok(Left::Elsewhere(None));
            };
            let left = match under_way(&held.spec) {
                Some((_, target)) if target == here => self.end(key, held.revision, None).await.map(Some),
                _ if held.spec.place != here => Ok(None),
                None => return Ok(Left::Here),
                Some((_, target)) => self.end(key, held.revision, Some(&target)).await.map(Some),
            };
            match left {
                Ok(revision) => {
                    if revision.is_some() {
                        info!(target: "audit", %host, attachment = %key, "given up by the host; it is elsewhere");
                    }
                    return Ok(Left::Elsewhere(revision));
                }
                Err(e) if e.code == ErrorCode::PreconditionFailed => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }
}
