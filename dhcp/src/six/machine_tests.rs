use super::super::message::tests::{BOOTZ, octets};
use super::*;
use crate::message::tests::identity;

const A: &[u8] = b"server a";
const B: &[u8] = b"server b";
const OWN: &str = "2001:db8::11";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client with a random source that returns zero: waits are a tenth shorter.
struct Bench(Machine, Duration);

impl Bench {
    fn new(remembered: Option<(Lease, Duration)>) -> Self {
        Self(Machine::new(identity(), remembered, Duration::ZERO), Duration::ZERO)
    }

    /// Waits for the next timer. Returns the kinds of messages that were sent, and the other actions.
    fn wait(&mut self) -> (Vec<u8>, Vec<Action>) {
        self.1 = self.0.due().max(self.1);
        let actions = self.0.timer(self.1, &mut || 0);
        split(actions)
    }

    fn hear(
        &mut self,
        kind: u8,
        server: &[u8],
        address: Option<&str>,
        more: &[(u16, &[u8])],
    ) -> (Vec<u8>, Vec<Action>) {
        let message = octets(kind, self.0.xid, server, address, more);
        split(self.0.received(&message, self.1, &mut || 0))
    }

    /// A client that has just got an address.
    fn bound() -> Self {
        let mut bench = Self::new(None);
        bench.wait();
        bench.hear(2, A, Some(OWN), &[BOOTZ]);
        let (_, actions) = bench.hear(7, A, Some(OWN), &[BOOTZ]);
        assert!(matches!(actions.as_slice(), [Action::Use(..)]), "{actions:?}");
        bench
    }
}

fn split(actions: Vec<Action>) -> (Vec<u8>, Vec<Action>) {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(octets) => octets.first().copied(),
        _ => None,
    });
    let sent = sent.collect();
    (
        sent,
        actions.into_iter().filter(|a| !matches!(a, Action::Send(_))).collect(),
    )
}

#[test]
fn a_blank_switch_gets_an_address_and_its_bootz_server() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.0.due(), Duration::ZERO, "the first message is sent at once");
    assert_eq!(bench.wait().0, [1]);
    // An offer without a Bootz server is kept, and given up for an offer with one.
    assert_eq!(bench.hear(2, B, Some("2001:db8::99"), &[]), (vec![], vec![]));
    assert_eq!(bench.hear(2, A, Some(OWN), &[BOOTZ]).0, [3]);
    assert_eq!(
        bench.hear(7, B, Some(OWN), &[BOOTZ]),
        (vec![], vec![]),
        "another server's"
    );
    let (_, actions) = bench.hear(7, A, Some(OWN), &[BOOTZ]);
    let [Action::Use(lease, left)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((lease.address.to_string().as_str(), *left), (OWN, s(80)));
    assert_eq!(lease.bootz, ["bootz://h:15006"]);
    assert_eq!(bench.0.due(), s(40));
}

#[test]
fn another_offer_is_taken_when_nobody_names_a_bootz_server() {
    let mut bench = Bench::new(None);
    bench.wait();
    bench.hear(2, B, Some(OWN), &[]);
    assert_eq!(bench.wait().0, [3]);
    let (_, actions) = bench.hear(7, B, Some(OWN), &[]);
    assert!(matches!(actions.as_slice(), [Action::Use(..)]));
}

#[test]
fn waits_grow_and_a_server_that_falls_silent_is_left() {
    let mut bench = Bench::new(None);
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(bench.wait().0, [1]);
        waits.push(bench.0.due() - bench.1);
    }
    assert!(waits.is_sorted() && waits[0] == Duration::from_millis(900), "{waits:?}");
    assert!(*waits.last().unwrap() <= SOLICIT.1, "{waits:?}");
    bench.hear(2, A, Some(OWN), &[BOOTZ]);
    // One REQUEST has been sent.
    let sent: Vec<Vec<u8>> = (0..REQUESTS).map(|_| bench.wait().0).collect();
    let (last, others) = sent.split_last().unwrap();
    assert!(others.iter().all(|sent| sent == &[3]) && last == &[1], "{sent:?}");
}

#[test]
fn a_lease_is_renewed_then_asked_of_all_and_then_lost() {
    let mut bench = Bench::bound();
    assert_eq!((bench.wait().0, bench.1), (vec![5], s(40)));
    let (_, actions) = bench.hear(7, A, Some(OWN), &[BOOTZ]);
    assert!(matches!(actions.as_slice(), [Action::Use(_, left)] if *left == s(80)));
    // Nobody replies any more.
    assert_eq!((bench.wait().0, bench.1), (vec![5], s(80)));
    let mut kinds = Vec::new();
    let lost = loop {
        let (sent, actions) = bench.wait();
        kinds.extend(sent);
        if !actions.is_empty() {
            break actions;
        }
    };
    assert_eq!((lost, bench.1), (vec![Action::Lose(OWN.parse().unwrap())], s(120)));
    assert!(kinds.contains(&6) && kinds.last() == Some(&1), "{kinds:?}");
}

#[test]
fn an_earlier_lease_is_asked_for_and_used_without_a_server_while_it_lasts() {
    let lease = || match Bench::bound().0.held {
        Some(held) => held.lease,
        None => panic!(),
    };
    // A server confirms it.
    let mut bench = Bench::new(Some((lease(), s(10))));
    assert_eq!(bench.wait().0, [6]);
    let (_, actions) = bench.hear(7, B, Some(OWN), &[BOOTZ]);
    assert!(matches!(actions.as_slice(), [Action::Use(_, left)] if *left == s(80)));
    // Nobody is there.
    let mut bench = Bench::new(Some((lease(), s(10))));
    assert_eq!((bench.wait().0, bench.wait().0), (vec![6], vec![6]));
    let (_, actions) = bench.wait();
    assert!(
        matches!(actions.as_slice(), [Action::Use(_, left)] if *left > s(60) && *left < s(70)),
        "{actions:?}"
    );
    // A server refuses it: it was not used, so nothing is taken away.
    let mut bench = Bench::new(Some((lease(), s(10))));
    bench.wait();
    assert_eq!(bench.hear(7, A, None, &[(13, b"\0\x03")]).1, []);
    assert_eq!((bench.wait().0, bench.1), (vec![1], REFUSED));
    // A lease that has ended is not used.
    assert_eq!(Bench::new(Some((lease(), s(80)))).wait().0, [1]);
}

#[test]
fn fresh_options_are_asked_for_without_losing_the_address() {
    let mut bench = Bench::bound();
    bench.1 = s(5);
    bench.0.ask_again(s(5));
    assert_eq!(bench.wait().0, [6]);
    let (_, actions) = bench.hear(7, A, Some(OWN), &[(136, b"\x00\x0bbootz://i:1")]);
    assert!(matches!(actions.as_slice(), [Action::Use(lease, _)] if lease.bootz == ["bootz://i:1"]));
}
