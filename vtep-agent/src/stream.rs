//! The stream to the controller.
//!
//! Connects over mutual TLS, follows the stream until it ends for any reason, waits (with jitter, longer each time) and
//! reconnects. Messages are handled one at a time; those that the controller sends meanwhile wait in HTTP/2's flow
//! control window.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder, ExponentialBuilder};
use fabric_identity::{Credentials, Dialer, Subject};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;
use vtep_proto::v1::{self, ErrorCode, agent_message, controller_message};
use vtep_proto::{HostEntity, HostKey, MAX_LOSSES, MAX_OBJECTS_PER_MESSAGE, invalid_key};

use crate::agent::{Command, Commands, reports};
use crate::datapath::Loss;
use crate::error::AgentError;

/// Shortest and longest wait before reconnecting. A random time of up to the same length is added, so
/// that hosts do not reconnect all at once when a controller restarts.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2500));
/// Longest time for connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval and timeout of HTTP/2 pings: a controller that vanishes silently is noticed after both have passed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Messages that wait to be sent: parts of a read, acknowledgements, reports.
const OUTGOING: usize = 16;

/// How to reach the controller.
pub struct Controller {
    address: String,
    endpoint: Endpoint,
    dialer: Dialer,
    /// The channel of the current stream; none without a stream.
    connection: watch::Sender<Option<Channel>>,
}

impl Controller {
    /// The controller at `url`, such as `https://192.0.2.1:8444`, with the credentials of this host.
    ///
    /// # Errors
    /// When the address or the credentials cannot be used.
    pub fn new(url: &str, credentials: Arc<Credentials>) -> Result<Self, AgentError> {
        let config = |message: String| AgentError::Config {
            what: "--controller".into(),
            message,
        };
        let address = url
            .strip_prefix("https://")
            .ok_or_else(|| config(format!("`{url}`: expected an address that starts with https://")))?
            .trim_end_matches('/')
            .to_owned();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| config(crate::chain(&e)))?;
        let dialer = Dialer::new(credentials, Subject::Controller).map_err(|e| config(e.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        Ok(Self {
            address,
            endpoint,
            dialer,
            connection: watch::Sender::new(None),
        })
    }

    /// The channel of the current stream, for other calls; none without a stream.
    pub fn connection(&self) -> watch::Receiver<Option<Channel>> {
        self.connection.subscribe()
    }
}

/// Follows the controller for ever.
///
/// # Errors
/// When the engine has ended.
pub async fn follow(controller: Controller, hello: v1::Hello, commands: Commands) -> Result<(), AgentError> {
    let waits = ExponentialBuilder::new()
        .with_min_delay(WAITS.0)
        .with_max_delay(WAITS.1)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    let mut next = waits.build();
    loop {
        let mut welcomed = false;
        let ended = session(&controller, hello.clone(), &commands, &mut welcomed).await;
        controller.connection.send_replace(None);
        match ended {
            Err(error @ AgentError::Ended(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), controller = %controller.address, "stream ended")
            }
            Ok(()) => tracing::info!(controller = %controller.address, "the controller closed the stream"),
        }
        if welcomed {
            next = waits.build();
        }
        tokio::time::sleep(next.next().unwrap_or(WAITS.1)).await;
    }
}

type Outgoing = mpsc::Sender<v1::AgentMessage>;

async fn send(out: &Outgoing, message: agent_message::Message) -> Result<(), AgentError> {
    let gone = |_| AgentError::Protocol("the stream was closed");
    out.send(v1::AgentMessage { message: Some(message) })
        .await
        .map_err(gone)
}

/// Sends a command to the engine and waits for the reply.
async fn ask<T>(commands: &Commands, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, AgentError> {
    let (answer, result) = oneshot::channel();
    commands
        .send(command(answer))
        .await
        .map_err(|_| AgentError::Ended("engine"))?;
    result
        .await
        .map_err(|_| AgentError::Protocol("the engine could not carry out a command"))
}

async fn session(
    controller: &Controller,
    mut hello: v1::Hello,
    commands: &Commands,
    welcomed: &mut bool,
) -> Result<(), AgentError> {
    let channel = controller
        .dialer
        .channel(&controller.endpoint, &controller.address)
        .await?;
    let (out, outgoing) = mpsc::channel(OUTGOING);
    let (reports_in, mut reports) = reports();
    let known = ask(commands, |answer| Command::Follow(reports_in, answer)).await?;
    (hello.epoch, hello.store) = (known.epoch, known.store);
    hello.tells_losses = true;
    hello.migrates = true;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hello.time_ms = u64::try_from(now.as_millis()).unwrap_or(0);
    send(&out, agent_message::Message::Hello(hello)).await?;
    let mut incoming = VtepControllerClient::new(channel.clone())
        .follow(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    match next(&mut incoming).await? {
        Some(controller_message::Message::Welcome(_)) => *welcomed = true,
        Some(_) => return Err(AgentError::Protocol("its first message was not Welcome")),
        None => return Ok(()),
    }
    controller.connection.send_replace(Some(channel));
    tracing::info!("following the controller");
    loop {
        tokio::select! {
            message = next(&mut incoming) => match message? {
                Some(message) => work_off(message, commands, &out).await?,
                None => return Ok(()),
            },
            report = reports.recv() => match report {
                Some(report) => send(&out, agent_message::Message::Report(report)).await?,
                None => return Err(AgentError::Protocol("too many reports waited")),
            },
        }
    }
}

/// The next message; cancel safe, as `Streaming::message` is.
async fn next(
    incoming: &mut Streaming<v1::ControllerMessage>,
) -> Result<Option<controller_message::Message>, AgentError> {
    match incoming.message().await? {
        None => Ok(None),
        Some(m) => m
            .message
            .map(Some)
            .ok_or(AgentError::Protocol("a message of a kind this agent does not know")),
    }
}

async fn work_off(message: controller_message::Message, commands: &Commands, out: &Outgoing) -> Result<(), AgentError> {
    use controller_message::Message;
    match message {
        Message::Welcome(_) => Err(AgentError::Protocol("a second Welcome")),
        Message::ReadRequest(request) => {
            let objects = ask(commands, Command::Read).await?;
            let mut parts = objects.chunks(MAX_OBJECTS_PER_MESSAGE).map(<[_]>::to_vec).peekable();
            loop {
                let objects = parts.next().unwrap_or_default();
                let last = parts.peek().is_none();
                let reply = v1::ReadReply {
                    id: request.id,
                    objects,
                    last,
                };
                send(out, agent_message::Message::ReadReply(reply)).await?;
                if last {
                    return Ok(());
                }
            }
        }
        Message::Update(update) => {
            let ack = take_over(update, commands).await?;
            send(out, agent_message::Message::Ack(ack)).await
        }
        Message::LossRequest(request) => {
            let losses = ask(commands, Command::Losses).await?;
            let reply = loss_reply(request.id, losses);
            send(out, agent_message::Message::LossReply(reply)).await
        }
        Message::Synced(synced) => commands
            .send(Command::Synced(synced))
            .await
            .map_err(|_| AgentError::Ended("engine")),
    }
}

fn loss_reply(id: u64, losses: Result<Vec<Loss>, String>) -> v1::LossReply {
    let (mut losses, error) = match losses {
        Ok(losses) => (losses, String::new()),
        Err(error) => (Vec::new(), error),
    };
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.frames));
    losses.truncate(MAX_LOSSES);
    let losses = losses.into_iter().map(|loss| v1::Loss {
        place: loss.place,
        reason: loss.reason,
        frames: loss.frames,
    });
    v1::LossReply {
        id,
        losses: losses.collect(),
        error,
    }
}

async fn take_over(update: v1::Update, commands: &Commands) -> Result<v1::Ack, AgentError> {
    let mut errors = Vec::new();
    let mut invalid = |key: v1::ObjectKey, error: vtep_proto::DecodeError| {
        let code = ErrorCode::Invalid.into();
        errors.push(v1::ObjectError {
            key: Some(key),
            code,
            message: error.to_string(),
            retrying: false,
        });
    };
    let (mut upserts, mut removes) = (Vec::new(), Vec::new());
    for object in &update.upserts {
        match HostEntity::try_from(object) {
            Ok(entity) => upserts.push(entity),
            Err(e) => invalid(invalid_key(object), e),
        }
    }
    for key in &update.removes {
        match HostKey::try_from(key) {
            Ok(key) => removes.push(key),
            Err(e) => invalid(key.clone(), e),
        }
    }
    let epoch = update.epoch;
    let failed = ask(commands, |answer| Command::Update {
        epoch,
        upserts,
        removes,
        answer,
    })
    .await?;
    errors.extend(failed);
    Ok(v1::Ack {
        sequence: update.sequence,
        epoch,
        errors,
    })
}
