//! Attacks on the lab that runs: what workloads, bare metal, broken-in hosts, somebody on a
//! fabric link and somebody on the management network could try.
//!
//! **Model.** An attack is a [`volley`] of frames, each with a token of its own ([`watch`]) and a
//! fate: the counter that has to move, or the network that it must not leave. Every namespace of
//! the lab is watched at once, so an attack is tried from every place of its kind at the same
//! time. Legitimate traffic of all kinds runs beside it.
//!
//! **Verdict.** An attack fails when a frame is received where its fate does not permit it, when
//! what was sent differs from what was counted ([`crate::counters`]), when a packet of the legitimate
//! traffic is lost, when a daemon ends, a device falls out of sync, or a link is taken out of use.
//! A tolerance would hide a fault: there is none.
//!
//! | file | attacks |
//! | --- | --- |
//! | [`speech`] | lies about one's own addresses; workloads and machines alike |
//! | [`edge`] | tags, groups of a link, broken headers, storms |
//! | [`host`] | a broken-in host writes to its uplink |
//! | [`link`] | somebody on a link between switches |
//! | [`management`] | keys of others, and no key |
//! | [`asks`] | sockets of one vDC ask for addresses of another |
//! | [`churn`] | objects come and go meanwhile |
//! | [`random`] | mutated frames from every place |

mod asks;
mod cast;
mod churn;
mod edge;
mod frame;
mod host;
mod link;
mod management;
mod random;
mod report;
mod speech;
mod volley;
mod watch;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::runtime::Runtime;

use crate::checks::Scene;
use crate::traffic::{Flow, Traffic};
use crate::{Lab, Steps, Target};

use crate::counters::{self, Counts, Reader};
use cast::Cast;
pub use report::{Format, Report, Row};
use speech::Liar;
use volley::Volley;
use watch::{Port, Sender, Watch};

/// Longest time that counters and captures get to settle. What never comes costs this once.
const SETTLED: Duration = Duration::from_secs(4);
/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time between two packets of each legitimate flow.
const INTERVAL: Duration = Duration::from_millis(5);
/// Time of random frames among the lab's checks.
const RANDOM_IN_CHECKS: Duration = Duration::from_secs(5);

/// What to attack with.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only attacks whose name contains one of these
    names: Vec<String>,
    /// List the attacks
    #[arg(long)]
    list: bool,
    /// Attachments, networks and vDCs come and go meanwhile
    #[arg(long)]
    churn: bool,
    /// Mutated frames of every protocol from every place
    #[arg(long)]
    random: bool,
    /// For how long, with --random
    #[arg(long, default_value_t = 30, requires = "random")]
    seconds: u64,
    /// What they are drawn from [default: drawn, and printed]
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

type Build = fn(&Cast<'_>, &mut Volley<'_>) -> Result<()>;
type Lie = fn(&Liar<'_>, &mut Volley<'_>) -> Result<()>;

/// How an attack is carried out.
enum Way {
    /// Frames from every workload.
    Workloads(Lie),
    /// Frames from every machine on an access port.
    Metals(Lie),
    /// Frames from places of its own choice.
    Frames(Build),
    /// Something else, which answers in words.
    Other(fn(&Cast<'_>) -> Result<String>),
}

const ATTACKS: &[(&str, Way)] = &[
    ("sockets ask for other vDCs", Way::Other(asks::between_vdcs)),
    ("workload: another MAC address", Way::Workloads(speech::mac)),
    (
        "workload: a MAC address nobody can have",
        Way::Workloads(speech::impossible_mac),
    ),
    ("workload: another IPv4 address", Way::Workloads(speech::ipv4)),
    ("workload: another IPv6 address", Way::Workloads(speech::ipv6)),
    ("workload: ARP for others", Way::Workloads(speech::arp)),
    ("workload: neighbour discovery for others", Way::Workloads(speech::nd)),
    (
        "workload: router advertisement, redirect",
        Way::Workloads(speech::router),
    ),
    ("workload: DHCP server", Way::Workloads(speech::dhcp)),
    ("workload: VLAN tags", Way::Workloads(edge::workload_tags)),
    ("workload: protocols of the link", Way::Workloads(edge::link_protocols)),
    ("workload: broken headers, SNAP", Way::Workloads(edge::workload_broken)),
    ("workload: overlapping fragments", Way::Workloads(edge::fragments)),
    (
        "workload: Martian destinations",
        Way::Workloads(speech::martian_destination),
    ),
    ("workload: the gateway itself", Way::Workloads(speech::to_gateway)),
    ("workload: TTL used up", Way::Workloads(speech::ttl)),
    ("workload: VXLAN to VTEPs", Way::Workloads(speech::own_tunnel)),
    (
        "workload: MAC addresses of the fabric",
        Way::Workloads(edge::workload_to_router),
    ),
    ("workload: addresses of strangers", Way::Workloads(speech::strangers)),
    (
        "workload: broadcast storm",
        Way::Frames(|cast, volley| edge::storm(cast, volley, true)),
    ),
    ("metal: another MAC address", Way::Metals(speech::mac)),
    (
        "metal: a MAC address nobody can have",
        Way::Metals(speech::impossible_mac),
    ),
    ("metal: another IPv4 address", Way::Metals(speech::ipv4)),
    ("metal: another IPv6 address", Way::Metals(speech::ipv6)),
    ("metal: ARP for others", Way::Metals(speech::arp)),
    ("metal: neighbour discovery for others", Way::Metals(speech::nd)),
    ("metal: router advertisement, redirect", Way::Metals(speech::router)),
    ("metal: DHCP server", Way::Metals(speech::dhcp)),
    (
        "metal: DHCP server behind options and fragments",
        Way::Metals(edge::metal_hidden),
    ),
    ("metal: other VLANs, double tags", Way::Metals(edge::metal_tags)),
    ("metal: protocols of the link", Way::Metals(edge::link_protocols)),
    ("metal: cut-off headers", Way::Metals(edge::metal_broken)),
    ("metal: overlapping fragments", Way::Metals(edge::fragments)),
    ("metal: Martian destinations", Way::Metals(speech::martian_destination)),
    ("metal: the gateway itself", Way::Metals(speech::to_gateway)),
    ("metal: TTL used up", Way::Metals(speech::ttl)),
    ("metal: VXLAN to VTEPs", Way::Metals(speech::own_tunnel)),
    ("metal: MAC addresses of the fabric", Way::Metals(edge::metal_to_router)),
    ("metal: addresses of strangers", Way::Metals(speech::strangers)),
    (
        "metal: broadcast storm",
        Way::Frames(|cast, volley| edge::storm(cast, volley, false)),
    ),
    ("host: a VNI it does not hold", Way::Frames(host::foreign_vni)),
    ("host: another outer source", Way::Frames(host::foreign_source)),
    ("host: odd tunnels", Way::Frames(host::odd_tunnel)),
    ("host: tags inside tunnels", Way::Frames(host::inner_tag)),
    (
        "host: tunnels in fragments, behind headers",
        Way::Frames(host::hidden_tunnel),
    ),
    ("host: IPv4 addresses inside IPv6", Way::Frames(host::mapped)),
    ("host: ICMP errors about tunnels", Way::Frames(host::icmp_errors)),
    ("host: other hosts, switches, management", Way::Frames(host::plain)),
    ("host: frames not for its leaf", Way::Frames(host::not_for_leaf)),
    (
        "host: forged addresses in its own networks",
        Way::Frames(host::forged_inside),
    ),
    ("link: forged LLDP", Way::Frames(link::lldp)),
    ("link: frames not for the switch", Way::Frames(link::not_for_switch)),
    ("link: tags", Way::Frames(link::tags)),
    ("link: to the switch itself", Way::Frames(link::to_the_switch)),
    ("link: to nowhere", Way::Frames(link::nowhere)),
    ("link: TTL used up", Way::Frames(link::ttl)),
    ("link: broken headers", Way::Frames(link::malformed)),
    ("link: tunnels nobody has", Way::Frames(link::tunnels)),
    (
        "link: frames that would be bridged back",
        Way::Frames(link::bridged_back),
    ),
    (
        "management: keys of hosts and switches",
        Way::Other(management::stolen_keys),
    ),
    ("management: no key", Way::Other(management::no_key)),
];

/// The places that attacks come from: how their names begin, and the row that they share among
/// the lab's checks.
const PLACES: [(&str, &str); 6] = [
    ("sockets", "nothing between blue and red"),
    ("workload:", "attacks from workloads"),
    ("metal:", "attacks from bare metal"),
    ("host:", "attacks from broken-in hosts"),
    ("link:", "attacks on fabric links"),
    ("management:", "keys of hosts and switches open nothing else"),
];
/// The row of attacks that are tried again while objects come and go: one of each place.
const UNDER_CHURN: &str = "attacks while objects come and go";
const AGAIN: [&str; 4] = ["workload: another", "metal: another", "host: a VNI", "link: tunnels"];
/// The row of random frames.
const RANDOM: &str = "random frames from every place";

/// Attacks the lab and prints what came of it.
///
/// # Errors
/// The lab cannot be attacked. An attack that was not withstood is a row, not an error.
pub fn run(lab: &Lab, args: &Args, runtime: &Runtime) -> Result<ExitCode> {
    if args.list {
        ATTACKS.iter().for_each(|(name, _)| println!("{name}"));
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
        let row = range.random(seed, Duration::from_secs(args.seconds))?;
        Report {
            rows: vec![row],
            seed: Some(seed),
        }
    } else {
        let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|n| name.contains(n.as_str()));
        attack(&scene, wanted, args.churn, &steps)?
    };
    match args.output {
        Format::Table => println!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.all_withstood() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The attacks that are among the lab's checks, a row for each place that they come from; some
/// again while objects come and go; and some seconds of random frames.
///
/// # Errors
/// The lab cannot be attacked.
pub fn among_checks(scene: &Scene<'_>, wanted: impl Fn(&str) -> bool, steps: &Steps) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |name: &str, attacks: &dyn Fn() -> Result<Vec<Row>>| {
        if wanted(name) {
            let mut row = Row::default();
            let _ = steps.check(name, || {
                row = together(attacks()?);
                verdict(&row)
            });
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
            format!("{count} attacks: refused and counted, or kept in the own network"),
        );
    }
    words.retain(|w| !w.is_empty());
    all.ended = words.join("; ");
    all
}

fn attack(scene: &Scene<'_>, wanted: impl Fn(&str) -> bool, churn: bool, steps: &Steps) -> Result<Report> {
    let chosen: Vec<_> = ATTACKS.iter().filter(|(name, _)| wanted(name)).collect();
    let mut report = Report::default();
    if chosen.is_empty() {
        return Ok(report);
    }
    let mut range = Range::open(scene, churn)?;
    for (name, way) in chosen {
        let mut row = Row::default();
        let _ = steps.check(name, || {
            row = range.carry_out(name, way)?;
            verdict(&row)
        });
        row.name = (*name).to_owned();
        report.rows.push(row);
    }
    if let Some(fault) = range.close()? {
        report.rows.push(fault);
    }
    Ok(report)
}

fn verdict(row: &Row) -> Result<String> {
    if row.faults.is_empty() {
        Ok(row.line())
    } else {
        bail!("{}", row.faults.join("; "))
    }
}

/// Everything that attacks share.
struct Range<'a> {
    cast: Cast<'a>,
    reader: Reader<'a>,
    watch: Watch,
    members: BTreeSet<String>,
    flows: Vec<Flow>,
    churn: Option<churn::Churn>,
    next: u32,
}

impl<'a> Range<'a> {
    fn open(scene: &'a Scene<'a>, churn: bool) -> Result<Self> {
        let cast = Cast::new(scene)?;
        let namespaces = scene.lab.plan.namespaces();
        let watch = Watch::start(&namespaces)?;
        Ok(Self {
            reader: scene.runtime.block_on(Reader::open(scene.lab))?,
            members: cast.members.iter().map(|m| m.endpoint.namespace.clone()).collect(),
            flows: scene.flows(|a, b| a.leaf != b.leaf)?,
            churn: churn.then(|| churn::Churn::start(scene)).transpose()?,
            cast,
            watch,
            next: 0,
        })
    }

    /// Ends the churn, and says what it could not do.
    fn close(&mut self) -> Result<Option<Row>> {
        let Some(churn) = self.churn.take() else {
            return Ok(None);
        };
        let (ended, faults) = match churn.stop(self.cast.cx) {
            Ok(done) => (done, Vec::new()),
            Err(error) => (String::new(), vec![format!("{error:#}")]),
        };
        Ok(Some(Row {
            name: "objects that came and went".into(),
            ended,
            faults,
            ..Row::default()
        }))
    }

    fn counts(&mut self) -> Result<Counts> {
        self.cast.cx.runtime.block_on(self.reader.read())
    }

    fn traffic(&self) -> Result<Traffic> {
        // simple_switch_grpc forwards some ten thousand packets a second at best.
        let slower = if self.cast.cx.lab.options.target == Target::Bmv2 {
            5
        } else {
            1
        };
        Traffic::start(&self.flows, INTERVAL * slower)
    }

    fn carry_out(&mut self, name: &str, way: &Way) -> Result<Row> {
        let mut volley = Volley::new(&self.watch, self.next);
        match way {
            Way::Other(other) => {
                let (ended, faults) = match other(&self.cast) {
                    Ok(ended) => (ended, Vec::new()),
                    Err(error) => (String::new(), vec![format!("{error:#}")]),
                };
                return Ok(Row {
                    ended,
                    faults,
                    ..Row::default()
                });
            }
            Way::Workloads(lie) => Liar::all(&self.cast, true).try_for_each(|l| lie(&l, &mut volley))?,
            Way::Metals(lie) => Liar::all(&self.cast, false).try_for_each(|l| lie(&l, &mut volley))?,
            Way::Frames(build) => build(&self.cast, &mut volley)?,
        }
        if volley.len() == 0 {
            bail!("{name}: nothing to send in this lab");
        }
        let shots = volley.shots;
        let before = self.counts()?;
        let traffic = self.traffic()?;
        for shot in &shots {
            let sender = shot.port.open()?;
            shot.frames.iter().try_for_each(|(_, frame)| sender.send(frame))?;
        }
        let started = Instant::now();
        let (outcome, counted) = loop {
            let counted = counters::since(&before, &self.counts()?);
            let seen = self.watch.seen(self.next);
            let outcome = volley::judge(&shots, &self.members, &seen, &counted, self.churn.is_none());
            if outcome.faults.is_empty() || started.elapsed() > SETTLED {
                break (outcome, counted);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let loss = traffic.stop()?;
        self.watch.forget(self.next);
        self.next += 1;
        let mut faults = outcome.faults;
        if !faults.is_empty() {
            faults.push(counters::words(&counted));
        }
        faults.extend(volley::disturbed(loss));
        faults.extend(self.disorder()?);
        let refused = outcome.sent - outcome.arrived - outcome.flooded - outcome.punted;
        let ended: Vec<String> = [
            (refused, "refused"),
            (outcome.arrived, "arrived in their own network"),
            (outcome.flooded, "flooded in their own network, taken by nobody"),
            (outcome.punted, "handed to the controller, which took no notice"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, how)| format!("{n} {how}"))
        .collect();
        Ok(Row {
            name: name.to_owned(),
            sent: outcome.sent,
            ended: ended.join(", "),
            counted: report::summary(self.cast.cx.lab, &counted),
            legitimate_sent: loss.sent,
            legitimate_lost: loss.lost,
            faults,
        })
    }

    /// What an attack has broken: daemons that ended, links that are not used any more.
    fn disorder(&self) -> Result<Vec<String>> {
        let cx = self.cast.cx;
        let mut faults = Vec::new();
        faults.extend(cx.lab.expect_daemons().err().map(|e| format!("{e:#}")));
        let links = cx.runtime.block_on(cx.client.links())?;
        let down = links.into_iter().filter(|l| !l.up);
        faults.extend(down.map(|l| {
            format!(
                "the link {}:{} - {}:{} is not used",
                l.a.switch, l.a.port, l.b.switch, l.b.port
            )
        }));
        Ok(faults)
    }

    fn random(&mut self, seed: u64, time: Duration) -> Result<Row> {
        random::run(self, seed, time)
    }
}
