//! Loading a pipeline: compare cookies, and push it only if they differ.

use bytes::Bytes;
use p4runtime_proto::p4::{
    config::v1::P4Info,
    v1::{
        self as p4, get_forwarding_pipeline_config_request::ResponseType,
        set_forwarding_pipeline_config_request::Action,
    },
};
use prost::Message as _;

use crate::{
    error::{Error, Result},
    session::{Session, limit},
    write::Change,
};

/// A compiled program.
#[derive(Debug, Clone)]
pub struct Pipeline {
    p4info: P4Info,
    device_config: Bytes,
    cookie: u64,
}

impl Pipeline {
    /// A program; its cookie is a hash of both parts.
    #[must_use]
    pub fn new(p4info: P4Info, device_config: Bytes) -> Self {
        let info = p4info.encode_to_vec();
        let length = (info.len() as u64).to_be_bytes();
        let parts = [&length[..], &info, &device_config];
        Self {
            cookie: cookie(&parts),
            p4info,
            device_config,
        }
    }

    /// The control plane's view: the P4Info.
    #[must_use]
    pub fn p4info(&self) -> &P4Info {
        &self.p4info
    }

    /// The device config, which the target runs.
    #[must_use]
    pub fn device_config(&self) -> &Bytes {
        &self.device_config
    }

    /// The same program, with a cookie that also names the store that has the claim on the switch. The switch remembers
    /// the cookie.
    #[must_use]
    pub fn kept_by(mut self, keeper: u32) -> Self {
        self.cookie = self.cookie & PROGRAM | u64::from(keeper);
        self
    }

    /// The cookie of the pipeline. Equal pipelines have equal cookies in every release. The upper half names the
    /// program, the lower half the store that has the claim on the switch.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    fn is_program_of(&self, cookie: u64) -> bool {
        (self.cookie ^ cookie) & PROGRAM == 0
    }

    /// A cookie for this program and for the store that another cookie names.
    fn with_keeper_of(&self, cookie: u64) -> u64 {
        self.cookie & PROGRAM | cookie & !PROGRAM
    }
}

/// The part of a cookie that names the program.
const PROGRAM: u64 = 0xffff_ffff_0000_0000;

/// The store that has the claim on a switch with this cookie.
#[must_use]
pub fn keeper(cookie: u64) -> u32 {
    (cookie & !PROGRAM) as u32
}

/// FNV-1a, then mixed so that every bit of the result depends on every byte. Never 0, because some servers report 0 for
/// "none".
fn cookie(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash.max(1)
}

/// What [`Session::install`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// The switch was running it already.
    Unchanged,
    /// The pipeline was pushed; the switch kept the entities that still fit.
    Reconciled,
    /// The pipeline was pushed; the switch starts without entities.
    Pushed,
}

impl Session {
    /// Cookie of the running pipeline; `None` when there is no pipeline or it
    /// has no cookie.
    ///
    /// # Errors
    /// As for any call.
    pub async fn running_cookie(&self) -> Result<Option<u64>> {
        let request = p4::GetForwardingPipelineConfigRequest {
            device_id: self.options.device_id,
            response_type: ResponseType::CookieOnly.into(),
        };
        let mut client = self.client.clone();
        let call = client.get_forwarding_pipeline_config(request);
        match limit("get pipeline", self.options.timeout, call).await {
            Ok(answer) => {
                let config = answer.into_inner().config;
                Ok(config.and_then(|c| c.cookie).map(|c| c.cookie))
            }
            Err(error)
                if matches!(
                    error.code(),
                    Some(tonic::Code::FailedPrecondition | tonic::Code::NotFound)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the switch run the program of `pipeline`. If it runs the program already, nothing is sent. If the switch
    /// keeps its entities (it ran the program already, or reconciled it), its cookie still names the store that had the
    /// claim before; [`Session::keep`] changes that.
    ///
    /// After an error nothing may be written in this session: after bmv2 has refused a pipeline, a Write crashes it.
    ///
    /// # Errors
    /// [`Error::Pipeline`] when the switch refuses it or runs another one afterwards; others as for any call.
    pub async fn install(&self, pipeline: &Pipeline) -> Result<Installed> {
        let running = self.running_cookie().await?;
        if running.is_some_and(|cookie| pipeline.is_program_of(cookie)) {
            return Ok(Installed::Unchanged);
        }
        if self.target.keeps_replication {
            self.clear_replication().await;
        }
        let installed = if let Some(running) = running.filter(|_| self.target.reconciles) {
            let cookie = pipeline.with_keeper_of(running);
            match self.set(pipeline, cookie, Action::ReconcileAndCommit).await {
                Ok(()) => Installed::Reconciled,
                // If the switch cannot reconcile the program, it is pushed and the entities are lost.
                Err(Error::Rpc { .. }) => self.push(pipeline).await?,
                Err(error) => return Err(error),
            }
        } else {
            self.push(pipeline).await?
        };
        match self.running_cookie().await? {
            Some(cookie) if pipeline.is_program_of(cookie) => Ok(installed),
            other => Err(Error::Pipeline(format!(
                "the switch accepted cookie {:#x} but reports {other:x?}",
                pipeline.cookie
            ))),
        }
    }

    async fn push(&self, pipeline: &Pipeline) -> Result<Installed> {
        match self.set(pipeline, pipeline.cookie, Action::VerifyAndCommit).await {
            Ok(()) => Ok(Installed::Pushed),
            Err(Error::Rpc { status, .. })
                if matches!(
                    status.code(),
                    tonic::Code::InvalidArgument
                        | tonic::Code::Unimplemented
                        | tonic::Code::Unknown
                        | tonic::Code::Internal
                        | tonic::Code::FailedPrecondition
                ) =>
            {
                let (code, message) = (status.code(), status.message());
                Err(Error::Pipeline(format!("refused: {message} ({code:?})")))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the switch, which runs the program of `pipeline`, remember the store that has the claim on it. Its
    /// entities stay. If a switch would lose them with a new cookie, the cookie is not changed.
    ///
    /// # Errors
    /// As for any call.
    pub async fn keep(&self, pipeline: &Pipeline) -> Result<()> {
        if !self.target.reconciles {
            return Ok(());
        }
        self.set(pipeline, pipeline.cookie, Action::ReconcileAndCommit).await
    }

    async fn set(&self, pipeline: &Pipeline, cookie: u64, action: Action) -> Result<()> {
        let request = p4::SetForwardingPipelineConfigRequest {
            device_id: self.options.device_id,
            role: self.options.role.clone(),
            election_id: self.election_id(),
            action: action.into(),
            config: Some(p4::ForwardingPipelineConfig {
                p4info: Some(pipeline.p4info.clone()),
                p4_device_config: pipeline.device_config.to_vec(),
                cookie: Some(p4::forwarding_pipeline_config::Cookie { cookie }),
            }),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let call = client.set_forwarding_pipeline_config(request);
        limit("set pipeline", self.options.bulk_timeout, call).await?;
        Ok(())
    }

    /// Deletes multicast groups and clone sessions, if the switch has any. A switch
    /// without a pipeline has none, and may refuse even to read them.
    async fn clear_replication(&self) {
        let Ok(entities) = self.read_replication().await else {
            return;
        };
        let changes: Vec<_> = entities.iter().map(|e| Change::Delete(e.key().clone())).collect();
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.write(&changes).await {
            tracing::warn!(%error, "multicast groups of the former pipeline may remain");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_tell_pipelines_apart() {
        let info = |name: &str| P4Info {
            pkg_info: Some(p4runtime_proto::p4::config::v1::PkgInfo {
                name: name.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let cookie = |name, json: &'static str| Pipeline::new(info(name), json.into()).cookie();
        assert_eq!(cookie("a", "{}"), cookie("a", "{}"));
        assert_ne!(cookie("a", "{}"), cookie("b", "{}"));
        assert_ne!(cookie("a", "{}"), cookie("a", "{ }"));
        // Switches remember cookies while the controller is upgraded, so this value must not change.
        assert_eq!(super::cookie(&[b"vfabric"]), 0x7ca2_dd83_43c1_b92a);
    }
}
