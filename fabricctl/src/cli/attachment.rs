//! Attachments one by one: `attachment list|add|del|swap`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fabric_lab::say;
use vfabric_api::client::Client;
use vfabric_api::ident::{Mac, Name, PortId};
use vfabric_api::intent::{AttachmentSpec, Place};
use vfabric_api::kind::{Key, Kind, Spec};
use vfabric_api::status::{Attachment, View};

use super::{Output, progress, remove, rows, seconds, tables};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the attachments of a vDC
    List {
        /// The vDC
        vdc: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Attach a workload on a host, or a machine at an access port
    Add {
        /// `VDC/NAME` of the attachment
        object: Object,
        #[command(flatten)]
        wish: Wish,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove an attachment
    Del {
        /// `VDC/NAME` of the attachment
        object: Object,
        #[command(flatten)]
        wait: Wait,
    },
    /// Put an attachment into another network of its vDC. The interface stays, with its MAC address unless --mac is given
    Swap {
        /// `VDC/NAME` of the attachment
        object: Object,
        #[command(flatten)]
        wish: Wish,
        #[command(flatten)]
        wait: Wait,
    },
}

/// An attachment by name.
#[derive(Debug, Clone)]
pub(super) struct Object {
    vdc: Name,
    name: Name,
}

impl FromStr for Object {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (vdc, name) = text.split_once('/').ok_or("expected VDC/NAME")?;
        let name_of = |text: &str| text.parse().map_err(|e| format!("`{text}`: {e}"));
        Ok(Self {
            vdc: name_of(vdc)?,
            name: name_of(name)?,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Wish {
    /// The tenant network
    #[arg(long)]
    network: Name,
    /// MAC address [default: derived; of a swap, the one that it has]
    #[arg(long)]
    mac: Option<Mac>,
    /// An address; repeat it for several [default: one free address of each subnet]
    #[arg(long = "ip")]
    ips: Vec<IpAddr>,
}

#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The host of the workload
    #[arg(
        long,
        requires = "netns",
        requires = "interface",
        conflicts_with = "switch",
        required_unless_present = "switch"
    )]
    host: Option<Name>,
    /// Name of the workload's network namespace in /run/netns
    #[arg(long, requires = "host")]
    netns: Option<String>,
    /// Name of the interface in it
    #[arg(long, requires = "host")]
    interface: Option<String>,
    /// The leaf of the access port
    #[arg(long, requires = "port")]
    switch: Option<Name>,
    /// The access port
    #[arg(long, requires = "switch", value_parser = port)]
    port: Option<PortId>,
    /// VLAN id of its frames [default: untagged]
    #[arg(long, requires = "port")]
    vlan: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

fn port(text: &str) -> Result<PortId, String> {
    let number: u16 = text
        .parse()
        .map_err(|_| "expected a port number from 1 to 509".to_owned())?;
    PortId::try_from(number).map_err(|e| e.to_string())
}

impl TryFrom<PlaceArgs> for Place {
    type Error = anyhow::Error;

    fn try_from(args: PlaceArgs) -> Result<Self> {
        Ok(match (args.host, args.switch) {
            (Some(host), None) => Self::Host {
                host,
                netns: args.netns.context("--netns is missing")?,
                interface: args.interface.context("--interface is missing")?,
            },
            (None, Some(switch)) => Self::Port {
                switch,
                port: args.port.context("--port is missing")?,
                vlan: args.vlan,
            },
            _ => bail!("expected either --host or --switch"),
        })
    }
}

/// Carries out a command.
pub(super) async fn run(client: &Client, command: Command) -> Result<ExitCode> {
    match command {
        Command::List { vdc, output } => rows(
            client.list(Kind::Attachment, Some(&vdc)).await?,
            output.output,
            tables::object,
        ),
        Command::Add {
            object: Object { vdc, name },
            wish,
            place,
            wait,
        } => {
            let spec = AttachmentSpec {
                name,
                network: wish.network,
                mac: wish.mac,
                ips: wish.ips,
                place: place.try_into()?,
                port_security: true,
                allowed_addresses: Vec::new(),
            };
            let patience = seconds(wait.wait)?;
            let view = client.create(&vdc, &Spec::Attachment(spec), patience).await?;
            done('+', &vdc, attachment(view)?, patience.is_some())
        }
        Command::Del { object, wait } => {
            remove(client, &Key::new(object.vdc, Kind::Attachment, object.name), wait.wait).await
        }
        Command::Swap { object, wish, wait } => swap(client, object, wish, wait).await,
    }
}

async fn swap(client: &Client, Object { vdc, name }: Object, wish: Wish, wait: Wait) -> Result<ExitCode> {
    let key = Key::new(vdc.clone(), Kind::Attachment, name);
    let has = attachment(client.get(&key).await?)?;
    let spec = AttachmentSpec {
        network: wish.network,
        mac: Some(wish.mac.unwrap_or(has.mac)),
        ips: wish.ips,
        ..has.spec
    };
    let patience = seconds(wait.wait)?;
    // Of what was seen, and of nothing that somebody else has made of it meanwhile.
    let view = client
        .replace(&vdc, &Spec::Attachment(spec), Some(has.revision), patience)
        .await?;
    done('~', &vdc, attachment(view)?, patience.is_some())
}

fn attachment(view: View) -> Result<Attachment> {
    match view {
        View::Attachment(attachment) => Ok(attachment),
        _ => bail!("the controller sent an object of another kind"),
    }
}

/// Says what it is now and, when that was waited for, how far the devices are.
fn done(sign: char, vdc: &Name, attachment: Attachment, waited: bool) -> Result<ExitCode> {
    let ips: Vec<String> = attachment.ips.iter().map(ToString::to_string).collect();
    let (name, network) = (&attachment.spec.name, &attachment.spec.network);
    say!("{sign} {vdc}/{name} in {network}: {} {}", attachment.mac, ips.join(" "));
    Ok(if waited {
        progress(&attachment.applied)
    } else {
        ExitCode::SUCCESS
    })
}
