//! `switch`: commands for a switch as a machine. It gets a token for its certificate if it has no IDevID, is restarted,
//! gets software, is replaced and retired.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use vfabric_api::client::{Client, Verb};
use vfabric_api::enrolment::EnrolmentTokenSpec;
use vfabric_api::ident::{Label, Mac, Name};
use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use vfabric_api::machine::{InstallSpec, Reboot, RebootSpec};

use super::complete;
use super::history::time;

/// How often the state of a switch that restarts is read.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a one-time token with which a switch without an IDevID gets its certificate, and print it with the authority's
    /// fingerprint
    Token(TokenArgs),
    /// Install an uploaded image on a switch (gNOI OS), then drain and restart it; an event reports the
    /// result
    Install(InstallArgs),
    /// Drain a switch, restart it (gNOI), wait until it is in service again, and put it back into service
    Reboot(RebootArgs),
    /// Make another machine this switch (RMA): drain it, revoke the old machine's identity, wait until the new one is in service
    Replace(ReplaceArgs),
    /// Take a switch out of the fabric for good: drain it, remove its links and itself, revoke its identity, wait until it has left
    Retire(RetireArgs),
}

/// How a switch is taken out of the paths first.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Do not drain it first: packets sent to it are lost until its neighbours notice
    #[arg(long)]
    now: bool,
    /// How long to wait until the drain is applied
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    drain_wait: Duration,
    /// Why, for the history and the events
    #[arg(long, default_value = "")]
    reason: String,
    /// Show the plan; nothing is changed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReplaceArgs {
    /// The switch
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Name,
    /// Serial number of the new machine
    #[arg(long, required_unless_present = "mac")]
    serial: Option<Label>,
    /// MAC address of its management port
    #[arg(long)]
    mac: Option<Mac>,
    /// Its model [default: as before]
    #[arg(long)]
    model: Option<Label>,
    /// Release of the software that it should run [default: as before]
    #[arg(long)]
    software: Option<Label>,
    #[command(flatten)]
    drain: DrainArgs,
    /// How long to wait until the new machine is in service; 0s does not wait
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The switch
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Name,
    /// Also remove the hosts under it, and the attachments there
    #[arg(long)]
    cascade: bool,
    /// Its machine is dead: do not wait for it
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    drain: DrainArgs,
    /// How long to wait until it has left the inventory; 0s does not wait
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The switch, as the inventory names it; it must have a serial number there
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Name,
    /// How long the token is valid, as in 30m or 2d; at most 7 days
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
}

#[derive(Debug, Args)]
pub(super) struct RebootArgs {
    /// The switch
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Name,
    /// Restart it without draining it first: packets sent to it are lost until its neighbours notice
    #[arg(long)]
    now: bool,
    /// Leave it drained after the restart
    #[arg(long, conflicts_with = "now")]
    stay_drained: bool,
    /// Why, for the switch's log and the events
    #[arg(long, default_value = "")]
    reason: String,
    /// How long to wait until the drain is applied
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    drain_wait: Duration,
    /// How long to wait until it is in service again; 0s does not wait, and then a switch that was drained for the
    /// restart stays drained
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// The switch
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Name,
    /// The image, as `fabricctl image list` shows it; it was uploaded with `--software`
    image: Label,
    /// Restart it without draining it first
    #[arg(long)]
    now: bool,
    /// Why, for the history
    #[arg(long, default_value = "")]
    reason: String,
}

pub(super) async fn run(client: &Client, command: Command) -> Result<ExitCode> {
    match command {
        Command::Token(args) => token(client, &args).await,
        Command::Reboot(args) => reboot(client, &args).await,
        Command::Install(args) => install(client, &args).await,
        Command::Replace(args) => replace(client, &args).await,
        Command::Retire(args) => retire(client, &args).await,
    }
}

async fn token(client: &Client, args: &TokenArgs) -> Result<ExitCode> {
    let spec = EnrolmentTokenSpec {
        lifetime_s: Some(args.lifetime.as_secs()),
    };
    let made = client.make_switch_token(&args.switch, spec).await?;
    // Only the content of the file goes to standard output.
    eprintln!(
        "for switch {}, valid until {}; put this into the file of `p4-switch --ztp-token`, with mode 0600",
        made.switch,
        time(made.expires_ms)
    );
    say!("{} {}", made.token, made.authority);
    Ok(ExitCode::SUCCESS)
}

async fn install(client: &Client, args: &InstallArgs) -> Result<ExitCode> {
    let spec = InstallSpec {
        image: args.image.clone(),
        reboot: RebootSpec {
            now: args.now,
            reason: args.reason.clone(),
            ..RebootSpec::default()
        },
    };
    let install = client.install(&args.switch, &spec).await?;
    say!(
        "{} is being installed on switch {}; see `fabricctl events --watch`",
        install.software,
        install.switch
    );
    Ok(ExitCode::SUCCESS)
}

async fn reboot(client: &Client, args: &RebootArgs) -> Result<ExitCode> {
    let spec = RebootSpec {
        now: args.now,
        wait_s: Some(args.drain_wait.as_secs_f64()),
        reason: args.reason.clone(),
    };
    let reboot = client.reboot(&args.switch, &spec).await?;
    let drained = if reboot.drained { "drained and " } else { "" };
    say!("switch {} is {drained}restarting", reboot.switch);
    if args.wait.is_zero() {
        return Ok(ExitCode::SUCCESS);
    }
    in_service_again(client, &reboot, args.wait).await?;
    say!("switch {} has restarted and is in service", reboot.switch);
    if reboot.drained && !args.stay_drained {
        let key = ItemKey::Switch(reboot.switch.clone());
        client.device(&key, Verb::Undrain, Some(args.drain_wait)).await?;
        say!("switch {} is not drained any more", reboot.switch);
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the switch is in service again and reports a later start than before. It is not enough that the switch
/// accepted the restart.
async fn in_service_again(client: &Client, reboot: &Reboot, wait: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        let lines = client.provisioning().await?;
        let line = lines.iter().find(|line| line.switch == reboot.switch);
        let inventory = client.inventory().await?;
        let item = inventory.switches.iter().find(|item| item.spec.name == reboot.switch);
        let (Some(line), Some(item)) = (line, item) else {
            bail!("switch `{}` has left the inventory", reboot.switch);
        };
        let started_ms = item.machine.as_ref().and_then(|machine| machine.started_ms);
        let is_new = match (reboot.started_ms, started_ms) {
            (Some(before), Some(now)) => now > before,
            // A switch that does not say when it was started must have been away.
            (None, _) => line.arrivals > reboot.arrivals,
            (Some(_), None) => false,
        };
        if line.in_service && is_new {
            return Ok(());
        }
        if began.elapsed() >= wait {
            let waits_for = line.waits_for.as_deref().unwrap_or("a sign that it has restarted");
            bail!(
                "switch `{}` was restarted, but is not in service after {} s; it waits for: {waits_for}{}",
                reboot.switch,
                wait.as_secs(),
                if reboot.drained { "; it stays drained" } else { "" }
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Shows a plan, or what was done.
fn show(done: &Lifecycle) {
    let head = if done.dry_run {
        "would be done"
    } else {
        "done, and what follows"
    };
    say!("switch {}: {head}:", done.switch);
    for (number, step) in (1..).zip(&done.steps) {
        say!("{number}. {step}");
    }
    for change in &done.inventory {
        say!("{change}");
    }
}

async fn replace(client: &Client, args: &ReplaceArgs) -> Result<ExitCode> {
    let drain = &args.drain;
    let spec = ReplaceSpec {
        serial: args.serial.clone(),
        mac: args.mac,
        model: args.model.clone(),
        software: args.software.clone(),
        dry_run: drain.dry_run,
        now: drain.now,
        wait_s: Some(drain.drain_wait.as_secs_f64()),
        reason: drain.reason.clone(),
    };
    let done = client.replace_machine(&args.switch, &spec).await?;
    show(&done);
    if done.dry_run || args.wait.is_zero() {
        return Ok(ExitCode::SUCCESS);
    }
    arrives(client, &done, args.wait).await?;
    say!("switch {} is in service with its new machine", done.switch);
    Ok(ExitCode::SUCCESS)
}

/// Waits until the new machine is in service, and prints each step of it meanwhile.
async fn arrives(client: &Client, done: &Lifecycle, wait: Duration) -> Result<()> {
    let began = Instant::now();
    let mut shown = std::collections::HashSet::new();
    loop {
        let lines = client.provisioning().await?;
        let inventory = client.inventory().await?;
        let line = lines.iter().find(|line| line.switch == done.switch);
        let item = inventory.switches.iter().find(|item| item.spec.name == done.switch);
        let (Some(line), Some(item)) = (line, item) else {
            bail!("switch `{}` has left the inventory", done.switch);
        };
        for step in &line.steps {
            if shown.insert((step.at_ms, step.step)) {
                say!("{} {} {}", time(step.at_ms), step.step, step.detail);
            }
        }
        if line.in_service && line.arrivals > done.arrivals && item.state == ItemState::InService {
            return Ok(());
        }
        if began.elapsed() >= wait {
            let waiting = item.waiting.first().map(String::as_str);
            let waits_for = line.waits_for.as_deref().or(waiting).unwrap_or("the new machine");
            bail!(
                "switch `{}` has a new machine, which is not in service after {} s; it waits for: {waits_for}; see `fabricctl ztp status {}`",
                done.switch,
                wait.as_secs(),
                done.switch
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn retire(client: &Client, args: &RetireArgs) -> Result<ExitCode> {
    let drain = &args.drain;
    let spec = RetireSpec {
        cascade: args.cascade,
        dead: args.dead,
        dry_run: drain.dry_run,
        now: drain.now,
        wait_s: Some(drain.drain_wait.as_secs_f64()),
        reason: drain.reason.clone(),
    };
    let done = client.retire(&args.switch, &spec).await?;
    show(&done);
    if done.dry_run || args.wait.is_zero() {
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    loop {
        let inventory = client.inventory().await?;
        let item = inventory.switches.iter().find(|item| item.spec.name == done.switch);
        let Some(item) = item else {
            say!("switch {} has left the inventory", done.switch);
            return Ok(ExitCode::SUCCESS);
        };
        if began.elapsed() >= args.wait {
            bail!(
                "switch `{}` is leaving, but has not left after {} s: {}; if its machine is dead, say so with --dead",
                done.switch,
                args.wait.as_secs(),
                item.waiting.join("; ")
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}
