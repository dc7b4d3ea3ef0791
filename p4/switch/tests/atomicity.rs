//! Packets and reads see all of a write or nothing of it (P4Runtime specification, sections 11 and 12.2).

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType};
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::write_request::Atomicity;

use support::Controller;
use support::switch::{PATIENCE, Switch};

/// Changes back and forth: enough that packets fall into many of them, even on a busy machine.
const CHANGES: u16 = 400;

/// Offset of the fields that the program fills in.
const FIELDS: usize = 14;

/// P4Info ids of the program's objects.
struct Ids {
    tables: [u32; 3],
    actions: [u32; 3],
    profile: u32,
    register: u32,
}

impl Ids {
    fn of(info: &P4Info) -> Self {
        let table = |name: &str| {
            let named = info.tables.iter().filter_map(|t| t.preamble.as_ref());
            named.into_iter().find(|p| p.alias == name).unwrap().id
        };
        let action = |name: &str| {
            let mut named = info.actions.iter().filter_map(|a| a.preamble.as_ref());
            named.find(|p| p.alias == name).unwrap().id
        };
        Self {
            tables: ["first", "second", "third"].map(table),
            actions: ["mark", "finish", "stamp"].map(action),
            profile: info.action_profiles[0].preamble.as_ref().unwrap().id,
            register: info.registers[0].preamble.as_ref().unwrap().id,
        }
    }

    fn action(&self, at: usize, values: &[u16]) -> v1::Action {
        let params = values.iter().zip(1..).map(|(value, param_id)| v1::action::Param {
            param_id,
            value: canonical(*value),
        });
        v1::Action {
            action_id: self.actions[at],
            params: params.collect(),
        }
    }

    fn entry(&self, at: usize, key: u16, action: v1::table_action::Type) -> Kind {
        Kind::TableEntry(v1::TableEntry {
            table_id: self.tables[at],
            r#match: vec![v1::FieldMatch {
                field_id: 1,
                field_match_type: Some(FieldMatchType::Exact(Exact { value: canonical(key) })),
            }],
            action: Some(v1::TableAction { r#type: Some(action) }),
            ..Default::default()
        })
    }

    fn first(&self, of: u16) -> Kind {
        self.entry(0, TYPE, v1::table_action::Type::Action(self.action(0, &[of, of])))
    }

    fn second(&self, of: u16) -> Kind {
        self.entry(1, of, v1::table_action::Type::Action(self.action(1, &[of])))
    }

    fn member(&self, of: u16) -> Kind {
        Kind::ActionProfileMember(v1::ActionProfileMember {
            action_profile_id: self.profile,
            member_id: 1,
            action: Some(self.action(2, &[of])),
        })
    }

    fn third(&self) -> Kind {
        self.entry(2, TYPE, v1::table_action::Type::ActionProfileMemberId(1))
    }

    /// The same number over and over, in its shortest form.
    fn register(&self, of: u16) -> Kind {
        let octets = of.to_be_bytes().repeat(8);
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        Kind::RegisterEntry(v1::RegisterEntry {
            register_id: self.register,
            index: Some(v1::Index { index: 0 }),
            data: Some(v1::P4Data {
                data: Some(v1::p4_data::Data::Bitstring(octets[zeros..].to_vec())),
            }),
        })
    }
}

/// Type of the frames that are sent.
const TYPE: u16 = 0x88b5;

fn canonical(value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    if high == 0 { vec![low] } else { vec![high, low] }
}

fn compiled() -> (v1::ForwardingPipelineConfig, Ids) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/swap.p4");
    let compiled = match p4_compiler::compile_file(&path, &p4_compiler::Options::default()) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("{}", diagnostics.short()),
    };
    let ids = Ids::of(&compiled.p4info);
    let config = v1::ForwardingPipelineConfig {
        p4info: Some(compiled.p4info),
        p4_device_config: compiled.json.into_bytes(),
        cookie: None,
    };
    (config, ids)
}

/// A primary of a switch that runs the program, with `first`, `second`, `third` and the member of generation 1.
async fn start() -> (Switch, Controller, Ids) {
    let (config, ids) = compiled();
    let switch = Switch::start().await;
    let mut c = Controller::primary(switch.address).await;
    c.set(Set::VerifyAndCommit, Some(config)).await.unwrap();
    let all = [ids.member(1), ids.third(), ids.first(1), ids.second(1)];
    c.write(Type::Insert, all.into()).await.unwrap();
    c.write(Type::Modify, vec![ids.register(1)]).await.unwrap();
    (switch, c, ids)
}

/// Sends packets while something else happens; returns the frames that came out.
struct Watch {
    ends: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<Switch>,
}

impl Watch {
    /// Sends frames without a pause, and checks each one that comes out.
    fn start(switch: Switch, look: impl Fn(&[u8]) + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let sender = std::thread::spawn(move || {
            let mut frame = vec![2; 12];
            frame.extend(TYPE.to_be_bytes());
            frame.resize(60, 0);
            while !end.load(Ordering::Relaxed) {
                for _ in 0..32 {
                    assert!(switch.wires[0].send(&frame));
                }
                for _ in 0..32 {
                    look(&switch.wires[1].receive(PATIENCE).expect("frames are forwarded"));
                }
            }
            switch
        });
        Self { ends, sender }
    }

    fn end(self) -> Switch {
        self.ends.store(true, Ordering::Relaxed);
        self.sender.join().expect("every packet saw all of a change or nothing")
    }
}

/// The four fields and the wide one.
fn fields(frame: &[u8]) -> ([u16; 4], &[u8]) {
    let field = |at: usize| u16::from_be_bytes([frame[FIELDS + 2 * at], frame[FIELDS + 2 * at + 1]]);
    ([0, 1, 2, 3].map(field), &frame[FIELDS + 8..FIELDS + 24])
}

async fn write(c: &mut Controller, updates: Vec<(Type, Kind)>) {
    let updates = updates.into_iter().map(|(kind, entity)| v1::Update {
        r#type: kind.into(),
        entity: Some(v1::Entity { entity: Some(entity) }),
    });
    let request = v1::WriteRequest {
        device_id: 1,
        election_id: Some(c.election),
        updates: updates.collect(),
        atomicity: Atomicity::DataplaneAtomic.into(),
        ..Default::default()
    };
    c.client.write(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_and_reads_never_see_a_part_of_a_batch() {
    let (switch, mut c, ids) = start().await;
    let watch = Watch::start(switch, |frame| {
        let ([a, b, c, d], _) = fields(frame);
        assert!(a != 0 && [b, c, d] == [a; 3], "a mixture: {a} {b} {c} {d}");
    });
    // Another client reads all the time.
    let mut reader = support::client(c.address).await;
    let entities = [ids.tables[0], ids.tables[1]].map(|table_id| {
        Kind::TableEntry(v1::TableEntry {
            table_id,
            ..Default::default()
        })
    });
    let member = Kind::ActionProfileMember(v1::ActionProfileMember::default());
    let request = v1::ReadRequest {
        device_id: 1,
        entities: entities
            .into_iter()
            .chain([member])
            .map(|entity| v1::Entity { entity: Some(entity) })
            .collect(),
        ..Default::default()
    };
    let expected = |of: u16| [ids.first(of), ids.second(of), ids.member(of)];
    let ended = AtomicBool::new(false);
    let reads = async {
        while !ended.load(Ordering::Relaxed) {
            let mut pages = reader.read(request.clone()).await.unwrap().into_inner();
            let mut found = Vec::new();
            while let Some(page) = pages.message().await.unwrap() {
                found.extend(page.entities.into_iter().filter_map(|e| e.entity));
            }
            assert!(
                (1..=CHANGES + 1).any(|of| found == expected(of)),
                "a mixture: {found:?}"
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    let writes = async {
        for of in 1..=CHANGES {
            let next = of + 1;
            let batch = vec![
                (Type::Modify, ids.first(next)),
                (Type::Modify, ids.member(next)),
                (Type::Insert, ids.second(next)),
                (Type::Delete, ids.second(of)),
            ];
            write(&mut c, batch).await;
        }
        ended.store(true, Ordering::Relaxed);
    };
    tokio::join!(reads, writes);
    watch.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_never_see_a_part_of_a_single_write() {
    let (switch, mut c, ids) = start().await;
    let watch = Watch::start(switch, |frame| {
        let ([a, b, ..], wide) = fields(frame);
        assert!(a != 0 && a == b, "a mixture of an entry: {a} {b}");
        assert!(
            wide.chunks(2).all(|part| part == &wide[..2]),
            "a mixture of a register: {wide:02x?}"
        );
    });
    for of in 1..=CHANGES {
        c.write(Type::Modify, vec![ids.first(of)]).await.unwrap();
        c.write(Type::Modify, vec![ids.register(of)]).await.unwrap();
        assert_eq!(c.read(ids.register(of)).await.unwrap(), [ids.register(of)]);
    }
    watch.end();
}
