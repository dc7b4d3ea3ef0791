//! Somebody with the rights of a controller who writes behind the controller's back.
//!
//! Speaks P4Runtime directly, so that it shares no code with what it tests.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fabric_identity::{Credentials, Dialer, Files, Subject};
use futures::StreamExt as _;
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use p4runtime_proto::p4::v1::{
    self as p4, Uint128, entity, field_match, stream_message_request, stream_message_response, table_action,
};
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use vfabric_api::topology::Switch;
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;
use vtep_proto::v1::{AgentMessage, Hello, agent_message};

use super::Lab;

/// Table `host_source` of the leaf (`p4/fabric/control/admission.p4`) and its action.
const HOST_SOURCE: u32 = 0x0200_0002;
const SET_SOURCE_HOST: u32 = 0x0100_0005;
/// A port that no topology uses, so that the entry harms nobody.
const UNUSED_PORT: u16 = 400;
/// Election id of the first bid: the lowest possible one, so that the answer contains the election id of the primary.
const BACKUP: Uint128 = Uint128 { high: 0, low: 1 };
/// Bids before giving up: the controller answers a bid with a higher one of its own.
const BIDS: usize = 10;
/// Time that the switch has to notice that the intruder left.
const STEP_DOWN: Duration = Duration::from_secs(2);

/// The intruder's disguise: one peer's certificate and another peer's address.
fn dialer(lab: &Lab, from: &str, to: Subject) -> Result<Dialer> {
    let files = lab.files_of(from);
    let credentials = Credentials::load(Files {
        ca: lab.pki.ca(),
        cert: files.cert,
        key: files.key,
    })?;
    Ok(Dialer::new(credentials, to)?)
}

/// A channel to a switch with somebody's certificate.
///
/// # Errors
/// The certificate cannot be read, or the switch does not answer.
pub(super) async fn channel(lab: &Lab, from: &str, switch: &Switch) -> Result<Channel> {
    let dialer = dialer(lab, from, Subject::Switch(switch.name.to_string()))?;
    let endpoint = Endpoint::from_static("http://switch");
    let address = switch.p4runtime.to_string();
    let channel = dialer.channel(&endpoint, &address).await;
    channel.with_context(|| format!("P4Runtime of {}", switch.name))
}

async fn connect(lab: &Lab, switch: &Switch) -> Result<P4RuntimeClient<Channel>> {
    Ok(P4RuntimeClient::new(channel(lab, "controller", switch).await?))
}

/// Fails unless a switch refuses arbitration and reads to the holder of a certificate.
async fn expect_refused(channel: Channel, device_id: u64, who: &str) -> Result<()> {
    let mut client = P4RuntimeClient::new(channel);
    let greatest = Uint128 {
        high: u64::MAX,
        low: u64::MAX,
    };
    let bids = futures::stream::iter([bid(device_id, greatest)]).chain(futures::stream::pending());
    let read = p4::ReadRequest {
        device_id,
        ..Default::default()
    };
    let codes = [
        (
            "StreamChannel",
            client.stream_channel(bids).await.err().map(|s| s.code()),
        ),
        ("Read", client.read(read).await.err().map(|s| s.code())),
    ];
    for (call, code) in codes {
        if code != Some(Code::PermissionDenied) {
            bail!("{call} with the certificate of {who}: got {code:?}, expected PermissionDenied");
        }
    }
    Ok(())
}

/// Tries certificates of hosts and switches on every switch and on the agents' port; returns the number of attempts.
///
/// # Errors
/// Somebody was let in.
pub(super) async fn try_other_certificates(lab: &Lab, agents: &str) -> Result<usize> {
    let host = lab.topology.hosts.first().context("the lab has hosts")?;
    let mut attempts = 0;
    for switch in &lab.topology.switches {
        let others = [format!("host/{}", host.name), format!("switch/{}", switch.name)];
        for who in others {
            let channel = channel(lab, &who, switch).await?;
            expect_refused(channel, u64::from(switch.device_id), &who).await?;
            attempts += 2;
        }
    }
    let mut as_host = lab
        .topology
        .hosts
        .iter()
        .skip(1)
        .map(|h| format!("host/{}", h.name))
        .collect::<Vec<_>>();
    as_host.extend(lab.topology.switches.iter().map(|s| format!("switch/{}", s.name)));
    for who in as_host {
        follow_as_host(lab, &who, agents).await?;
        attempts += 1;
    }
    Ok(attempts)
}

/// Poses as the lab's first host on the agents' port, with the certificate of somebody else.
///
/// # Errors
/// Somebody was let in.
pub(super) async fn follow_as_host(lab: &Lab, who: &str, agents: &str) -> Result<()> {
    let host = lab.topology.hosts.first().context("the lab has hosts")?;
    let hello = AgentMessage {
        message: Some(agent_message::Message::Hello(Hello {
            host: host.name.to_string(),
            ..Default::default()
        })),
    };
    let dialer = dialer(lab, who, Subject::Controller)?;
    let channel = dialer
        .channel(&Endpoint::from_static("http://controller"), agents)
        .await?;
    let messages = futures::stream::iter([hello]).chain(futures::stream::pending());
    let answer = VtepControllerClient::new(channel).follow(messages).await;
    match answer.err().map(|status| status.code()) {
        Some(Code::PermissionDenied) => Ok(()),
        code => bail!("as host {} with the certificate of {who}: {code:?}", host.name),
    }
}

/// Whether the controller shows table entries under this name; other entities appear under the name of their kind.
pub(super) fn is_table(name: &str) -> bool {
    !["member", "group", "multicast_group", "entity"].contains(&name)
}

/// How many table entries a switch holds, without default entries and those of the program's own constant tables.
///
/// # Errors
/// The switch cannot be read.
pub(super) async fn table_entries(lab: &Lab, switch: &Switch) -> Result<usize> {
    let everything = p4::Entity {
        entity: Some(entity::Entity::TableEntry(p4::TableEntry::default())),
    };
    let request = p4::ReadRequest {
        device_id: u64::from(switch.device_id),
        entities: vec![everything],
        ..Default::default()
    };
    let mut client = connect(lab, switch).await?;
    let constant = constant_tables(&mut client, request.device_id).await?;
    let mut answers = client.read(request).await?.into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await? {
        let is_one = |e: &&p4::Entity| matches!(&e.entity, Some(entity::Entity::TableEntry(t)) if !t.is_default_action && !constant.contains(&t.table_id));
        count += answer.entities.iter().filter(is_one).count();
    }
    Ok(count)
}

/// Ids of the tables whose entries are part of the program. Not every switch marks such entries.
async fn constant_tables(client: &mut P4RuntimeClient<Channel>, device_id: u64) -> Result<BTreeSet<u32>> {
    let request = p4::GetForwardingPipelineConfigRequest {
        device_id,
        response_type: ResponseType::P4infoAndCookie.into(),
    };
    let answer = client.get_forwarding_pipeline_config(request).await?.into_inner();
    let p4info = answer.config.and_then(|config| config.p4info).unwrap_or_default();
    let constant = p4info.tables.into_iter().filter(|table| table.is_const_table);
    Ok(constant.filter_map(|table| Some(table.preamble?.id)).collect())
}

fn entry() -> p4::TableEntry {
    let exact = |field_id, value: Vec<u8>| p4::FieldMatch {
        field_id,
        field_match_type: Some(field_match::FieldMatchType::Exact(field_match::Exact { value })),
    };
    let action = p4::Action {
        action_id: SET_SOURCE_HOST,
        params: vec![p4::action::Param {
            param_id: 1,
            value: vec![99],
        }],
    };
    p4::TableEntry {
        table_id: HOST_SOURCE,
        // Port, and an address of the documentation range (RFC 3849), in canonical form.
        r#match: vec![
            exact(1, UNUSED_PORT.to_be_bytes().to_vec()),
            exact(
                2,
                std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99)
                    .octets()
                    .to_vec(),
            ),
        ],
        action: Some(p4::TableAction {
            r#type: Some(table_action::Type::Action(action)),
        }),
        ..Default::default()
    }
}

fn stray() -> p4::Entity {
    p4::Entity {
        entity: Some(entity::Entity::TableEntry(entry())),
    }
}

/// A controller's stream, up to the answer to its last arbitration.
struct Session {
    client: P4RuntimeClient<Channel>,
    device_id: u64,
    requests: mpsc::Sender<p4::StreamMessageRequest>,
    answers: tonic::Streaming<p4::StreamMessageResponse>,
}

impl Session {
    async fn open(lab: &Lab, switch: &Switch) -> Result<Self> {
        let mut client = connect(lab, switch).await?;
        let (requests, outgoing) = mpsc::channel(1);
        let outgoing = futures::stream::unfold(outgoing, |mut o| async move { o.recv().await.map(|m| (m, o)) });
        let device_id = u64::from(switch.device_id);
        requests.send(bid(device_id, BACKUP)).await?;
        let answers = client.stream_channel(outgoing).await?.into_inner();
        Ok(Self {
            client,
            device_id,
            requests,
            answers,
        })
    }

    /// The next arbitration answer: whether this session is primary, and the primary's id.
    async fn arbitration(&mut self) -> Result<(bool, Uint128)> {
        loop {
            let answer = self.answers.message().await?.context("the switch closed the stream")?;
            if let Some(stream_message_response::Update::Arbitration(a)) = answer.update {
                let primary = a.status.as_ref().is_some_and(|s| s.code == 0);
                return Ok((primary, a.election_id.unwrap_or_default()));
            }
        }
    }

    /// Bids an election id above the primary's, and returns it.
    async fn take_over(&mut self) -> Result<Uint128> {
        let mut mine = BACKUP;
        for _ in 0..BIDS {
            let (primary, highest) = self.arbitration().await?;
            if primary {
                return Ok(mine);
            }
            let next = number(&highest).max(number(&mine)).saturating_add(1);
            mine = Uint128 {
                high: (next >> 64) as u64,
                low: next as u64,
            };
            self.requests.send(bid(self.device_id, mine)).await?;
        }
        bail!("the intruder did not become primary with {BIDS} bids")
    }

    /// Ends the stream, and waits until the switch has seen that.
    async fn step_down(mut self) -> Result<()> {
        drop(self.requests);
        let ended = async { while let Ok(Some(_)) = self.answers.message().await {} };
        tokio::time::timeout(STEP_DOWN, ended)
            .await
            .context("the switch does not end the intruder's stream")
    }
}

fn number(id: &Uint128) -> u128 {
    (u128::from(id.high) << 64) | u128::from(id.low)
}

/// A bid to become primary.
pub(super) fn bid(device_id: u64, election_id: Uint128) -> p4::StreamMessageRequest {
    let arbitration = p4::MasterArbitrationUpdate {
        device_id,
        election_id: Some(election_id),
        ..Default::default()
    };
    p4::StreamMessageRequest {
        update: Some(stream_message_request::Update::Arbitration(arbitration)),
    }
}

/// Takes over as primary, writes the stray entry, and steps down.
///
/// # Errors
/// The switch refused.
pub(super) async fn write_stray_entry(lab: &Lab, switch: &Switch) -> Result<()> {
    let mut session = Session::open(lab, switch).await?;
    let election_id = session.take_over().await?;
    let update = p4::Update {
        r#type: p4::update::Type::Insert.into(),
        entity: Some(stray()),
    };
    let request = p4::WriteRequest {
        device_id: session.device_id,
        election_id: Some(election_id),
        updates: vec![update],
        ..Default::default()
    };
    session.client.write(request).await.context("writing the stray entry")?;
    session.step_down().await
}

/// Whether the switch holds the stray entry.
///
/// # Errors
/// The switch cannot be read.
pub(super) async fn stray_entry_stands(lab: &Lab, switch: &Switch) -> Result<bool> {
    stands(&mut connect(lab, switch).await?, u64::from(switch.device_id)).await
}

async fn stands(client: &mut P4RuntimeClient<Channel>, device_id: u64) -> Result<bool> {
    let everything = p4::TableEntry {
        table_id: HOST_SOURCE,
        ..Default::default()
    };
    let wildcard = p4::Entity {
        entity: Some(entity::Entity::TableEntry(everything)),
    };
    let request = p4::ReadRequest {
        device_id,
        entities: vec![wildcard],
        ..Default::default()
    };
    let mut answers = client.read(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let ours =
            |e: &p4::Entity| matches!(&e.entity, Some(entity::Entity::TableEntry(t)) if t.r#match == entry().r#match);
        if answer.entities.iter().any(ours) {
            return Ok(true);
        }
    }
    Ok(false)
}
