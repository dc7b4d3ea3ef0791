//! Commands and their flags.

mod serve;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use clap::{Args, Parser, Subcommand, ValueEnum};
use vfabric_api::client::Config;
use vfabric_api::ident::Name;

use crate::board::{Board, LONGEST_WINDOW, Status};
use crate::control::{self, Enrolment};
use crate::directory::Directory;
use crate::http::Files;
use crate::image::Images;
use crate::settings::Settings;
use crate::source::Source;
use crate::template::Templates;
use crate::theirs;

/// Provisioning of switches: addresses, images, first-boot files.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve DHCP, HTTP and, if the settings say so, TFTP
    Serve(Serve),
    /// Show each switch's progress, strangers and troubles of the running server
    Status(StatusArgs),
    /// For a while, let in machines that are not in the inventory
    Enrol(Enrol),
    /// Show a first-boot file as a switch would get it
    Render(Render),
    /// Print lines for the operator's own dnsmasq, so that it leaves the switches of the inventory to this server
    Dnsmasq(From),
    /// Print client classes for the operator's own Kea (the value of `client-classes`), for the same purpose
    Kea(Kea),
    /// Measure how fast the server replies to DISCOVERs and gives leases
    Bench(crate::bench::Bench),
}

#[derive(Debug, Args)]
struct Common {
    /// The settings (YAML)
    #[arg(
        long,
        env = "FABRIC_PROVISION_SETTINGS",
        default_value = "/etc/vfabric/provision.yaml"
    )]
    settings: PathBuf,
}

#[derive(Debug, Args)]
struct From {
    /// A topology file as the inventory, as `fabricctl inventory export` writes it
    #[arg(long)]
    inventory: Option<PathBuf>,
    /// Client settings of the controller's API, from which the inventory is read [default: ~/.config/vfabric/client.yaml]
    #[arg(long, conflicts_with = "inventory")]
    controller: Option<PathBuf>,
}

impl From {
    fn source(&self) -> Result<Source> {
        let client = self.controller.clone().unwrap_or_else(Config::default_path);
        Ok(Source::new(self.inventory.as_deref(), &client)?)
    }
}

#[derive(Debug, Args)]
struct Kea {
    #[command(flatten)]
    from: From,
    /// For the DHCPv6 server
    #[arg(long)]
    ipv6: bool,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
    /// User to become once the sockets are open; needed when started as root
    #[arg(long)]
    user: Option<String>,
    /// What to log, such as `info` or `fabric_provision=debug`
    #[arg(long, default_value = "info")]
    log_level: String,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Text lines for people
    Text,
    /// JSON for programs
    Json,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    common: Common,
    /// The whole timeline of one switch
    switch: Option<Name>,
    /// Print the whole document (JSON)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Enrol {
    #[command(flatten)]
    common: Common,
    /// How long the window is open, such as `10m`; an hour at most
    #[arg(long = "for", default_value = "10m")]
    time: String,
    /// How many machines it lets in
    #[arg(long, default_value_t = 16)]
    machines: u32,
    /// Close it now
    #[arg(long)]
    close: bool,
}

#[derive(Debug, Args)]
struct Render {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
    /// The switch
    switch: Name,
    /// The file: ztp.json or first-boot.sh
    #[arg(default_value = "ztp.json")]
    file: String,
}

/// Runs one command.
///
/// # Errors
/// The reason in words.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        // Rights are dropped before there are threads.
        Command::Serve(args) => serve::run(&args),
        Command::Bench(bench) => crate::bench::run(&bench),
        Command::Status(args) => runtime()?.block_on(status(&args)),
        Command::Enrol(args) => runtime()?.block_on(enrol(&args)),
        Command::Render(args) => runtime()?.block_on(render(&args)),
        Command::Dnsmasq(from) => {
            let topology = runtime()?.block_on(from.source()?.read())?;
            print!("{}", theirs::dnsmasq(&topology));
            Ok(())
        }
        Command::Kea(kea) => {
            let topology = runtime()?.block_on(kea.from.source()?.read())?;
            let print = if kea.ipv6 { theirs::kea6 } else { theirs::kea4 };
            print!("{}", print(&topology));
            Ok(())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn status(args: &StatusArgs) -> Result<()> {
    let settings = Settings::load(&args.common.settings)?;
    let text = control::ask(&settings.state, "GET", "/status", String::new()).await?;
    if args.json {
        println!("{text}");
        return Ok(());
    }
    let status: Status = serde_json::from_str(&text).context("the server's status")?;
    match &args.switch {
        Some(name) => match status.switches.get(name) {
            Some(line) => print!("{}", show::timeline(line)),
            None => bail!("switch `{name}` is not in the inventory"),
        },
        None => print!("{}", show::all(&status)),
    }
    Ok(())
}

async fn enrol(args: &Enrol) -> Result<()> {
    let settings = Settings::load(&args.common.settings)?;
    let time = humantime::parse_duration(&args.time).with_context(|| format!("--for {}", args.time))?;
    let seconds = if args.close { 0 } else { time.as_secs() };
    if seconds > LONGEST_WINDOW {
        bail!("--for {}: expected at most {LONGEST_WINDOW} s", args.time);
    }
    let machines = args.machines;
    let body = serde_json::to_string(&Enrolment { seconds, machines })?;
    print!("{}", control::ask(&settings.state, "POST", "/enrolment", body).await?);
    Ok(())
}

async fn render(args: &Render) -> Result<()> {
    let settings = Settings::load(&args.common.settings)?;
    if args.from.inventory.is_none() && args.from.controller.is_none() {
        let path = format!("/render/{}/{}", args.switch, args.file);
        print!("{}", control::ask(&settings.state, "GET", &path, String::new()).await?);
        return Ok(());
    }
    let directory = Directory::new(args.from.source()?.read().await?);
    let files = files(settings, Arc::new(ArcSwap::from_pointee(directory)), Arc::default());
    let directory = files.directory.load();
    let Some(switch) = directory.switch(&args.switch) else {
        bail!("switch `{}` is not in the inventory", args.switch);
    };
    print!("{}", files.render(switch, &args.file)?);
    Ok(())
}

fn files(settings: Settings, directory: Arc<ArcSwap<Directory>>, board: Arc<Board>) -> Files {
    Files {
        images: Images::new(settings.images.clone()),
        templates: Templates::new(settings.templates.clone()),
        settings: Arc::new(settings),
        directory,
        board,
    }
}

fn user_of(state: &Path, user: Option<&str>) -> Result<()> {
    crate::rights::private_directory(state, user).with_context(|| format!("directory {}", state.display()))
}
