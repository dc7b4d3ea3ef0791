//! Attacks on the running lab: what workloads, bare metal, compromised hosts, an attacker on a
//! fabric link and an attacker on the management network could try.
//!
//! **Model.** An attack is a [`volley`] of frames, each with a unique token ([`watch`]) and a fate: the counter that
//! must rise, or the network that the frame must not leave. All namespaces of the lab are watched, so an attack can run
//! from every place of its kind at the same time. Legitimate traffic of all kinds runs beside it.
//!
//! **Verdict.** An attack was not withstood if a frame is received where its fate does not permit it, if
//! the counters ([`crate::counters`]) do not match the frames sent, if a packet of the legitimate
//! traffic is lost, if a daemon ends, a device falls out of sync, or a link is taken out of use.
//! There is no tolerance, because it would hide a fault.
//!
//! | file | attacks |
//! | --- | --- |
//! | [`speech`] | lies about one's own addresses; workloads and machines alike |
//! | [`edge`] | tags, groups of a link, broken headers, storms |
//! | [`vlans`] | tags on access ports with VLANs |
//! | [`host`] | a compromised host writes to its uplink |
//! | [`link`] | an attacker on a link between switches |
//! | [`management`] | keys of others, and no key |
//! | [`theft`] | tokens and certificates of users |
//! | [`asks`] | sockets of one vDC ask for addresses of another |
//! | [`churn`] | objects are added and removed meanwhile |
//! | [`random`] | mutated frames from every place |

mod asks;
mod cast;
mod churn;
mod edge;
pub(crate) mod frame;
mod host;
mod link;
mod list;
mod management;
mod random;
mod range;
mod report;
mod speech;
mod taps;
mod theft;
mod vlans;
mod volley;
pub(crate) mod watch;

use std::process::ExitCode;
use std::time::Duration;

use crate::say;
use anyhow::{Result, bail};
use tokio::runtime::Runtime;

use crate::checks::Scene;
use crate::{Lab, Steps};

use list::ATTACKS;
use range::Range;
pub use report::{Format, Report, Row};
pub(crate) use theft::USER;

/// Time of random frames among the lab's checks.
const RANDOM_IN_CHECKS: Duration = Duration::from_secs(5);

/// Flags of the attacks.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only attacks whose name contains one of these
    names: Vec<String>,
    /// List the attacks
    #[arg(long)]
    list: bool,
    /// Add and remove attachments, networks and vDCs meanwhile
    #[arg(long)]
    churn: bool,
    /// Mutated frames of every protocol from every place
    #[arg(long)]
    random: bool,
    /// For how long, with --random
    #[arg(long, default_value_t = 30, requires = "random")]
    seconds: u64,
    /// Seed of the random frames [default: a random one, which is printed]
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// The places that attacks come from: the prefix of their names, and their common row among the lab's checks.
const PLACES: [(&str, &str); 6] = [
    ("sockets", "nothing between blue and red"),
    ("workload:", "attacks from workloads"),
    ("metal:", "attacks from bare metal"),
    ("host:", "attacks from compromised hosts"),
    ("link:", "attacks on fabric links"),
    ("management:", "keys of hosts and switches open nothing else"),
];
/// The row of attacks that run again while objects are added and removed: one from each place.
const UNDER_CHURN: &str = "attacks while objects come and go";
const AGAIN: [&str; 4] = ["workload: another", "metal: another", "host: a VNI", "link: tunnels"];
/// The row of random frames.
const RANDOM: &str = "random frames from every place";

/// Attacks the lab and prints the results.
///
/// # Errors
/// The lab cannot be attacked. An attack that was not withstood is a row, not an error.
pub fn run(lab: &Lab, args: &Args, runtime: &Runtime) -> Result<ExitCode> {
    if args.list {
        ATTACKS.iter().for_each(|(name, _)| say!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    let steps = match args.output {
        Format::Table => Steps::default(),
        Format::Json => Steps::quiet(),
    };
    let scene = Scene::open(lab, runtime)?;
    let report = if args.random {
        let seed = args.seed.unwrap_or_else(rand::random);
        let mut range = Range::open(&scene, args.churn)?;
        eprintln!("seed {seed}");
        let time = Duration::from_secs(args.seconds);
        let mut rows = vec![shown(&steps, RANDOM, || range.random(seed, time))];
        rows.extend(range.close()?);
        Report { rows, seed: Some(seed) }
    } else {
        let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|n| name.contains(n.as_str()));
        attack(&scene, wanted, args.churn, &steps)?
    };
    match args.output {
        Format::Table => say!("{report}"),
        Format::Json => say!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.all_withstood() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The attacks that are among the lab's checks, with a row for each place that they come from. Some of them run again
/// while objects are added and removed. Then there are some seconds of random frames.
///
/// # Errors
/// The lab cannot be attacked.
pub fn among_checks(scene: &Scene<'_>, wanted: impl Fn(&str) -> bool, steps: &Steps) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |name: &str, attacks: &dyn Fn() -> Result<Vec<Row>>| {
        if wanted(name) {
            let mut row = shown(steps, name, || Ok(together(attacks()?)));
            row.name = name.to_owned();
            rows.push(row);
        }
    };
    let quiet = Steps::quiet();
    for (begin, name) in PLACES {
        add(name, &|| {
            Ok(attack(scene, |n| n.starts_with(begin), false, &quiet)?.rows)
        });
    }
    add(UNDER_CHURN, &|| {
        let again = |name: &str| AGAIN.iter().any(|a| name.starts_with(a));
        Ok(attack(scene, again, true, &quiet)?.rows)
    });
    add(RANDOM, &|| {
        let seed = rand::random();
        Ok(vec![Range::open(scene, false)?.random(seed, RANDOM_IN_CHECKS)?])
    });
    Ok(rows)
}

/// Several attacks in one row.
fn together(rows: Vec<Row>) -> Row {
    if rows.is_empty() {
        return Row {
            faults: vec!["nothing was tried".into()],
            ..Row::default()
        };
    }
    let count = rows.len();
    let mut all = Row::default();
    let mut words = Vec::new();
    for row in rows {
        all.sent += row.sent;
        all.legitimate_sent += row.legitimate_sent;
        all.legitimate_lost += row.legitimate_lost;
        if row.sent == 0 || count == 1 {
            words.push(row.ended);
        }
        all.faults
            .extend(row.faults.iter().map(|f| format!("{}: {f}", row.name)));
    }
    if count > 1 && all.sent > 0 {
        words.insert(
            0,
            format!("{count} attacks: refused and counted, or kept in the sender's own network"),
        );
    }
    words.retain(|w| !w.is_empty());
    all.ended = words.join("; ");
    all
}

fn attack(scene: &Scene<'_>, wanted: impl Fn(&str) -> bool, churn: bool, steps: &Steps) -> Result<Report> {
    let chosen: Vec<_> = ATTACKS.iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        bail!("no attack has such a name (`--list` shows them)");
    }
    let mut report = Report::default();
    let mut range = Range::open(scene, churn)?;
    for (name, way) in chosen {
        let mut row = shown(steps, name, || range.carry_out(name, way));
        row.name = (*name).to_owned();
        report.rows.push(row);
    }
    if let Some(fault) = range.close()? {
        report.rows.push(fault);
    }
    Ok(report)
}

/// A row, shown as a step. An attack that cannot be carried out counts as not withstood.
fn shown(steps: &Steps, name: &str, attack: impl FnOnce() -> Result<Row>) -> Row {
    let mut row = Row::default();
    let verdict = steps.check(name, || {
        row = attack()?;
        if row.faults.is_empty() {
            Ok(row.line())
        } else {
            bail!("{}", row.faults.join("; "))
        }
    });
    if let (Err(why), true) = (verdict, row.faults.is_empty()) {
        row.faults.push(why);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_tried_was_not_withstood() {
        let steps = Steps::quiet();
        let row = shown(&steps, "a", || bail!("nowhere to send from"));
        assert_eq!(row.faults, ["nowhere to send from"]);
        let row = shown(&steps, "a", || Ok(together(Vec::new())));
        assert_eq!(row.faults, ["nothing was tried"]);
        assert!(shown(&steps, "a", || Ok(Row::default())).faults.is_empty());
        assert!(!Report::default().all_withstood());
    }

    #[test]
    fn every_attack_has_a_place_and_every_place_attacks() {
        for (name, _) in ATTACKS {
            let places = PLACES.iter().filter(|(begin, _)| name.starts_with(begin));
            assert_eq!(places.count(), 1, "{name}");
        }
        for begin in PLACES.iter().map(|(begin, _)| begin).chain(&AGAIN) {
            assert!(ATTACKS.iter().any(|(name, _)| name.starts_with(begin)), "{begin}");
        }
    }
}
