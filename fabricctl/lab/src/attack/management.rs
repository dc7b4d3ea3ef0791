//! Attacks on the management network: with keys of others, without a key, with the key of an operator who may only
//! read, and without a token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use gnmi_proto::gnmi::{SetRequest, g_nmi_client::GNmiClient};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1::stream_message_response::Update;
use p4runtime_proto::p4::v1::{CapabilitiesRequest, ReadRequest, Uint128, WriteRequest};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use vfabric_api::client::{Client, ClientError};
use vfabric_api::error::ErrorCode;
use vfabric_api::service::Key;
use vfabric_api::topology::Switch;

use super::cast::Cast;
use crate::{AGENT_PORT, REST_PORT, Target, intruder};

/// Longest time that a server may take to close a connection that sends nothing useful: more than its own limit for the
/// first octets of a request (`docs/security.md`).
const PATIENCE: Duration = Duration::from_secs(15);

/// An operator with role admin (`docs/security.md`).
const ADMIN: &str = "operator/lab/admin";

/// Every gRPC server: that of each switch, and that of the controller for agents.
fn doors(cast: &Cast<'_>) -> Vec<(String, SocketAddr)> {
    let lab = cast.cx.lab;
    let switches = lab.topology.switches.iter();
    let switches = switches.map(|s| (format!("{}.switch.vfabric", s.name), s.p4runtime));
    let agents = SocketAddr::new(lab.plan.controller.into(), AGENT_PORT);
    switches.chain([("controller.vfabric".to_owned(), agents)]).collect()
}

/// Keys of hosts and of other switches, tried on every server.
pub(super) fn stolen_keys(cast: &Cast<'_>) -> Result<String> {
    if cast.cx.lab.options.target == Target::Bmv2 {
        return Ok("not tried on simple_switch_grpc, which knows no identities".into());
    }
    let agents = format!("{}:{AGENT_PORT}", cast.cx.lab.plan.controller);
    let attempts = cast
        .cx
        .runtime
        .block_on(intruder::try_other_certificates(cast.cx.lab, &agents))?;
    Ok(format!("{attempts} calls with keys of hosts and switches, all refused"))
}

/// The key of an operator who may only read: tries to write, bid and change settings on every switch.
pub(super) fn operator(cast: &Cast<'_>) -> Result<String> {
    if cast.cx.lab.options.target == Target::Bmv2 {
        return Ok("not tried on simple_switch_grpc, which knows no identities".into());
    }
    let switches = &cast.cx.lab.topology.switches;
    for switch in switches {
        cast.cx.runtime.block_on(changes(cast, switch))?;
    }
    Ok(format!(
        "{} switches: an operator's bids, writes and settings were refused, reads answered",
        switches.len()
    ))
}

/// The key of an operator with role admin: it cannot depose the controller, and gives access to
/// nothing else.
pub(super) fn stolen_admin(cast: &Cast<'_>) -> Result<String> {
    let lab = cast.cx.lab;
    if lab.options.target == Target::Bmv2 {
        return Ok("not tried on simple_switch_grpc, which knows no identities".into());
    }
    let agents = format!("{}:{AGENT_PORT}", lab.plan.controller);
    cast.cx.runtime.block_on(async {
        for switch in &lab.topology.switches {
            beside_the_controller(cast, switch).await?;
        }
        intruder::follow_as_host(lab, ADMIN, &agents).await?;
        let files = lab.pki.identity(ADMIN);
        let pem = [std::fs::read(files.cert)?, std::fs::read(files.key)?].concat();
        let server = format!("https://127.0.0.1:{REST_PORT}");
        let client = Client::with_proof(&server, &std::fs::read(lab.pki.ca())?, "", Some(&pem))?;
        match client.fabric().await {
            Err(ClientError::Api(e)) if e.code == ErrorCode::Unauthenticated => Ok(()),
            other => bail!("REST with an operator's certificate: got {other:?}, expected `unauthenticated`"),
        }
    })?;
    Ok(format!(
        "{} switches: an admin did not become primary while the controller was there, and wrote nothing; refused as a host and over REST",
        lab.topology.switches.len()
    ))
}

/// Bids the greatest election id for the default role, and writes.
async fn beside_the_controller(cast: &Cast<'_>, switch: &Switch) -> Result<()> {
    let channel = intruder::channel(cast.cx.lab, ADMIN, switch).await?;
    let device_id = u64::from(switch.device_id);
    let mut client = P4RuntimeClient::new(channel);
    let greatest = Uint128 {
        high: u64::MAX,
        low: u64::MAX,
    };
    let bids = futures::stream::iter([intruder::bid(device_id, greatest)]).chain(futures::stream::pending());
    let mut answers = client.stream_channel(bids).await?.into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await;
    let answer = answer.with_context(|| format!("{} does not answer a bid", switch.name))??;
    match answer.and_then(|a| a.update) {
        Some(Update::Arbitration(a)) if a.status.as_ref().is_some_and(|s| s.code != 0) => {}
        other => bail!("{}: an operator's bid beside the controller's: {other:?}", switch.name),
    }
    let write = WriteRequest {
        device_id,
        election_id: Some(greatest),
        ..Default::default()
    };
    match client.write(write).await {
        Err(status) if status.code() == Code::PermissionDenied => Ok(()),
        other => bail!("{}: a write of an operator who is not primary: {other:?}", switch.name),
    }
}

async fn changes(cast: &Cast<'_>, switch: &Switch) -> Result<()> {
    let channel = intruder::channel(cast.cx.lab, "operator/lab", switch).await?;
    let device_id = u64::from(switch.device_id);
    let mut client = P4RuntimeClient::new(channel.clone());
    let greatest = Uint128 {
        high: u64::MAX,
        low: u64::MAX,
    };
    let bids = futures::stream::iter([intruder::bid(device_id, greatest)]).chain(futures::stream::pending());
    let write = WriteRequest {
        device_id,
        election_id: Some(greatest),
        ..Default::default()
    };
    let refused = [
        ("StreamChannel", client.stream_channel(bids).await.err()),
        ("Write", client.write(write).await.err()),
        ("Set", GNmiClient::new(channel).set(SetRequest::default()).await.err()),
    ];
    for (call, status) in refused {
        let code = status.as_ref().map(tonic::Status::code);
        if code != Some(Code::PermissionDenied) {
            bail!(
                "{}: {call} of an operator: got {status:?}, expected PermissionDenied",
                switch.name
            );
        }
    }
    let read = ReadRequest {
        device_id,
        ..Default::default()
    };
    client.read(read).await.context("an operator may read")?;
    Ok(())
}

/// The REST API without a token, and with invalid tokens.
pub(super) fn no_token(cast: &Cast<'_>) -> Result<String> {
    let ca = std::fs::read(cast.cx.lab.pki.ca())?;
    let server = format!("https://127.0.0.1:{REST_PORT}");
    let right = std::fs::read_to_string(cast.cx.lab.pki.token())?;
    let right = right.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let right = right.context("the lab's token")?;
    let half = right.get(..right.len() / 2).unwrap_or_default();
    let wrong = ["", "x", half, &format!("{right}x")].map(str::to_owned);
    for token in &wrong {
        let client = Client::new(&server, &ca, token)?;
        let vdc = Key::vdc("attack".parse()?);
        let codes = cast.cx.runtime.block_on(async {
            [
                client.fabric().await.err(),
                client.drops().await.err(),
                client.delete(&vdc, None).await.err(),
            ]
        });
        for error in codes {
            match error {
                Some(ClientError::Api(e)) if e.code == ErrorCode::Unauthenticated => {}
                other => bail!("a wrong token: got {other:?}, expected `unauthenticated`"),
            }
        }
    }
    Ok(format!(
        "{} calls over REST without the token, all refused",
        wrong.len() * 3
    ))
}

/// TLS without a certificate, and plain text.
pub(super) fn no_key(cast: &Cast<'_>) -> Result<String> {
    let ca = std::fs::read_to_string(cast.cx.lab.pki.ca())?;
    let doors = doors(cast);
    for (name, address) in &doors {
        cast.cx.runtime.block_on(without_certificate(&ca, name, *address))?;
        plain_text(*address)?;
    }
    Ok(format!(
        "{} servers, over TLS without a certificate and in plain text: all refused",
        doors.len()
    ))
}

/// Fails if a call gets an answer. (With TLS 1.3 the handshake itself ends before the server has
/// looked for a certificate.)
async fn without_certificate(ca: &str, name: &str, address: SocketAddr) -> Result<()> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .domain_name(name);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    let Ok(channel) = endpoint.connect().await else {
        return Ok(());
    };
    let mut client = P4RuntimeClient::new(channel);
    match client.capabilities(CapabilitiesRequest::default()).await {
        Ok(_) => bail!("{address} serves somebody without a certificate"),
        // No HTTP/2 at all: the connection ended.
        Err(status) if std::error::Error::source(&status).is_some_and(|s| s.is::<tonic::transport::Error>()) => Ok(()),
        Err(status) => bail!("{address} answers somebody without a certificate: {status}"),
    }
}

/// Fails if the server says anything in plain text, or keeps the connection.
fn plain_text(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| address.to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The preface of HTTP/2 and an empty SETTINGS frame (RFC 9113 section 3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            bail!(
                "{address} keeps a connection in plain text for {} s",
                PATIENCE.as_secs()
            )
        }
        // It may only send a TLS alert (RFC 8446 section 6).
        _ if answer.first().is_none_or(|kind| *kind == 21) => Ok(()),
        _ => bail!("{address} answers plain text: {answer:02x?}"),
    }
}
