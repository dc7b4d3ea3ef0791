//! The P4Runtime server over gRPC, on a target that only stores state.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::field_match::FieldMatchType;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::update::Type;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use support::{Controller, client};

const JSON: &[u8] = include_bytes!("data/entities.json");
const P4INFO: &[u8] = include_bytes!("data/entities.p4info.bin");
const L2: u32 = 41_579_476;
const SEND: u32 = 18_638_031;
const PORT_COUNTER: u32 = 311_073_007;

async fn start() -> SocketAddr {
    let device = Arc::new(MemoryDevice::new(Some(510), BTreeMap::from([(1, "p1".to_owned())])));
    let interfaces = Arc::new(MemoryInterfaces::new("s", []));
    let (_, events) = mpsc::channel(EVENT_QUEUE);
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServeConfig {
        device_id: 1,
        tls: None,
        pipeline: None,
        gnoi: None,
        commands: None,
    };
    tokio::spawn(serve(
        config,
        listener,
        device,
        interfaces,
        events,
        std::future::pending(),
    ));
    address
}

fn config() -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(P4Info::decode(P4INFO).unwrap()),
        p4_device_config: JSON.to_vec(),
        cookie: Some(v1::forwarding_pipeline_config::Cookie { cookie: 7 }),
    }
}

fn l2(dst: u64) -> Kind {
    let exact = v1::field_match::Exact {
        value: dst.to_be_bytes()[2..].to_vec(),
    };
    let call = v1::Action {
        action_id: SEND,
        params: vec![v1::action::Param {
            param_id: 1,
            value: vec![1],
        }],
    };
    Kind::TableEntry(v1::TableEntry {
        table_id: L2,
        r#match: vec![v1::FieldMatch {
            field_id: 1,
            field_match_type: Some(FieldMatchType::Exact(exact)),
        }],
        action: Some(v1::TableAction {
            r#type: Some(v1::table_action::Type::Action(call)),
        }),
        ..Default::default()
    })
}

fn all_l2() -> Kind {
    Kind::TableEntry(v1::TableEntry {
        table_id: L2,
        ..Default::default()
    })
}

fn code(result: Result<(), Status>) -> Code {
    result.map_or_else(|status| status.code(), |()| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_change_and_everybody_learns() {
    let address = start().await;
    let mut first = Controller::primary(address).await;
    let mut second = Controller::open(address, 5).await;
    assert_eq!(second.standing().await, (Code::AlreadyExists, 10));
    second.arbitrate(20).await;
    second.election.low = 20;
    assert_eq!(first.standing().await, (Code::AlreadyExists, 20));
    assert_eq!(second.standing().await, (Code::Ok, 20));
    assert_eq!(
        code(first.set(Set::VerifyAndCommit, Some(config())).await),
        Code::PermissionDenied
    );
    assert_eq!(code(second.set(Set::VerifyAndCommit, Some(config())).await), Code::Ok);
    drop(second);
    assert_eq!(first.standing().await, (Code::NotFound, 20));
    let mut duplicate = Controller::open(address, 10).await;
    assert_eq!(
        duplicate.responses.message().await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pipeline_action() {
    let address = start().await;
    let mut c = Controller::primary(address).await;
    assert_eq!(code(c.write(Type::Insert, vec![l2(1)]).await), Code::FailedPrecondition);
    assert_eq!(c.read(all_l2()).await.unwrap_err().code(), Code::FailedPrecondition);
    let get = |response_type| v1::GetForwardingPipelineConfigRequest {
        device_id: 1,
        response_type,
    };
    assert_eq!(
        c.client
            .get_forwarding_pipeline_config(get(0))
            .await
            .unwrap()
            .into_inner()
            .config,
        None
    );

    assert_eq!(code(c.set(Set::Verify, None).await), Code::InvalidArgument);
    let broken = v1::ForwardingPipelineConfig {
        p4_device_config: b"{".to_vec(),
        ..config()
    };
    assert_eq!(code(c.set(Set::Verify, Some(broken)).await), Code::InvalidArgument);
    assert_eq!(code(c.set(Set::Verify, Some(config())).await), Code::Ok);
    assert_eq!(
        code(c.write(Type::Insert, vec![l2(1)]).await),
        Code::FailedPrecondition,
        "VERIFY sets nothing"
    );
    assert_eq!(code(c.set(Set::Commit, None).await), Code::NotFound);

    assert_eq!(code(c.set(Set::VerifyAndSave, Some(config())).await), Code::Ok);
    assert_eq!(code(c.write(Type::Insert, vec![l2(1)]).await), Code::Ok);
    assert_eq!(code(c.set(Set::Commit, Some(config())).await), Code::InvalidArgument);
    assert_eq!(code(c.set(Set::Commit, None).await), Code::Ok);
    assert_eq!(
        c.read(all_l2()).await.unwrap(),
        [canonical(l2(1))],
        "writes to the saved config are kept"
    );

    for (response_type, info, device) in [(0, true, true), (1, false, false), (2, true, false), (3, false, true)] {
        let answer = c
            .client
            .get_forwarding_pipeline_config(get(response_type))
            .await
            .unwrap()
            .into_inner();
        let answer = answer.config.unwrap();
        let want = config();
        assert_eq!(answer.cookie, want.cookie);
        assert_eq!(answer.p4info, want.p4info.filter(|_| info));
        assert_eq!(answer.p4_device_config == want.p4_device_config, device);
    }
    assert_eq!(code(c.set(Set::VerifyAndCommit, Some(config())).await), Code::Ok);
    assert_eq!(c.read(all_l2()).await.unwrap(), [], "VERIFY_AND_COMMIT clears");
}

/// In the server's form: shortest values.
fn canonical(entity: Kind) -> Kind {
    let Kind::TableEntry(mut entry) = entity else {
        return entity;
    };
    for field in &mut entry.r#match {
        if let Some(FieldMatchType::Exact(exact)) = &mut field.field_match_type {
            let zeros = exact.value.iter().take_while(|byte| **byte == 0).count();
            exact.value.drain(..zeros.min(exact.value.len() - 1));
        }
    }
    Kind::TableEntry(entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_keeps_what_both_pipelines_know() {
    let address = start().await;
    let mut c = Controller::primary(address).await;
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    c.write(Type::Insert, (1..=2500).map(l2).take(1000).collect())
        .await
        .unwrap();
    let counter = Kind::CounterEntry(v1::CounterEntry {
        counter_id: PORT_COUNTER,
        index: Some(v1::Index { index: 3 }),
        data: Some(v1::CounterData {
            byte_count: 900,
            packet_count: 9,
        }),
    });
    c.write(Type::Modify, vec![counter.clone()]).await.unwrap();
    let group = v1::MulticastGroupEntry {
        multicast_group_id: 5,
        ..Default::default()
    };
    let group = Kind::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry {
        r#type: Some(v1::packet_replication_engine_entry::Type::MulticastGroupEntry(group)),
    });
    c.write(Type::Insert, vec![group.clone()]).await.unwrap();
    let mut default = match l2(0) {
        Kind::TableEntry(entry) => entry,
        _ => unreachable!("an entry"),
    };
    default.r#match.clear();
    default.is_default_action = true;
    default.metadata = vec![5];
    let default = Kind::TableEntry(default);
    c.write(Type::Modify, vec![default.clone()]).await.unwrap();

    let mut next = config();
    let tables = &mut next.p4info.as_mut().unwrap().tables;
    tables.retain(|table| table.preamble.as_ref().unwrap().name != "ingress.source");
    next.cookie = None;
    c.set(Set::ReconcileAndCommit, Some(next)).await.unwrap();
    assert_eq!(c.read(all_l2()).await.unwrap().len(), 1000);
    assert_eq!(c.read(counter.clone()).await.unwrap(), [counter]);
    assert_eq!(c.read(group.clone()).await.unwrap(), [group]);
    assert_eq!(c.read(default.clone()).await.unwrap(), [default]);

    // The new table is too small for its entries: the change is refused, and nothing changes.
    let mut small = config();
    let tables = &mut small.p4info.as_mut().unwrap().tables;
    tables
        .iter_mut()
        .find(|table| table.preamble.as_ref().unwrap().id == L2)
        .unwrap()
        .size = 10;
    assert_eq!(
        code(c.set(Set::ReconcileAndCommit, Some(small)).await),
        Code::InvalidArgument
    );
    assert_eq!(c.read(all_l2()).await.unwrap().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_paged_and_errors_are_reported_one_by_one() {
    let address = start().await;
    let mut c = Controller::primary(address).await;
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    c.write(Type::Insert, (0..1024).map(l2).collect()).await.unwrap();
    let full = c.write(Type::Insert, vec![l2(5000), l2(3)]).await.unwrap_err();
    assert_eq!(full.code(), Code::Unknown);
    let details = p4runtime_proto::google::rpc::Status::decode(full.details())
        .unwrap()
        .details;
    let codes = details
        .iter()
        .map(|any| v1::Error::decode(any.value.as_slice()).unwrap().canonical_code);
    assert_eq!(
        codes.collect::<Vec<_>>(),
        [Code::ResourceExhausted as i32, Code::AlreadyExists as i32]
    );

    let wild = v1::ReadRequest {
        device_id: 1,
        entities: vec![v1::Entity { entity: Some(all_l2()) }],
        ..Default::default()
    };
    let mut pages = c.client.read(wild).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        sizes.push(page.entities.len());
    }
    assert_eq!(sizes, [1000, 24]);
    let unknown = Kind::TableEntry(v1::TableEntry {
        table_id: 1,
        ..Default::default()
    });
    assert_eq!(c.read(unknown).await.unwrap_err().code(), Code::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked_in_the_specified_order() {
    let address = start().await;
    let mut c = client(address).await;
    let write = |device_id, role: &str| v1::WriteRequest {
        device_id,
        role: role.into(),
        ..Default::default()
    };
    assert_eq!(c.write(write(2, "")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(c.write(write(1, "x")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(c.write(write(1, "")).await.unwrap_err().code(), Code::PermissionDenied);
    let version = c
        .capabilities(v1::CapabilitiesRequest { device_id: 1 })
        .await
        .unwrap()
        .into_inner();
    assert!(version.p4runtime_api_version.starts_with("1.4"));
    assert_eq!(
        c.capabilities(v1::CapabilitiesRequest { device_id: 9 })
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_stream_messages_are_answered_with_stream_errors() {
    use v1::stream_message_request::Update;
    let address = start().await;
    let mut c = Controller::primary(address).await;
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    let mut backup = Controller::open(address, 1).await;
    backup.standing().await;
    let packet = || {
        Update::Packet(v1::PacketOut {
            payload: vec![0; 60],
            metadata: Vec::new(),
        })
    };
    let ack = Update::DigestAck(v1::DigestListAck {
        digest_id: 1,
        list_id: 1,
    });
    for (controller, update, want) in [
        (&mut backup, packet(), Code::PermissionDenied),
        (&mut c, packet(), Code::InvalidArgument),
    ] {
        controller
            .requests
            .send(v1::StreamMessageRequest { update: Some(update) })
            .await
            .unwrap();
        assert_eq!(controller.error().await, want);
    }
    c.requests
        .send(v1::StreamMessageRequest { update: Some(ack) })
        .await
        .unwrap();
    assert_eq!(c.error().await, Code::InvalidArgument);
    let mut role = v1::MasterArbitrationUpdate {
        device_id: 1,
        ..Default::default()
    };
    #[allow(deprecated)]
    {
        role.role = Some(v1::Role {
            id: 5,
            ..Default::default()
        });
    }
    c.requests
        .send(v1::StreamMessageRequest {
            update: Some(Update::Arbitration(role)),
        })
        .await
        .unwrap();
    assert_eq!(c.responses.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_further_externs() {
    let mut c = Controller::primary(start().await).await;
    c.set(Set::VerifyAndCommit, Some(config())).await.unwrap();
    let entry = |extern_type_id, extern_id| {
        Kind::ExternEntry(v1::ExternEntry {
            extern_type_id,
            extern_id,
            entry: None,
        })
    };
    for kind in [Type::Insert, Type::Modify, Type::Delete] {
        let codes = support::update_codes(c.write(kind, vec![entry(0x81, 1)]).await);
        assert_eq!(codes, [Code::Unimplemented], "{kind:?}");
    }
    let named = c.read(entry(0x81, 1)).await.unwrap_err();
    assert_eq!(support::update_codes(Err(named)), [Code::Unimplemented]);
    assert_eq!(c.read(entry(0, 0)).await.unwrap(), [], "a wildcard finds none");
}
