//! The unix socket of the CNI plugin.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vfabric_cni::error::{self, Error};
use vfabric_cni::protocol::{Reply, Request, encode, length};

use super::Below;
use crate::error::AgentError;

/// Most requests under way; others wait to be accepted. A host seldom starts more pods at once.
const AT_ONCE: usize = 256;
/// Longest time for a plugin to send its request, and to take the reply.
const TALK: Duration = Duration::from_secs(5);
/// Pause of the accept loop while it fails: the process has no descriptor to spare.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the plugin at a socket, for root only. Runs until dropped; requests that were begun are finished.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(path: &Path, below: Arc<Below>) -> Result<(), AgentError> {
    let fail = |source| AgentError::File {
        path: path.to_owned(),
        source,
    };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return Err(AgentError::Ended("socket of the CNI plugin"));
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let below = Arc::clone(&below);
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, &below).await {
                        tracing::warn!(%error, "CNI request");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::error!(%error, "no connection to the socket of the CNI plugin can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn talk(mut stream: UnixStream, below: &Below) -> io::Result<()> {
    // The file's mode already keeps others out, unless somebody has changed it.
    if stream.peer_cred()?.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("a user other than the agent's own asked; refused"));
    }
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let request = timeout(TALK, receive(&mut stream)).await.map_err(late)??;
    let reply = match serde_json::from_slice::<Request>(&request) {
        Ok(request) => below.handle(request).await,
        Err(e) => {
            let Error { code, message } = Error::new(error::DECODE, format!("request: {e}"));
            Reply::Failed { code, message }
        }
    };
    let reply = encode(&reply)?;
    timeout(TALK, stream.write_all(&reply)).await.map_err(late)?
}

async fn receive(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut text = vec![0; length(header)?];
    stream.read_exact(&mut text).await?;
    Ok(text)
}
