//! Causes a fault and repairs it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::file::{Expectation, Fault};
use super::judge::{self, Verdict};
use super::world::World;
use crate::checks::faults::{End, interval, switch_link};
use crate::traffic::{Flow, Loss, Traffic};
use crate::{Lab, daemons, plan};

/// Traffic before and after a fault, so that a loss can be attributed to the fault.
const AROUND: Duration = Duration::from_millis(300);
/// Time that a fabric has to notice a fault before it is judged: more than the 3 s after which a silent switch is
/// avoided.
const NOTICED: Duration = Duration::from_secs(5);
/// Flows under observation.
const FLOWS: usize = 8;

/// Judges an expectation while its fault lasts, and the cost of the fault.
///
/// # Errors
/// The fault cannot be caused or repaired.
pub(super) fn judge_under(world: &World<'_>, of: &Expectation, fault: &Fault) -> Result<(Verdict, Loss)> {
    let act = Act::find(world.lab, fault)?;
    let pairs = world.pairs(of)?;
    let stride = pairs.len().div_ceil(FLOWS);
    let flows: Vec<Flow> = pairs
        .iter()
        .step_by(stride)
        .map(|p| Flow {
            from: p.from.namespace.clone(),
            to: p.ip,
        })
        .collect();
    let traffic = Traffic::start(&flows, interval(world.lab.options.target))?;
    std::thread::sleep(AROUND);
    act.cause(world.lab)?;
    std::thread::sleep(NOTICED);
    let answered = judge::answers(world, of);
    let loss = traffic.stop();
    let verdict = judge::judge(world, of);
    act.mend(world.lab)?;
    world.runtime.block_on(world.lab.ready(&world.client))?;
    let (mut verdict, loss) = (verdict?, loss?);
    if of.reach && !answered? {
        verdict
            .wrong
            .push(format!("not all answer {} s after the fault", NOTICED.as_secs()));
    }
    if of.lost.is_some_and(|most| loss.lost > most) {
        verdict
            .wrong
            .push(format!("{loss}, expected {} at most", of.lost.unwrap_or_default()));
    }
    if of
        .outage_ms
        .is_some_and(|most| loss.outage > Duration::from_millis(most))
    {
        let most = of.outage_ms.unwrap_or_default();
        verdict
            .wrong
            .push(format!("{loss}, expected an outage of {most} ms at most"));
    }
    Ok((verdict, loss))
}

/// A fault whose place is known to exist.
enum Act<'a> {
    Link([End; 2]),
    Switch(&'a vfabric_api::topology::Switch),
    Agent(&'a vfabric_api::topology::Host),
    Controller,
}

impl<'a> Act<'a> {
    fn find(lab: &'a Lab, fault: &Fault) -> Result<Self> {
        Ok(match fault {
            Fault::CutLink(end) => {
                let (switch, port) = Fault::port(end)?;
                let at = |r: &vfabric_api::topology::PortRef| r.switch.as_str() == switch && r.port.get() == port;
                let link = lab.topology.links.iter().find(|l| at(&l.a) || at(&l.b));
                let link = link.with_context(|| format!("under: cut_link: the topology has no link at `{end}`"))?;
                Self::Link([&link.a, &link.b].map(|r| (plan::namespace(&r.switch), format!("swp{}", r.port))))
            }
            Fault::KillSwitch(name) => {
                let switch = lab.topology.switch(name);
                Self::Switch(switch.with_context(|| format!("under: kill_switch: `{name}` is unknown"))?)
            }
            Fault::KillAgent(name) => {
                let host = lab.topology.host(name);
                Self::Agent(host.with_context(|| format!("under: kill_agent: `{name}` is unknown"))?)
            }
            Fault::KillController => Self::Controller,
        })
    }

    fn cause(&self, lab: &Lab) -> Result<()> {
        match self {
            Self::Link(ends) => switch_link(lab.options.target, ends, false),
            Self::Switch(switch) => lab.daemons.crash(switch.name.as_str()),
            Self::Agent(host) => lab.daemons.crash(host.name.as_str()),
            Self::Controller => lab.daemons.crash(daemons::CONTROLLER),
        }
    }

    fn mend(&self, lab: &Lab) -> Result<()> {
        match self {
            Self::Link(ends) => switch_link(lab.options.target, ends, true),
            Self::Switch(switch) => lab.start_switch(&switch.name),
            Self::Agent(host) => lab.start_agent(host),
            Self::Controller => lab.restart_controller(),
        }
    }
}
