//! Attachments one by one: `attachment add|del|swap|migrate|activate|cancel`.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fabric_lab::say;
use vfabric_api::ident::{Mac, Name, PortId};
use vfabric_api::intent::{AttachmentSpec, Place};
use vfabric_api::kind::{Key, Kind, Spec};
use vfabric_api::status::{Attachment, View};

use super::connect::{InVdc, Session};
use super::migrate::{self, To};
use super::{applied_on, report, seconds};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Attach a workload on a host, or a machine at an access port
    Add {
        #[command(flatten)]
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
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        wait: Wait,
    },
    /// Move an attachment into another network of its vDC. The interface stays, with its MAC address unless --mac is given
    Swap {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        wish: Wish,
        #[command(flatten)]
        wait: Wait,
    },
    /// Prepare the move of a running workload to another host. The attachment moves when the workload announces itself there
    Migrate {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let the target of a prepared migration serve now, without waiting for the workload
    Activate {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        wait: Wait,
    },
    /// Call a migration off: the attachment stays where it was
    Cancel {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        wait: Wait,
    },
}

/// An attachment by name.
#[derive(Debug, Args)]
pub(super) struct Object {
    /// NAME or VDC/NAME of the attachment
    name: String,
    #[command(flatten)]
    vdc: InVdc,
}

impl Object {
    fn key(&self, session: &Session) -> Result<Key> {
        session.key(Kind::Attachment, &self.name, &self.vdc)
    }
}

#[derive(Debug, Args)]
pub(super) struct Wish {
    /// The tenant network
    #[arg(long)]
    network: Name,
    /// MAC address [default: derived; for a swap, unchanged]
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
    pub(super) wait: f64,
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
pub(super) async fn run(session: &Session, command: Command) -> Result<ExitCode> {
    match command {
        Command::Add {
            object,
            wish,
            place,
            wait,
        } => {
            let key = object.key(session)?;
            let spec = AttachmentSpec {
                name: key.name,
                network: wish.network,
                mac: wish.mac,
                ips: wish.ips,
                place: place.try_into()?,
                port_security: true,
                allowed_addresses: Vec::new(),
                migration: None,
                labels: Default::default(),
            };
            let patience = seconds(wait.wait)?;
            let made = session
                .client
                .create(&key.vdc, &Spec::Attachment(spec), patience)
                .await?;
            done('+', &key.vdc, attachment(made)?, patience.is_some())
        }
        Command::Del { object, wait } => {
            let key = object.key(session)?;
            let outcome = session.client.delete(&key, seconds(wait.wait)?).await?;
            say!("- {key}, revision {}", outcome.committed.revision);
            Ok(report(&outcome))
        }
        Command::Migrate { object, to, wait } => migrate::prepare(session, object.key(session)?, to, &wait).await,
        Command::Activate { object, wait } => migrate::activate(session, object.key(session)?, &wait).await,
        Command::Cancel { object, wait } => migrate::cancel(session, object.key(session)?, &wait).await,
        Command::Swap { object, wish, wait } => swap(session, object.key(session)?, wish, wait).await,
    }
}

async fn swap(session: &Session, key: Key, wish: Wish, wait: Wait) -> Result<ExitCode> {
    let has = attachment(session.client.get(&key).await?)?;
    let spec = AttachmentSpec {
        network: wish.network,
        mac: Some(wish.mac.unwrap_or(has.mac)),
        ips: wish.ips,
        ..has.spec
    };
    let patience = seconds(wait.wait)?;
    // Change only the revision that was read, not one that somebody else has written meanwhile.
    let swapped = session
        .client
        .replace(&key.vdc, &Spec::Attachment(spec), Some(has.revision), patience)
        .await?;
    done('~', &key.vdc, attachment(swapped)?, patience.is_some())
}

pub(super) fn attachment(view: View) -> Result<Attachment> {
    match view {
        View::Attachment(attachment) => Ok(attachment),
        _ => bail!("the controller sent an object of another kind"),
    }
}

/// Prints the new state and, after waiting, the progress of the devices.
fn done(sign: char, vdc: &Name, attachment: Attachment, waited: bool) -> Result<ExitCode> {
    let ips: Vec<String> = attachment.ips.iter().map(ToString::to_string).collect();
    let (name, network) = (&attachment.spec.name, &attachment.spec.network);
    say!("{sign} {vdc}/{name} in {network}: {} {}", attachment.mac, ips.join(" "));
    Ok(if waited {
        applied_on(&attachment.applied)
    } else {
        ExitCode::SUCCESS
    })
}
