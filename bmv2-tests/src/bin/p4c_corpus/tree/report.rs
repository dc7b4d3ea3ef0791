//! The results of a run: a table, figures, the differences, and what was not compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::find::Found as Tree;
use super::job::{Difference, Found, Job, Outcome, Step};

/// Lines of a difference that are shown; the JSON has all.
const SHOWN_LINES: usize = 8;
/// Names that a line lists.
const SHOWN_NAMES: usize = 5;

/// Programs that were found and not compiled.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Programs for other architectures, with these.
    elsewhere: Vec<(PathBuf, String)>,
    parts: usize,
    included: usize,
    /// Those that the manifest leaves out, each with its reason.
    pub(super) skipped: Vec<(String, String)>,
    /// Flags in Makefiles that depend on variables of make.
    pub(super) unread: std::collections::BTreeSet<String>,
    /// Rules of the manifest that no program fitted.
    pub(super) unused: Vec<String>,
}

impl LeftOut {
    /// Adds those of a folder.
    pub(super) fn add(&mut self, tree: &Tree, top: &Path) {
        let below = |path: &Path| path.strip_prefix(top).unwrap_or(path).to_owned();
        let elsewhere = tree.elsewhere.iter().map(|(path, of)| (below(path), of.clone()));
        self.elsewhere.extend(elsewhere);
        self.parts += tree.parts;
        self.included += tree.included;
    }

    /// One line.
    pub(super) fn short(&self) -> String {
        format!(
            "{} files have no main, {} programs do not include v1model.p4, the manifest leaves out {}",
            self.parts,
            self.elsewhere.len(),
            self.skipped.len()
        )
    }
}

/// All results.
pub(super) struct Report<'a> {
    pub(super) rows: Vec<(&'a Job, &'a Outcome)>,
    pub(super) left_out: LeftOut,
    /// Comparisons that no program had, each with the reason.
    pub(super) why_not: Vec<String>,
    /// Results of an earlier run.
    pub(super) old: usize,
    pub(super) elapsed: Duration,
}

impl Report<'_> {
    /// The differences of a program, and the reason if they are known.
    pub(super) fn differences(&self) -> impl Iterator<Item = (&Job, Vec<Difference>)> {
        let all = self.rows.iter().map(|(job, outcome)| (*job, outcome.differences(job)));
        all.filter(|(_, differences)| !differences.is_empty())
    }

    /// Whether nothing differs, apart from what the manifest knows.
    pub(super) fn is_good(&self) -> bool {
        self.differences().all(|(job, _)| job.known.is_some())
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = self.table();
        for (job, differences) in self.differences() {
            let known = job
                .known
                .as_ref()
                .map_or(String::new(), |why| format!(" (known: {why})"));
            for difference in differences {
                let _ = writeln!(out, "\n{}: {}{known}", job.name, difference.what);
                let lines = &difference.lines;
                for line in lines.iter().take(SHOWN_LINES) {
                    let _ = writeln!(out, "    {line}");
                }
                if lines.len() > SHOWN_LINES {
                    let _ = writeln!(out, "    ... and {} more lines", lines.len() - SHOWN_LINES);
                }
            }
        }
        let gone = self
            .rows
            .iter()
            .filter(|(job, outcome)| job.known.is_some() && outcome.differences(job).is_empty());
        for (job, _) in gone {
            let _ = writeln!(out, "\n{}: the known difference did not show", job.name);
        }
        out.push('\n');
        self.figures(&mut out);
        self.not_compared(&mut out);
        out
    }

    fn table(&self) -> String {
        let head = [
            "program",
            "here",
            "p4c",
            "P4Info",
            "entries",
            "our switches",
            "p4c's output",
            "bmv2",
            "s",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for (job, outcome) in &self.rows {
            let cell = |step| match outcome.get(step) {
                None | Some(Found::NotCompared(_)) => "-",
                Some(Found::Verdict(verdict)) if verdict.accepted => "compiles",
                Some(Found::Verdict(_)) => "refused",
                Some(Found::Same(_)) => "same",
                Some(Found::Differs(_)) if step == Step::Compile => "FAILS",
                Some(Found::Differs(_)) => "DIFFERS",
            };
            let mut row = vec![job.name.clone()];
            row.extend(Step::ALL.map(|step| cell(step).to_owned()));
            row.push(format!("{:.1}", outcome.took_ms as f64 / 1e3));
            rows.extend(<[String; 9]>::try_from(row));
        }
        let mut widths = [0; 9];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    fn figures(&self, out: &mut String) {
        let count = |is: &dyn Fn(&Outcome) -> bool| self.rows.iter().filter(|(_, o)| is(o)).count();
        let compiled = count(&|o| o.verdict(Step::Compile).is_some_and(|v| v.accepted));
        let old = match self.old {
            0 => String::new(),
            n => format!(", {n} of them from an earlier run"),
        };
        let seconds = self.elapsed.as_secs_f64();
        let _ = writeln!(
            out,
            "programs: {}, {compiled} compile here; {seconds:.1} s{old}",
            self.rows.len()
        );
        let verdicts = count(&|o| o.agrees_with_p4c().is_some());
        if verdicts > 0 {
            let agree = count(&|o| o.agrees_with_p4c() == Some(true));
            let _ = writeln!(out, "verdict as p4c's: {agree} of {verdicts}");
        }
        for step in [
            Step::P4info,
            Step::Entries,
            Step::OurSwitches,
            Step::OutputOfP4c,
            Step::Bmv2,
        ] {
            let same = count(&|o| matches!(o.get(step), Some(Found::Same(_))));
            let all = same + count(&|o| matches!(o.get(step), Some(Found::Differs(_))));
            if all > 0 {
                let _ = writeln!(out, "{}: {same} of {all} the same", step.words());
            }
        }
        let (known, new): (Vec<_>, Vec<_>) = self.differences().partition(|(job, _)| job.known.is_some());
        let _ = writeln!(
            out,
            "programs with differences: {}, and {} known",
            new.len(),
            known.len()
        );
    }

    fn not_compared(&self, out: &mut String) {
        let mut lines = self.why_not.clone();
        let mut reasons: BTreeMap<(Step, &str), Vec<&str>> = BTreeMap::new();
        for (job, outcome) in &self.rows {
            for (step, found) in &outcome.steps {
                if let Found::NotCompared(why) = found {
                    reasons.entry((*step, why.as_str())).or_default().push(&job.name);
                }
            }
        }
        for ((step, why), names) in &reasons {
            lines.push(format!("{}: {why}: {}", step.words(), list(names)));
        }
        let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, why) in &self.left_out.skipped {
            skipped.entry(why).or_default().push(name);
        }
        lines.extend(
            skipped
                .iter()
                .map(|(why, names)| format!("left out by the manifest: {why}: {}", list(names))),
        );
        let mut elsewhere: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, of) in &self.left_out.elsewhere {
            *elsewhere.entry(of).or_default() += 1;
        }
        for (of, programs) in elsewhere {
            let of = if of.is_empty() { "no architecture" } else { of };
            lines.push(format!(
                "programs that do not include v1model.p4: {programs} include {of}"
            ));
        }
        if self.left_out.included > 0 {
            lines.push(format!(
                "files with a main that another program includes: {}",
                self.left_out.included
            ));
        }
        if self.left_out.parts > 0 {
            lines.push(format!("files without a main: {}", self.left_out.parts));
        }
        if !self.left_out.unread.is_empty() {
            let unread: Vec<&str> = self.left_out.unread.iter().map(String::as_str).collect();
            lines.push(format!(
                "flags in Makefiles with variables, not used: {}",
                list(&unread)
            ));
        }
        let unused = self.left_out.unused.iter();
        lines.extend(unused.map(|path| format!("a rule of the manifest that fits no program: {path}")));
        match lines.is_empty() {
            true => out.push_str("everything was compared\n"),
            false => out.push_str("not compared:\n"),
        }
        for line in &lines {
            let _ = writeln!(out, "  {line}");
        }
    }

    /// Everything.
    pub(super) fn json(&self) -> String {
        let programs = self.rows.iter().map(|(job, outcome)| {
            let differences = outcome.differences(job);
            let differences = differences.iter().map(|d| json!({ "what": d.what, "lines": d.lines }));
            json!({
                "name": job.name,
                "path": job.path,
                "include": job.include,
                "define": job.define,
                "known": job.known,
                "steps": outcome.steps,
                "differences": differences.collect::<Vec<_>>(),
                "took_ms": outcome.took_ms,
            })
        });
        let left = &self.left_out;
        let skipped = left
            .skipped
            .iter()
            .map(|(name, why)| json!({ "name": name, "why": why }));
        let elsewhere = left
            .elsewhere
            .iter()
            .map(|(path, of)| json!({ "path": path, "includes": of }));
        let all = json!({
            "programs": programs.collect::<Vec<_>>(),
            "left_out": {
                "by_manifest": skipped.collect::<Vec<_>>(),
                "other_architectures": elsewhere.collect::<Vec<_>>(),
                "files_without_main": left.parts,
                "included_programs": left.included,
            },
            "not_compared": self.why_not,
            "good": self.is_good(),
            "elapsed_s": self.elapsed.as_secs_f64(),
        });
        format!("{all:#}\n")
    }
}

/// Some names, and how many more there are.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
