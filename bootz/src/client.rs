//! A device from its first start to service, with its files. If it is restarted after any step, it continues with the
//! next.
//!
//! | file | what | who writes it |
//! | --- | --- | --- |
//! | `idevid.pem`, `idevid.key` | IDevID certificate chain and key | manufacturer |
//! | `makers.pem` | authorities whose ownership vouchers it believes | manufacturer |
//! | `device.json` | `{"manufacturer": ..., "model": ...}` | manufacturer |
//! | `own.key` | key of its certificate in the fabric | the device, step 1 |
//! | `bootstrap.json` | what its owner gave it, and from which server | the device, step 2 |
//! | `ca.pem`, `tls.key`, `cert.pem` | the certificate, its key and the authorities, for TLS | the device, step 3, at every start |
//! | `reported` | the owner knows that it serves | the device, step 4 |
//!
//! Each file exists whole or not at all (written to another name, flushed, renamed), so each step is either done or
//! not. A key is on the disk before the device asks for its certificate. To make the device blank again, remove all
//! files except the manufacturer's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::bootstrap_stream_request_v1::Type as Say;
use bootz_proto::bootz::bootstrap_stream_response_v1::Type as Heard;
use bootz_proto::bootz::report_status_request::BootstrapStatus;
use bootz_proto::bootz::{BootstrapStreamRequestV1, BootstrapStreamResponseV1};
use fabric_identity::{Files, write_private};
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::data::{self, SwitchConfig};
use crate::device::{Device, new_key, signing_request};
use crate::error::{BootzError, message};
use crate::signer::External;
use crate::transport::Secret;
use crate::x509::{Anchors, certificates, parse, signing_key};
use crate::{dial, proof};

/// Longest wait for one answer of the server, which has to ask the controller.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits between attempts, doubled each time, with jitter, so that a rack that was powered on at once does not retry
/// all at once.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A certificate is renewed when one part in this many of its lifetime is left.
const RENEW_LAST_PART: u32 = 3;
/// Longest sleep before the certificate is checked again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What the manufacturer says about the device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Made {
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    /// The serial number of a device without an IDevID. With an IDevID, the certificate
    /// has it.
    #[serde(default)]
    pub(crate) serial: Option<String>,
}

/// What the owner gave the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its settings.
    pub config: SwitchConfig,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Its key (PEM), if the owner made it; otherwise the device has made its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Authorities to trust (PEM).
    pub authorities: Vec<String>,
    /// `HOST:PORT` of the Bootz server.
    pub server: String,
    /// Authority of the Bootz server: DER in base64.
    pub server_trust: String,
    /// Release of the software that it should run, if the owner asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

impl Enrolled {
    /// What the device reports once it serves, with the software that it runs.
    fn serving(&self, running: Option<&str>) -> String {
        let serving = format!("serving at {}", self.config.listen);
        match (&self.software, running) {
            (Some(wanted), Some(running)) if wanted != running => {
                format!("{serving}; it runs {running} instead of {wanted}")
            }
            (_, Some(running)) => format!("{serving}; it runs {running}"),
            _ => serving,
        }
    }

    fn trust(&self) -> Result<Anchors, BootzError> {
        const WHAT: &str = "the authority of the Bootz server";
        let der = BASE64_STANDARD.decode(&self.server_trust);
        let der = der.map_err(|_| message(WHAT, "not base64"))?;
        Anchors::new(WHAT, vec![CertificateDer::from(der)])
    }

    /// How long it takes until the certificate should be renewed.
    fn renew_in(&self, now: UnixTime) -> Result<Duration, BootzError> {
        let chain = certificates("the own certificate", self.certificate.as_bytes())?;
        let own = chain.first().ok_or_else(|| message("the own certificate", "none"))?;
        let validity = parse("the own certificate", own)?.validity().clone();
        let seconds = |at: i64| u64::try_from(at).unwrap_or_default();
        let (from, until) = (
            seconds(validity.not_before.timestamp()),
            seconds(validity.not_after.timestamp()),
        );
        let part = until.saturating_sub(from) / u64::from(RENEW_LAST_PART);
        Ok(Duration::from_secs(
            until.saturating_sub(part).saturating_sub(now.as_secs()),
        ))
    }
}

/// A device and its directory.
pub struct Client {
    dir: PathBuf,
    device: Device,
    /// The release of its software.
    running: Option<String>,
}

pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> BootzError {
    let path = path.display().to_string();
    move |source| BootzError::File { path, source }
}

pub(crate) fn read(path: &Path) -> Result<String, BootzError> {
    std::fs::read_to_string(path).map_err(at(path))
}

pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, BootzError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

impl Client {
    /// A device with the manufacturer's files in a directory.
    ///
    /// # Errors
    /// One is missing, or cannot be used.
    pub fn open(dir: &Path) -> Result<Self, BootzError> {
        let key = read(&dir.join("idevid.key"))?;
        Self::with_key(dir, |_| signing_key("the identity key", key.as_bytes()))
    }

    /// As [`Client::open`], with a program that keeps the key: there is no `idevid.key`.
    ///
    /// # Errors
    /// As [`Client::open`], or the program does not sign with the key of the certificate.
    pub fn open_with_signer(dir: &Path, program: &Path) -> Result<Self, BootzError> {
        Self::with_key(dir, |certificate| Ok(Arc::new(External::new(program, certificate)?)))
    }

    fn with_key(
        dir: &Path,
        key: impl FnOnce(&str) -> Result<Arc<dyn SigningKey>, BootzError>,
    ) -> Result<Self, BootzError> {
        let made = read(&dir.join("device.json"))?;
        let made: Made = serde_json::from_str(&made).map_err(|error| message("device.json", error))?;
        let certificate = read(&dir.join("idevid.pem"))?;
        let makers = read(&dir.join("makers.pem"))?;
        let key = key(&certificate)?;
        Ok(Self {
            dir: dir.to_owned(),
            device: Device::with_key(&made.manufacturer, &made.model, &certificate, key, makers.as_bytes())?,
            running: None,
        })
    }

    /// Reports this release of its software, and compares it with the one that the owner asks for.
    #[must_use]
    pub fn running(mut self, software: &str) -> Self {
        self.running = Some(software.to_owned());
        self
    }

    /// Model of the device.
    pub fn model(&self) -> &str {
        self.device.model()
    }

    /// Serial number of the device.
    pub fn serial(&self) -> &str {
        self.device.serial()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file that only its owner can read, whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), BootzError> {
        let path = self.path(name);
        write_private(&path, text.as_bytes()).map_err(at(&path))
    }

    /// The bootstrap data that its owner sent; none if the device is blank.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn enrolled(&self) -> Result<Option<Enrolled>, BootzError> {
        let text = read_if_there(&self.path("bootstrap.json"))?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| message("bootstrap.json", error))
    }

    /// Whether its owner knows that it serves.
    pub fn is_reported(&self) -> bool {
        self.path("reported").exists()
    }

    /// Tries once to get bootstrap data from the server at `HOST:PORT`. `trusted` is the authority of the server, if an
    /// earlier exchange named one.
    ///
    /// # Errors
    /// The server cannot be reached or refuses, or it is not our owner's. Then nothing has changed, except that the
    /// device may have made its own key.
    pub async fn bootstrap(&self, server: &str, trusted: Option<Anchors>) -> Result<Enrolled, BootzError> {
        let key = match read_if_there(&self.path("own.key"))? {
            Some(key) => key,
            None => {
                let key = new_key()?;
                self.write("own.key", &key)?;
                key
            }
        };
        let (nonce, secret) = (proof::nonce()?, Secret::generate());
        let mut talk = Talk::begin(server, trusted, Say::BootstrapRequest(self.device.request(&nonce))).await?;
        self.prove(&mut talk, &secret, Some(signing_request(&key)?)).await?;
        let Heard::BootstrapResponse(response) = talk.hear().await? else {
            return Err(message("the Bootz server", "expected bootstrap data"));
        };
        let data = self.device.accept(&response, &secret, &nonce, UnixTime::now())?;
        let (config, profile) = data::read(&data)?;
        let enrolled = Enrolled {
            config,
            certificate: profile.certificate,
            key: profile.key,
            authorities: profile.authorities,
            server: server.to_owned(),
            server_trust: data.server_trust_cert,
            software: data.intended_image.map(|image| image.version).filter(|v| !v.is_empty()),
        };
        // Data that cannot be used is not kept.
        enrolled.trust()?;
        enrolled.renew_in(UnixTime::now())?;
        self.keep_data(&enrolled)?;
        let words = format!(
            "bootstrap data was applied; serving at {} is next",
            enrolled.config.listen
        );
        talk.say(Say::ReportStatusRequest(
            self.device.report(BootstrapStatus::Initiated, &words),
        ))
        .await?;
        talk.acknowledged().await?;
        Ok(enrolled)
    }

    async fn prove(&self, talk: &mut Talk, secret: &Secret, request: Option<Vec<u8>>) -> Result<(), BootzError> {
        let Heard::ChallengeRequest(challenge) = talk.hear().await? else {
            return Err(message("the Bootz server", "expected a challenge"));
        };
        let response = self.device.respond(&challenge, secret, request)?;
        talk.say(Say::ChallengeResponse(response)).await
    }

    /// The bootstrap data, from the disk or from the first of these servers (`HOST:PORT`) that has it.
    ///
    /// # Errors
    /// No server has it; the error of the last one. A refusal is not final, because the operator may correct the
    /// inventory.
    pub async fn attempt(&self, servers: &[String]) -> Result<Enrolled, BootzError> {
        match self.enrolled() {
            Ok(Some(enrolled)) => return Ok(enrolled),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                error = words(&error),
                "the device's own bootstrap data cannot be used; asking again"
            ),
        }
        let mut refused = message("the Bootz server", "none is known");
        for server in servers {
            match self.bootstrap(server, None).await {
                Ok(enrolled) => return Ok(enrolled),
                // If the attempt failed after the data was on the disk, the next attempt finds it there.
                Err(error) => {
                    tracing::warn!(
                        server,
                        serial = self.serial(),
                        error = words(&error),
                        "no bootstrap data yet"
                    );
                    refused = error;
                }
            }
        }
        Err(refused)
    }

    /// Gets bootstrap data from `server` (`HOST:PORT`). Tries until it succeeds.
    pub async fn enrol(&self, server: &str) -> Enrolled {
        let (servers, mut waits) = ([server.to_owned()], waits());
        loop {
            match self.attempt(&servers).await {
                Ok(enrolled) => return enrolled,
                Err(_) => tokio::time::sleep(waits.next().unwrap_or(RETRY.1)).await,
            }
        }
    }

    /// Writes certificate, key and authorities as files for TLS.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn install(&self, enrolled: &Enrolled) -> Result<Files, BootzError> {
        self.write("ca.pem", &enrolled.authorities.concat())?;
        let key = match &enrolled.key {
            Some(key) => key.clone(),
            None => read(&self.path("own.key"))?,
        };
        self.write("tls.key", &key)?;
        self.write("cert.pem", &enrolled.certificate)?;
        Ok(Files {
            ca: self.path("ca.pem"),
            cert: self.path("cert.pem"),
            key: self.path("tls.key"),
        })
    }

    /// Reports that the device serves, once. The authority that the bootstrap data named must vouch for the server.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn report(&self, enrolled: &Enrolled) -> Result<(), BootzError> {
        self.report_to(&enrolled.server, enrolled).await
    }

    async fn report_to(&self, server: &str, enrolled: &Enrolled) -> Result<(), BootzError> {
        let words = enrolled.serving(self.running.as_deref());
        let report = self.device.report(BootstrapStatus::Success, &words);
        let mut talk = Talk::begin(server, Some(enrolled.trust()?), Say::ReportStatusRequest(report)).await?;
        self.prove(&mut talk, &Secret::generate(), None).await?;
        talk.acknowledged().await?;
        self.write("reported", "")
    }

    /// Sends a report to the first server that accepts it, and keeps that server's address.
    async fn report_to_any(&self, servers: Vec<String>, enrolled: &mut Enrolled) -> Result<(), BootzError> {
        let mut refused = message("the Bootz server", "none is known");
        for server in servers {
            match self.report_to(&server, enrolled).await {
                Ok(()) => return self.moved(enrolled, server),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Keeps the address of a server that proved to be the owner's, for later starts at which DHCP names none.
    fn moved(&self, enrolled: &mut Enrolled, server: String) -> Result<(), BootzError> {
        if enrolled.server == server {
            return Ok(());
        }
        enrolled.server = server;
        self.keep_data(enrolled)
    }

    fn keep_data(&self, enrolled: &Enrolled) -> Result<(), BootzError> {
        let text = serde_json::to_string_pretty(enrolled).map_err(|error| message("bootstrap.json", error))?;
        self.write("bootstrap.json", &text)
    }

    /// Renews the certificate at the first server that accepts the request.
    async fn renew(&self, servers: Vec<String>, enrolled: &Enrolled) -> Result<Enrolled, BootzError> {
        let mut refused = message("the Bootz server", "none is known");
        for server in servers {
            match self.bootstrap(&server, Some(enrolled.trust()?)).await {
                Ok(new) => return self.install(&new).map(|_| new),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Reports that the device serves, again and again until a server accepts it. From then on, renews the certificate
    /// whenever it nears its end. `named` returns the servers that DHCP names at that moment (`HOST:PORT`). They are
    /// tried before the server of the last exchange, which may have moved.
    pub async fn keep(&self, mut enrolled: Enrolled, named: impl Fn() -> Vec<String> + Send) {
        let mut retry = waits();
        while !self.is_reported() {
            let servers = candidates(named(), &enrolled.server);
            if let Err(error) = self.report_to_any(servers, &mut enrolled).await {
                let wait = retry.next().unwrap_or(RETRY.1);
                tracing::warn!(
                    error = words(&error),
                    "the Bootz server does not know yet that this switch serves"
                );
                tokio::time::sleep(wait).await;
            }
        }
        tracing::info!("enrolment has ended");
        let mut retry = waits();
        loop {
            let left = enrolled.renew_in(UnixTime::now()).unwrap_or_default();
            if !left.is_zero() {
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
                continue;
            }
            let servers = candidates(named(), &enrolled.server);
            match self.renew(servers, &enrolled).await {
                Ok(new) => {
                    tracing::info!("the certificate was renewed");
                    (enrolled, retry) = (new, waits());
                }
                Err(error) => {
                    let wait = retry.next().unwrap_or(RETRY.1);
                    tracing::warn!(error = words(&error), "the certificate cannot be renewed; asking again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// Servers to try, each once: those that DHCP names now, then the server of the last
/// exchange.
fn candidates(mut named: Vec<String>, before: &str) -> Vec<String> {
    if !named.iter().any(|server| server == before) {
        named.push(before.to_owned());
    }
    named
}

/// Waits between attempts: they grow, and have jitter.
pub fn waits() -> impl Iterator<Item = Duration> {
    let builder = ExponentialBuilder::default()
        .with_min_delay(RETRY.0)
        .with_max_delay(RETRY.1);
    builder.with_jitter().without_max_times().build()
}

/// An error with its causes.
pub(crate) fn words(error: &BootzError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One stream. Each of its answers has a time limit.
struct Talk {
    out: mpsc::Sender<BootstrapStreamRequestV1>,
    incoming: Streaming<BootstrapStreamResponseV1>,
}

fn late(what: &'static str) -> BootzError {
    Status::deadline_exceeded(format!("{what} took longer than {} s", PATIENCE.as_secs())).into()
}

impl Talk {
    /// Connects and sends the first message.
    async fn begin(server: &str, trusted: Option<Anchors>, first: Say) -> Result<Self, BootzError> {
        let mut client = dial::connect(server, trusted).await?;
        let (out, requests) = mpsc::channel(1);
        // The queue has room for one message.
        let _ = out.try_send(BootstrapStreamRequestV1 { r#type: Some(first) });
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let call = timeout(PATIENCE, client.bootstrap_stream_v1(requests)).await;
        let incoming = call.map_err(|_| late("the call"))??.into_inner();
        Ok(Self { out, incoming })
    }

    async fn say(&self, what: Say) -> Result<(), BootzError> {
        let sent = self.out.send(BootstrapStreamRequestV1 { r#type: Some(what) }).await;
        sent.map_err(|_| message("the Bootz server", "the stream has ended"))
    }

    async fn hear(&mut self) -> Result<Heard, BootzError> {
        let heard = timeout(PATIENCE, self.incoming.message()).await;
        let heard = heard.map_err(|_| late("an answer"))??;
        heard
            .and_then(|h| h.r#type)
            .ok_or_else(|| message("the Bootz server", "the stream has ended"))
    }

    async fn acknowledged(&mut self) -> Result<(), BootzError> {
        match self.hear().await? {
            Heard::ReportStatusResponse(_) => Ok(()),
            _ => Err(message("the Bootz server", "expected an acknowledgement")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reports_what_it_runs_beside_what_its_owner_asks_for() {
        let enrolled = |software: Option<&str>| Enrolled {
            config: SwitchConfig {
                hostname: "leaf1".into(),
                device_id: 1,
                listen: "192.0.2.11:9559".parse().unwrap(),
            },
            certificate: String::new(),
            key: None,
            authorities: Vec::new(),
            server: String::new(),
            server_trust: String::new(),
            software: software.map(str::to_owned),
        };
        let serving = |wanted, running| enrolled(wanted).serving(running);
        assert_eq!(
            serving(Some("2"), Some("1")),
            "serving at 192.0.2.11:9559; it runs 1 instead of 2"
        );
        assert_eq!(serving(Some("2"), Some("2")), "serving at 192.0.2.11:9559; it runs 2");
        assert_eq!(serving(None, Some("1")), "serving at 192.0.2.11:9559; it runs 1");
        assert_eq!(serving(Some("2"), None), "serving at 192.0.2.11:9559");
    }
}
