//! Between plugin and agent: one request and one reply on a connection, each a length (4 octets, big endian) and that
//! many octets of JSON.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Default path of the agent's socket.
pub const SOCKET: &str = "/run/vfabric/cni.sock";
/// Most octets of a message: a list of 4,096 valid attachments, with room to spare.
pub const MAX_MESSAGE: usize = 1 << 20;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The runtime's id of the container, or sandbox.
    pub container: String,
    /// Name of the interface in it.
    pub interface: String,
}

/// A requested attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Name of the CNI network, for GC. Empty for an interface that was added to a running container: it is removed with the
    /// last interface that the runtime has added.
    pub cni_network: String,
    /// The vDC.
    pub vdc: String,
    /// The tenant network.
    pub network: String,
    /// MAC address; derived when left out.
    pub mac: Option<String>,
    /// Addresses; allocated when there are none.
    pub ips: Vec<IpAddr>,
    /// Identity of the workload, if its attachment may move to another host with it: 16 to 128 printable ASCII characters that nobody
    /// guesses, such as a UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Attach.
    Add {
        /// The interface.
        slot: Slot,
        /// Path of the network namespace.
        netns: String,
        /// The requested attachment.
        wish: Wish,
    },
    /// Put an interface into another network of its vDC. The interface stays.
    Swap {
        /// The interface.
        slot: Slot,
        /// Name of the CNI network from now on; unchanged when left out.
        #[serde(default)]
        cni_network: Option<String>,
        /// The tenant network.
        network: String,
        /// MAC address; unchanged when left out.
        mac: Option<String>,
        /// Addresses; allocated when there are none.
        ips: Vec<IpAddr>,
    },
    /// Add an interface to a container that has one.
    Plug {
        /// The interface.
        slot: Slot,
        /// The requested attachment.
        wish: Wish,
    },
    /// List the attachments.
    List,
    /// Detach; succeeds if the interface is already gone.
    Del {
        /// The interface.
        slot: Slot,
    },
    /// Compare with the kernel.
    Check {
        /// The interface.
        slot: Slot,
    },
    /// Report whether ADD would work.
    Status,
    /// Detach all interfaces of a CNI network that are not listed.
    Gc {
        /// Name of the CNI network.
        cni_network: String,
        /// Interfaces that stay.
        valid: Vec<Slot>,
    },
}

/// An interface that is in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// MAC address.
    pub mac: String,
    /// MTU, in octets.
    pub mtu: u32,
    /// Addresses with the lengths of their prefixes.
    pub addresses: Vec<IpNet>,
    /// Routes through it: destination and next hop.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Reply to requests that attach or compare.
    Attached(Attached),
    /// Reply to `list`.
    Listed(Vec<(Slot, Wish)>),
    /// Reply to the others.
    Done,
    /// The request failed.
    Failed {
        /// Code of CNI.
        code: u32,
        /// Why.
        message: String,
    },
}

/// The octets of a message.
///
/// # Errors
/// When it is too long.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MAX_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other(format!("a message of {} octets is too long", text.len())))?;
    Ok([&length.to_be_bytes(), text.as_slice()].concat())
}

/// The length at the start of a message.
///
/// # Errors
/// When it is too long.
pub fn length(header: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} octets is too long")));
    }
    Ok(length)
}

/// Sends a message.
///
/// # Errors
/// When it is too long, or the other side is gone.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Receives a message.
///
/// # Errors
/// When the other side is gone or sent something else.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut header = [0; 4];
    from.read_exact(&mut header)?;
    let mut text = vec![0; length(header)?];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
