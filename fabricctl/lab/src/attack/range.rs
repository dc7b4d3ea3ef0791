//! What all attacks share: captures, counters, legitimate traffic at the same time. Runs one attack.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::cast::Cast;
use super::list::Way;
use super::report::{self, Row};
use super::speech::Liar;
use super::vlans::Vlans;
use super::volley::{self, Shot, Volley};
use super::watch::Watch;
use super::{churn, random};
use crate::Target;
use crate::checks::Scene;
use crate::counters::{self, Counts, Reader};
use crate::traffic::{Flow, Traffic};

/// Pause between two bursts, where a switch takes only so many frames at once.
const BETWEEN_BURSTS: Duration = Duration::from_millis(3);
/// Longest time that counters and captures get to settle. What never comes costs this once.
const SETTLED: Duration = Duration::from_secs(4);
/// How often they are checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time between two packets of each legitimate flow.
const INTERVAL: Duration = Duration::from_millis(5);
/// Everything that all attacks share.
pub(super) struct Range<'a> {
    pub(super) cast: Cast<'a>,
    reader: Reader,
    pub(super) watch: Watch,
    pub(super) members: BTreeSet<String>,
    flows: Vec<Flow>,
    churn: Option<churn::Churn>,
    /// Number of the next attack.
    pub(super) next: u32,
}

impl<'a> Range<'a> {
    /// Opens everything. With `churn`, objects come and go from now on.
    ///
    /// # Errors
    /// The lab cannot be attacked.
    pub(super) fn open(scene: &'a Scene<'a>, churn: bool) -> Result<Self> {
        let cast = Cast::new(scene)?;
        let namespaces = scene.lab.plan.namespaces();
        let watch = Watch::start(&namespaces)?;
        Ok(Self {
            reader: Reader::open(scene.lab)?,
            members: cast.members.iter().map(|m| m.endpoint.namespace.clone()).collect(),
            flows: scene.flows(|a, b| a.leaf != b.leaf)?,
            churn: churn.then(|| churn::Churn::start(scene)).transpose()?,
            cast,
            watch,
            next: 0,
        })
    }

    /// Ends the churn and returns what failed in it.
    pub(super) fn close(&mut self) -> Result<Option<Row>> {
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

    pub(super) fn counts(&mut self) -> Result<Counts> {
        self.cast.cx.runtime.block_on(self.reader.read())
    }

    pub(super) fn traffic(&self) -> Result<Traffic> {
        // simple_switch_grpc forwards some ten thousand packets a second at best.
        let slower = if self.cast.cx.lab.options.target == Target::Bmv2 {
            5
        } else {
            1
        };
        Traffic::start(&self.flows, INTERVAL * slower)
    }

    /// Carries out one attack and judges it.
    ///
    /// # Errors
    /// It cannot be carried out in this lab.
    pub(super) fn carry_out(&mut self, name: &str, way: &Way) -> Result<Row> {
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
            Way::OnVlans(build) => {
                let ports = Vlans::open(&self.cast)?;
                let row = match build(&self.cast, &ports, &mut volley) {
                    Ok(()) => {
                        let shots = volley.shots;
                        self.shoot(name, &shots)
                    }
                    Err(error) => Err(error),
                };
                ports.close(self.cast.cx)?;
                return row;
            }
        }
        let shots = volley.shots;
        self.shoot(name, &shots)
    }

    /// Sends the frames of an attack and judges where they ended.
    fn shoot(&mut self, name: &str, shots: &[Shot]) -> Result<Row> {
        if shots.is_empty() {
            bail!("{name}: nothing to send in this lab");
        }
        let before = self.counts()?;
        let traffic = self.traffic()?;
        for shot in shots {
            let sender = shot.port.open()?;
            for burst in shot.frames.chunks(self.burst()) {
                burst.iter().try_for_each(|(_, frame)| sender.send(frame))?;
                if burst.len() == self.burst() {
                    std::thread::sleep(BETWEEN_BURSTS);
                }
            }
        }
        let started = Instant::now();
        let (outcome, counted) = loop {
            let counted = counters::since(&before, &self.counts()?);
            let seen = self.watch.seen(self.next);
            let outcome = volley::judge(shots, &self.members, &seen, &counted, self.is_alone());
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
            (outcome.punted, "handed to the controller, which ignored them"),
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

    /// Frames that are sent at once. A port of simple_switch_grpc has room for 64, and a flooded frame leaves by the same
    /// port once for each host; what finds no room is not counted.
    fn burst(&self) -> usize {
        match self.cast.cx.lab.options.target {
            Target::P4Switch => usize::MAX,
            Target::Bmv2 => 5,
        }
    }

    /// Whether nothing else happens in the lab.
    pub(super) fn is_alone(&self) -> bool {
        self.churn.is_none()
    }

    /// What an attack has broken: daemons that ended, devices out of sync, links that are not used
    /// any more.
    pub(super) fn disorder(&self) -> Result<Vec<String>> {
        let cx = self.cast.cx;
        let mut faults = Vec::new();
        faults.extend(cx.lab.expect_daemons().err().map(|e| format!("{e:#}")));
        // While objects come and go, some device always has work to do.
        if self.is_alone() {
            faults.extend(cx.runtime.block_on(cx.lab.waiting_for(&cx.client))?);
        }
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

    /// Sends random frames for some time and judges.
    ///
    /// # Errors
    /// The lab cannot be attacked.
    pub(super) fn random(&mut self, seed: u64, time: Duration) -> Result<Row> {
        random::run(self, seed, time)
    }
}
