//! A switch gets another version of its software (gNOI OS): transferred with `Install`, checked by the switch, then activated, which
//! restarts it.
//!
//! The content is read only as fast as the switch takes it: the stream holds at most [`PARTS`] parts of [`PART`]
//! octets, whatever the size of the image.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use gnoi_proto::gnoi::os::activate_response::Response as Activated;
use gnoi_proto::gnoi::os::install_request::Request as Ask;
use gnoi_proto::gnoi::os::install_response::Response as Reply;
use gnoi_proto::gnoi::os::os_client::OsClient;
use gnoi_proto::gnoi::os::{ActivateRequest, InstallRequest, InstallResponse, TransferEnd, TransferRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{MachineError, OS, failed, plain};
use crate::device::machine::Package;

/// Octets of one message: well below the 4 MiB that gRPC servers accept.
const PART: usize = 1 << 20;
/// Parts that wait for the network.
const PARTS: usize = 4;
/// Longest wait for the next message of the switch, and until it takes the next part. A switch writes to a slow disk, and checks the
/// whole image before it replies.
const PATIENCE: Duration = Duration::from_secs(300);

fn refused(words: impl std::fmt::Display) -> MachineError {
    MachineError::Refused(format!("{OS}: {}", plain(&words.to_string())))
}

fn late() -> MachineError {
    MachineError::Unreachable(format!("{OS}: nothing heard for {} s", PATIENCE.as_secs()))
}

/// The next message of the switch that is not about its progress.
async fn hear(replies: &mut Streaming<InstallResponse>) -> Result<Reply, MachineError> {
    loop {
        let next = timeout(PATIENCE, replies.message()).await.map_err(|_| late())?;
        match next
            .map_err(|status| failed(OS, &status))?
            .and_then(|next| next.response)
        {
            Some(Reply::TransferProgress(_) | Reply::SyncProgress(_)) => {}
            Some(Reply::InstallError(error)) => {
                return Err(refused(format_args!(
                    "{}: {}",
                    error.r#type().as_str_name(),
                    error.detail
                )));
            }
            Some(reply) => return Ok(reply),
            None => return Err(refused("the stream ended before the software was checked")),
        }
    }
}

/// Sends the content, part by part.
async fn send(mut content: File, asks: &mpsc::Sender<InstallRequest>) -> Result<(), MachineError> {
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut part = Vec::with_capacity(PART);
            let read = (&mut content).take(PART as u64).read_to_end(&mut part);
            read.map(|_| (content, part))
        });
        let broken = |error: &dyn std::fmt::Display| MachineError::Ours(format!("the image cannot be read: {error}"));
        let (file, part) = read
            .await
            .map_err(|error| broken(&error))?
            .map_err(|error| broken(&error))?;
        content = file;
        if part.is_empty() {
            return Ok(());
        }
        let sent = timeout(PATIENCE, asks.send(request(Ask::TransferContent(part)))).await;
        // The switch's own message says why it has ended the stream.
        sent.map_err(|_| late())?
            .map_err(|_| refused("the switch ended the transfer"))?;
    }
}

fn request(ask: Ask) -> InstallRequest {
    InstallRequest { request: Some(ask) }
}

/// Transfers a package, unless the switch has that version already, and makes the switch
/// check it.
///
/// # Errors
/// The switch's error, or [`MachineError::Missing`]. The switch goes on running its present
/// software.
pub async fn install(channel: Channel, package: Package) -> Result<(), MachineError> {
    let (asks, receiver) = mpsc::channel(PARTS);
    let transfer = TransferRequest {
        version: package.version.clone(),
        package_size: package.octets,
        ..TransferRequest::default()
    };
    // The queue has room.
    let _ = asks.try_send(request(Ask::TransferRequest(transfer)));
    let mut client = OsClient::new(channel);
    let call = timeout(PATIENCE, client.install(ReceiverStream::new(receiver))).await;
    let replies = call.map_err(|_| late())?.map_err(|status| failed(OS, &status))?;
    let mut replies = replies.into_inner();
    let checked = match hear(&mut replies).await? {
        Reply::TransferReady(_) => {
            let sending = async {
                send(package.content, &asks).await?;
                let sent = asks.send(request(Ask::TransferEnd(TransferEnd {}))).await;
                sent.map_err(|_| refused("the switch ended the transfer"))
            };
            // The switch may refuse during the transfer; its message says why.
            tokio::pin!(sending);
            let hearing = hear(&mut replies);
            tokio::pin!(hearing);
            tokio::select! {
                biased;
                heard = &mut hearing => heard?,
                sent = &mut sending => match sent {
                    Ok(()) => hearing.await?,
                    Err(error) => return Err(hearing.await.err().unwrap_or(error)),
                },
            }
        }
        reply => reply,
    };
    match checked {
        Reply::Validated(validated) if validated.version == package.version => Ok(()),
        Reply::Validated(validated) => Err(refused(format_args!(
            "the image is of version `{}`, not `{}`",
            validated.version, package.version
        ))),
        _ => Err(refused("expected that the software was checked")),
    }
}

/// Makes the switch run an installed version; it restarts for that.
///
/// # Errors
/// The switch's error, or [`MachineError::Missing`].
pub async fn activate(channel: Channel, version: &str) -> Result<(), MachineError> {
    let request = ActivateRequest {
        version: version.to_owned(),
        ..ActivateRequest::default()
    };
    let mut client = OsClient::new(channel);
    let call = timeout(PATIENCE, client.activate(request)).await.map_err(|_| late())?;
    match call.map_err(|status| failed(OS, &status))?.into_inner().response {
        Some(Activated::ActivateOk(_)) => Ok(()),
        Some(Activated::ActivateError(error)) => Err(refused(format_args!(
            "{}: {}",
            error.r#type().as_str_name(),
            error.detail
        ))),
        None => Err(refused("an empty reply")),
    }
}
