//! gNOI OS: which version runs.

use gnoi_proto::gnoi::os::activate_response::Response as Outcome;
use gnoi_proto::gnoi::os::os_server::Os;
use gnoi_proto::gnoi::os::{
    ActivateError, ActivateOk, ActivateRequest, ActivateResponse, InstallRequest, InstallResponse, StandbyState,
    VerifyRequest, VerifyResponse, VerifyStandby, activate_error, standby_state, verify_standby,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

/// The version that runs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The service.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsService;

#[async_trait]
impl Os for OsService {
    type InstallStream = tokio_stream::Empty<Result<InstallResponse, Status>>;

    async fn install(&self, _: Request<Streaming<InstallRequest>>) -> Result<Response<Self::InstallStream>, Status> {
        Err(Status::unimplemented("software is installed by packages"))
    }

    async fn activate(&self, request: Request<ActivateRequest>) -> Result<Response<ActivateResponse>, Status> {
        let request = request.into_inner();
        let error = |kind: activate_error::Type, detail: String| {
            Outcome::ActivateError(ActivateError {
                r#type: kind.into(),
                detail,
            })
        };
        let outcome = if request.standby_supervisor {
            error(
                activate_error::Type::NotSupportedOnBackup,
                "there is no standby supervisor".into(),
            )
        } else if request.version == VERSION {
            // It runs already.
            Outcome::ActivateOk(ActivateOk {})
        } else {
            let shown: String = request.version.chars().take(100).collect();
            let detail = format!("version `{shown}` is not installed: {VERSION} is, and packages bring others");
            error(activate_error::Type::NonExistentVersion, detail)
        };
        Ok(Response::new(ActivateResponse {
            response: Some(outcome),
        }))
    }

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let state = StandbyState {
            state: standby_state::State::Unsupported.into(),
        };
        Ok(Response::new(VerifyResponse {
            version: VERSION.into(),
            verify_standby: Some(VerifyStandby {
                state: Some(verify_standby::State::StandbyState(state)),
            }),
            ..VerifyResponse::default()
        }))
    }
}
