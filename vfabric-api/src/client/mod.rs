//! A client of the REST API.

mod config;
mod contexts;
mod history;
mod inventory;
mod upload;
mod users;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::ident::{Label, Name, OwnerName};
use crate::image::{Image, NewImage};
use crate::intent::Intent;
use crate::provisioning::Provisioning;
use crate::service::{ApplyOptions, Key, Kind, Outcome, Page, Spec};
use crate::status::{
    DeviceEntity, Drops, FabricStatus, HostStatus, LinkStatus, ObjectEntity, SwitchStatus, TableUse, View,
};

pub use config::Config;
pub use contexts::{Contexts, Settings};
pub use inventory::{Verb, link_at};
pub use watch::{EventWatch, Watch, Watched};

/// Time for a call that waits for nothing; a mutation with `wait` gets this in addition.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Additional time for an intent file, which may have tens of thousands of objects.
const APPLY_TIMEOUT: Duration = Duration::from_secs(270);
/// Time for a backup: some gigabytes over a slow connection.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time for an image: as for a backup.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Objects on one page: the most that the API returns.
const LIST_LIMIT: usize = 1000;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller refused it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The controller could not be reached, or its answer could not be read.
    #[error("cannot reach the controller")]
    Transport(#[from] reqwest::Error),
    /// A file of the client's settings cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of the client's settings is wrong.
    #[error("in {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: crate::yaml::YamlError,
    },
    /// The base address, certificate or token cannot be used.
    #[error("client settings: {0}")]
    Settings(String),
}

/// A connection to one controller.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    changes: Changes,
}

/// A backup that is being fetched.
pub struct Backup {
    response: reqwest::Response,
    /// Its revision, according to the controller.
    pub revision: Option<u64>,
}

impl Backup {
    /// The next octets; none at its end.
    ///
    /// # Errors
    /// The connection ended before the backup was complete.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.response.chunk().await?.map(|part| part.to_vec()))
    }
}

/// Settings of a client for its changes.
#[derive(Debug, Clone, Default)]
struct Changes {
    owner: Option<OwnerName>,
    force: bool,
    key: Option<String>,
}

impl Client {
    /// A client of the controller at `base` (`https://host:port`), trusting the authorities in
    /// `ca_pem` and sending `token`.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when one of them cannot be used.
    pub fn new(base: &str, ca_pem: &[u8], token: &str) -> Result<Self, ClientError> {
        Self::with_proof(base, ca_pem, token, None)
    }

    /// As [`Client::new`], with a client certificate: `identity_pem` is the certificate and its key (PEM). An empty
    /// `token` is not sent.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when one of them cannot be used.
    pub fn with_proof(
        base: &str,
        ca_pem: &[u8],
        token: &str,
        identity_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        Self::build(base, ca_pem, token, identity_pem, None)
    }

    /// Like [`Client::new`], but connections come from this local address. A controller limits the connections from one
    /// address.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when one of them cannot be used.
    pub fn from_address(base: &str, ca_pem: &[u8], token: &str, local: IpAddr) -> Result<Self, ClientError> {
        Self::build(base, ca_pem, token, None, Some(local))
    }

    fn build(
        base: &str,
        ca_pem: &[u8],
        token: &str,
        identity_pem: Option<&[u8]>,
        local: Option<IpAddr>,
    ) -> Result<Self, ClientError> {
        let settings = |e: String| ClientError::Settings(e);
        // A second call finds the provider already installed, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities = reqwest::Certificate::from_pem_bundle(ca_pem).map_err(|e| settings(format!("CA: {e}")))?;
        if !base.starts_with("https://") {
            return Err(settings(format!(
                "`{base}`: expected an address that starts with https://"
            )));
        }
        let mut http = reqwest::Client::builder().local_address(local);
        if let Some(pem) = identity_pem {
            let identity = reqwest::Identity::from_pem(pem);
            http = http.identity(identity.map_err(|_| {
                settings("client certificate: expected a certificate and its private key, both PEM".to_owned())
            })?);
        }
        let http = http
            .tls_certs_only(authorities)
            .no_proxy()
            .https_only(true)
            .build()
            .map_err(|e| settings(e.to_string()))?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            changes: Changes::default(),
        })
    }

    /// The same connection for the holder of another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.trim().to_owned(),
            ..self.clone()
        }
    }

    /// A request with the caller's proof.
    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() {
            request
        } else {
            request.bearer_auth(&self.token)
        }
    }

    /// The same connection, for an owner of objects: objects that it creates and changes get this owner, and changes of
    /// objects of other owners are refused unless forced. Calls that name an owner themselves use that one.
    #[must_use]
    pub fn as_owner(&self, owner: Option<OwnerName>, force: bool) -> Self {
        let changes = Changes {
            owner,
            force,
            ..self.changes.clone()
        };
        Self {
            changes,
            ..self.clone()
        }
    }

    /// The same connection, for one change that may be repeated: it is sent with the key (1 to 255 visible ASCII
    /// characters), and the controller carries it out only once.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        let changes = Changes {
            key: Some(key.to_owned()),
            ..self.changes.clone()
        };
        Self {
            changes,
            ..self.clone()
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<serde_json::Value>,
        wait: Option<Duration>,
    ) -> Result<T, ClientError> {
        self.call_if(method, path, body, wait, None).await
    }

    /// A call that is carried out only while the object has that revision.
    async fn call_if<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<serde_json::Value>,
        wait: Option<Duration>,
        revision: Option<u64>,
    ) -> Result<T, ClientError> {
        let is_change = method != reqwest::Method::GET;
        let mut request = self
            .request(method, path)
            .timeout(CALL_TIMEOUT + wait.unwrap_or_default());
        if let Some(key) = self.changes.key.as_ref().filter(|_| is_change) {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(revision) = revision {
            request = request.header(reqwest::header::IF_MATCH, format!("\"{revision}\""));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response.json().await?);
        }
        Err(refusal(response).await?)
    }

    /// A call whose response has no body.
    async fn command(&self, method: reqwest::Method, path: &str) -> Result<(), ClientError> {
        let response = self.request(method, path).timeout(CALL_TIMEOUT).send().await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response).await?)
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(reqwest::Method::GET, path, None, None).await
    }

    /// Applies an intent file as one transaction, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// The controller's error, or that it was not reached.
    pub async fn apply(
        &self,
        intent: &Intent,
        options: ApplyOptions,
        wait: Option<Duration>,
    ) -> Result<Outcome, ClientError> {
        let changes = Changes {
            owner: options.origin.owner.or_else(|| self.changes.owner.clone()),
            force: options.origin.force || self.changes.force,
            key: None,
        };
        let path = format!(
            "/v1/apply?prune={}&dry_run={}&wait={}&reason={}{}{}{}",
            options.prune,
            options.dry_run,
            wait.unwrap_or_default().as_secs_f64(),
            escape(&options.origin.reason),
            // Sent only if it is set, because older controllers do not know it.
            flag(options.keep_vdcs, "&keep_vdcs=true"),
            flag(options.origin.cascade, "&cascade=true"),
            changes.query(),
        );
        let body = serde_json::to_value(intent).map_err(unreadable)?;
        // A large file takes the controller longer than a single object.
        let wait = APPLY_TIMEOUT + wait.unwrap_or_default();
        self.call(reqwest::Method::POST, &path, Some(body), Some(wait)).await
    }

    /// Creates one object, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn create(&self, vdc: &Name, spec: &Spec, wait: Option<Duration>) -> Result<View, ClientError> {
        let path = format!(
            "{}?wait={}{}",
            collection(spec.kind(), Some(vdc)),
            wait.unwrap_or_default().as_secs_f64(),
            self.changes.query(),
        );
        let body = spec.body().map_err(unreadable)?;
        let json = self.call(reqwest::Method::POST, &path, Some(body), wait).await?;
        View::read(spec.kind(), json).map_err(unreadable)
    }

    /// Replaces one object (if `revision` is given, only while the object has that revision), and waits up to `wait`
    /// for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn replace(
        &self,
        vdc: &Name,
        spec: &Spec,
        revision: Option<u64>,
        wait: Option<Duration>,
    ) -> Result<View, ClientError> {
        let key = Key::new(vdc.clone(), spec.kind(), spec.name().clone());
        let path = format!(
            "{}?wait={}{}",
            object(&key),
            wait.unwrap_or_default().as_secs_f64(),
            self.changes.query(),
        );
        let body = spec.body().map_err(unreadable)?;
        let method = reqwest::Method::PUT;
        let json = self.call_if(method, &path, Some(body), wait, revision).await?;
        View::read(spec.kind(), json).map_err(unreadable)
    }

    /// One object with its status.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn get(&self, key: &Key) -> Result<View, ClientError> {
        View::read(key.kind, self.read(&object(key)).await?).map_err(unreadable)
    }

    /// Every object of a kind, page by page.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn list(&self, kind: Kind, vdc: Option<&Name>) -> Result<Vec<View>, ClientError> {
        self.list_selected(kind, vdc, "", "").await
    }

    /// Every object of a kind whose labels and fields meet these selectors ([`crate::labels`]), page by page.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn list_selected(
        &self,
        kind: Kind,
        vdc: Option<&Name>,
        labels: &str,
        fields: &str,
    ) -> Result<Vec<View>, ClientError> {
        let mut selected = String::new();
        for (parameter, selector) in [("labels", labels), ("fields", fields)] {
            if !selector.is_empty() {
                selected += &format!("&{parameter}={}", escape(selector));
            }
        }
        let path = format!("{}?limit={LIST_LIMIT}{selected}", collection(kind, vdc));
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<serde_json::Value> = self.read(&format!("{path}{after}")).await?;
            for item in page.items {
                all.push(View::read(kind, item).map_err(unreadable)?);
            }
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(all),
            }
        }
    }

    /// Deletes one object, and waits up to `wait` for the devices.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn delete(&self, key: &Key, wait: Option<Duration>) -> Result<Outcome, ClientError> {
        let changes = self.changes.query();
        let path = format!(
            "{}?wait={}{changes}",
            object(key),
            wait.unwrap_or_default().as_secs_f64()
        );
        self.call(reqwest::Method::DELETE, &path, None, wait).await
    }

    /// The fabric at a glance.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn fabric(&self) -> Result<FabricStatus, ClientError> {
        self.read("/v1/fabric").await
    }

    /// Every switch.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn switches(&self) -> Result<Vec<SwitchStatus>, ClientError> {
        self.read("/v1/switches").await
    }

    /// Every host.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn hosts(&self) -> Result<Vec<HostStatus>, ClientError> {
        self.read("/v1/hosts").await
    }

    /// How each switch came into service, or how far it is.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn provisioning(&self) -> Result<Vec<Provisioning>, ClientError> {
        self.read("/v1/inventory/provisioning").await
    }

    /// Every link between switches.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn links(&self) -> Result<Vec<LinkStatus>, ClientError> {
        self.read("/v1/links").await
    }

    /// All losses.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn drops(&self) -> Result<Drops, ClientError> {
        self.read("/v1/drops").await
    }

    /// A backup of the controller's store.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn backup(&self) -> Result<Backup, ClientError> {
        let request = self
            .request(reqwest::Method::POST, "/v1/backup")
            .timeout(BACKUP_TIMEOUT);
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await?);
        }
        let revision = response.headers().get("vfabric-revision");
        let revision = revision.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Backup { response, revision })
    }

    /// All images for switches.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.read("/v1/images").await
    }

    /// Sends an image to be stored.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn put_image(&self, image: &NewImage, content: tokio::fs::File) -> Result<Image, ClientError> {
        let software = image
            .software
            .as_ref()
            .map(|s| format!("&software={}", escape(s.as_str())));
        let models: Vec<&str> = image.models.iter().map(Label::as_str).collect();
        let models = (!models.is_empty()).then(|| format!("&models={}", escape(&models.join(","))));
        let path = format!(
            "/v1/images/{}?sha256={}{}{}",
            escape(image.name.as_str()),
            image.sha256,
            software.unwrap_or_default(),
            models.unwrap_or_default()
        );
        let mut request = self.request(reqwest::Method::PUT, &path).timeout(IMAGE_TIMEOUT);
        request = request.header("content-type", "application/octet-stream");
        if let Some(octets) = image.octets {
            request = request.header("content-length", octets);
        }
        let response = request.body(upload::body(content)).send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await?);
        }
        Ok(response.json().await?)
    }

    /// Deletes an image; one that is the software of a switch only with `force`.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn delete_image(&self, name: &Label, force: bool) -> Result<(), ClientError> {
        let path = format!("/v1/images/{}?force={force}", escape(name.as_str()));
        let response = self
            .request(reqwest::Method::DELETE, &path)
            .timeout(CALL_TIMEOUT)
            .send()
            .await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(refusal(response).await?),
        }
    }

    /// How full the tables of all switches are, or of one switch if it is named.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn tables(&self, switch: Option<&Name>) -> Result<Vec<TableUse>, ClientError> {
        let only = switch.map(|switch| format!("?switch={switch}")).unwrap_or_default();
        self.read(&format!("/v1/tables{only}")).await
    }

    /// The entities that an object asks devices for.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn entities_of(&self, key: &Key) -> Result<Vec<ObjectEntity>, ClientError> {
        let Key { vdc, kind, name } = key;
        self.read(&format!("/v1/entities?vdc={vdc}&kind={}&name={name}", kind.word()))
            .await
    }

    /// What a device should hold.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn entities(&self, device: &Name) -> Result<Vec<DeviceEntity>, ClientError> {
        self.read(&format!("/v1/devices/{device}/entities")).await
    }
}

impl Changes {
    /// Query parameters for a change.
    fn query(&self) -> String {
        let owner = self
            .owner
            .as_ref()
            .map(|owner| format!("&owner={}", escape(owner.as_str())));
        let force = flag(self.force, "&force=true");
        owner.unwrap_or_default() + force
    }
}

/// Why a call was refused.
async fn refusal(response: reqwest::Response) -> Result<ClientError, ClientError> {
    let status = response.status();
    let text = response.text().await?;
    Ok(serde_json::from_str::<ApiError>(&text).map_or_else(
        |_| {
            let start: String = text.chars().take(200).collect();
            ClientError::Settings(format!("HTTP status {status}, which is not this API's: {start}"))
        },
        ClientError::Api,
    ))
}

/// A flag that is in the query only if it is set.
fn flag(is_set: bool, text: &'static str) -> &'static str {
    if is_set { text } else { "" }
}

/// A text as a value in a query (RFC 3986 section 2).
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let octet = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(octet).collect()
}

/// A response that does not have the form of this version of the API.
fn unreadable(error: serde_json::Error) -> ClientError {
    ClientError::Settings(error.to_string())
}

/// Path of a collection. Names are DNS labels, so they need no escaping.
fn collection(kind: Kind, vdc: Option<&Name>) -> String {
    match (kind, vdc) {
        (Kind::Vdc, _) | (_, None) => "/v1/vdcs".into(),
        (kind, Some(vdc)) => format!("/v1/vdcs/{vdc}/{}", kind.plural()),
    }
}

fn object(key: &Key) -> String {
    format!("{}/{}", collection(key.kind, Some(&key.vdc)), key.name)
}
