//! `switch`: commands for a switch as a machine. It gets a token for its certificate if it has no IDevID,
//! is restarted, and gets software.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use vfabric_api::client::{Client, Verb};
use vfabric_api::enrolment::EnrolmentTokenSpec;
use vfabric_api::ident::{Label, Name};
use vfabric_api::inventory::ItemKey;
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
