//! One compilation of one program, and its results.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::manifest::Expect;

/// One compilation, and what its results are compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// Path below its folder without `.p4`, and the variant.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) include: Vec<PathBuf>,
    pub(super) define: Vec<String>,
    /// The expected verdict, used if there is none from p4c.
    pub(super) expect: Option<Expect>,
    /// The reason for a known difference.
    pub(super) known: Option<String>,
    /// A hash of the program's text.
    pub(super) digest: u64,
}

/// The tools and settings of the comparison, the same for all programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Peers {
    /// p4c-bm2-ss.
    pub(super) p4c: Option<PathBuf>,
    /// simple_switch_grpc.
    pub(super) switch: Option<PathBuf>,
    /// Frames that are sent through each program; with 0, no program is run.
    pub(super) frames: usize,
    /// Seed from which entries and frames are generated.
    pub(super) seed: u64,
}

/// The input of the process that handles one program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) peers: Peers,
}

/// A part of the work on a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// Our compiler.
    Compile,
    /// p4c.
    P4c,
    /// P4Info, ours and p4c's.
    P4info,
    /// Entries, ours and p4c's.
    Entries,
    /// Packets on our switches, at both levels of optimisation.
    OurSwitches,
    /// Packets through our output and through p4c's, both on p4-switch's engine.
    OutputOfP4c,
    /// Packets on simple_switch_grpc.
    Bmv2,
}

impl Step {
    /// All, in the order in which they are made.
    pub(super) const ALL: [Self; 7] = [
        Self::Compile,
        Self::P4c,
        Self::P4info,
        Self::Entries,
        Self::OurSwitches,
        Self::OutputOfP4c,
        Self::Bmv2,
    ];

    /// Words for reports.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Compile => "our compiler",
            Self::P4c => "p4c's verdict",
            Self::P4info => "P4Info",
            Self::Entries => "entries",
            Self::OurSwitches => "packets on our switches",
            Self::OutputOfP4c => "packets with p4c's output",
            Self::Bmv2 => "packets on simple_switch_grpc",
        }
    }
}

/// The verdict of a compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) accepted: bool,
    /// Its errors, if it refuses.
    pub(super) messages: Vec<String>,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Found {
    /// A compiler's verdict.
    Verdict(Verdict),
    /// Both sides are the same. The text says how much was compared, and may be empty.
    Same(String),
    /// What differs, line by line.
    Differs(Vec<String>),
    /// The comparison was not made. The text says why.
    NotCompared(String),
}

/// A line from a program's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A step begins.
    Begins(Step),
    /// A step ended.
    Ended(Step, Found),
}

/// Results of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) steps: BTreeMap<Step, Found>,
    pub(super) took_ms: u64,
}

/// A difference between two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) lines: Vec<String>,
}

impl Outcome {
    pub(super) fn get(&self, step: Step) -> Option<&Found> {
        self.steps.get(&step)
    }

    /// Our verdict or p4c's, where there is one.
    pub(super) fn verdict(&self, step: Step) -> Option<&Verdict> {
        match self.get(step) {
            Some(Found::Verdict(verdict)) => Some(verdict),
            _ => None,
        }
    }

    /// Whether the two verdicts, or our verdict and the expected one, agree; none if p4c gave none.
    pub(super) fn agrees_with_p4c(&self) -> Option<bool> {
        let (ours, theirs) = (self.verdict(Step::Compile)?, self.verdict(Step::P4c)?);
        Some(ours.accepted == theirs.accepted)
    }

    /// Everything that differs. A program that our compiler refuses differs from one that is meant to compile.
    pub(super) fn differences(&self, job: &Job) -> Vec<Difference> {
        let mut all = Vec::new();
        let mut add = |what: &str, lines: &[String]| {
            all.push(Difference {
                what: what.to_owned(),
                lines: lines.to_vec(),
            });
        };
        match (self.verdict(Step::Compile), self.verdict(Step::P4c), job.expect) {
            (Some(ours), Some(theirs), _) if ours.accepted && !theirs.accepted => {
                add("accepted here, refused by p4c", &theirs.messages);
            }
            (Some(ours), Some(theirs), _) if !ours.accepted && theirs.accepted => {
                add("refused here, accepted by p4c", &ours.messages);
            }
            (Some(ours), None, Some(Expect::Refused)) if ours.accepted => {
                add("accepted here, meant to be refused", &[]);
            }
            (Some(ours), None, Some(Expect::Compiles) | None) if !ours.accepted => {
                add("refused here", &ours.messages);
            }
            _ => {}
        }
        for (step, found) in &self.steps {
            if let Found::Differs(lines) = found {
                add(step.words(), lines);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_compared_with_p4c_s_or_with_what_is_expected() {
        let verdict = |accepted| {
            Found::Verdict(Verdict {
                accepted,
                messages: Vec::new(),
            })
        };
        let differs = |ours: bool, p4c: Option<bool>, expect: Option<Expect>| {
            let job = Job {
                name: String::new(),
                path: PathBuf::new(),
                include: Vec::new(),
                define: Vec::new(),
                expect,
                known: None,
                digest: 0,
            };
            let mut outcome = Outcome::default();
            outcome.steps.insert(Step::Compile, verdict(ours));
            outcome.steps.extend(p4c.map(|accepted| (Step::P4c, verdict(accepted))));
            !outcome.differences(&job).is_empty()
        };
        let (compiles, refused) = (Some(Expect::Compiles), Some(Expect::Refused));
        assert!(!differs(true, None, None) && differs(false, None, None));
        assert!(!differs(true, None, compiles) && differs(false, None, compiles));
        assert!(differs(true, None, refused) && !differs(false, None, refused));
        assert!(
            !differs(true, Some(true), refused) && differs(true, Some(false), refused),
            "p4c decides"
        );
        assert!(differs(false, Some(true), None) && !differs(false, Some(false), None));
    }
}
