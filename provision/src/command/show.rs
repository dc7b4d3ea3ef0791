//! The status for people.

use std::fmt::Write as _;

use crate::board::{Status, Step, Timeline};

fn step(step: &Step) -> String {
    let times = if step.times > 1 {
        format!(" ({} times, last {})", step.times, step.last)
    } else {
        String::new()
    };
    format!("{} {}: {}{times}", step.at, step.what, step.detail)
}

/// The time line of one switch.
pub(super) fn timeline(line: &Timeline) -> String {
    let mut text = String::new();
    if line.dropped > 0 {
        let _ = writeln!(text, "({} earlier steps)", line.dropped);
    }
    for one in &line.steps {
        let _ = writeln!(text, "{}", step(one));
    }
    text
}

/// Everything, the last step of each switch.
pub(super) fn all(status: &Status) -> String {
    let mut text = format!("inventory: {}\n", status.inventory);
    let _ = match &status.enrolment_until {
        Some(until) => writeln!(text, "enrolment: open until {until} for {} more", status.enrolment_left),
        None => writeln!(text, "enrolment: closed"),
    };
    let mut part = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
    };
    let last = |(name, line): (_, &Timeline)| {
        let last = line.steps.back().map(step);
        format!("{name:<12} {}", last.unwrap_or_else(|| "not heard of yet".to_owned()))
    };
    part(
        "switches, each with its last step",
        status.switches.iter().map(last).collect(),
    );
    let lease = |l: &crate::board::Given| format!("{:<15} {} ({}) until {}", l.address, l.holder, l.mac, l.expires);
    part("leases", status.leases.iter().map(lease).collect());
    let stranger = |s: &crate::board::Stranger| {
        let details: Vec<String> = s
            .details
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let enrolled = if s.enrolled { ", enrolled" } else { "" };
        format!(
            "{} in {}{enrolled}, {} times, last {}: {}\n    {}",
            s.mac,
            s.subnet,
            s.times,
            s.last,
            s.reason,
            details.join(", ")
        )
    };
    part(
        "machines that are not ours",
        status.strangers.iter().map(stranger).collect(),
    );
    let trouble = |t: &crate::board::Trouble| format!("{} ({} times): {}", t.last, t.times, t.detail);
    part("troubles", status.troubles.iter().map(trouble).collect());
    text
}
