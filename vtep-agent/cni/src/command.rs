//! The verbs of CNI 1.1.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use serde_json::{Value, json};

use crate::config::{self, CURRENT_VERSION, Config, VERSIONS};
use crate::error::{self, Error};
use crate::ipam::Ipam;
use crate::protocol::{self, Reply, Request, Slot, Wish};
use crate::result::{Success, compare};

/// Shortest and longest pause, and the longest wait in all, while an agent is starting.
const STARTING: (Duration, Duration, Duration) = (
    Duration::from_millis(20),
    Duration::from_millis(500),
    Duration::from_secs(5),
);
/// Longest wait for the agent's reply: longer than the agent waits for the controller.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest wait for the reply to STATUS, for which the agent asks nobody else.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries out the command in the environment and the configuration; returns the result, if there is one.
///
/// # Errors
/// With a code of CNI.
pub fn run(environment: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Option<Value>, Error> {
    match environment("CNI_COMMAND").as_deref() {
        Some("VERSION") => Ok(Some(version(input))),
        Some("ADD") => add(&environment, &Config::parse(input)?, input).map(Some),
        Some("DEL") => {
            let (config, slot) = (Config::parse(input)?, config::slot(&environment)?);
            done(&config.socket, &Request::Del { slot })?;
            // The address is released only when nobody uses it any more.
            Ipam::of(&environment, &config, input).map_or(Ok(None), |ipam| ipam.del().map(|()| None))
        }
        Some("CHECK") => check(&environment, &Config::parse(input)?, input),
        Some("STATUS") => {
            let config = Config::parse(input)?;
            done(&config.socket, &Request::Status)?;
            Ipam::of(&environment, &config, input).map_or(Ok(None), |ipam| ipam.status().map(|()| None))
        }
        Some("GC") => collect(&environment, &Config::parse(input)?, input),
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

fn add(environment: &impl Fn(&str) -> Option<String>, config: &Config, input: &[u8]) -> Result<Value, Error> {
    let slot = config::slot(environment)?;
    let netns = environment("CNI_NETNS").filter(|n| n.starts_with('/'));
    let netns = netns.ok_or_else(|| Error::environment("CNI_NETNS", "the path of a network namespace"))?;
    let mut wish = config.wish(&environment("CNI_ARGS").unwrap_or_default())?;
    let ipam = Ipam::of(environment, config, input);
    let (mut allocated, mut dns) = (None, None);
    if let Some(ipam) = &ipam {
        match held(&config.socket, &slot)? {
            // The plugin would refuse a second address for the same interface.
            Some(has) if has.vdc == wish.vdc && has.network == wish.network => wish.ips = has.ips,
            Some(_) => {
                let Slot { container, interface } = &slot;
                let message = format!("interface {interface} of {container} is attached to something else");
                return Err(Error::new(error::REFUSED, message));
            }
            None => {
                let given = ipam.add()?;
                (wish.ips, dns, allocated) = (given.ips, given.dns, Some(ipam));
            }
        }
    }
    let interface = slot.interface.clone();
    let request = Request::Add {
        slot: slot.clone(),
        netns: netns.clone(),
        wish,
    };
    let attached = match ask(&config.socket, &request) {
        Ok(Reply::Attached(attached)) => attached,
        other => {
            let why = other
                .err()
                .unwrap_or_else(|| Error::io("the agent sent a reply to something else"));
            return Err(allocated.map_or(why.clone(), |ipam| give_back(ipam, &config.socket, slot, why)));
        }
    };
    let success = Success {
        version: &config.cni_version,
        interface: &interface,
        netns: &netns,
        attached: &attached,
        previous: config.prev_result.as_ref(),
        dns: config.dns.as_ref().or(dns.as_ref()),
    };
    Ok(success.document())
}

/// After a failed ADD: the address is released once it is certain that the interface does not exist.
fn give_back(ipam: &Ipam, socket: &Path, slot: Slot, mut why: Error) -> Error {
    let gone = done(socket, &Request::Del { slot }).map(drop);
    if let Err(e) = gone.and_then(|()| ipam.del()) {
        why.message = format!("{}; and its address is not free yet: {}", why.message, e.message);
    }
    why
}

/// The agent's entry for an interface.
fn held(socket: &Path, slot: &Slot) -> Result<Option<Wish>, Error> {
    let Reply::Listed(all) = ask(socket, &Request::List)? else {
        return Err(Error::io("the agent sent a reply to something else"));
    };
    Ok(all.into_iter().find(|(s, _)| s == slot).map(|(_, wish)| wish))
}

/// GC at the agent; then at the IPAM plugin for each removed interface.
fn collect(
    environment: &impl Fn(&str) -> Option<String>,
    config: &Config,
    input: &[u8],
) -> Result<Option<Value>, Error> {
    let (cni_network, valid) = config.valid()?;
    let ipam = Ipam::of(environment, config, input);
    let stale = match &ipam {
        Some(_) => match ask(&config.socket, &Request::List)? {
            Reply::Listed(all) => all,
            _ => return Err(Error::io("the agent sent a reply to something else")),
        },
        None => Vec::new(),
    };
    let stale = stale
        .into_iter()
        .filter(|(slot, w)| w.cni_network == cni_network && !valid.contains(slot));
    let stale: Vec<Slot> = stale.map(|(slot, _)| slot).collect();
    done(&config.socket, &Request::Gc { cni_network, valid })?;
    let Some(ipam) = ipam else { return Ok(None) };
    let failed = stale
        .into_iter()
        .filter_map(|slot| ipam.of_slot(&slot).del().err())
        .next();
    failed.map_or(Ok(None), Err)
}

fn check(environment: &impl Fn(&str) -> Option<String>, config: &Config, input: &[u8]) -> Result<Option<Value>, Error> {
    let slot = config::slot(environment)?;
    let interface = slot.interface.clone();
    let result = config.prev_result.as_ref();
    let result = result.ok_or_else(|| Error::field("prevResult", "", "the result of ADD"))?;
    let Reply::Attached(attached) = ask(&config.socket, &Request::Check { slot })? else {
        return Err(Error::io("the agent sent a reply to something else"));
    };
    compare(&interface, &attached, result)?;
    Ipam::of(environment, config, input).map_or(Ok(None), |ipam| ipam.check().map(|()| None))
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
/// When the agent cannot be reached, or refuses.
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

/// Connects; waits for an agent that is starting, except for STATUS, which reports the current state.
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
