//! The owner of the devices: the controller, as this server calls it.

use std::sync::Arc;
use std::time::Duration;

use bootz_proto::request::owner_client::OwnerClient;
use bootz_proto::request::{BootstrapReply, BootstrapRequest, ReportReply, ReportRequest, TellReply, TellRequest};
use fabric_identity::{Credentials, Dialer, Subject};
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, async_trait};

/// Longest wait for an answer of the controller, which signs and writes to its disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval and timeout of keep-alives: together, the time until a controller that vanished is noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Decides about devices.
#[async_trait]
pub trait Owner: Send + Sync + 'static {
    /// Checks a proof and makes bootstrap data.
    async fn bootstrap(&self, request: BootstrapRequest) -> Result<BootstrapReply, Status>;
    /// Checks a proof and stores a report.
    async fn report(&self, request: ReportRequest) -> Result<ReportReply, Status>;
    /// Takes note of steps.
    async fn tell(&self, request: TellRequest) -> Result<TellReply, Status>;
}

/// The controller over mutual TLS.
pub struct Remote {
    dialer: Dialer,
    address: String,
    /// The channel connects again after a failure; before the first success there is none.
    channel: Mutex<Option<Channel>>,
}

impl Remote {
    /// At `HOST:PORT`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(credentials: Arc<Credentials>, address: String) -> Result<Self, rustls::Error> {
        Ok(Self {
            dialer: Dialer::new(credentials, Subject::Controller)?,
            address,
            channel: Mutex::default(),
        })
    }

    async fn client(&self) -> Result<OwnerClient<Channel>, Status> {
        let mut channel = self.channel.lock().await;
        if let Some(channel) = &*channel {
            return Ok(OwnerClient::new(channel.clone()));
        }
        let endpoint = Endpoint::from_static("http://controller")
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        let connected = self.dialer.channel(&endpoint, &self.address).await;
        let connected = connected.map_err(|error| {
            let why = fabric_identity::explain(&error);
            Status::unavailable(format!("the controller at {} cannot be asked: {why}", self.address))
        })?;
        *channel = Some(connected.clone());
        Ok(OwnerClient::new(connected))
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// Bounds the time of a call, whatever the channel does.
async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("the controller did not answer in {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, call).await.map_err(late)?
}

#[async_trait]
impl Owner for Remote {
    async fn bootstrap(&self, request: BootstrapRequest) -> Result<BootstrapReply, Status> {
        within(async { Ok(self.client().await?.bootstrap(timed(request)).await?.into_inner()) }).await
    }

    async fn report(&self, request: ReportRequest) -> Result<ReportReply, Status> {
        within(async { Ok(self.client().await?.report(timed(request)).await?.into_inner()) }).await
    }

    async fn tell(&self, request: TellRequest) -> Result<TellReply, Status> {
        within(async { Ok(self.client().await?.tell(timed(request)).await?.into_inner()) }).await
    }
}
