//! Links over simulated cables: which faults are noticed, when, and when they end.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Two leaves (0, 1), two spines (2, 3); ports as in a lab: port 1 of a leaf leads to spine 2.
const LINKS: [[(u32, u16); 2]; 4] = [[(0, 1), (2, 1)], [(0, 2), (3, 1)], [(1, 1), (2, 2)], [(1, 2), (3, 2)]];

fn end((switch, port): (u32, u16)) -> End {
    (SwitchIndex(switch), port.try_into().unwrap())
}

/// Cables between ports, and a clock.
struct Sim {
    links: Links,
    /// Where a frame that leaves from a port arrives.
    cables: HashMap<End, End>,
    now: Instant,
    begin: Instant,
    /// Changes with the time since the beginning, in milliseconds.
    changes: Vec<(u128, LinkChange)>,
}

impl Sim {
    fn new(memory: Memory) -> Self {
        let mut links = Links::default();
        for (index, ends) in (0..).zip(LINKS) {
            links.add(LinkIndex(index), ends.map(end), memory);
        }
        let now = Instant::now();
        let mut sim = Self {
            links,
            cables: HashMap::new(),
            now,
            begin: now,
            changes: Vec::new(),
        };
        for [a, b] in LINKS {
            sim.plug(a, b);
        }
        sim
    }

    fn started() -> Self {
        let mut sim = Self::new(Memory::default());
        (0..4).for_each(|s| sim.ready(s, true));
        sim.run(2000);
        assert_eq!(sim.changes, []);
        sim
    }

    fn plug(&mut self, a: (u32, u16), b: (u32, u16)) {
        self.cables.insert(end(a), end(b));
        self.cables.insert(end(b), end(a));
    }

    fn unplug(&mut self, a: (u32, u16)) {
        if let Some(b) = self.cables.remove(&end(a)) {
            self.cables.remove(&b);
        }
    }

    fn ready(&mut self, switch: u32, ready: bool) {
        let session = Session {
            open: true,
            ready,
            filling: false,
        };
        self.links.set_session(SwitchIndex(switch), session, self.now);
    }

    fn away(&mut self, switch: u32) {
        self.links
            .set_session(SwitchIndex(switch), Session::default(), self.now);
    }

    fn note(&mut self, changes: impl IntoIterator<Item = LinkChange>) {
        let at = self.now.duration_since(self.begin).as_millis();
        self.changes.extend(changes.into_iter().map(|c| (at, c)));
    }

    fn report(&mut self, port: (u32, u16), up: bool) {
        let change = self.links.reported(end(port), up);
        self.note(change);
    }

    /// Lets time pass. Switches that are not ready neither send nor hand over anything.
    fn run(&mut self, millis: u64) {
        let tick = self.links.pace().tick();
        for _ in 0..u128::from(millis) / tick.as_millis() {
            self.now += tick;
            let changes = self.links.tick(self.now);
            self.note(changes);
            for (from, sequence) in self.links.probes() {
                let Some(at) = self.cables.get(&from).copied() else {
                    continue;
                };
                let ready = |end: End| self.links.switches.get(&end.0).is_some_and(|s| s.ready.is_some());
                if ready(from) && ready(at) {
                    let changes = self.links.heard(at, from, sequence, self.now);
                    self.note(changes);
                }
            }
        }
    }

    fn down(&self) -> Vec<u32> {
        self.links.down().map(|l| l.0).collect()
    }
}

#[test]
fn a_link_that_falls_silent_is_down_within_hold() {
    let mut sim = Sim::started();
    sim.unplug((0, 1));
    let cut = sim.now.duration_since(sim.begin).as_millis();
    sim.run(10_000);
    let [(at, change)] = sim.changes[..] else {
        panic!("{:?}", sim.changes)
    };
    assert_eq!(
        change,
        LinkChange {
            link: LinkIndex(0),
            used: Use::Down
        }
    );
    // The last probe came up to one interval before the cut.
    assert!((1750..=2600).contains(&(at - cut)), "after {} ms", at - cut);
    assert!(matches!(sim.links.fault(LinkIndex(0)), Some(Fault::Silent(_))));
    sim.plug((0, 1), (2, 1));
    let mended = sim.now.duration_since(sim.begin).as_millis();
    sim.run(3000);
    let (at, change) = sim.changes[1];
    assert!(
        change.used == Use::Up && at - mended <= 1100,
        "{change:?} after {} ms",
        at - mended
    );
    assert_eq!(sim.links.fault(LinkIndex(0)), None);
}

#[test]
fn one_direction_is_enough_to_be_down() {
    let mut sim = Sim::started();
    sim.cables.remove(&end((0, 1)));
    sim.run(5000);
    assert_eq!(sim.down(), [0]);
    assert_eq!(sim.links.fault(LinkIndex(0)), Some(Fault::Silent(end((2, 1)))));
}

#[test]
fn nothing_is_down_while_a_switch_is_syncing() {
    let mut sim = Sim::started();
    sim.ready(2, false);
    sim.run(60_000);
    assert_eq!(sim.changes, []);
    // Back, but its first probes are late.
    sim.ready(2, true);
    sim.unplug((0, 1));
    sim.run(2400);
    assert_eq!(sim.changes, []);
    sim.run(1000);
    assert_eq!(sim.down(), [0], "the silence counts from when both were ready");
}

#[test]
fn links_of_a_switch_without_a_session_are_avoided_until_it_has_one() {
    let mut sim = Sim::started();
    sim.away(2);
    sim.run(2400);
    assert_eq!(sim.changes, []);
    sim.run(300);
    let avoided = |link| LinkChange {
        link: LinkIndex(link),
        used: Use::Avoided,
    };
    let changes: Vec<LinkChange> = sim.changes.drain(..).map(|(_, c)| c).collect();
    assert_eq!(changes, [avoided(0), avoided(2)], "the links of spine 2");
    assert_eq!(sim.links.fault(LinkIndex(0)), Some(Fault::Unanswered(end((2, 1)))));
    assert_eq!(sim.down(), [0u32; 0], "and nothing is remembered as down");
    // It was read back again but is not in sync yet. It forwards, so its links are used.
    sim.ready(2, false);
    sim.run(100);
    assert!(sim.changes.iter().all(|(_, c)| c.used == Use::Up) && sim.changes.len() == 2);
}

#[test]
fn a_controller_without_any_session_says_nothing() {
    let mut sim = Sim::started();
    (0..4).for_each(|s| sim.away(s));
    sim.run(60_000);
    assert_eq!(sim.changes, []);
}

#[test]
fn a_controller_that_was_stopped_blames_nobody() {
    let mut sim = Sim::started();
    sim.now += Duration::from_secs(60);
    sim.run(5000);
    assert_eq!(sim.changes, []);
}

#[test]
fn switches_that_cannot_punt_are_not_silent() {
    let mut sim = Sim::new(Memory::default());
    sim.cables.clear();
    (0..4).for_each(|s| sim.ready(s, true));
    sim.run(60_000);
    assert_eq!(sim.changes, []);
}

#[test]
fn exchanged_cables_are_named_at_both_ends_and_forgiven() {
    let mut sim = Sim::started();
    sim.unplug((0, 1));
    sim.unplug((1, 1));
    sim.plug((0, 1), (2, 2));
    sim.plug((1, 1), (2, 1));
    sim.run(1100);
    assert_eq!(sim.down(), [0, 2], "known by the first probe");
    let fault = |at, found, expected| {
        Some(Fault::Miswired {
            at: end(at),
            found: end(found),
            expected: end(expected),
        })
    };
    assert_eq!(sim.links.fault(LinkIndex(0)), fault((0, 1), (2, 2), (2, 1)));
    assert_eq!(sim.links.fault(LinkIndex(2)), fault((1, 1), (2, 1), (2, 2)));
    sim.unplug((0, 1));
    sim.unplug((1, 1));
    sim.run(4000);
    assert!(
        matches!(sim.links.fault(LinkIndex(0)), Some(Fault::Silent(_))),
        "no cable at all"
    );
    sim.plug((0, 1), (2, 1));
    sim.plug((1, 1), (2, 2));
    sim.run(1100);
    assert_eq!(sim.down(), [0u32; 0]);
}

#[test]
fn a_loop_at_a_port_is_wrong_cabling() {
    let mut sim = Sim::started();
    sim.unplug((0, 1));
    sim.cables.insert(end((0, 1)), end((0, 1)));
    sim.run(1100);
    let fault = sim.links.fault(LinkIndex(0));
    assert!(
        matches!(fault, Some(Fault::Miswired { at, found, .. }) if at == found),
        "{fault:?}"
    );
}

#[test]
fn a_cable_to_a_port_that_should_have_none() {
    let mut sim = Sim::started();
    sim.unplug((0, 1));
    sim.cables.insert(end((0, 1)), end((3, 9)));
    sim.run(1100);
    let miswired = Fault::Miswired {
        at: end((0, 1)),
        found: end((3, 9)),
        expected: end((2, 1)),
    };
    assert_eq!(sim.links.fault(LinkIndex(0)), Some(miswired));
    assert_eq!(sim.down(), [0]);
}

#[test]
fn reports_act_at_once_and_an_old_frame_does_not_count() {
    let mut sim = Sim::started();
    sim.report((0, 1), false);
    assert_eq!(sim.down(), [0]);
    assert_eq!(sim.links.fault(LinkIndex(0)), Some(Fault::PortDown(end((0, 1)))));
    sim.report((0, 1), true);
    assert_eq!(sim.down(), [0u32; 0]);
    // A recorded frame does not keep a dead link alive.
    let recorded = sim.links.links[&LinkIndex(0)].state[0].sequence;
    sim.unplug((0, 1));
    for _ in 0..50 {
        sim.run(100);
        sim.links.heard(end((2, 1)), end((0, 1)), recorded, sim.now);
    }
    assert_eq!(sim.down(), [0]);
}

#[test]
fn what_was_down_stays_down_until_it_is_known_to_be_well() {
    // In a fabric with probes: until a probe arrives.
    let probed = Memory {
        down: true,
        probed: [true; 2],
    };
    let mut sim = Sim::new(probed);
    assert_eq!(sim.down(), [0, 1, 2, 3]);
    sim.unplug((0, 1));
    sim.run(20_000);
    (0..4).for_each(|s| sim.ready(s, true));
    sim.run(20_000);
    assert_eq!(sim.down(), [0]);
    // In a fabric without probes: until its ports are reported up, or until the time is over without a report.
    let mut sim = Sim::new(Memory {
        down: true,
        probed: [false; 2],
    });
    sim.cables.clear();
    (0..4).for_each(|s| sim.ready(s, true));
    sim.run(1000);
    sim.report((0, 1), true);
    assert_eq!(sim.down(), [0, 1, 2, 3], "one end may be up alone");
    sim.report((2, 1), true);
    assert_eq!(sim.down(), [1, 2, 3]);
    sim.run(5000);
    assert_eq!(sim.down(), [0u32; 0]);
}

#[test]
fn what_is_known_is_stored_once() {
    let mut sim = Sim::started();
    let probed = Memory {
        down: false,
        probed: [true; 2],
    };
    let stored: Vec<_> = (0..4).map(|i| (LinkIndex(i), probed)).collect();
    assert_eq!(sim.links.take_unsaved(), stored);
    sim.run(10_000);
    assert_eq!(sim.links.take_unsaved(), []);
    sim.links.keep_unsaved([LinkIndex(2)]);
    assert_eq!(sim.links.take_unsaved(), [(LinkIndex(2), probed)]);
    sim.report((1, 1), false);
    let down = Memory { down: true, ..probed };
    assert_eq!(sim.links.take_unsaved(), [(LinkIndex(2), down)]);
}

#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Ready(u32, bool),
    Away(u32),
    Cut(usize),
    Mend(usize),
    Swap(usize, usize),
    Report(usize, bool),
    Stall(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..60u64).prop_map(|n| Step::Run(n * 100)),
        2 => (0..4u32, any::<bool>()).prop_map(|(s, ready)| Step::Ready(s, ready)),
        1 => (0..4u32).prop_map(Step::Away),
        2 => (0..4usize).prop_map(Step::Cut),
        2 => (0..4usize).prop_map(Step::Mend),
        1 => (0..4usize, 0..4usize).prop_map(|(a, b)| Step::Swap(a, b)),
        1 => (0..4usize, any::<bool>()).prop_map(|(l, up)| Step::Report(l, up)),
        1 => (1..20_000u64).prop_map(Step::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// After any history, the reported changes equal the real ones. Once everything is repaired and ready, all links
    /// are up, and a link that is then cut is the only one that goes down.
    #[test]
    fn every_history_ends_well(steps in proptest::collection::vec(step(), 0..40), cut in 0..4usize) {
        let mut sim = Sim::new(Memory::default());
        let mut used = [Use::Up; 4];
        for step in steps {
            match step {
                Step::Run(millis) => sim.run(millis),
                Step::Ready(s, ready) => sim.ready(s, ready),
                Step::Away(s) => sim.away(s),
                Step::Cut(l) => sim.unplug(LINKS[l][0]),
                Step::Mend(l) => {
                    LINKS[l].into_iter().for_each(|e| sim.unplug(e));
                    sim.plug(LINKS[l][0], LINKS[l][1]);
                }
                Step::Swap(a, b) => {
                    [LINKS[a][0], LINKS[b][1]].into_iter().for_each(|e| sim.unplug(e));
                    sim.plug(LINKS[a][0], LINKS[b][1]);
                }
                Step::Report(l, up) => sim.report(LINKS[l][0], up),
                Step::Stall(millis) => sim.now += Duration::from_millis(millis),
            }
            for (_, change) in sim.changes.drain(..) {
                let known = &mut used[change.link.0 as usize];
                prop_assert_ne!(*known, change.used, "reported twice");
                *known = change.used;
            }
            for (link, used) in (0..4).map(LinkIndex).zip(used) {
                prop_assert_eq!(sim.links.fault(link).map_or(Use::Up, Fault::used), used);
            }
        }
        LINKS.iter().flatten().for_each(|e| sim.unplug(*e));
        LINKS.iter().for_each(|[a, b]| sim.plug(*a, *b));
        (0..4).for_each(|s| sim.ready(s, true));
        LINKS.iter().for_each(|[a, _]| sim.report(*a, true));
        sim.run(8000);
        prop_assert_eq!(sim.down(), [0u32; 0]);
        sim.unplug(LINKS[cut][0]);
        sim.run(5000);
        prop_assert_eq!(sim.down(), [u32::try_from(cut).unwrap()]);
    }
}

#[test]
fn a_spine_that_is_filled_is_avoided_until_it_is() {
    let mut sim = Sim::started();
    let spine = LINKS[0][1].0;
    let its_own = LINKS
        .iter()
        .filter(|ends| ends.iter().any(|(s, _)| *s == spine))
        .count();
    let avoided = sim.links.fill(SwitchIndex(spine));
    assert_eq!(avoided.len(), its_own);
    assert!(avoided.iter().all(|change| change.used == Use::Avoided));
    assert_eq!(sim.links.fault(LinkIndex(0)), Some(Fault::Filling(end(LINKS[0][1]))));
    assert!(sim.links.fill(SwitchIndex(spine)).is_empty());
    assert_eq!(sim.down(), [] as [u32; 0], "a start would take it for broken");
    // The next tick learns that it holds everything.
    sim.ready(spine, true);
    let used = sim.links.tick(sim.now);
    assert_eq!(used.len(), its_own);
    assert!(used.iter().all(|change| change.used == Use::Up));
}
