//! Time lines of switches: the steps of each one from its first sign of life to service.
//!
//! **Model.** A line has one *round*: the steps since the switch was last lost. After a loss, the first step that is
//! not a trouble begins the next round. Within a round, equal steps with equal text become one step with a count, so
//! that a switch that is refused again and again has a short line. Of earlier rounds, only their number is kept; events
//! show what happened then.
//!
//! | state | until |
//! | --- | --- |
//! | coming | it is in sync, and a probe has crossed each of its links (in service) |
//! | in service | it refuses entities (coming), or its session ends (lost) |
//! | lost | a step that is not a trouble (coming, a new round) |
//!
//! A link that fails later does not take a switch out of service: links have events and a state of their own.
//!
//! **Bounds.** A round keeps [`STEPS`] steps: its first ones and its last ones. The controller notes steps only of switches of
//! its inventory.

use std::collections::BTreeMap;

use vfabric_api::ident::Name;
use vfabric_api::provisioning::{BootStep, Provisioning, TimelineStep};

/// Steps of a round that are kept.
const STEPS: usize = 64;
/// How many of these are the first ones.
const FIRST: usize = 32;
/// Longest words of a step, in characters.
const DETAIL: usize = 300;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stands {
    #[default]
    Coming,
    InService,
    Lost,
}

#[derive(Debug, Default)]
struct Line {
    stands: Stands,
    steps: Vec<TimelineStep>,
    left_out: u64,
    arrivals: u64,
    took_ms: Option<u64>,
    last_error: Option<String>,
    waits_for: Option<String>,
}

/// The time lines of all switches.
#[derive(Debug, Default)]
pub struct Timelines(BTreeMap<Name, Line>);

impl Line {
    fn begin(&mut self) {
        self.stands = Stands::Coming;
        self.steps.clear();
        (self.left_out, self.took_ms, self.last_error, self.waits_for) = (0, None, None, None);
    }

    fn note(&mut self, step: BootStep, at_ms: u64, detail: &str) {
        if self.stands == Stands::Lost && !step.is_trouble() {
            self.begin();
        }
        let detail: String = detail.chars().filter(|c| !c.is_control()).take(DETAIL).collect();
        if step.is_trouble() {
            self.last_error = Some(match detail.is_empty() {
                true => step.words().to_owned(),
                false => format!("{step}: {detail}"),
            });
        }
        self.push(step, at_ms, detail);
        match step {
            BootStep::InService if self.stands == Stands::Coming => {
                self.stands = Stands::InService;
                self.arrivals = self.arrivals.saturating_add(1);
                let began = self.steps.iter().find(|s| !s.trouble).map(|s| s.at_ms);
                self.took_ms = self.took_ms.or(began.map(|began| at_ms.saturating_sub(began)));
                self.waits_for = None;
            }
            BootStep::Degraded if self.stands == Stands::InService => self.stands = Stands::Coming,
            BootStep::Lost => self.stands = Stands::Lost,
            _ => {}
        }
    }

    fn push(&mut self, step: BootStep, at_ms: u64, detail: String) {
        let same = |s: &&mut TimelineStep| s.step == step && s.detail == detail;
        if let Some(known) = self.steps.iter_mut().find(same) {
            known.times = known.times.saturating_add(1);
            known.last_ms = known.last_ms.max(at_ms);
            return;
        }
        if self.steps.len() >= STEPS {
            self.steps.remove(FIRST);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.steps.push(TimelineStep {
            step,
            at_ms,
            last_ms: at_ms,
            times: 1,
            took_ms: self.steps.last().map(|before| at_ms.saturating_sub(before.at_ms)),
            trouble: step.is_trouble(),
            detail,
        });
    }

    /// The step that the switch has come to: the last one of its session with the controller, or before that the last one
    /// that the provisioning server saw. Reports of the provisioning server may come late. The configuration of ports
    /// and the renewal of certificates have no fixed order with the other steps.
    fn reached(&self) -> Option<BootStep> {
        let of_session = |step: BootStep| {
            matches!(
                step,
                BootStep::Arbitrated
                    | BootStep::PipelineLoaded
                    | BootStep::ReadBack
                    | BootStep::InSync
                    | BootStep::CablingChecked
                    | BootStep::InService
            )
        };
        let is_beside = |step: BootStep| {
            matches!(
                step,
                BootStep::Configured | BootStep::CertificateRenewed | BootStep::Rebooting
            )
        };
        let counts = |s: &&TimelineStep| !s.trouble && !is_beside(s.step);
        let done = || self.steps.iter().rev().filter(counts).map(|s| s.step);
        done().find(|step| of_session(*step)).or_else(|| done().next())
    }

    /// The next step, as text.
    fn next(&self) -> &'static str {
        match (self.stands, self.reached()) {
            (Stands::Lost, _) => "a session with the controller",
            (_, None) => "power, or its first request for an address",
            (_, Some(BootStep::Discovered | BootStep::Released)) => "an address",
            (_, Some(BootStep::Leased | BootStep::ImageFetched | BootStep::ScriptFetched)) => "proof of its identity",
            (_, Some(BootStep::Challenged)) => "its bootstrap data",
            (_, Some(BootStep::Enrolled | BootStep::Bootstrapping)) => "its report that it serves",
            (_, Some(BootStep::Bootstrapped)) => "a session with the controller",
            (_, Some(BootStep::Arbitrated)) => "its pipeline",
            (_, Some(BootStep::PipelineLoaded)) => "what it holds",
            (_, Some(BootStep::ReadBack)) => "what it should hold",
            (_, Some(_)) => "probes on its links",
        }
    }
}

impl Timelines {
    /// Adds a step at a time in milliseconds since 1970.
    pub fn note(&mut self, switch: &Name, step: BootStep, at_ms: u64, detail: &str) {
        match self.0.get_mut(switch) {
            Some(line) => line.note(step, at_ms, detail),
            None => self.0.entry(switch.clone()).or_default().note(step, at_ms, detail),
        }
    }

    /// Switches that are in sync but not in service yet, whose links must be checked.
    pub fn to_check(&self) -> impl Iterator<Item = &Name> {
        let is_due = |line: &Line| {
            let is_checked = matches!(
                line.reached(),
                Some(BootStep::InSync | BootStep::CablingChecked | BootStep::InService)
            );
            line.stands == Stands::Coming && is_checked
        };
        self.0
            .iter()
            .filter(move |(_, line)| is_due(line))
            .map(|(name, _)| name)
    }

    /// Sets what a switch waits for, in words.
    pub fn waits_for(&mut self, switch: &Name, what: String) {
        if let Some(line) = self.0.get_mut(switch) {
            line.waits_for = Some(what);
        }
    }

    /// Forgets switches that are not in the inventory any more.
    pub fn retain(&mut self, is_there: impl Fn(&Name) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }

    /// The time line of a switch of the inventory.
    pub fn get(&self, switch: &Name) -> Provisioning {
        let empty = Line::default();
        let line = self.0.get(switch).unwrap_or(&empty);
        let in_service = line.stands == Stands::InService;
        let waits_for = || line.waits_for.clone().unwrap_or_else(|| line.next().to_owned());
        Provisioning {
            switch: switch.clone(),
            in_service,
            waits_for: (!in_service).then(waits_for),
            took_ms: line.took_ms,
            last_error: line.last_error.clone(),
            arrivals: line.arrivals,
            steps: line.steps.clone(),
            left_out: line.left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> Name {
        "leaf1".parse().unwrap()
    }

    fn lines(steps: &[(BootStep, u64)]) -> Timelines {
        let mut lines = Timelines::default();
        for (step, at_ms) in steps {
            lines.note(&leaf(), *step, *at_ms, "");
        }
        lines
    }

    const UP: &[(BootStep, u64)] = &[
        (BootStep::Unreachable, 500),
        (BootStep::Discovered, 1000),
        (BootStep::Leased, 1010),
        (BootStep::Enrolled, 1200),
        (BootStep::Arbitrated, 1500),
        (BootStep::PipelineLoaded, 1600),
        (BootStep::InSync, 1700),
        (BootStep::CablingChecked, 2000),
        (BootStep::InService, 2000),
    ];

    #[test]
    fn a_round_is_measured_from_the_first_sign_of_life_to_service() {
        let mut lines = lines(&UP[..UP.len() - 2]);
        let line = lines.get(&leaf());
        assert_eq!(
            (line.in_service, line.waits_for.as_deref()),
            (false, Some("probes on its links"))
        );
        assert_eq!(lines.to_check().collect::<Vec<_>>(), [&leaf()]);
        lines.note(&leaf(), BootStep::InService, 2000, "");
        let line = lines.get(&leaf());
        assert_eq!(
            (line.in_service, line.took_ms, line.waits_for),
            (true, Some(1000), None)
        );
        assert_eq!(line.last_error.as_deref(), Some("unreachable"));
        let took: Vec<_> = line.steps.iter().filter_map(|s| s.took_ms).collect();
        assert_eq!(took, [500, 10, 190, 300, 100, 100, 300]);
        assert_eq!(lines.to_check().count(), 0);
    }

    #[test]
    fn a_late_report_of_the_provisioning_server_holds_nothing_up() {
        let mut lines = lines(&UP[..UP.len() - 2]);
        lines.note(&leaf(), BootStep::Bootstrapped, 1900, "");
        assert_eq!(lines.to_check().collect::<Vec<_>>(), [&leaf()]);
        let waits_for = lines.get(&leaf()).waits_for;
        assert_eq!(waits_for.as_deref(), Some("probes on its links"));
    }

    #[test]
    fn a_loss_ends_the_round_and_the_next_sign_of_life_begins_another() {
        let mut lines = lines(UP);
        lines.note(&leaf(), BootStep::Lost, 9000, "no answer");
        lines.note(&leaf(), BootStep::Unreachable, 9500, "refused");
        let line = lines.get(&leaf());
        assert!(!line.in_service && line.steps.len() == UP.len() + 2, "{line:?}");
        assert_eq!(line.last_error.as_deref(), Some("unreachable: refused"));
        lines.note(&leaf(), BootStep::Leased, 10_000, "");
        let line = lines.get(&leaf());
        assert_eq!((line.steps.len(), line.arrivals, line.last_error), (1, 1, None));
        assert_eq!(
            (line.took_ms, line.waits_for.as_deref()),
            (None, Some("proof of its identity"))
        );
        for step in [BootStep::InSync, BootStep::InService] {
            lines.note(&leaf(), step, 11_000, "");
        }
        let line = lines.get(&leaf());
        assert_eq!((line.took_ms, line.arrivals), (Some(1000), 2));
    }

    #[test]
    fn a_switch_that_refuses_something_is_not_in_service_until_it_does_no_more() {
        let mut lines = lines(UP);
        lines.note(&leaf(), BootStep::Degraded, 5000, "3 entities");
        assert!(!lines.get(&leaf()).in_service && lines.to_check().count() == 1);
        lines.note(&leaf(), BootStep::InService, 6000, "");
        let line = lines.get(&leaf());
        // The time that it took to arrive does not change.
        assert_eq!((line.in_service, line.took_ms, line.arrivals), (true, Some(1000), 2));
    }

    #[test]
    fn repeated_steps_are_counted_and_many_keep_the_first_and_the_last() {
        let mut lines = Timelines::default();
        for at in 0..1000 {
            lines.note(&leaf(), BootStep::Challenged, at, "");
            lines.note(&leaf(), BootStep::Refused, at, "unknown");
        }
        let line = lines.get(&leaf());
        assert_eq!(
            (line.steps.len(), line.steps[1].times, line.steps[1].last_ms),
            (2, 1000, 999)
        );
        for at in 0..1000 {
            lines.note(&leaf(), BootStep::Refused, at, &format!("\n{at}{}", "x".repeat(1000)));
        }
        let line = lines.get(&leaf());
        assert_eq!((line.steps.len(), line.left_out), (STEPS, 938));
        assert_eq!(line.steps[0].step, BootStep::Challenged);
        assert_eq!(line.steps[STEPS - 1].detail.chars().count(), DETAIL);
        assert!(line.steps[STEPS - 1].detail.starts_with("999x"));
        lines.retain(|_| false);
        assert_eq!(lines.get(&leaf()).steps, []);
    }
}
