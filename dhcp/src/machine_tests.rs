use dhcproto::v4::{Decodable as _, Decoder, DhcpOption, Message, OptionCode};
use proptest::prelude::*;

use super::*;
use crate::message::tests::{GOOD, identity, octets};

const ADDRESS: [u8; 4] = [192, 0, 2, 11];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A machine, the time, and a source of numbers that give no jitter.
struct Run {
    machine: Machine,
    now: Duration,
    next: u32,
}

impl Run {
    fn new(remembered: Option<(Lease, Duration)>) -> Self {
        Self {
            machine: Machine::new(identity(), remembered, s(100)),
            now: s(100),
            next: 0,
        }
    }

    /// Calls the machine with numbers that are all different, and that all give 1000 ms in the range of the jitter: no
    /// jitter.
    fn with<T>(&mut self, call: impl FnOnce(&mut Machine, Duration, &mut dyn FnMut() -> u32) -> T) -> T {
        let (next, now) = (&mut self.next, self.now);
        call(&mut self.machine, now, &mut || {
            *next += 2001;
            *next - 1001
        })
    }

    /// Waits for the next timer.
    fn wait(&mut self) -> Vec<Action> {
        self.now = self.now.max(self.machine.due());
        self.with(|m, now, random| m.timer(now, random))
    }

    fn hear(&mut self, kind: u8, options: &[(u8, &[u8])]) -> Vec<Action> {
        let octets = octets(kind, self.machine.xid, ADDRESS, options);
        self.with(|m, now, random| m.received(&octets, now, random))
    }

    fn lease(&mut self) -> Lease {
        self.wait();
        self.hear(OFFER, GOOD);
        match self.hear(ACK, GOOD).as_slice() {
            [Action::Use(lease, _)] => lease.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn sent(actions: &[Action]) -> Message {
    let octets = actions.iter().find_map(|a| match a {
        Action::Broadcast(_, octets) | Action::Send(_, octets) => Some(octets),
        _ => None,
    });
    Message::decode(&mut Decoder::new(octets.expect("something is sent"))).unwrap()
}

fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap()
}

#[test]
fn a_blank_switch_gets_an_address_and_its_bootz_server() {
    let mut run = Run::new(None);
    assert_eq!(run.machine.listen(), Listen::Frames);
    let discover = sent(&run.wait());
    assert_eq!(kind(&discover), MessageType::Discover);
    let text = |code: OptionCode| match discover.opts().get(code) {
        Some(DhcpOption::ClassIdentifier(octets) | DhcpOption::ClientIdentifier(octets)) => octets.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(OptionCode::ClassIdentifier), b"p4-switch:s1");
    assert_eq!(text(OptionCode::ClientIdentifier), b"\0AF40");
    run.now += s(1);
    let request = sent(&run.hear(OFFER, GOOD));
    assert_eq!((kind(&request), request.xid()), (MessageType::Request, discover.xid()));
    let option = |code| request.opts().get(code).cloned();
    assert_eq!(
        (
            option(OptionCode::RequestedIpAddress),
            option(OptionCode::ServerIdentifier)
        ),
        (
            Some(DhcpOption::RequestedIpAddress(ADDRESS.into())),
            Some(DhcpOption::ServerIdentifier([192, 0, 2, 1].into()))
        )
    );
    run.now += s(2);
    let [Action::Use(lease, left)] = &run.hear(ACK, GOOD)[..] else {
        panic!()
    };
    // Counted from the REQUEST.
    assert_eq!(
        (lease.bootz.as_slice(), *left),
        (["bootz://h:15006".to_owned()].as_slice(), s(78))
    );
    assert_eq!((run.machine.listen(), run.machine.due()), (Listen::Nowhere, s(141)));
}

#[test]
fn waits_grow_and_a_server_that_falls_silent_is_left() {
    let mut run = Run::new(None);
    let mut at = Vec::new();
    let first = sent(&run.wait()).xid();
    for _ in 0..6 {
        let before = run.now;
        assert_eq!(sent(&run.wait()).xid(), first, "one exchange");
        at.push((run.now - before).as_secs());
    }
    assert_eq!(at, [4, 8, 16, 32, 64, 64]);
    assert_eq!(kind(&sent(&run.hear(OFFER, GOOD))), MessageType::Request);
    for _ in 1..REQUESTS {
        assert_eq!(kind(&sent(&run.wait())), MessageType::Request);
    }
    let again = sent(&run.wait());
    assert_eq!(kind(&again), MessageType::Discover);
    assert_ne!(again.xid(), first);
}

#[test]
fn an_offer_with_a_bootz_server_is_preferred_and_any_other_is_the_second_choice() {
    let plain: Vec<_> = GOOD.iter().copied().filter(|(code, _)| *code != 143).collect();
    let mut run = Run::new(None);
    run.wait();
    assert!(run.hear(OFFER, &plain).is_empty());
    let chosen: Vec<(u8, &[u8])> = GOOD
        .iter()
        .map(|(code, o)| {
            if *code == 54 {
                (54, &[192, 0, 2, 2][..])
            } else {
                (*code, *o)
            }
        })
        .collect();
    let request = sent(&run.hear(OFFER, &chosen));
    assert_eq!(
        request.opts().get(OptionCode::ServerIdentifier),
        Some(&DhcpOption::ServerIdentifier([192, 0, 2, 2].into()))
    );
    // What the other server sends now is ignored.
    assert!(run.hear(ACK, GOOD).is_empty() && run.hear(NAK, &[(54, &[192, 0, 2, 1])]).is_empty());
    let mut alone = Run::new(None);
    alone.wait();
    alone.hear(OFFER, &plain);
    assert_eq!(kind(&sent(&alone.wait())), MessageType::Request);
}

#[test]
fn a_lease_is_renewed_then_asked_of_all_and_then_lost() {
    let mut run = Run::new(None);
    let lease = run.lease();
    let renewing = run.wait();
    assert!(matches!(&renewing[..], [Action::Send(server, _)] if *server == lease.server));
    assert_eq!((sent(&renewing).ciaddr(), run.now), (lease.address, s(140)));
    assert_eq!(run.machine.listen(), Listen::Datagrams(lease.address));
    let [Action::Use(_, left)] = run.hear(ACK, GOOD)[..] else {
        panic!()
    };
    assert_eq!(left, s(80));
    run.wait();
    let rebinding = run.wait();
    assert_eq!((run.now, run.machine.listen()), (s(210), Listen::Frames));
    assert!(matches!(&rebinding[..], [Action::Broadcast(from, _)] if *from == lease.address));
    let lost = run.wait();
    assert_eq!((run.now, &lost[0]), (s(220), &Action::Lose(lease.address)));
    assert_eq!(kind(&sent(&lost)), MessageType::Discover);
}

#[test]
fn an_earlier_lease_is_asked_for_and_used_without_a_server_while_it_lasts() {
    let lease = Run::new(None).lease();
    let mut run = Run::new(Some((lease.clone(), s(20))));
    let request = sent(&run.wait());
    assert_eq!(
        request.opts().get(OptionCode::RequestedIpAddress),
        Some(&DhcpOption::RequestedIpAddress(lease.address))
    );
    assert!(request.opts().get(OptionCode::ServerIdentifier).is_none() && request.ciaddr().is_unspecified());
    run.wait();
    let used = run.wait();
    // The two waits took 4 and 8 seconds.
    assert!(
        matches!(&used[..], [Action::Use(l, left)] if l.address == lease.address && *left == s(48)),
        "{used:?}"
    );
    assert!(
        matches!(run.wait()[..], [Action::Send(..)]),
        "it is renewed when half of it is over"
    );

    let mut refused = Run::new(Some((lease.clone(), s(20))));
    refused.wait();
    assert!(
        refused.hear(NAK, &[(54, &[192, 0, 2, 9])]).is_empty(),
        "it was not in use"
    );
    let before = refused.now;
    assert_eq!(kind(&sent(&refused.wait())), MessageType::Discover);
    assert_eq!(refused.now - before, REFUSED);

    let mut over = Run::new(Some((lease, s(80))));
    assert_eq!(kind(&sent(&over.wait())), MessageType::Discover);
}

#[test]
fn fresh_options_are_asked_for_without_losing_the_address() {
    let mut run = Run::new(None);
    run.lease();
    run.now += s(5);
    let now = run.now;
    run.machine.ask_again(now);
    assert_eq!(kind(&sent(&run.wait())), MessageType::Request);
    let other: Vec<(u8, &[u8])> = GOOD
        .iter()
        .map(|(code, o)| {
            if *code == 143 {
                (143, &b"\0\x0abootz://b:"[..])
            } else {
                (*code, *o)
            }
        })
        .collect();
    let [Action::Use(lease, _)] = &run.hear(ACK, &other)[..] else {
        panic!()
    };
    assert_eq!(lease.bootz, ["bootz://b:"]);
    // No server answers: the lease stays in use.
    let now = run.now;
    run.machine.ask_again(now);
    run.wait();
    run.wait();
    assert!(run.wait().is_empty());
    assert_eq!(run.machine.listen(), Listen::Nowhere);
}

proptest! {
    #[test]
    fn an_address_is_lost_before_it_is_used_again_and_nothing_panics(
        steps in prop::collection::vec((0u8..5, any::<bool>(), 0u64..200), 1..60)
    ) {
        let mut run = Run::new(None);
        let mut in_use = None;
        for (step, good, wait) in steps {
            run.now += s(wait);
            let options = if good { GOOD } else { &GOOD[..2] };
            let now = run.now;
            let actions = match step {
                0 => run.with(|m, now, random| m.timer(now, random)),
                1 => run.hear(OFFER, options),
                2 => run.hear(ACK, options),
                3 => run.hear(NAK, options),
                _ => { run.machine.ask_again(now); Vec::new() }
            };
            for action in actions {
                match action {
                    Action::Use(lease, left) => {
                        prop_assert!(left <= s(lease.seconds.into()));
                        in_use = Some(lease.address);
                    }
                    Action::Lose(address) => prop_assert_eq!(in_use.take(), Some(address)),
                    _ => {}
                }
            }
            if run.machine.listen() == Listen::Nowhere {
                prop_assert!(in_use.is_some());
            }
        }
    }
}
