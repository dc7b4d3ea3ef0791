//! A switch without an IDevID gets its certificate from the controller with a one-time token.
//!
//! | file | what | who writes it |
//! | --- | --- | --- |
//! | `device.json` | `{"manufacturer": ..., "model": ..., "serial": ...}` | manufacturer, or operator |
//! | `own.key` | key of its certificate in the fabric | the switch, before it asks for anything |
//! | `enrolled.json` | what the controller gave it | the switch, when it has the reply |
//! | `ca.pem`, `tls.key`, `cert.pem` | the certificate, its key and the authorities, for TLS | the switch, at every start |
//!
//! Each file exists whole or not at all, and the key is on the disk before the token is sent. So the switch may be
//! killed at any moment: after its next start it uses the same key, and the controller gives it a certificate for that
//! key again. The token itself is not stored here. The controller renews the certificate (gNSI Certz).

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootz_proto::request::switch_enrolment_client::SwitchEnrolmentClient;
use bootz_proto::request::{AuthoritiesRequest, EnrolReply, EnrolRequest};
use fabric_identity::{Credentials, Files, Invitation, Newcomer, Subject, Trust, is_private, write_private};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::client::{Made, at, read, read_if_there, waits, words};
use crate::data::SwitchConfig;
use crate::device::{new_key, signing_request};
use crate::error::{BootzError, message};

/// Longest wait for a reply: the controller writes to its disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// How errors name the controller.
const CONTROLLER: &str = "the controller";

/// What the controller gave the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its settings.
    pub config: SwitchConfig,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Authorities to trust (PEM).
    pub authorities: String,
}

/// A switch and its directory.
pub struct TokenClient {
    dir: PathBuf,
    serial: String,
    model: String,
    /// `HOST:PORT` of the controller.
    controller: String,
}

async fn reply<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, BootzError> {
    let late = |_| Status::deadline_exceeded(format!("no reply in {} s", PATIENCE.as_secs()));
    Ok(timeout(PATIENCE, call).await.map_err(late)??.into_inner())
}

fn identity(error: fabric_identity::IdentityError) -> BootzError {
    message(CONTROLLER, fabric_identity::explain(&error))
}

/// Whether the same attempt may succeed later without anybody's help.
fn is_passing(error: &BootzError) -> bool {
    match error {
        BootzError::Connect { .. } => true,
        BootzError::Refused(status) => !matches!(
            status.code(),
            Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
        ),
        _ => false,
    }
}

impl TokenClient {
    /// A switch with the files of a directory, and the controller at `https://HOST:PORT`.
    ///
    /// # Errors
    /// A file is missing or cannot be used, or the address does not have this form.
    pub fn open(dir: &Path, controller: &str) -> Result<Self, BootzError> {
        let made = read(&dir.join("device.json"))?;
        let made: Made = serde_json::from_str(&made).map_err(|error| message("device.json", error))?;
        let serial = made.serial.filter(|serial| !serial.trim().is_empty());
        let serial = serial.ok_or_else(|| message("device.json", "`serial` is missing: a token is bound to it"))?;
        let address = controller
            .strip_prefix("https://")
            .map(|rest| rest.trim_end_matches('/'));
        let address = address.filter(|address| !address.is_empty()).ok_or_else(|| {
            let problem = format!("`{controller}`: expected an address that starts with https://");
            message("the address of the controller", problem)
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            serial,
            model: made.model,
            controller: address.to_owned(),
        })
    }

    /// Model of the switch.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Serial number of the switch.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BootzError> {
        let path = self.path(name);
        write_private(&path, text.as_bytes()).map_err(at(&path))
    }

    /// What the controller gave this switch; none if it is blank.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn enrolled(&self) -> Result<Option<Enrolled>, BootzError> {
        let text = read_if_there(&self.path("enrolled.json"))?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| message("enrolled.json", error))
    }

    /// Reads the file of the token. None if it is not there.
    ///
    /// # Errors
    /// Users other than its owner can read the file, or it does not contain a token.
    pub fn invitation(path: &Path) -> Result<Option<Invitation>, BootzError> {
        match is_private(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
            Ok(true) => {}
            Ok(false) => {
                let words = format!(
                    "others can read {}: make its mode 0600, and make another token",
                    path.display()
                );
                return Err(message("the file of the token", words));
            }
        }
        let read = Invitation::read(path, None);
        read.map_err(|error| message("the file of the token", fabric_identity::explain(&error)))
    }

    /// Connects to the controller and checks that it belongs to the fabric. The token is not sent
    /// before that.
    async fn recognise(&self, trust: &Trust) -> Result<Channel, BootzError> {
        let connect = |source| BootzError::Connect {
            address: self.controller.clone(),
            source,
        };
        let shown = match trust {
            Trust::Authorities(_) => None,
            Trust::Fingerprint(_) => {
                let anybody = Newcomer::trusting_anybody().map_err(identity)?;
                let channel = anybody.channel(&self.controller).await.map_err(connect)?;
                let mut client = SwitchEnrolmentClient::new(channel);
                Some(reply(client.authorities(AuthoritiesRequest {})).await?.authorities)
            }
        };
        let newcomer = trust
            .newcomer(shown.as_deref(), Subject::Controller)
            .map_err(identity)?;
        newcomer.channel(&self.controller).await.map_err(connect)
    }

    /// Exchanges a token for a certificate, once.
    ///
    /// # Errors
    /// The exchange failed; the error says why. Nothing has changed then, except that the switch
    /// may have made its key.
    pub async fn attempt(&self, invitation: &Invitation) -> Result<Enrolled, BootzError> {
        let key = match read_if_there(&self.path("own.key"))? {
            Some(key) => key,
            None => {
                let key = new_key()?;
                self.write("own.key", &key)?;
                key
            }
        };
        let channel = self.recognise(invitation.trust()).await?;
        let request = EnrolRequest {
            token: invitation.token().to_owned(),
            serial: self.serial.clone(),
            model: self.model.clone(),
            certificate_signing_request: signing_request(&key)?,
        };
        let said = reply(SwitchEnrolmentClient::new(channel).enrol(request)).await?;
        let enrolled = read_reply(said, &key)?;
        let text = serde_json::to_string_pretty(&enrolled).map_err(|error| message("enrolled.json", error))?;
        self.write("enrolled.json", &text)?;
        Ok(enrolled)
    }

    /// Returns what the controller gave this switch before, or else gives it now for the token in a file. Tries until
    /// the controller decides.
    ///
    /// # Errors
    /// The controller refuses or belongs to another fabric, or a file cannot be used.
    pub async fn enrol(&self, token: &Path) -> Result<Enrolled, BootzError> {
        match self.enrolled() {
            Ok(Some(enrolled)) => return Ok(enrolled),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                error = words(&error),
                "what the controller gave cannot be used; asking again"
            ),
        }
        let invitation = Self::invitation(token)?.ok_or_else(|| {
            let problem = format!(
                "{}: there is no such file: make a token with `fabricctl switch token`",
                token.display()
            );
            message("the file of the token", problem)
        })?;
        let mut waits = waits();
        loop {
            match self.attempt(&invitation).await {
                Err(error) if is_passing(&error) => {
                    tracing::warn!(error = words(&error), controller = self.controller, "not enrolled yet");
                    tokio::time::sleep(waits.next().unwrap_or(PATIENCE)).await;
                }
                done => return done,
            }
        }
    }

    /// Writes certificate, key and authorities as files for TLS.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn install(&self, enrolled: &Enrolled) -> Result<Files, BootzError> {
        self.write("ca.pem", &enrolled.authorities)?;
        self.write("tls.key", &read(&self.path("own.key"))?)?;
        self.write("cert.pem", &enrolled.certificate)?;
        Ok(Files {
            ca: self.path("ca.pem"),
            cert: self.path("cert.pem"),
            key: self.path("tls.key"),
        })
    }
}

/// The content of a reply.
///
/// # Errors
/// The reply cannot be used with this key.
fn read_reply(reply: EnrolReply, key: &str) -> Result<Enrolled, BootzError> {
    const WHAT: &str = "the controller's reply";
    let authorities = String::from_utf8(reply.authorities).map_err(|error| message(WHAT, error))?;
    let parts = [&authorities, &reply.certificate].map(|part| part.as_bytes());
    let credentials = Credentials::from_pem(parts[0], parts[1], key.as_bytes()).map_err(identity)?;
    credentials
        .expect(&Subject::Switch(reply.hostname.clone()))
        .map_err(identity)?;
    let listen = reply.listen.parse();
    let listen = listen.map_err(|error| message(WHAT, format!("listen: `{}`: {error}", reply.listen)))?;
    Ok(Enrolled {
        config: SwitchConfig {
            hostname: reply.hostname,
            device_id: reply.device_id,
            listen,
        },
        certificate: reply.certificate,
        authorities,
    })
}
