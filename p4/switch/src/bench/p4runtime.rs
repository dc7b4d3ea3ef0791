//! Updates of table entries through the P4Runtime server into the packet engine's tables, for each match kind.
//!
//! Two figures each, per second of processor time, so that other work on the machine does not count:
//! - *over gRPC*: a client sends batches, encoded beforehand, over loopback and waits for each answer. The processor
//!   time is that of the whole process: client, both ends of the connection, server, tables.
//! - *core*: the same messages in wire form, decoded and written without gRPC.
//!
//! A run inserts entries, then modifies and deletes them; updates of all three kinds count alike.

mod peer;
mod raw;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use p4_switch::device::{Dataplane, EngineDevice, PACKET_OUT_QUEUE};
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::p4runtime::derive;
use p4_switch::p4runtime::pipeline::Pipeline;
use p4_switch::p4runtime::request::WriteRequest;
use p4_switch::p4runtime::write::{Updates, Writer};
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::config::v1::{P4Info, match_field};
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::write_request::Atomicity;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::report::{Report, process_time, rate};

type Error = Box<dyn std::error::Error>;

/// A table of each kind; compiled from `kinds.p4` beside it.
const PROGRAM: &[u8] = include_bytes!("kinds.json");

/// Batches that one run inserts, modifies and deletes again.
const ROUNDS: usize = 20;

/// Batches of one update each that one run inserts, modifies and deletes again.
const SINGLE_ROUNDS: usize = 1000;

/// Sizes of batches that are measured, with the number of batches in a run.
const SIZES: [(u32, usize); 3] = [(1, SINGLE_ROUNDS), (100, ROUNDS), (1000, ROUNDS)];

/// The table with optional fields.
const OPTIONAL_TABLE: &str = "ingress.optional_kind";

/// Longest time for measuring small batches.
const TIME: Duration = Duration::from_secs(1);

/// An entry's key for a kind of table, made from a running number.
struct Kind {
    name: &'static str,
    table: &'static str,
    key: fn(u32) -> Vec<FieldMatchType>,
    priority: bool,
}

/// Shortest form of a value, as the specification wants it.
fn value(of: u64) -> Vec<u8> {
    let bytes = of.to_be_bytes();
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(7);
    bytes.get(first..).unwrap_or_default().to_vec()
}

/// Turns consecutive numbers into distinct values spread over 32 bits.
fn spread(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1)
}

fn ternary(of: u64, mask: u64) -> FieldMatchType {
    FieldMatchType::Ternary(Ternary {
        value: value(of & mask),
        mask: value(mask),
    })
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "exact",
        table: "ingress.exact_kind",
        key: |n| {
            vec![FieldMatchType::Exact(Exact {
                value: value(0x0200_0000_0000 | u64::from(spread(n))),
            })]
        },
        priority: false,
    },
    Kind {
        name: "lpm",
        table: "ingress.lpm_kind",
        key: |n| {
            // Lengths 20 to 32, mostly longer ones; the number is in the leading bits.
            let prefix_len = 32 - (n % 13).saturating_sub(4) as i32;
            let address = u64::from(spread(n)) >> (32 - prefix_len) << (32 - prefix_len);
            vec![FieldMatchType::Lpm(Lpm {
                value: value(address),
                prefix_len,
            })]
        },
        priority: false,
    },
    Kind {
        name: "ternary",
        table: "ingress.ternary_kind",
        key: |n| {
            let of = u64::from(spread(n));
            let destination = 0xffff_ffff << (8 * (n % 3)) & 0xffff_ffff;
            let mut key = vec![
                ternary(of, 0xffff_ffff),
                ternary(of.swap_bytes() >> 32, destination),
                ternary(6, 0xff),
            ];
            if n.is_multiple_of(2) {
                key.push(ternary(u64::from(n % 65_535), 0xffff));
            }
            key
        },
        priority: true,
    },
    Kind {
        name: "range",
        table: "ingress.range_kind",
        key: |n| {
            let low = u64::from(n % 40_000);
            vec![
                FieldMatchType::Exact(Exact {
                    value: value(u64::from(spread(n / 8))),
                }),
                FieldMatchType::Range(Range {
                    low: value(low),
                    high: value(low + 1 + u64::from(n % 20_000)),
                }),
            ]
        },
        priority: true,
    },
    Kind {
        name: "optional",
        table: OPTIONAL_TABLE,
        key: |n| {
            let optional = |of| FieldMatchType::Optional(Optional { value: value(of) });
            vec![optional(spread(n).into()), optional(u64::from(n % 200))]
        },
        priority: true,
    },
];

/// Ids of P4Info.
struct Ids {
    table: u32,
    action: u32,
    fields: Vec<u32>,
}

impl Ids {
    fn of(info: &P4Info, kind: &Kind) -> Result<Self, String> {
        let named = |preamble: &Option<p4runtime_proto::p4::config::v1::Preamble>, name: &str| {
            preamble.as_ref().is_some_and(|p| p.name == name)
        };
        let table = info.tables.iter().find(|t| named(&t.preamble, kind.table));
        let action = info.actions.iter().find(|a| named(&a.preamble, "ingress.forward"));
        let missing = || format!("table {:?} or its action is not in the program", kind.table);
        let (table, action) = table.zip(action).ok_or_else(missing)?;
        Ok(Self {
            table: table.preamble.as_ref().map_or(0, |p| p.id),
            action: action.preamble.as_ref().map_or(0, |p| p.id),
            fields: table.match_fields.iter().map(|f| f.id).collect(),
        })
    }

    fn update(&self, kind: &Kind, update: Type, n: u32) -> v1::Update {
        let keys = (kind.key)(n);
        let matches = self.fields.iter().zip(keys).map(|(id, key)| v1::FieldMatch {
            field_id: *id,
            field_match_type: Some(key),
        });
        let mac = if update == Type::Modify {
            7
        } else {
            0x0a00_0000_0000 | u64::from(n)
        };
        let param = |param_id, of| v1::action::Param {
            param_id,
            value: value(of),
        };
        let action = v1::Action {
            action_id: self.action,
            params: vec![param(1, u64::from(n % 500)), param(2, mac)],
        };
        let action = v1::TableAction {
            r#type: Some(v1::table_action::Type::Action(action)),
        };
        let entry = v1::TableEntry {
            table_id: self.table,
            r#match: matches.collect(),
            action: (update != Type::Delete).then_some(action),
            priority: if kind.priority { 1 + (n % 1000) as i32 } else { 0 },
            ..Default::default()
        };
        v1::Update {
            r#type: update.into(),
            entity: Some(v1::Entity {
                entity: Some(v1::entity::Entity::TableEntry(entry)),
            }),
        }
    }

    /// A batch of updates of entries `first` and following.
    fn batch(&self, kind: &Kind, update: Type, first: u32, size: u32) -> v1::WriteRequest {
        v1::WriteRequest {
            device_id: 1,
            election_id: Some(v1::Uint128 { high: 0, low: 1 }),
            updates: (first..first + size).map(|n| self.update(kind, update, n)).collect(),
            ..Default::default()
        }
    }

    /// Insertions, modifications and deletions of this many batches, encoded.
    fn run(&self, kind: &Kind, size: u32, rounds: usize) -> Vec<Bytes> {
        let rounds = rounds as u32;
        let all = [Type::Insert, Type::Modify, Type::Delete];
        all.into_iter()
            .flat_map(|update| (0..rounds).map(move |round| (update, round * size)))
            .map(|(update, first)| self.batch(kind, update, first, size).encode_to_vec().into())
            .collect()
    }
}

fn dataplane() -> (Arc<EngineDevice>, mpsc::Receiver<p4_switch::p4runtime::target::Event>) {
    let (outgoing, _) = mpsc::channel(PACKET_OUT_QUEUE);
    let (events, receiver) = mpsc::channel(EVENT_QUEUE);
    let plane = Dataplane::new(Vec::new(), None, 511, outgoing, Box::new(|| {}), events);
    (Arc::new(EngineDevice(plane)), receiver)
}

/// Options of `bench p4runtime`.
#[derive(Debug, clap::Args)]
pub(crate) struct P4runtimeOptions {
    /// Writes the figures to this file too.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Entries in each table, in addition to those that are written.
    #[arg(long, default_value_t = 100_000)]
    entries: u32,
    /// Measures only match kinds whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Measures simple_switch_grpc too, and our switch as a process beside it.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "simple_switch_grpc")]
    peer: Option<PathBuf>,
}

/// Measures all requested kinds.
pub(super) fn run(options: &P4runtimeOptions) -> Result<Report, Error> {
    // Use a runtime of our own, because the caller's must not be blocked.
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            let measured = runtime.block_on(measure(options));
            measured.map_err(|error| error.to_string())
        });
        thread.join()
    });
    Ok(measured.map_err(|_| "the measurement panicked")??)
}

/// P4Info of the program. BMv2 JSON has ternary where the program has optional, so this is corrected.
fn p4info(program: &bmv2_json::Program) -> P4Info {
    let mut info = derive::p4info(program);
    let tables = info.tables.iter_mut();
    let optional = tables.filter(|t| t.preamble.as_ref().is_some_and(|p| p.name == OPTIONAL_TABLE));
    for field in optional.flat_map(|t| &mut t.match_fields) {
        let kind = match_field::MatchType::Optional.into();
        field.r#match = Some(match_field::Match::MatchType(kind));
    }
    info
}

/// Measures all requested kinds.
async fn measure(options: &P4runtimeOptions) -> Result<Report, Error> {
    let held = options.entries;
    let mut report = Report::new("p4runtime");
    let program = bmv2_json::Program::from_slice(PROGRAM)?;
    let info = p4info(&program);
    for kind in KINDS.iter().filter(|k| k.name.contains(&options.only)) {
        let ids = Ids::of(&info, kind)?;
        let config = v1::ForwardingPipelineConfig {
            p4info: Some(info.clone()),
            p4_device_config: PROGRAM.to_vec(),
            cookie: None,
        };
        let mut figures = core(kind, &ids, held, config.clone())?;
        figures.extend(over_grpc(kind, &ids, held, config.clone()).await?);
        let figures: Vec<(&str, f64)> = figures.iter().map(|(name, of)| (name.as_str(), *of)).collect();
        report.row(kind.name, &figures);
        if let Some(peer) = &options.peer {
            peer::compare(&mut report, peer, kind, &ids, held, &config).await?;
        }
    }
    Ok(report)
}

/// Batches that fill a table with entries that the measurement does not touch.
fn filling<'a>(kind: &'a Kind, ids: &'a Ids, held: u32) -> impl Iterator<Item = Bytes> + 'a {
    const AT_ONCE: u32 = 1000;
    // Keys far from those of the measurement.
    const FIRST: u32 = 1 << 20;
    let batch = move |n| ids.batch(kind, Type::Insert, FIRST + n * AT_ONCE, AT_ONCE);
    (0..held / AT_ONCE).map(move |n| batch(n).encode_to_vec().into())
}

fn core(kind: &Kind, ids: &Ids, held: u32, config: v1::ForwardingPipelineConfig) -> Result<Vec<(String, f64)>, Error> {
    let (device, _events) = dataplane();
    let mut pipeline = Pipeline::load(&*device, config)?;
    let mut failed = None;
    let mut write = |octets: &[u8]| match WriteRequest::decode(octets) {
        Ok(WriteRequest::Octets { updates, .. }) => {
            let updates = Updates::Octets(&updates);
            let results = pipeline.write_updates(&*device, Writer::Client(None), updates, Atomicity::ContinueOnError);
            let error = results.into_iter().find_map(Result::err);
            failed = failed.take().or(error.map(|error| error.to_string()));
        }
        _ => failed = Some("a request cannot be decoded".to_owned()),
    };
    filling(kind, ids, held).for_each(|request| write(&request));
    let mut figures = Vec::new();
    for (size, rounds) in SIZES {
        let requests = ids.run(kind, size, rounds);
        let updates = rate(|| {
            requests.iter().for_each(|request| write(request));
            requests.len() * size as usize
        });
        figures.push((format!("core_by_{size}_updates_per_s"), updates));
    }
    failed.map_or(Ok(figures), |error| Err(error.into()))
}

async fn over_grpc(
    kind: &Kind,
    ids: &Ids,
    held: u32,
    pipeline: v1::ForwardingPipelineConfig,
) -> Result<Vec<(String, f64)>, Error> {
    let (device, events) = dataplane();
    let interfaces = Arc::new(MemoryInterfaces::new("bench", []));
    let listener = listen(([127, 0, 0, 1], 0).into()).await?;
    let address = listener.local_addr()?;
    let config = ServeConfig {
        device_id: 1,
        tls: None,
        pipeline: Some(pipeline),
        gnoi: None,
        commands: None,
    };
    let server = tokio::spawn(serve(
        config,
        listener,
        device,
        interfaces,
        events,
        std::future::pending(),
    ));
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let _stream = become_primary(&mut P4RuntimeClient::new(channel.clone())).await?;
    for request in filling(kind, ids, held) {
        raw::write(&channel, request).await?;
    }
    let mut figures = Vec::new();
    for (size, rounds) in SIZES {
        let requests = ids.run(kind, size, rounds);
        let mut sent = 0;
        let (started, busy) = (Instant::now(), process_time());
        while started.elapsed() < TIME {
            for request in &requests {
                raw::write(&channel, request.clone()).await?;
                sent += size as usize;
            }
        }
        let wall = started.elapsed();
        let spent = match (busy, process_time()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => wall,
        };
        figures.push((
            format!("grpc_by_{size}_updates_per_s"),
            sent as f64 / spent.as_secs_f64(),
        ));
        figures.push((
            format!("grpc_wall_by_{size}_updates_per_s"),
            sent as f64 / wall.as_secs_f64(),
        ));
    }
    server.abort();
    Ok(figures)
}

/// Both directions of a client's stream.
pub(super) type Stream = (
    mpsc::Sender<v1::StreamMessageRequest>,
    tonic::Streaming<v1::StreamMessageResponse>,
);

/// Opens a stream and waits for the answer to its arbitration; the client stays primary as long as it is held.
pub(super) async fn become_primary(client: &mut P4RuntimeClient<Channel>) -> Result<Stream, Error> {
    let (requests, receiver) = mpsc::channel(1);
    let update = v1::MasterArbitrationUpdate {
        device_id: 1,
        election_id: Some(v1::Uint128 { high: 0, low: 1 }),
        ..Default::default()
    };
    let update = Some(v1::stream_message_request::Update::Arbitration(update));
    requests.send(v1::StreamMessageRequest { update }).await?;
    let mut answers = client.stream_channel(ReceiverStream::new(receiver)).await?.into_inner();
    answers.message().await?.ok_or("the server closed the stream")?;
    Ok((requests, answers))
}
