//! Images and first-boot files over HTTP, read only.
//!
//! | path | what | for whom |
//! | --- | --- | --- |
//! | `/images/FILE` | an image of the list of digests | everybody on the network: images contain no secret |
//! | `/onie-installer...`, `/onie-updater...` | the default names that ONIE tries: the file of that name, or the image of the switch that asks | a switch of the inventory |
//! | `/ztp/SWITCH/FILE`, `/ztp.json`, `/first-boot.sh` | a first-boot file | that switch |
//!
//! The server recognises a client by the address that it leased here or, if the operator's own DHCP server gave the address, by
//! the serial number and MAC address in the headers that boot clients send. None of this is proof, so no file
//! contains a secret. If the two contradict each other, nothing is served.

mod file;
mod serve;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use vfabric_api::ident::{Label, Name};
use vfabric_api::topology::Switch;

use crate::board::{Board, What, now};
use crate::client::Client;
use crate::dhcp::leases::Holder;
use crate::dhcp::reply::image_of;
use crate::directory::{Directory, Refusal};
use crate::image::{Images, NoImage};
use crate::settings::Settings;
use crate::template::{For, NAMES, Templates};

pub use serve::{LIMITS, serve};

/// The sources of files.
pub struct Files {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The inventory.
    pub directory: Arc<ArcSwap<Directory>>,
    /// What operators see.
    pub board: Arc<Board>,
    /// The images.
    pub images: Images,
    /// The templates.
    pub templates: Templates,
}

/// The client that asks for a file.
pub(crate) struct Who {
    switch: Option<Name>,
    /// Why nothing is served to it.
    contradiction: Option<String>,
    /// In words, for the timeline.
    from: String,
}

impl Files {
    /// Recognises the client by its address and its headers.
    pub(crate) fn who(&self, peer: IpAddr, client: &Client, mac: Option<vfabric_api::ident::Mac>) -> Who {
        let directory = self.directory.load();
        let leased = match self.board.holder(peer.to_canonical(), now()) {
            Some(Holder::Switch(name)) if directory.switch(&name).is_some() => Some(name),
            _ => None,
        };
        let named = directory.recognise(mac, client.serial.as_ref()).map(|s| s.name.clone());
        let (switch, contradiction) = match (leased, named) {
            (Some(leased), Ok(named)) if leased != named => {
                let why = format!("its address is leased to `{leased}`, but its headers are those of `{named}`");
                (Some(leased), Some(why))
            }
            (leased, Ok(named)) => (leased.or(Some(named)), None),
            (leased, Err(Refusal::Unknown)) => (leased, None),
            (leased, Err(refusal)) => {
                let switch = leased.or_else(|| refusal.switch().cloned());
                (switch, Some(refusal.to_string()))
            }
        };
        Who {
            switch,
            contradiction,
            from: format!("{} at {peer}", client.kind),
        }
    }

    pub(crate) fn step(&self, who: &Who, what: What, detail: &str) {
        match &who.switch {
            Some(switch) => self
                .board
                .step(switch, now(), what, &format!("{detail} ({})", who.from)),
            None => self.board.count("http_of_nobody"),
        }
    }

    /// Refuses, and notes it on the timeline.
    fn no(&self, who: &Who, what: What, detail: &str) -> Response {
        self.board.count("http_refused");
        self.step(who, what, detail);
        match what {
            // The reason is for the operator only, because it names values of the inventory.
            What::Refused => (StatusCode::FORBIDDEN, "refused: the operator's status says why\n").into_response(),
            _ => (StatusCode::NOT_FOUND, format!("{detail}\n")).into_response(),
        }
    }

    /// The first-boot file of a switch.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub fn render(&self, switch: &Switch, name: &str) -> Result<String, crate::error::ProvisionError> {
        self.render_in(switch, name, switch.p4runtime.ip())
    }

    fn render_in(&self, switch: &Switch, name: &str, at: IpAddr) -> Result<String, crate::error::ProvisionError> {
        let (subnet, subnet6) = match at.to_canonical() {
            IpAddr::V4(address) => (self.settings.subnet_of(address), None),
            IpAddr::V6(address) => {
                let ipv6 = self.settings.ipv6.as_ref();
                (None, ipv6.and_then(|ipv6| Some((ipv6, ipv6.subnet_of(address)?))))
            }
        };
        let of = For {
            settings: &self.settings,
            directory: &self.directory.load(),
            images: &self.images,
            switch,
            subnet: subnet.and_then(|i| self.settings.subnets.get(i)),
            subnet6,
        };
        self.templates.render(name, &of)
    }

    /// Checks every image of the settings, so that a damaged one is noticed before a switch asks for it.
    pub fn check_images(&self) {
        for software in &self.settings.software {
            if let Err(error) = self.images.open(&software.image) {
                let detail = format!("software {}: {error}", software.name);
                self.board.trouble(now(), &detail);
            }
        }
    }

    /// The file for a name that ONIE tries by itself.
    pub(crate) fn waterfall(&self, name: &str, who: &Who) -> Result<Label, String> {
        let literal: Option<Label> = name.parse().ok();
        if let Some(literal) = literal.filter(|name| self.images.listed(name).is_ok()) {
            return Ok(literal);
        }
        let directory = self.directory.load();
        let Some(switch) = who.switch.as_ref().and_then(|name| directory.switch(name)) else {
            return Err(format!("{name}: no switch of the inventory asks for it"));
        };
        // An updater of ONIE itself is served only under its own name, because it is not an installer.
        if !name.starts_with("onie-installer") {
            return Err(format!("{name}: there is no file of this name"));
        }
        let image = image_of(&self.settings, switch).cloned();
        image.ok_or_else(|| match &switch.software {
            None => format!("{name}: the inventory names no software of this switch"),
            Some(software) => format!("{name}: the settings have no image of {software} for its model"),
        })
    }
}

/// The routes.
pub fn router(files: Arc<Files>) -> Router {
    Router::new()
        .route("/images/{file}", get(image))
        .route("/ztp/{switch}/{file}", get(script))
        .route("/{file}", get(by_name))
        .fallback(nothing)
        .with_state(files)
}

fn client(headers: &HeaderMap) -> (Client, Option<vfabric_api::ident::Mac>) {
    Client::of_headers(|name| headers.get(name).map(|value| value.as_bytes()))
}

async fn image(
    State(files): State<Arc<Files>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (client, mac) = client(request.headers());
    let who = files.who(peer.ip(), &client, mac);
    match name.parse() {
        Ok(name) => send(files, who, name, request).await,
        Err(_) => files.no(&who, What::NoFile, "there is no image of this name"),
    }
}

async fn by_name(
    State(files): State<Arc<Files>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (client, mac) = client(request.headers());
    let who = files.who(peer.ip(), &client, mac);
    if name.starts_with("onie-") {
        return match files.waterfall(&name, &who) {
            Ok(file) => send(files, who, file, request).await,
            Err(why) => files.no(&who, What::NoFile, &why),
        };
    }
    match (NAMES.iter().find(|known| **known == name), who.switch.clone()) {
        (Some(name), Some(_)) => render(files, who, peer.ip(), name, request.method()).await,
        _ => files.no(&who, What::NoFile, &format!("/{name}: there is no such file for you")),
    }
}

async fn script(
    State(files): State<Arc<Files>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((switch, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (client, mac) = client(request.headers());
    let who = files.who(peer.ip(), &client, mac);
    let known = NAMES.iter().find(|known| **known == name);
    let is_its_own = who.switch.as_ref().is_some_and(|own| own.as_str() == switch);
    match known.filter(|_| is_its_own) {
        Some(name) => render(files, who, peer.ip(), name, request.method()).await,
        None => files.no(
            &who,
            What::NoFile,
            &format!("/ztp/{switch}/{name}: there is no such file for you"),
        ),
    }
}

async fn nothing(
    State(files): State<Arc<Files>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (client, mac) = client(request.headers());
    let who = files.who(peer.ip(), &client, mac);
    let path = crate::client::shown(request.uri().path().as_bytes());
    files.no(&who, What::NoFile, &format!("{path}: there is no such file"))
}

async fn render(files: Arc<Files>, who: Who, peer: IpAddr, name: &'static str, method: &Method) -> Response {
    let is_head = method == Method::HEAD;
    if let Some(why) = &who.contradiction {
        return files.no(&who, What::Refused, &format!("{name}: {why}"));
    }
    let rendered = tokio::task::spawn_blocking(move || {
        let directory = files.directory.load_full();
        let switch = who.switch.as_ref().and_then(|name| directory.switch(name));
        let text = match switch {
            Some(switch) => files.render_in(switch, name, peer),
            None => return files.no(&who, What::NoFile, name),
        };
        match text {
            Ok(text) => {
                if !is_head {
                    files.board.count("http_scripts");
                    files.step(&who, What::ScriptFetched, name);
                }
                let kind = if name.ends_with(".json") {
                    "application/json"
                } else {
                    "text/x-shellscript"
                };
                (
                    [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")],
                    text,
                )
                    .into_response()
            }
            Err(error) => {
                files.board.trouble(now(), &error.to_string());
                // The details are for the operator only.
                files.step(&who, What::NoFile, &error.to_string());
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("{name} cannot be made for this switch\n"),
                )
                    .into_response()
            }
        }
    });
    rendered
        .await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Sends an image whose digest was verified.
async fn send(files: Arc<Files>, who: Who, name: Label, request: Request) -> Response {
    if let Some(why) = &who.contradiction {
        return files.no(&who, What::Refused, &format!("{name}: {why}"));
    }
    let opening = {
        let (files, name) = (Arc::clone(&files), name.clone());
        tokio::task::spawn_blocking(move || files.images.open(&name))
    };
    match opening.await {
        Ok(Ok(image)) => file::send(files, who, &name, image, request).await,
        Ok(Err(error @ NoImage::NotListed(_))) => files.no(&who, What::NoFile, &error.to_string()),
        Ok(Err(error)) => {
            files.board.trouble(now(), &error.to_string());
            files.no(&who, What::NoFile, &error.to_string())
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
