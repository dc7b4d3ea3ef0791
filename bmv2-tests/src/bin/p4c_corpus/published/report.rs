//! The results of a run, for people and as JSON.

use std::time::Duration;

use bmv2_tests::p4info_diff::Difference;
use bmv2_tests::program::Core;
use serde_json::json;

use super::Outcome;
use super::corpus::Sample;

/// Lines of a failure's reason that the table shows; the JSON has all.
const SHOWN_LINES: usize = 6;

/// Scripts that cannot pass on any switch but bmv2, and why.
const NOT_OURS: [(&str, &str); 1] = [("extern-funcs-bmv2", "it loads a C++ module")];

pub(crate) struct Report<'a> {
    pub(crate) samples: Vec<(&'a Sample, &'a Outcome)>,
    /// Programs that p4c rejects; for each, whether our compiler accepts it.
    pub(crate) errors: Vec<(&'a Sample, bool)>,
    pub(crate) elapsed: Duration,
}

impl Report<'_> {
    /// Prints it; true if every script passes that can.
    pub(crate) fn print(&self, verbose: bool) -> bool {
        for (sample, outcome) in &self.samples {
            self.line(sample, outcome, verbose);
        }
        let wrongly: Vec<&str> = self
            .errors
            .iter()
            .filter(|(_, a)| *a)
            .map(|(s, _)| s.name.as_str())
            .collect();
        if !wrongly.is_empty() {
            println!("\naccepted here, rejected by p4c:");
            wrongly.iter().for_each(|name| println!("  {name}"));
        }
        println!();
        self.figures(wrongly.len());
        let scripts = || {
            self.samples
                .iter()
                .flat_map(|(s, o)| o.scripts.iter().map(move |(core, r)| (s, *core, r)))
        };
        let of = |core| {
            let results = || scripts().filter(move |(_, c, _)| *c == core);
            let passed = results().filter(|(.., r)| r.is_ok()).count();
            (passed, results().count() - passed)
        };
        let (passed, failed) = of(Core::Reference);
        println!("reference evaluator: {passed} of {} scripts passed", passed + failed);
        let (passed, failed) = of(Core::Interpreter);
        println!("interpreter: {passed} of {} scripts passed", passed + failed);
        // What p4-switch runs.
        let (passed, failed) = of(Core::Engine);
        let of_p4c = || self.samples.iter().filter(|(s, _)| s.by_p4c);
        let compiled = of_p4c().filter(|(_, o)| o.compiled.is_ok()).count();
        self.peer();
        self.control_plane("p4info", |o| o.p4info.as_deref());
        self.control_plane("entries", |o| o.entries.as_deref());
        println!(
            "stf: {passed} passed, {failed} failed; compiled: {compiled} of {}",
            of_p4c().count()
        );
        scripts().all(|(s, _, r)| r.is_ok() || NOT_OURS.iter().any(|(name, _)| *name == s.name))
    }

    fn line(&self, sample: &Sample, outcome: &Outcome, verbose: bool) {
        let note = NOT_OURS
            .iter()
            .find(|(n, _)| *n == sample.name)
            .map_or("", |(_, why)| why);
        match &outcome.compiled {
            Ok(()) if verbose && outcome.scripts.is_empty() => println!("compiled {}", sample.name),
            Ok(()) => {}
            Err(why) if sample.by_p4c || sample.script.is_some() => {
                println!("NOT COMPILED {} {note}", sample.name);
                reason(why);
            }
            Err(why) if verbose => {
                println!("not compiled {} (nor by p4c)", sample.name);
                reason(why);
            }
            Err(_) => {}
        }
        for (core, result) in &outcome.scripts {
            match result {
                Ok(()) if verbose => println!("passed {} ({})", sample.name, core.name()),
                Ok(()) => {}
                Err(_) if outcome.compiled.is_err() => {}
                Err(why) => {
                    println!("FAILED {} ({}) {note}", sample.name, core.name());
                    reason(why);
                }
            }
        }
    }

    /// The results of the same programs and scripts on the peer, if there is one.
    fn peer(&self) {
        let all = || self.samples.iter().filter_map(|(s, o)| Some((s, o.peer.as_ref()?)));
        for (sample, why) in all().filter_map(|(s, r)| Some((s, r.as_ref().err()?))) {
            println!("failed on the peer {}", sample.name);
            reason(why);
        }
        let passed = all().filter(|(_, r)| r.is_ok()).count();
        match all().count() {
            0 => println!("peer: none (simple_switch_grpc is not installed; --peer names another)"),
            all => println!("peer: {passed} of {all} scripts passed"),
        }
    }

    /// Prints the fields that differ from files that p4c publishes, then how many files are equal to ours.
    fn control_plane(&self, what: &str, of: impl Fn(&Outcome) -> Option<&[Difference]>) {
        let all = || self.samples.iter().filter_map(|(s, o)| Some((&s.name, of(o)?)));
        for (name, differences) in all().filter(|(_, d)| !d.is_empty()) {
            println!("{what} differs {name}");
            reason(&differences.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        let equal = all().filter(|(_, d)| d.is_empty()).count();
        println!("{what}: {equal} of {} equal", all().count());
    }

    fn figures(&self, wrongly: usize) {
        let rejected = self.errors.len() - wrongly;
        let share = 100.0 * rejected as f64 / self.errors.len().max(1) as f64;
        println!(
            "rejected by p4c for its language, and here: {rejected} of {} ({share:.1}%)",
            self.errors.len()
        );
        let all = self.samples.len();
        let also = self
            .samples
            .iter()
            .filter(|(s, o)| !s.by_p4c && o.compiled.is_ok())
            .count();
        let others = self.samples.iter().filter(|(s, _)| !s.by_p4c).count();
        println!(
            "v1model programs: {all}; of the {others} that p4c's outputs do not show compiled, {also} compile here"
        );
        let time: Duration = self.samples.iter().map(|(_, o)| o.compile_time).sum();
        println!(
            "compiler: {:.0} programs/s a core ({:.1} ms each); whole run {:.1} s; peak memory {}",
            all as f64 / time.as_secs_f64().max(1e-9),
            time.as_secs_f64() * 1e3 / all.max(1) as f64,
            self.elapsed.as_secs_f64(),
            peak_memory().map_or_else(|| "not known".into(), |kib| format!("{:.0} MiB", kib as f64 / 1024.0)),
        );
    }

    /// The whole table.
    pub(crate) fn json(&self) -> String {
        let samples = self.samples.iter().map(|(sample, outcome)| {
            let scripts = outcome.scripts.iter().map(|(core, result)| {
                json!({ "switch": core.name(), "passed": result.is_ok(), "reasons": result.as_ref().err() })
            });
            json!({
                "name": sample.name,
                "compiled_by_p4c": sample.by_p4c,
                "compiled": outcome.compiled.is_ok(),
                "errors": outcome.compiled.as_ref().err(),
                "p4info_differs": outcome.p4info.as_ref().map(|d| d.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "entries_differ": outcome.entries.as_ref().map(|d| d.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "compile_ms": outcome.compile_time.as_secs_f64() * 1e3,
                "scripts": scripts.collect::<Vec<_>>(),
                "peer": outcome.peer.as_ref().map(|r| json!({ "passed": r.is_ok(), "reasons": r.as_ref().err() })),
            })
        });
        let errors = self
            .errors
            .iter()
            .map(|(s, accepted)| json!({ "name": s.name, "rejected": !accepted }));
        let all = json!({
            "samples": samples.collect::<Vec<_>>(),
            "errors": errors.collect::<Vec<_>>(),
            "elapsed_s": self.elapsed.as_secs_f64(),
            "peak_memory_kib": peak_memory(),
        });
        format!("{all:#}\n")
    }
}

fn reason(lines: &[String]) {
    let lines: Vec<&str> = lines.iter().flat_map(|l| l.lines()).collect();
    lines.iter().take(SHOWN_LINES).for_each(|line| println!("    {line}"));
    if lines.len() > SHOWN_LINES {
        println!("    ... and {} more", lines.len() - SHOWN_LINES);
    }
}

/// The peak resident memory of this process so far, in KiB (`proc(5)`, `VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
