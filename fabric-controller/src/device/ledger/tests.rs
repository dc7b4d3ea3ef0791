//! What the ledger reports about revisions and failures, and races between changes and replies.

use std::cell::RefCell;

use proptest::prelude::*;
use vtep_proto::{HostEntity, Neighbour};

use super::super::handover::Step as Order;
use super::*;

/// An entity named by `key`, with one of several contents.
fn entity(key: u8, content: u8) -> Arc<Entity> {
    Arc::new(Entity::Host(HostEntity::Neighbour(Neighbour {
        vni: vtep_proto::Vni::new(7).unwrap(),
        ip: std::net::Ipv4Addr::new(10, 0, 0, key).into(),
        mac: vtep_proto::MacAddress::new([2, 0, 0, 0, 0, content]).unwrap(),
    })))
}

fn asker(i: usize) -> Source {
    Source::Switch(i.into())
}

fn refusal(retryable: bool, device_retries: bool) -> EntityError {
    EntityError {
        message: "no".into(),
        retryable,
        device_retries,
    }
}

fn in_sync() -> Ledger {
    let mut ledger = Ledger::default();
    read_back(&mut ledger, &[]);
    ledger
}

/// A device reports what it holds.
fn read_back(ledger: &mut Ledger, held: &[Entity]) -> usize {
    ledger.begin_read_back();
    for entity in held {
        ledger.found(Entity::clone(entity), PartialEq::eq);
    }
    ledger.end_read_back()
}

fn writes(differences: Vec<Difference>) -> Vec<Write> {
    let write = |d: Difference| match (d.desired, d.applied) {
        (Some(d), None) => Write::Insert(d),
        (Some(d), Some(_)) => Write::Modify(d),
        (None, Some(a)) => Write::Delete(a),
        (None, None) => panic!("nothing to write"),
    };
    differences.into_iter().map(write).collect()
}

#[test]
fn a_change_during_its_own_write_is_not_lost() {
    let mut ledger = in_sync();
    ledger.add(asker(0), entity(1, 1), 1);
    let insert = writes(ledger.take(false));
    // Taken back while the device is about to insert it.
    ledger.remove(asker(0), &entity(1, 1), 2);
    assert!(!ledger.is_clean(2), "confirmed although the device may hold it");
    assert!(ledger.take(false).is_empty(), "written twice at once");
    ledger.written(&insert[0], Ok(()));
    assert!(!ledger.is_clean(1));
    let delete = writes(ledger.take(false));
    assert_eq!(delete, [Write::Delete(entity(1, 1))]);
    ledger.written(&delete[0], Ok(()));
    assert!(ledger.is_clean(2));
}

#[test]
fn a_refusal_of_what_is_not_wanted_any_more_is_no_failure() {
    let mut ledger = in_sync();
    ledger.add(asker(0), entity(1, 1), 1);
    let insert = writes(ledger.take(false));
    ledger.remove(asker(0), &entity(1, 1), 2);
    ledger.add(asker(0), entity(1, 2), 2);
    ledger.written(&insert[0], Err(refusal(false, false)));
    assert_eq!(ledger.failed_count(), 0);
    let second = writes(ledger.take(false));
    assert_eq!(
        second,
        [Write::Insert(entity(1, 2))],
        "what is wanted now is never tried"
    );
    ledger.written(&second[0], Err(refusal(false, false)));
    assert_eq!(ledger.failure(2).map(|f| f.entity.clone()), Some(entity(1, 2)));
    assert!(ledger.failure(2).is_some_and(Failure::is_final));
}

#[test]
fn older_refusals_are_nobody_elses_business() {
    let mut ledger = in_sync();
    ledger.add(asker(0), entity(1, 1), 1);
    let first = writes(ledger.take(false));
    ledger.written(&first[0], Err(refusal(false, false)));
    assert!(ledger.failure(1).is_some());
    ledger.add(asker(0), entity(2, 1), 2);
    assert!(ledger.failure(2).is_none() && ledger.is_under_way(2));
    let second = writes(ledger.take(false));
    assert_eq!(second.len(), 1, "a refusal for good is not tried again by itself");
    ledger.written(&second[0], Ok(()));
    assert!(ledger.failure(2).is_none() && !ledger.is_under_way(2));
    assert!(!ledger.is_clean(2), "the epoch waits for everything");
    // The failure counts until the key is changed again; after that the new change reports it.
    ledger.remove(asker(0), &entity(1, 1), 3);
    ledger.add(asker(0), entity(1, 2), 3);
    let third = writes(ledger.take(false));
    ledger.written(&third[0], Err(refusal(true, false)));
    assert!(ledger.failure(3).is_some());
    assert!(ledger.wants_retry());
}

#[test]
fn failures_for_good_go_first_and_say_who_tries_again() {
    let mut ledger = in_sync();
    for (key, error) in [
        (1, refusal(false, true)),
        (2, refusal(true, false)),
        (3, refusal(false, false)),
    ] {
        ledger.add(asker(0), entity(key, 1), 1);
        let write = writes(ledger.take(false));
        ledger.written(&write[0], Err(error));
    }
    let shown: Vec<String> = ledger.failures().map(ToString::to_string).collect();
    assert!(shown[0].ends_with(": no"), "{shown:?}");
    assert!(shown[1].ends_with("no (is tried again)"), "{shown:?}");
    assert!(shown[2].ends_with("no (the device tries again)"), "{shown:?}");
    assert!(ledger.failure(1).is_some_and(Failure::is_final));
    assert_eq!(ledger.take(true).len(), 1, "only what we try again is taken");
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u8),
    Remove(usize),
    Take(bool),
    Answer(bool, bool, bool),
    State(u8, bool),
    /// The read-back of a new session.
    Connect,
    /// A read-back in the same session.
    ReadBack,
    Found,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..3u8).prop_map(|(k, c)| Step::Add(k, c)),
        3 => (0..8usize).prop_map(Step::Remove),
        3 => any::<bool>().prop_map(Step::Take),
        6 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Step::Answer(a, b, c)),
        1 => (0..4u8, any::<bool>()).prop_map(|(k, ok)| Step::State(k, ok)),
        1 => Just(Step::Connect),
        2 => Just(Step::ReadBack),
        4 => Just(Step::Found),
    ]
}

/// The counts and sets of the ledger equal what a walk over all keys finds.
fn check(ledger: &Ledger) -> Result<(), TestCaseError> {
    let open = |d: &&Dirty| !matches!(d.phase, Phase::Failed(_));
    for revision in 0..40 {
        let dirty = ledger.dirty.values().any(|d| d.oldest <= revision);
        prop_assert_eq!(ledger.is_clean(revision), !dirty);
        let under_way = ledger.dirty.values().filter(open).any(|d| d.oldest <= revision);
        prop_assert_eq!(ledger.is_under_way(revision), under_way);
        let about = |d: &&Dirty| d.oldest <= revision && d.newest >= revision;
        let failed = ledger.dirty.values().filter(about).any(|d| !open(&d));
        prop_assert_eq!(ledger.failure(revision).is_some(), failed);
    }
    let seen = ledger.rows.all_held().filter(|(h, _)| h.round == ledger.round).count();
    prop_assert_eq!(ledger.seen, seen);
    let failed = ledger.dirty.values().filter(|d| !open(d)).count();
    prop_assert_eq!(ledger.failed_count(), failed);
    prop_assert_eq!(ledger.failures().count(), failed);
    let to_do = ledger.dirty.values().filter(|d| matches!(d.phase, Phase::ToDo));
    prop_assert_eq!(ledger.to_do.len(), to_do.count());
    if ledger.read_back {
        let held = ledger.rows.all_held().map(|(held, _)| &held.entity);
        let keys = ledger.desired().chain(held).map(|entity| entity.key());
        let differing = ledger.reading.iter().flat_map(|reading| &reading.differing);
        let differing: Vec<&EntityKey> = differing.collect();
        for key in keys.filter(|k| !ledger.dirty.contains_key(k) && !differing.contains(&k)) {
            prop_assert!(ledger.rows.agree(&key), "{} differs and nobody knows", key);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn books_are_right_and_an_obliging_device_gets_everything(steps in proptest::collection::vec(step(), 1..60)) {
        let mut ledger = Ledger::default();
        let mut asked: Vec<(Source, Arc<Entity>)> = Vec::new();
        let mut askers = (0..).map(asker);
        let device: RefCell<FxHashMap<EntityKey, Entity>> = RefCell::default();
        let mut flying: Vec<Write> = Vec::new();
        let answer = |ledger: &mut Ledger, write: &Write, result: WriteResult| {
            let mut device = device.borrow_mut();
            if result.is_ok() {
                let e = write.entity();
                match write {
                    Write::Delete(_) => device.remove(&e.key()),
                    Write::Insert(_) | Write::Modify(_) => device.insert(e.key(), Entity::clone(e)),
                };
            }
            ledger.written(write, result);
            device.values().cloned().collect::<Vec<_>>()
        };
        let mut held = Vec::new();
        // What a read-back under way has yet to tell: all that the device held when it began, however old that is by now.
        let mut reading: Option<std::vec::IntoIter<Entity>> = None;
        let mut claimed = false;
        for (revision, step) in (1..).zip(steps) {
            match step {
                Step::Add(key, content) => {
                    // As with contributions, a key has one content at a time.
                    let clash = |(_, e): &&(Source, Arc<Entity>)| e.key() == entity(key, 0).key();
                    let e = asked.iter().find(clash).map_or_else(|| entity(key, content), |(_, e)| Arc::clone(e));
                    let source = askers.next().unwrap();
                    ledger.add(source, Arc::clone(&e), revision);
                    asked.push((source, e));
                }
                Step::Remove(at) => {
                    if at < asked.len() {
                        let (source, e) = asked.swap_remove(at);
                        ledger.remove(source, &e, revision);
                    }
                }
                Step::Take(retry) => {
                    if claimed && flying.is_empty() {
                        flying = writes(ledger.take(retry));
                    }
                }
                Step::Answer(ok, retryable, device_retries) => {
                    if let Some(write) = flying.pop() {
                        let result = if ok { Ok(()) } else { Err(refusal(retryable, device_retries)) };
                        held = answer(&mut ledger, &write, result);
                    }
                }
                Step::State(key, ok) => {
                    // A device reports an entity that it holds, or one that it should hold but does not.
                    let key = entity(key, 0).key();
                    let holds = ledger.rows.held(&key).is_some();
                    if !ok && holds && flying.is_empty() && reading.is_none() {
                        device.borrow_mut().remove(&key);
                        held.retain(|e: &Entity| e.key() != key);
                        ledger.entity_state(&key, Err(refusal(true, false)));
                    }
                }
                Step::Connect => {
                    // Also while a read-back was under way.
                    flying.clear();
                    claimed = false;
                    ledger.begin_read_back();
                    reading = Some(held.clone().into_iter());
                }
                Step::ReadBack => {
                    if claimed && flying.is_empty() && reading.is_none() {
                        ledger.begin_read_back();
                        reading = Some(held.clone().into_iter());
                    }
                }
                Step::Found => match reading.as_mut().map(Iterator::next) {
                    Some(Some(entity)) => {
                        ledger.found(entity, PartialEq::eq);
                    }
                    Some(None) => {
                        let differ = ledger.end_read_back();
                        // Nobody but the ledger's actor writes to the device: a later read-back finds what is known.
                        prop_assert!(!claimed || differ == 0, "its own writes were taken for somebody else's");
                        let known = ledger.rows.all_held().map(|(held, _)| (held.entity.key(), Entity::clone(&held.entity)));
                        let known: FxHashMap<EntityKey, Entity> = known.collect();
                        let held = held.iter().map(|e: &Entity| (e.key(), e.clone())).collect();
                        prop_assert_eq!(known, held);
                        (reading, claimed) = (None, true);
                    }
                    None => {}
                },
            }
            check(&ledger)?;
        }
        flying.clear();
        read_back(&mut ledger, &held);
        while { flying = writes(ledger.take(true)); !flying.is_empty() } {
            for write in &flying {
                let _ = answer(&mut ledger, write, Ok(()));
            }
        }
        prop_assert!(ledger.is_clean(u64::MAX));
        let wanted: FxHashMap<EntityKey, Arc<Entity>> = asked.iter().map(|(_, e)| (e.key(), Arc::clone(e))).collect();
        let held = ledger.rows.all_held().map(|(held, _)| (held.entity.key(), Arc::clone(&held.entity)));
        let applied: FxHashMap<EntityKey, Arc<Entity>> = held.collect();
        prop_assert_eq!(applied, wanted);
    }
}

#[test]
fn what_a_read_back_finds_is_written_at_its_end_and_changes_of_intent_before() {
    let mut ledger = Ledger::default();
    for key in [1, 2] {
        ledger.add(asker(key.into()), entity(key, 1), 1);
    }
    read_back(
        &mut ledger,
        &[Entity::clone(&entity(1, 1)), Entity::clone(&entity(2, 1))],
    );
    assert!(ledger.is_clean(1));

    ledger.begin_read_back();
    // A stray, and one that somebody changed.
    ledger.found(Entity::clone(&entity(9, 1)), PartialEq::eq);
    ledger.found(Entity::clone(&entity(1, 3)), PartialEq::eq);
    assert!(ledger.take(true).is_empty(), "repaired before everything is known");
    // Meanwhile 2 goes and 3 comes.
    ledger.remove(asker(2), &entity(2, 1), 2);
    ledger.add(asker(3), entity(3, 1), 2);
    let changes = writes(ledger.take(false));
    assert_eq!(changes.len(), 2, "{changes:?}");
    for write in &changes {
        ledger.written(write, Ok(()));
    }
    assert!(ledger.is_clean(2), "not applied before the read-back ends");
    // The rest of the read-back is older than that.
    ledger.found(Entity::clone(&entity(2, 1)), PartialEq::eq);
    assert_eq!(ledger.end_read_back(), 2);
    let mut repairs = writes(ledger.take(false));
    repairs.sort_by_key(|write| write.entity().key());
    assert_eq!(repairs, [Write::Modify(entity(1, 1)), Write::Delete(entity(9, 1))]);
}

#[test]
fn what_is_held_but_not_in_place_fails_once_everything_is_read() {
    let mut ledger = Ledger::default();
    for key in [1, 2, 3] {
        ledger.add(asker(key.into()), entity(key, 1), 1);
    }
    let (all, keys) = (
        [1, 2, 3].map(|key| entity(key, 1)),
        [1, 2, 3].map(|key| entity(key, 1).key()),
    );
    let held: Vec<Entity> = all.iter().map(|e| Entity::clone(e)).collect();
    read_back(&mut ledger, &held);
    ledger.begin_read_back();
    for (entity, key) in held.iter().zip(&keys) {
        ledger.found(entity.clone(), PartialEq::eq);
        ledger.found_failing(key.clone(), refusal(true, true));
    }
    // Since then the device has put one in place, and another was written.
    ledger.entity_state(&keys[1], Ok(()));
    ledger.add(asker(3), entity(3, 2), 2);
    let write = writes(ledger.take(false));
    ledger.written(&write[0], Ok(()));
    ledger.end_read_back();
    assert!(ledger.take(true).is_empty(), "the device itself tries again");
    assert_eq!(ledger.failed_count(), 1);
    assert!(ledger.failure_of(&keys[0]).is_some());
}

/// An attachment in a network, by its VNI.
fn attachment(vni: u32) -> Arc<Entity> {
    Arc::new(Entity::Host(HostEntity::Attachment(Box::new(vtep_proto::Attachment {
        id: "v/a".into(),
        vni: Vni::new(vni).unwrap(),
        mac: vtep_proto::MacAddress::new([2, 0, 0, 0, 0, 1]).unwrap(),
        addresses: Default::default(),
        routes: Default::default(),
        netns: "a".into(),
        interface: "eth0".into(),
        mtu: 0,
        allowed_addresses: Default::default(),
        port_security: true,
        shared_netns: false,
        mode: Default::default(),
    }))))
}

/// A ledger of a host that holds an attachment in network 7 and should have it in network 8. The change is held back.
fn on_the_move() -> (Ledger, EntityKey) {
    let mut ledger = Ledger::default();
    ledger.add(asker(0), attachment(7), 1);
    ledger.add(asker(1), entity(1, 1), 1);
    read_back(
        &mut ledger,
        &[Entity::clone(&attachment(7)), Entity::clone(&entity(1, 1))],
    );
    let key = attachment(7).key();
    assert!(ledger.holds_elsewhere(&key, Vni::new(8).unwrap()) && !ledger.holds_elsewhere(&key, Vni::new(7).unwrap()));
    ledger.add(asker(0), attachment(8), 2);
    ledger.hold_back(key.clone(), 2, Order::Move);
    ledger.add(asker(2), entity(2, 1), 2);
    ledger.remove(asker(1), &entity(1, 1), 2);
    ledger.hold_back(entity(1, 1).key(), 2, Order::Break);
    (ledger, key)
}

#[test]
fn what_is_held_back_is_written_step_by_step_and_counts_as_under_way_until_then() {
    let (mut ledger, _) = on_the_move();
    assert!(!ledger.has_made(2));
    let made = writes(ledger.take(true));
    assert_eq!(made, [Write::Insert(entity(2, 1))]);
    assert!(!ledger.has_made(2), "it is being written");
    ledger.written(&made[0], Ok(()));
    assert!(ledger.has_made(2) && ledger.is_under_way(2) && !ledger.is_clean(2));
    assert!(writes(ledger.take(true)).is_empty());
    // The handover of another transaction releases nothing here.
    assert!(!ledger.open(3, Order::Break) && writes(ledger.take(true)).is_empty());
    for (step, expected) in [
        (Order::Move, Write::Modify(attachment(8))),
        (Order::Break, Write::Delete(entity(1, 1))),
    ] {
        assert!(ledger.open(2, step));
        let written = writes(ledger.take(false));
        assert_eq!(written, [expected]);
        ledger.written(&written[0], Ok(()));
    }
    assert!(ledger.is_clean(2) && ledger.held_back.is_empty());
}

#[test]
fn a_later_change_ends_a_hold_and_a_read_back_does_not() {
    let (mut ledger, key) = on_the_move();
    read_back(
        &mut ledger,
        &[Entity::clone(&attachment(7)), Entity::clone(&entity(1, 1))],
    );
    assert_eq!(writes(ledger.take(true)), [Write::Insert(entity(2, 1))]);
    // It goes back to where it is: nothing is left to do for it.
    ledger.add(asker(0), attachment(7), 3);
    assert!(!ledger.is_dirty(&key) && !ledger.held_back.contains_key(&key));
    // What was to go stays after all.
    ledger.add(asker(1), entity(1, 1), 3);
    assert!(ledger.held_back.is_empty() && writes(ledger.take(true)).is_empty());
    ledger.add(asker(0), attachment(9), 4);
    assert_eq!(writes(ledger.take(false)), [Write::Modify(attachment(9))]);
}

#[test]
fn news_of_what_a_device_holds_is_not_taken_for_what_it_was_not_sent() {
    let (mut ledger, key) = on_the_move();
    ledger.entity_state(&key, Ok(()));
    ledger.open(2, Order::Move);
    let written = writes(ledger.take(false));
    assert!(written.contains(&Write::Modify(attachment(8))), "{written:?}");
    let (mut ledger, key) = on_the_move();
    ledger.entity_state(&key, Err(refusal(true, true)));
    assert_eq!(ledger.failed_count(), 0);
    ledger.open(2, Order::Move);
    let written = writes(ledger.take(false));
    assert!(written.contains(&Write::Insert(attachment(8))), "{written:?}");
}

/// A host reports that an attachment is not in place, because the network was removed first. The host still has the
/// interface.
#[test]
fn what_is_to_go_is_removed_even_if_it_is_not_in_place() {
    let gone = |ledger: &mut Ledger| ledger.remove(asker(0), &attachment(7), 2);
    let delete = Write::Delete(attachment(7));
    // Reported before the removal is written, or while it is held back.
    for held_back in [false, true] {
        let (mut ledger, key) = holding();
        gone(&mut ledger);
        if held_back {
            ledger.hold_back(key.clone(), 2, Order::Move);
        }
        ledger.entity_state(&key, Err(refusal(true, true)));
        ledger.open(2, Order::Move);
        assert_eq!(writes(ledger.take(false)), std::slice::from_ref(&delete), "{held_back}");
        ledger.written(&delete, Ok(()));
        assert!(ledger.is_clean(2) && ledger.census().held == 0);
    }
    // A read-back finds it, and says that it is not in place.
    let mut ledger = Ledger::default();
    ledger.begin_read_back();
    ledger.found(Entity::clone(&attachment(7)), |wanted, held| wanted == held);
    ledger.found_failing(attachment(7).key(), refusal(true, true));
    ledger.end_read_back();
    assert_eq!(writes(ledger.take(false)), [delete]);
}

/// A ledger with an attachment that the device holds.
fn holding() -> (Ledger, EntityKey) {
    let mut ledger = Ledger::default();
    ledger.add(asker(0), attachment(7), 1);
    read_back(&mut ledger, &[Entity::clone(&attachment(7))]);
    (ledger, attachment(7).key())
}
