//! Requests from an operator to the running server, over a socket in its state directory. Only the server's own user
//! and root can enter that directory, so only they can send requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use vfabric_api::ident::Name;

use crate::board::{Status, now, written};
use crate::error::ProvisionError;
use crate::http::Files;

/// Name of the socket in the directory of state.
const SOCKET: &str = "control.sock";
/// Largest answer that a client reads: a status of thousands of switches.
const LARGEST_ANSWER: usize = 64 << 20;
/// Longest wait for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Opens the enrolment window, or closes it with zero seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// For how long.
    pub seconds: u64,
    /// How many machines it lets in.
    pub machines: u32,
}

/// Path of the socket.
pub fn path(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// Opens the socket. A socket that an earlier run left behind is replaced; a socket on which a server listens is not.
///
/// # Errors
/// It cannot be opened, or another server has it.
pub async fn open(state: &Path) -> Result<UnixListener, ProvisionError> {
    let path = path(state);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(ProvisionError::Control(format!(
            "another server runs with the directory {}",
            state.display()
        )));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ProvisionError::file(path)(error)),
        _ => {}
    }
    UnixListener::bind(&path).map_err(ProvisionError::file(path))
}

/// Serves until it is stopped.
///
/// # Errors
/// The socket fails.
pub async fn serve(listener: UnixListener, files: Arc<Files>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/status", get(status))
        .route("/enrolment", post(enrol))
        .route("/render/{switch}/{file}", get(render))
        .with_state(files);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn status(State(files): State<Arc<Files>>) -> Json<Status> {
    let mut status = files.board.status(now());
    // Also list switches that have not sent anything yet.
    for switch in files.directory.load().switches() {
        status.switches.entry(switch.name.clone()).or_default();
    }
    Json(status)
}

async fn enrol(State(files): State<Arc<Files>>, Json(enrolment): Json<Enrolment>) -> String {
    let until = files.board.open_window(now(), enrolment.seconds, enrolment.machines);
    match until {
        Some(until) => format!("open until {} for {} machines\n", written(until), enrolment.machines),
        None => "closed\n".to_owned(),
    }
}

async fn render(State(files): State<Arc<Files>>, Segment((switch, name)): Segment<(Name, String)>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || {
        let directory = files.directory.load_full();
        let Some(switch) = directory.switch(&switch) else {
            return (
                StatusCode::NOT_FOUND,
                format!("switch `{switch}` is not in the inventory\n"),
            )
                .into_response();
        };
        match files.render(switch, &name) {
            Ok(text) => text.into_response(),
            Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")).into_response(),
        }
    });
    rendered
        .await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Sends a request to the running server.
///
/// # Errors
/// No server runs, or it refuses.
pub async fn ask(state: &Path, method: &str, path: &str, body: String) -> Result<String, ProvisionError> {
    let socket = self::path(state);
    let asking = async {
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(ProvisionError::file(&socket))?;
        let wrong = |what: &str, error: &dyn std::fmt::Display| ProvisionError::Control(format!("{what}: {error}"));
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|e| wrong("the server cannot be asked", &e))?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|e| wrong("the request", &e))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|e| wrong("the server does not answer", &e))?;
        let status = response.status();
        let body = axum::body::Body::new(response.into_body());
        let octets = axum::body::to_bytes(body, LARGEST_ANSWER).await;
        let octets = octets.map_err(|e| wrong("the answer breaks off", &e))?;
        let text = String::from_utf8_lossy(&octets).into_owned();
        if status.is_success() {
            Ok(text)
        } else {
            Err(ProvisionError::Control(text.trim_end().to_owned()))
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| Err(ProvisionError::Control("the server does not answer in time".into())))
}
