//! gNOI OS: which version runs, and how another one gets there.
//!
//! # Model
//! A package is received into a spool directory ([`spool`]), checked there, and kept whole under the name of its version. What a package is,
//! and how its content becomes the program of the next start, is not known here: the operator's program knows ([`program`]), as it is the
//! only part that needs rights on the system. Without one, packages cannot be installed, and `Install` is `UNIMPLEMENTED`.
//!
//! # Invariants
//! - Only one package is received at a time, and never more octets than were announced, or than the bound.
//! - A version in the spool is whole and was checked by the operator's program; its SHA-256 is stored beside it and compared before it is
//!   activated.
//! - A transfer that ends early, fails a check or finds the disk full leaves nothing.
//! - A version that was activated but does not run after the restart is named by `Verify`.
//!
//! Source: gNOI os.proto 0.1.4.

pub mod program;
pub mod spool;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gnoi_proto::gnoi::os::activate_response::Response as Outcome;
use gnoi_proto::gnoi::os::install_error::Type as Fault;
use gnoi_proto::gnoi::os::install_request::Request as Ask;
use gnoi_proto::gnoi::os::install_response::Response as Reply;
use gnoi_proto::gnoi::os::os_server::Os;
use gnoi_proto::gnoi::os::{
    ActivateError, ActivateOk, ActivateRequest, ActivateResponse, InstallError, InstallRequest, InstallResponse,
    StandbyState, TransferProgress, TransferReady, TransferRequest, Validated, VerifyRequest, VerifyResponse,
    VerifyStandby, activate_error, standby_state, verify_standby,
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use self::program::Program;
use self::spool::{Activation, Spool};
use super::Machine;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest wait for the next part of a package.
const PATIENCE: Duration = Duration::from_secs(120);
/// Octets between two reports of progress.
const PROGRESS: u64 = 8 << 20;
/// Replies that wait for the network.
const REPLIES: usize = 4;
/// Longest name of a version.
const NAME: usize = 64;

/// How software is installed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of packages.
    pub dir: PathBuf,
    /// The operator's program.
    pub program: PathBuf,
    /// Largest package, in octets.
    pub most_octets: u64,
}

/// Where packages are.
struct Installer {
    spool: Spool,
    program: Program,
    /// Held while a package is received or activated.
    busy: Arc<Mutex<()>>,
}

/// The service.
#[derive(Clone)]
pub struct OsService {
    machine: Arc<dyn Machine>,
    installer: Option<Arc<Installer>>,
    running: Arc<str>,
    /// What the last activation, before this process began, did not do.
    failed: Arc<str>,
}

type Replies = mpsc::Sender<Result<InstallResponse, Status>>;

fn error(kind: Fault, detail: impl ToString) -> InstallError {
    InstallError {
        r#type: kind.into(),
        detail: detail.to_string(),
    }
}

/// A name of a version that may be part of a file's name.
fn is_name(version: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
    version.len() <= NAME
        && version.bytes().all(inner)
        && version.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// The version that runs. The operator's program knows the version of the whole package, which may have more parts than this program.
async fn running(program: &Program) -> String {
    let said = program.running().await;
    let said =
        said.map_err(|error| tracing::warn!(error, "the version that runs is unknown; that of this program is shown"));
    let named = said.ok().filter(|said| is_name(said));
    named.unwrap_or_else(|| VERSION.to_owned())
}

/// The version that runs, with these settings or without any.
pub async fn running_version(settings: Option<Settings>) -> String {
    match settings {
        Some(settings) => running(&Program(settings.program)).await,
        None => VERSION.to_owned(),
    }
}

impl OsService {
    /// The service for a process. Without settings, nothing can be installed.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub async fn new(machine: Arc<dyn Machine>, settings: Option<Settings>) -> std::io::Result<Self> {
        let Some(settings) = settings else {
            return Ok(Self {
                machine,
                installer: None,
                running: VERSION.into(),
                failed: "".into(),
            });
        };
        let spool = Spool::open(&settings.dir, settings.most_octets)?;
        let program = Program(settings.program);
        let running = running(&program).await;
        let failed = match spool.activation() {
            Some(Activation { version, .. }) if version != running => {
                format!("version `{version}` was activated, but after the restart `{running}` runs")
            }
            _ => String::new(),
        };
        if !failed.is_empty() {
            tracing::error!(failed, "the last change of software failed");
        }
        Ok(Self {
            machine,
            installer: Some(Arc::new(Installer {
                spool,
                program,
                busy: Arc::default(),
            })),
            running: running.into(),
            failed: failed.into(),
        })
    }

    /// Receives a package and checks it.
    async fn receive(
        &self,
        installer: &Installer,
        transfer: &TransferRequest,
        asks: &mut Streaming<InstallRequest>,
        replies: &Replies,
    ) -> Result<Validated, InstallError> {
        let version = transfer.version.as_str();
        let validated = |description: &str| Validated {
            version: version.to_owned(),
            description: description.to_owned(),
        };
        if transfer.standby_supervisor {
            return Err(error(Fault::NotSupportedOnBackup, "there is no standby supervisor"));
        }
        if !is_name(version) {
            let words = format!(
                "`{}` is not the name of a version: 1 to {NAME} of A-Z a-z 0-9 . _ + ~ -",
                shown(version)
            );
            return Err(error(Fault::Incompatible, words));
        }
        if version == &*self.running {
            return Ok(validated("it runs"));
        }
        let spool = &installer.spool;
        let most = spool.most_octets();
        if transfer.package_size > most {
            let words = format!("{} octets: at most {most} are accepted", transfer.package_size);
            return Err(error(Fault::TooLarge, words));
        }
        let kept = spool.clone();
        let of = version.to_owned();
        let is_there = tokio::task::spawn_blocking(move || kept.check(&of).is_ok()).await;
        if is_there.unwrap_or(false) {
            return Ok(validated("it is here, whole"));
        }
        let say = async |reply: Reply| {
            let _ = replies.send(Ok(InstallResponse { response: Some(reply) })).await;
        };
        let failed = |why: std::io::Error| match why.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
                error(Fault::TooLarge, format!("the package does not fit: {why}"))
            }
            _ => error(Fault::Unspecified, format!("the package cannot be stored: {why}")),
        };
        let mut incoming = spool.begin().map_err(failed)?;
        say(Reply::TransferReady(TransferReady {})).await;
        let mut reported = 0;
        loop {
            let next = tokio::time::timeout(PATIENCE, asks.message()).await;
            let next = next.map_err(|_| {
                error(
                    Fault::Unspecified,
                    format!("no part of the package came in {} s", PATIENCE.as_secs()),
                )
            })?;
            let next = next.map_err(|status| error(Fault::Unspecified, shown(status.message())))?;
            let part = match next.and_then(|next| next.request) {
                Some(Ask::TransferContent(part)) => part,
                Some(Ask::TransferEnd(_)) => break,
                Some(Ask::TransferRequest(_)) => {
                    return Err(error(
                        Fault::InstallInProgress,
                        "a transfer in this stream has begun already",
                    ));
                }
                None => return Err(error(Fault::Unspecified, "the transfer broke off")),
            };
            let octets = incoming.octets().saturating_add(part.len() as u64);
            let bound = match transfer.package_size {
                0 => most,
                announced => announced,
            };
            if octets > bound {
                return Err(error(Fault::TooLarge, format!("more than {bound} octets came")));
            }
            incoming = tokio::task::spawn_blocking(move || incoming.write(&part))
                .await
                .map_err(|_| error(Fault::Unspecified, "the package cannot be stored"))?
                .map_err(failed)?;
            if octets - reported >= PROGRESS {
                reported = octets;
                say(Reply::TransferProgress(TransferProgress { bytes_received: octets })).await;
            }
        }
        if transfer.package_size != 0 && incoming.octets() != transfer.package_size {
            let words = format!("{} of {} octets came", incoming.octets(), transfer.package_size);
            return Err(error(Fault::IntegrityFail, words));
        }
        let incoming = tokio::task::spawn_blocking(move || incoming.sync())
            .await
            .map_err(|_| error(Fault::Unspecified, "the package cannot be stored"))?
            .map_err(failed)?;
        let found = installer.program.check(incoming.path()).await;
        let found = found.map_err(|words| error(Fault::IntegrityFail, words))?;
        if found != version {
            let words = format!("the package is of version `{}`, not `{version}`", shown(&found));
            return Err(error(Fault::Incompatible, words));
        }
        let sha256 = incoming.keep(version).map_err(failed)?;
        tracing::info!(version, sha256, "a package was received");
        Ok(validated(&format!("SHA-256 {sha256}")))
    }

    async fn try_activate(&self, version: &str, no_reboot: bool) -> Result<(), (activate_error::Type, String)> {
        use activate_error::Type::{NonExistentVersion, Unspecified};
        if version == &*self.running {
            // It runs already. An activation that did not restart yet is taken back by this.
            if let Some(installer) = &self.installer {
                installer.spool.forget_activation();
            }
            return Ok(());
        }
        let absent = |words: &str| {
            (
                NonExistentVersion,
                format!("version `{}` is not installed: {words}", shown(version)),
            )
        };
        let Some(installer) = &self.installer else {
            return Err(absent(&format!("{} is, and packages bring others", self.running)));
        };
        let busy = installer.busy.try_lock();
        let _busy = busy.map_err(|_| (Unspecified, "a package is being received or activated".to_owned()))?;
        if !is_name(version) {
            return Err(absent("that is not the name of one"));
        }
        let (spool, of) = (installer.spool.clone(), version.to_owned());
        let path = tokio::task::spawn_blocking(move || spool.check(&of)).await;
        let path = path.map_err(|error| (Unspecified, error.to_string()))?;
        let path = path.map_err(|error| absent(&error.to_string()))?;
        installer
            .program
            .activate(&path, version)
            .await
            .map_err(|words| (Unspecified, words))?;
        installer
            .spool
            .note_activation(&Activation {
                version: version.to_owned(),
                from: self.running.to_string(),
            })
            .map_err(|error| (Unspecified, format!("the activation cannot be stored: {error}")))?;
        tracing::warn!(version, no_reboot, "software is activated");
        if !no_reboot {
            self.machine.restart(&format!("version {version} was activated"));
        }
        Ok(())
    }
}

#[async_trait]
impl Os for OsService {
    type InstallStream = ReceiverStream<Result<InstallResponse, Status>>;

    async fn install(
        &self,
        request: Request<Streaming<InstallRequest>>,
    ) -> Result<Response<Self::InstallStream>, Status> {
        let installer = self.installer.clone().ok_or_else(|| {
            Status::unimplemented("software is installed by packages: the switch was started without --os-program")
        })?;
        let (replies, stream) = mpsc::channel(REPLIES);
        let (service, mut asks) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let first = tokio::time::timeout(PATIENCE, asks.message()).await;
            let Ok(Ok(Some(InstallRequest {
                request: Some(Ask::TransferRequest(transfer)),
            }))) = first
            else {
                let status = Status::invalid_argument("the first message must be a transfer request");
                let _ = replies.send(Err(status)).await;
                return;
            };
            let done = match Arc::clone(&installer.busy).try_lock_owned() {
                Ok(_busy) => {
                    // A client that has gone ends the transfer.
                    tokio::select! {
                        done = service.receive(&installer, &transfer, &mut asks, &replies) => done,
                        () = replies.closed() => return,
                    }
                }
                Err(_) => Err(error(
                    Fault::InstallInProgress,
                    "another package is being received or activated",
                )),
            };
            let reply = match done {
                Ok(validated) => Reply::Validated(validated),
                Err(error) => {
                    tracing::warn!(
                        version = shown(&transfer.version),
                        detail = error.detail,
                        "a package was refused"
                    );
                    Reply::InstallError(error)
                }
            };
            let _ = replies.send(Ok(InstallResponse { response: Some(reply) })).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn activate(&self, request: Request<ActivateRequest>) -> Result<Response<ActivateResponse>, Status> {
        let request = request.into_inner();
        let done = match request.standby_supervisor {
            true => Err((
                activate_error::Type::NotSupportedOnBackup,
                "there is no standby supervisor".to_owned(),
            )),
            false => self.try_activate(&request.version, request.no_reboot).await,
        };
        let outcome = match done {
            Ok(()) => Outcome::ActivateOk(ActivateOk {}),
            Err((kind, detail)) => Outcome::ActivateError(ActivateError {
                r#type: kind.into(),
                detail,
            }),
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
            version: self.running.to_string(),
            activation_fail_message: self.failed.to_string(),
            verify_standby: Some(VerifyStandby {
                state: Some(verify_standby::State::StandbyState(state)),
            }),
            ..VerifyResponse::default()
        }))
    }
}
