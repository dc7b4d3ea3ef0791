//! Switches as machines over gNOI and gNSI: System, Healthz and OS here, certificates in [`certz`], software in [`install`].
//!
//! The controller finds out which services a target has by calling them. UNIMPLEMENTED means that a service is missing,
//! and the inventory shows that. bmv2 and Stratum have none of them. `p4-switch` has all except the installation of
//! software, which packages do there.

pub mod certz;
pub mod install;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fabric_bootz::authority::Authority;
use fabric_identity::{Credentials, Dialer, Subject};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gnmi_proto::gnmi::g_nmi_client::GNmiClient;
use gnmi_proto::gnmi::{Encoding, GetRequest, Path, PathElem};
use gnoi_proto::gnoi::healthz::healthz_client::HealthzClient;
use gnoi_proto::gnoi::healthz::{ComponentStatus, GetRequest as HealthRequest, Status as Health};
use gnoi_proto::gnoi::os::VerifyRequest;
use gnoi_proto::gnoi::os::os_client::OsClient;
use gnoi_proto::gnoi::system::system_client::SystemClient;
use gnoi_proto::gnoi::system::{RebootMethod, RebootRequest, TimeRequest};
use p4runtime_client::session::open_channel;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use vfabric_api::machine::{Component, MachineStatus};
use vfabric_api::topology::Switch;

use super::gnmi::text;
use crate::device::machine::{MachineError, Maintenance, Package};

/// Longest wait for a connection, and for each reply: a switch replies from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the clock of a switch may differ before that is a trouble: certificates of devices are valid from five minutes before they
/// are made, and logs of several devices are read side by side.
const CLOCK: Duration = Duration::from_secs(60);
/// Components of one switch that are kept.
const COMPONENTS: usize = 64;
/// Longest text of a switch that is kept, in characters.
const WORDS: usize = 300;

/// Names of the services.
const SYSTEM: &str = "gnoi.system";
const HEALTHZ: &str = "gnoi.healthz";
const OS: &str = "gnoi.os";
const CERTZ: &str = "gnsi.certz";

/// Signs certificates of switches.
pub struct Signer {
    /// The authority.
    pub authority: Authority,
    /// How long certificates are valid.
    pub valid: Duration,
}

/// Access over gRPC.
pub struct Grpc {
    credentials: Arc<Credentials>,
    /// Without TLS there are no certificates to renew.
    is_plain: bool,
    signer: Option<Signer>,
}

fn plain(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

/// The result of a call of `service`.
fn failed(service: &'static str, status: &Status) -> MachineError {
    let words = || format!("{service}: {}", plain(status.message()));
    match status.code() {
        Code::Unimplemented => MachineError::Missing(service),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            MachineError::Unreachable(words())
        }
        _ => MachineError::Refused(words()),
    }
}

/// A reply in time.
async fn reply<T>(
    service: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, MachineError> {
    let late = || MachineError::Unreachable(format!("{service}: no reply in {} s", PATIENCE.as_secs()));
    let done = tokio::time::timeout(PATIENCE, call).await.map_err(|_| late())?;
    Ok(done.map_err(|status| failed(service, &status))?.into_inner())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Grpc {
    /// Access with the controller's credentials; `signer` signs certificates of switches.
    pub fn new(credentials: Arc<Credentials>, is_plain: bool, signer: Option<Signer>) -> Self {
        Self {
            credentials,
            is_plain,
            signer,
        }
    }

    fn dialer(&self, switch: &Switch) -> Result<Dialer, MachineError> {
        let subject = Subject::Switch(switch.name.to_string());
        let dialer = Dialer::new(Arc::clone(&self.credentials), subject);
        dialer.map_err(|error| MachineError::Ours(format!("TLS: {error}")))
    }

    async fn channel(&self, switch: &Switch) -> Result<Channel, MachineError> {
        let dialer = match self.is_plain {
            true => None,
            false => Some(self.dialer(switch)?),
        };
        let channel = open_channel(&switch.p4runtime.to_string(), dialer.as_ref(), PATIENCE).await;
        channel.map_err(|error| MachineError::Unreachable(error.to_string()))
    }
}

/// How far the clock of a switch is ahead, in milliseconds. The reply counts as made in the middle of the call.
async fn clock(channel: Channel) -> Result<i64, MachineError> {
    let before = since_1970();
    let theirs = reply(SYSTEM, SystemClient::new(channel).time(TimeRequest {})).await?;
    let middle = (before + since_1970()) / 2;
    let ms = |time: u128| i64::try_from(time / 1_000_000).unwrap_or(i64::MAX);
    Ok(ms(theirs.time.into()).saturating_sub(ms(middle.as_nanos())))
}

/// When a switch was started, by its own clock, in milliseconds since 1970 (openconfig-system, `boot-time`, in nanoseconds).
async fn started(channel: Channel) -> Option<u64> {
    let elem = |name: &str| PathElem {
        name: name.to_owned(),
        ..PathElem::default()
    };
    let path = Path {
        elem: ["system", "state", "boot-time"].map(elem).to_vec(),
        ..Path::default()
    };
    let get = GetRequest {
        path: vec![path],
        encoding: Encoding::JsonIetf.into(),
        ..GetRequest::default()
    };
    let said = reply("gNMI", GNmiClient::new(channel).get(get)).await.ok()?;
    let update = said.notification.first()?.update.first()?;
    let nanoseconds: u64 = text(update.val.as_ref()?)?.parse().ok()?;
    Some(nanoseconds / 1_000_000)
}

/// A component and its parts, in a row.
fn components(status: &ComponentStatus, into: &mut Vec<Component>) {
    if into.len() >= COMPONENTS {
        return;
    }
    let elem = status.path.as_ref().and_then(|path| path.elem.last());
    let name = elem.and_then(|elem| elem.key.get("name").or(Some(&elem.name)));
    into.push(Component {
        name: plain(name.map_or("chassis", String::as_str)),
        healthy: match status.status() {
            Health::Healthy => Some(true),
            Health::Unhealthy => Some(false),
            Health::Unspecified => None,
        },
    });
    status.subcomponents.iter().for_each(|part| components(part, into));
}

/// Asks a switch over an open connection for everything that it says about itself.
async fn look(channel: Channel) -> MachineStatus {
    let (clock, started, version, health) = tokio::join!(
        clock(channel.clone()),
        started(channel.clone()),
        async { reply(OS, OsClient::new(channel.clone()).verify(VerifyRequest {})).await },
        async {
            reply(
                HEALTHZ,
                HealthzClient::new(channel.clone()).get(HealthRequest::default()),
            )
            .await
        },
    );
    let mut status = MachineStatus {
        asked_ms: ms(since_1970()),
        started_ms: started,
        ..MachineStatus::default()
    };
    let mut note = |error: MachineError| match error {
        MachineError::Missing(service) => status.missing.push(service.to_owned()),
        other => status.troubles.push(other.to_string()),
    };
    let ahead = clock.map_err(&mut note).ok();
    let version = version.map_err(&mut note).ok();
    let health = health.map_err(&mut note).ok();
    status.clock_ahead_ms = ahead;
    if let Some(ahead) = ahead
        && Duration::from_millis(ahead.unsigned_abs()) > CLOCK
    {
        let way = if ahead > 0 { "ahead" } else { "behind" };
        let seconds = ahead.unsigned_abs() / 1000;
        status
            .troubles
            .push(format!("its clock is {seconds} s {way} of the controller's"));
    }
    if let Some(version) = version {
        status.software = Some(plain(&version.version)).filter(|version| !version.is_empty());
        if !version.activation_fail_message.is_empty() {
            let words = plain(&version.activation_fail_message);
            status
                .troubles
                .push(format!("its last change of software failed: {words}"));
        }
    }
    if let Some(component) = health.and_then(|health| health.component) {
        components(&component, &mut status.components);
        let broken = status.components.iter().filter(|c| c.healthy == Some(false));
        let words = broken.map(|c| format!("component `{}` is unhealthy", c.name));
        status.troubles.extend(words.collect::<Vec<_>>());
    }
    status
}

impl Maintenance for Grpc {
    fn look<'a>(&'a self, switch: &'a Switch) -> BoxFuture<'a, Result<MachineStatus, MachineError>> {
        async { Ok(look(self.channel(switch).await?).await) }.boxed()
    }

    fn reboot<'a>(&'a self, switch: &'a Switch, reason: &'a str) -> BoxFuture<'a, Result<(), MachineError>> {
        async move {
            let request = RebootRequest {
                method: RebootMethod::Cold.into(),
                message: reason.to_owned(),
                ..RebootRequest::default()
            };
            let mut client = SystemClient::new(self.channel(switch).await?);
            reply(SYSTEM, client.reboot(request)).await.map(drop)
        }
        .boxed()
    }

    fn install<'a>(&'a self, switch: &'a Switch, package: Package) -> BoxFuture<'a, Result<(), MachineError>> {
        async move { install::install(self.channel(switch).await?, package).await }.boxed()
    }

    fn activate<'a>(&'a self, switch: &'a Switch, version: &'a str) -> BoxFuture<'a, Result<(), MachineError>> {
        async move { install::activate(self.channel(switch).await?, version).await }.boxed()
    }

    fn renews(&self) -> bool {
        self.signer.is_some() && !self.is_plain
    }

    fn renew<'a>(&'a self, switch: &'a Switch) -> BoxFuture<'a, Result<i64, MachineError>> {
        async move {
            let signer = self.signer.as_ref().filter(|_| !self.is_plain);
            let missing = || MachineError::Ours("the controller has no authority for switches".into());
            let signer = signer.ok_or_else(missing)?;
            let rotation = certz::Rotation {
                switch,
                dialer: self.dialer(switch)?,
                signer,
                fabric: self.credentials.fabric(),
            };
            rotation.run(self.channel(switch).await?).await
        }
        .boxed()
    }
}
