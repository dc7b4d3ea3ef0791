//! The client with a server in memory that works or misbehaves.

mod fake;

use std::time::Duration;

use fake::Fake;
use p4runtime_client::{
    Error,
    entity::{ActionCall, Entity, Match, Port, Replica, TableKey},
    pipeline::{Installed, Pipeline, keeper},
    session::{ElectionId, Event, Options, Session, Standing},
    write::Change,
};
use p4runtime_proto::{
    google::rpc::{self, Code},
    p4::{
        config::v1::{P4Info, Preamble, Table},
        v1::{self as p4, set_forwarding_pipeline_config_request::Action, stream_message_response::Update as Down},
    },
};

fn options(address: &str) -> Options {
    let mut options = Options::new(address, 1, ElectionId(1 << 70 | 5));
    options.timeout = Duration::from_secs(5);
    options
}

async fn open(version: &str) -> (Fake, Session) {
    let (fake, address) = Fake::serve(version).await;
    let session = Session::open(options(&address)).await.unwrap();
    (fake, session)
}

fn entry(table: u32, n: u32) -> Entity {
    let key = TableKey::new(table, Match::builder().exact(1, n.to_be_bytes()));
    Entity::table(key, ActionCall::new(9, [(1, n.to_be_bytes())]))
}

fn inserts(table: u32, count: u32) -> Vec<Change> {
    (0..count).map(|n| Change::Insert(entry(table, n))).collect()
}

fn p4info() -> P4Info {
    let table = |id| Table {
        preamble: Some(Preamble {
            id,
            ..Default::default()
        }),
        ..Default::default()
    };
    P4Info {
        tables: vec![table(1), table(2)],
        ..Default::default()
    }
}

#[tokio::test]
async fn the_larger_half_of_an_election_id_counts() {
    let (_fake, session) = open("1.4.0").await;
    assert_eq!(session.standing(), Standing::Primary);
}

#[tokio::test]
async fn a_backup_knows_the_primary_and_cannot_write() {
    let (fake, address) = Fake::serve("1.4.0").await;
    fake.state(|s| s.rival = Some(77));
    let session = Session::open(options(&address)).await.unwrap();
    let primary = Some(ElectionId(77));
    assert_eq!(session.standing(), Standing::Backup { primary });
    let error = session.write(&inserts(1, 1)).await.unwrap_err();
    assert!(matches!(error, Error::NotPrimary(_)), "{error}");
}

#[tokio::test]
async fn losing_mastership_overtakes_packets() {
    let (fake, mut session) = open("1.4.0").await;
    assert_eq!(session.next_event().await, Event::Standing(Standing::Primary));
    for n in 0..2000u32 {
        let payload = n.to_be_bytes().to_vec();
        let metadata = Vec::new();
        fake.send(Down::Packet(p4::PacketIn { payload, metadata })).await;
    }
    fake.send(Down::Arbitration(p4::MasterArbitrationUpdate {
        election_id: Some(p4::Uint128 { high: 1 << 40, low: 0 }),
        status: Some(rpc::Status {
            code: Code::AlreadyExists.into(),
            ..Default::default()
        }),
        ..Default::default()
    }))
    .await;
    // Packets that nobody fetches are dropped and counted, the loss of
    // mastership is not.
    while !matches!(session.standing(), Standing::Backup { .. }) {
        tokio::task::yield_now().await;
    }
    let primary = Some(ElectionId(1 << 104));
    let standing = Standing::Backup { primary };
    assert_eq!(session.next_event().await, Event::Standing(standing));
    assert!(matches!(session.next_event().await, Event::PacketIn(p) if p.payload == [0; 4]));
    assert!(session.dropped() > 0);
}

#[tokio::test]
async fn a_vacant_switch_says_whom_to_outbid() {
    let (fake, mut session) = open("1.4.0").await;
    assert_eq!(session.next_event().await, Event::Standing(Standing::Primary));
    fake.send(Down::Arbitration(p4::MasterArbitrationUpdate {
        election_id: Some(p4::Uint128 { high: 1, low: 2 }),
        status: Some(rpc::Status {
            code: Code::NotFound.into(),
            ..Default::default()
        }),
        ..Default::default()
    }))
    .await;
    let highest = Some(ElectionId((1 << 64) + 2));
    assert_eq!(
        session.next_event().await,
        Event::Standing(Standing::Vacant { highest })
    );
}

#[tokio::test]
async fn the_end_of_the_stream_is_reported() {
    let (fake, mut session) = open("1.4.0").await;
    assert_eq!(session.next_event().await, Event::Standing(Standing::Primary));
    let stream = fake.state(|s| s.stream.take()).unwrap();
    stream.send(Err(tonic::Status::aborted("restarting"))).await.unwrap();
    let Event::Standing(Standing::Closed(why)) = session.next_event().await else {
        panic!("not closed");
    };
    assert!(why.contains("restarting"), "{why}");
}

#[tokio::test]
async fn a_taken_election_id_is_an_error_with_its_code() {
    let (fake, address) = Fake::serve("1.4.0").await;
    fake.state(|s| s.taken = vec![5]);
    let error = Session::open(options(&address)).await.unwrap_err();
    assert_eq!(error.code(), Some(tonic::Code::InvalidArgument));
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let error = Session::open(options("127.0.0.1:1")).await.unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );
}

#[tokio::test]
async fn batches_are_bounded_by_what_the_target_takes() {
    let (fake, session) = open("1.3.0").await;
    let outcomes = session.write(&inserts(1, 450)).await.unwrap();
    assert!(outcomes.len() == 450 && outcomes.iter().all(Result::is_ok));
    assert_eq!(fake.state(|s| s.writes.clone()), [200, 200, 50]);
}

#[tokio::test]
async fn each_update_has_its_own_outcome() {
    let (fake, session) = open("1.4.0").await;
    fake.state(|s| s.full_table = Some(2));
    let changes = [
        Change::Insert(entry(1, 1)),
        Change::Insert(entry(2, 1)),
        Change::Insert(entry(1, 2)),
    ];
    let outcomes = session.write(&changes).await.unwrap();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let refusal = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refusal.code, Code::ResourceExhausted);
    assert!(refusal.is_retryable());
    assert_eq!(fake.state(|s| s.entities.len()), 2);
}

#[tokio::test]
async fn a_batch_refused_as_a_whole_is_taken_apart() {
    let (fake, session) = open("1.4.0").await;
    fake.state(|s| s.largest = Some(3));
    let outcomes = session.write(&inserts(1, 20)).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(fake.state(|s| s.entities.len()), 20);
}

#[tokio::test]
async fn repeating_a_change_is_harmless() {
    let (fake, session) = open("1.4.0").await;
    let key = entry(1, 1).key().clone();
    let other = Entity::from_parts(key.clone(), entry(1, 2).into_parts().1).unwrap();
    for change in [
        Change::Insert(entry(1, 1)),
        Change::Insert(other.clone()),
        Change::Delete(key.clone()),
        Change::Delete(key),
        Change::Modify(other.clone()),
    ] {
        assert_eq!(session.write(&[change]).await.unwrap(), [Ok(())]);
    }
    let snapshot = session.read_all(&p4info()).await.unwrap();
    assert_eq!(snapshot.entities, [other]);
    assert_eq!(fake.state(|s| s.entities.len()), 1);
}

#[tokio::test]
async fn a_switch_that_does_not_answer_does_not_hold_us() {
    let (fake, address) = Fake::serve("1.4.0").await;
    let mut options = options(&address);
    options.bulk_timeout = Duration::from_millis(200);
    let session = Session::open(options).await.unwrap();
    fake.state(|s| s.hangs = true);
    let error = session.write(&inserts(1, 1)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.is_transient());
}

#[tokio::test]
async fn reads_leave_out_what_nobody_wrote_and_what_comes_twice() {
    let (fake, session) = open("1.4.0").await;
    let group = Entity::multicast_group(3, vec![Replica::new(Port(1), 1)]);
    let wires = [entry(1, 1).to_proto(), entry(2, 1).to_proto(), group.to_proto()];
    let mut constant = entry(1, 7).to_proto();
    if let Some(p4::entity::Entity::TableEntry(entry)) = &mut constant.entity {
        entry.is_const = true;
    }
    let broken = p4::Entity {
        entity: Some(p4::entity::Entity::TableEntry(p4::TableEntry::default())),
    };
    let all = wires.into_iter().chain([constant, broken.clone()]);
    fake.state(|s| s.entities = (0u8..).map(|n| vec![n]).zip(all).collect());
    let mut snapshot = session.read_all(&p4info()).await.unwrap();
    snapshot.entities.sort_by(|a, b| a.key().cmp(b.key()));
    assert_eq!(snapshot.entities, [entry(1, 1), entry(2, 1), group]);
    // The entity is reported, because it cannot be repaired, and it is never mistaken for one of ours.
    assert!(snapshot.foreign.iter().all(|(wire, _)| *wire == broken));
    assert!(!snapshot.foreign.is_empty());
}

#[tokio::test]
async fn a_pipeline_is_pushed_only_where_another_one_runs() {
    let (fake, session) = open("1.4.0").await;
    let first = Pipeline::new(p4info(), "one".into());
    assert_eq!(session.install(&first).await.unwrap(), Installed::Pushed);
    assert_eq!(session.install(&first).await.unwrap(), Installed::Unchanged);
    session.write(&inserts(1, 1)).await.unwrap();
    let second = Pipeline::new(p4info(), "two".into());
    assert_eq!(session.install(&second).await.unwrap(), Installed::Reconciled);
    assert_eq!(fake.state(|s| s.entities.len()), 1);
    fake.state(|s| s.no_reconcile = true);
    assert_eq!(session.install(&first).await.unwrap(), Installed::Pushed);
    let actions = [
        Action::VerifyAndCommit,
        Action::ReconcileAndCommit,
        Action::ReconcileAndCommit,
        Action::VerifyAndCommit,
    ];
    assert_eq!(fake.state(|s| s.pipelines.clone()), actions.map(i32::from));
}

#[tokio::test]
async fn a_switch_remembers_its_store_until_another_one_is_set() {
    let (fake, session) = open("1.4.0").await;
    let program = |text: &'static str, keeper| Pipeline::new(p4info(), text.into()).kept_by(keeper);
    let kept_by = async || session.running_cookie().await.unwrap().map(keeper);
    assert_eq!(session.install(&program("one", 1)).await.unwrap(), Installed::Pushed);
    session.write(&inserts(1, 1)).await.unwrap();
    assert_eq!(kept_by().await, Some(1));
    let others = program("one", 2);
    assert_eq!(session.install(&others).await.unwrap(), Installed::Unchanged);
    assert_eq!(
        kept_by().await,
        Some(1),
        "the same program is no reason to take it over"
    );
    let upgraded = program("two", 2);
    assert_eq!(session.install(&upgraded).await.unwrap(), Installed::Reconciled);
    assert_eq!(kept_by().await, Some(1), "nor is another program");
    session.keep(&upgraded).await.unwrap();
    assert_eq!(kept_by().await, Some(2));
    assert_eq!(session.running_cookie().await.unwrap(), Some(upgraded.cookie()));
    assert_eq!(fake.state(|s| s.entities.len()), 1, "what it holds stays");
}

#[tokio::test]
async fn groups_are_deleted_before_a_push_where_they_would_survive_it() {
    let (fake, session) = open("1.3.0").await;
    session.install(&Pipeline::new(p4info(), "one".into())).await.unwrap();
    let group = Entity::multicast_group(3, vec![Replica::new(Port(1), 1)]);
    session.write(&[Change::Insert(group)]).await.unwrap();
    let before = fake.state(|s| s.writes.len());
    let installed = session.install(&Pipeline::new(p4info(), "two".into())).await;
    assert_eq!(installed.unwrap(), Installed::Pushed);
    assert_eq!(fake.state(|s| s.writes.len()), before + 1);
}

#[tokio::test]
async fn a_refused_or_forgotten_pipeline_is_an_error() {
    let (fake, session) = open("1.4.0").await;
    let broken = session.install(&Pipeline::new(p4info(), "broken".into())).await;
    assert!(matches!(broken, Err(Error::Pipeline(why)) if why.contains("does not parse")));
    fake.state(|s| s.forgets = true);
    let lost = session.install(&Pipeline::new(p4info(), "one".into())).await;
    assert!(matches!(lost, Err(Error::Pipeline(_))));
}

#[tokio::test]
async fn packets_and_acknowledgements_arrive() {
    let (fake, session) = open("1.4.0").await;
    session.packet_out(p4::PacketOut::default()).await.unwrap();
    session.ack_digest(4, 9).await.unwrap();
    while fake.state(|s| s.received.len()) < 2 {
        tokio::task::yield_now().await;
    }
}
