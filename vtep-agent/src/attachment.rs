//! `vtep-agent attachment`: interfaces of running containers.

use std::net::IpAddr;
use std::path::Path;

use anyhow::bail;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use vfabric_cni::command::ask;
use vfabric_cni::protocol::{Attached, Reply, Request, Slot, Wish};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Lists the interfaces.
    List,
    /// Adds an interface to a container that has one already.
    Add {
        #[command(flatten)]
        slot: SlotArgs,
        /// The vDC.
        #[arg(long)]
        vdc: String,
        #[command(flatten)]
        wish: WishArgs,
        /// Identity of the workload, if its attachment may move to another host with it (16 to 128 characters that nobody guesses).
        #[arg(long)]
        workload: Option<String>,
    },
    /// Removes an interface.
    Del {
        #[command(flatten)]
        slot: SlotArgs,
    },
    /// Puts an interface into another network of its vDC. It keeps its name, and its MAC address unless --mac is given.
    Swap {
        #[command(flatten)]
        slot: SlotArgs,
        #[command(flatten)]
        wish: WishArgs,
    },
}

#[derive(Args)]
pub(crate) struct SlotArgs {
    /// The runtime's id of the container, in full.
    container: String,
    /// Name of the interface in it.
    interface: String,
}

#[derive(Args)]
pub(crate) struct WishArgs {
    /// The tenant network.
    #[arg(long)]
    network: String,
    /// MAC address.
    #[arg(long)]
    mac: Option<String>,
    /// An address; may be given more than once. Allocated when left out.
    #[arg(long = "ip")]
    ips: Vec<IpAddr>,
}

impl From<SlotArgs> for Slot {
    fn from(SlotArgs { container, interface }: SlotArgs) -> Self {
        Self { container, interface }
    }
}

/// Asks the agent; returns what to print.
pub(crate) fn run(socket: &Path, verb: Verb) -> anyhow::Result<String> {
    let request = match verb {
        Verb::List => Request::List,
        Verb::Add {
            slot,
            vdc,
            wish,
            workload,
        } => Request::Plug {
            slot: slot.into(),
            wish: Wish {
                cni_network: String::new(),
                vdc,
                network: wish.network,
                mac: wish.mac,
                ips: wish.ips,
                workload,
            },
        },
        Verb::Del { slot } => Request::Del { slot: slot.into() },
        Verb::Swap { slot, wish } => Request::Swap {
            slot: slot.into(),
            cni_network: None,
            network: wish.network,
            mac: wish.mac,
            ips: wish.ips,
        },
    };
    match ask(socket, &request)? {
        Reply::Done => Ok("done".to_owned()),
        Reply::Attached(attached) => Ok(line(&attached)),
        Reply::Listed(all) => Ok(table(&all)),
        Reply::Failed { message, .. } => bail!(message),
    }
}

fn line(attached: &Attached) -> String {
    let addresses: Vec<String> = attached.addresses.iter().map(ToString::to_string).collect();
    format!("{} {} mtu {}", attached.mac, addresses.join(" "), attached.mtu)
}

fn table(all: &[(Slot, Wish)]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["CONTAINER", "INTERFACE", "VDC", "NETWORK"]);
    for (slot, wish) in all {
        table.add_row([&slot.container, &slot.interface, &wish.vdc, &wish.network]);
    }
    table.to_string()
}
