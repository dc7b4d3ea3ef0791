//! The verbs of CNI 1.1.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use serde_json::{Value, json};

use crate::config::{self, CURRENT_VERSION, Config, VERSIONS};
use crate::error::{self, Error};
use crate::protocol::{self, Reply, Request};
use crate::result::{Success, compare};

/// Shortest and longest pause, and how long in all, while an agent that starts is waited for.
const STARTING: (Duration, Duration, Duration) = (
    Duration::from_millis(20),
    Duration::from_millis(500),
    Duration::from_secs(5),
);
/// Longest wait for the agent's reply: longer than the agent waits for the controller.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest wait for the reply to STATUS, which asks nobody else.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries out what the environment and the configuration ask for; returns the result, where there is one.
///
/// # Errors
/// With the code of CNI.
pub fn run(environment: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Error> {
    match environment("CNI_COMMAND").as_deref() {
        Some("VERSION") => Ok(Some(version(input))),
        Some("ADD") => add(&environment, &Config::parse(input)?).map(Some),
        Some("DEL") => {
            let (config, slot) = (Config::parse(input)?, config::slot(&environment)?);
            done(&config.socket, &Request::Del { slot })
        }
        Some("CHECK") => check(&environment, &Config::parse(input)?),
        Some("STATUS") => done(&Config::parse(input)?.socket, &Request::Status),
        Some("GC") => {
            let config = Config::parse(input)?;
            let (cni_network, valid) = config.valid()?;
            done(&config.socket, &Request::Gc { cni_network, valid })
        }
        _ => Err(Error::environment(
            "CNI_COMMAND",
            "ADD, DEL, CHECK, STATUS, GC or VERSION",
        )),
    }
}

fn version(input: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(input).ok();
    let asked = asked.as_ref().and_then(|v| v.get("cniVersion")?.as_str());
    json!({ "cniVersion": asked.unwrap_or(CURRENT_VERSION), "supportedVersions": VERSIONS })
}

fn add(environment: &impl Fn(&str) -> Option<String>, config: &Config) -> Result<Value, Error> {
    let slot = config::slot(environment)?;
    let netns = environment("CNI_NETNS").filter(|n| n.starts_with('/'));
    let netns = netns.ok_or_else(|| Error::environment("CNI_NETNS", "the path of a network namespace"))?;
    let wish = config.wish(&environment("CNI_ARGS").unwrap_or_default())?;
    let interface = slot.interface.clone();
    let request = Request::Add {
        slot,
        netns: netns.clone(),
        wish,
    };
    let Reply::Attached(attached) = ask(&config.socket, &request)? else {
        return Err(Error::io("the agent sent a reply to something else"));
    };
    let success = Success {
        version: &config.cni_version,
        interface: &interface,
        netns: &netns,
        attached: &attached,
        previous: config.prev_result.as_ref(),
        dns: config.dns.as_ref(),
    };
    Ok(success.document())
}

fn check(environment: &impl Fn(&str) -> Option<String>, config: &Config) -> Result<Option<Value>, Error> {
    let slot = config::slot(environment)?;
    let interface = slot.interface.clone();
    let result = config.prev_result.as_ref();
    let result = result.ok_or_else(|| Error::field("prevResult", "", "the result of ADD"))?;
    let Reply::Attached(attached) = ask(&config.socket, &Request::Check { slot })? else {
        return Err(Error::io("the agent sent a reply to something else"));
    };
    compare(&interface, &attached, result).map(|()| None)
}

fn done(socket: &Path, request: &Request) -> Result<Option<Value>, Error> {
    match ask(socket, request)? {
        Reply::Done => Ok(None),
        _ => Err(Error::io("the agent sent a reply to something else")),
    }
}

/// Asks the agent.
///
/// # Errors
/// When it cannot be reached, or says that it cannot be done.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, Error> {
    let status = *request == Request::Status;
    let mut stream = connect(socket, status).map_err(|e| {
        let message = format!("the agent cannot be reached at {}: {}", socket.display(), e.kind());
        Error::new(if status { error::NOT_AVAILABLE } else { error::TRY_AGAIN }, message)
    })?;
    let patience = if status { STATUS_TIMEOUT } else { REPLY_TIMEOUT };
    let mut talk = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        protocol::send(&mut stream, request)?;
        protocol::receive::<Reply>(&mut stream)
    };
    let broken = |e: io::Error| Error::new(error::TRY_AGAIN, format!("the agent did not reply: {e}"));
    match talk().map_err(broken)? {
        Reply::Failed { code, message } => Err(Error::new(code, message)),
        reply => Ok(reply),
    }
}

/// Connects; waits for an agent that is starting, except for STATUS, which tells how it is now.
fn connect(socket: &Path, at_once: bool) -> io::Result<UnixStream> {
    let connect = || UnixStream::connect(socket);
    if at_once {
        return connect();
    }
    let (shortest, longest, all) = STARTING;
    let waits = ExponentialBuilder::new()
        .with_min_delay(shortest)
        .with_max_delay(longest);
    let waits = waits.with_jitter().with_total_delay(Some(all)).without_max_times();
    connect.retry(waits).call()
}
