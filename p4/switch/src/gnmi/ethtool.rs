//! Speed, negotiation and forward error correction of network devices: the kernel's ethtool over generic netlink.
//!
//! A call is one request and its reply on a socket that belongs to the network namespace in which it was opened. Messages are small
//! and have few attributes, so they are written and read here.
//!
//! Source: the kernel's `Documentation/networking/ethtool-netlink.rst` and `include/uapi/linux/ethtool_netlink.h`.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::ethernet::{Fec, Settings};

/// Longest wait for a reply: a driver may ask its firmware.
const PATIENCE_SECONDS: i64 = 10;

/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// `NLMSG_ERROR`: also the acknowledgement.
const ERROR: u16 = 2;
/// Headers of netlink and of generic netlink, in octets.
const HEADERS: usize = 16 + 4;

/// The controller of generic netlink (`GENL_ID_CTRL`), its `CTRL_CMD_GETFAMILY`, and attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `ETHTOOL_MSG_*`.
const LINKMODES_GET: u8 = 4;
const LINKMODES_SET: u8 = 5;
const FEC_GET: u8 = 29;
const FEC_SET: u8 = 30;

/// The first attribute of each message is its header, with the name of the device and flags.
const A_HEADER: u16 = 1;
const A_HEADER_NAME: u16 = 2;
const A_HEADER_FLAGS: u16 = 3;
/// `ETHTOOL_FLAG_COMPACT_BITSETS`.
const COMPACT: u32 = 1;
/// `ETHTOOL_A_LINKMODES_*`.
const A_AUTONEG: u16 = 2;
const A_SPEED: u16 = 5;
const A_DUPLEX: u16 = 6;
/// `ETHTOOL_A_FEC_*`.
const A_FEC_MODES: u16 = 2;
const A_FEC_AUTO: u16 = 3;
const A_FEC_ACTIVE: u16 = 4;
/// `ETHTOOL_A_BITSET_*`.
const A_NOMASK: u16 = 1;
const A_SIZE: u16 = 2;
const A_VALUE: u16 = 4;
/// `DUPLEX_FULL`: these speeds have no other that anybody uses.
const FULL: u8 = 1;
/// The kernel's speed of a port that has none (`SPEED_UNKNOWN`).
const UNKNOWN: u32 = u32::MAX;

/// Link modes that stand for forward error correction (`ETHTOOL_LINK_MODE_FEC_*_BIT`).
const BIT_NONE: u32 = 49;
const BIT_RS: u32 = 50;
const BIT_BASER: u32 = 51;
const BIT_LLRS: u32 = 74;
/// Bits of the bitset that is sent: up to the last one of these, in words of 32.
const BITS: u32 = 96;

/// What the kernel says of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wire {
    /// Bits per second; none without a link, and if the driver does not say.
    pub speed_bps: Option<u64>,
    /// Whether it negotiates.
    pub auto_negotiate: Option<bool>,
    /// Forward error correction in use; none if the driver has none.
    pub fec: Option<Fec>,
}

/// A socket to ethtool.
pub struct Ethtool {
    socket: Socket,
    family: u16,
    sequence: u32,
}

/// Attributes of a message.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        // NLA_F_NESTED
        self.with(kind | 0x8000, &inner.0)
    }

    fn of_device(name: &str) -> Self {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        let header = Self::default()
            .with(A_HEADER_NAME, &text)
            .with(A_HEADER_FLAGS, &COMPACT.to_ne_bytes());
        Self::default().nested(A_HEADER, &header)
    }
}

/// The attributes in some octets: kind without its flags, and value.
fn attributes(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(([l0, l1, k0, k1], _)) = octets.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let kind = u16::from_ne_bytes([*k0, *k1]) & 0x3fff;
        let Some(value) = octets.get(4..length) else { break };
        found.push((kind, value));
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn value<'a>(all: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    all.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value)
}

fn number(octets: &[u8]) -> Option<u32> {
    match octets {
        [one] => Some((*one).into()),
        [a, b] => Some(u16::from_ne_bytes([*a, *b]).into()),
        _ => octets.first_chunk::<4>().map(|four| u32::from_ne_bytes(*four)),
    }
}

/// The mode of a link mode bit. The kernel has one bit for all Reed-Solomon codes: which one it is follows from the speed.
fn fec_of(bit: u32, speed_bps: Option<u64>) -> Option<Fec> {
    match bit {
        BIT_NONE => Some(Fec::Disabled),
        BIT_BASER => Some(Fec::Fc),
        BIT_RS | BIT_LLRS if speed_bps.is_some_and(|speed| speed > 100_000_000_000) => Some(Fec::Rs544),
        BIT_RS | BIT_LLRS => Some(Fec::Rs528),
        _ => None,
    }
}

/// Attributes that ask for a mode.
fn fec_request(attributes: Attributes, fec: Fec) -> Attributes {
    let bit = match fec {
        Fec::Auto => return attributes.with(A_FEC_AUTO, &[1]),
        Fec::Disabled => BIT_NONE,
        Fec::Fc => BIT_BASER,
        Fec::Rs528 | Fec::Rs544 | Fec::Rs544Interleaved => BIT_RS,
    };
    let mut words = [0u32; BITS as usize / 32];
    if let Some(word) = words.get_mut(bit as usize / 32) {
        *word |= 1 << (bit % 32);
    }
    let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let modes = Attributes::default()
        .with(A_NOMASK, &[])
        .with(A_SIZE, &BITS.to_ne_bytes())
        .with(A_VALUE, &octets);
    attributes.nested(A_FEC_MODES, &modes).with(A_FEC_AUTO, &[0])
}

/// What a reply says of forward error correction.
fn fec_reply(body: &[u8], speed_bps: Option<u64>) -> Option<Fec> {
    let all = attributes(body);
    if let Some(active) = value(&all, A_FEC_ACTIVE).and_then(number) {
        return fec_of(active, speed_bps);
    }
    if value(&all, A_FEC_AUTO).and_then(number) == Some(1) {
        return Some(Fec::Auto);
    }
    let modes = attributes(value(&all, A_FEC_MODES)?);
    let words = value(&modes, A_VALUE)?;
    let is_set = |bit: u32| {
        let word = words.chunks_exact(4).nth(bit as usize / 32).and_then(number);
        word.is_some_and(|word| word >> (bit % 32) & 1 == 1)
    };
    let bit = [BIT_RS, BIT_LLRS, BIT_BASER, BIT_NONE]
        .into_iter()
        .find(|bit| is_set(*bit))?;
    fec_of(bit, speed_bps)
}

impl Ethtool {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no ethtool over netlink (before Linux 5.6), or refuses a socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let timeout = nix::sys::time::TimeVal::new(PATIENCE_SECONDS, 0);
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
        let mut this = Self {
            socket,
            family: CONTROL,
            sequence: 0,
        };
        let name = Attributes::default().with(FAMILY_NAME, b"ethtool\0");
        let body = this.call(GET_FAMILY, &name)?;
        let id = value(&attributes(&body), FAMILY_ID).and_then(number);
        let id = id.and_then(|id| u16::try_from(id).ok());
        this.family = id.ok_or_else(|| io::Error::other("the kernel names no family of ethtool"))?;
        Ok(this)
    }

    /// Sends a request; returns the attributes of the reply, which a request that changes something does not have.
    fn call(&mut self, command: u8, attributes: &Attributes) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADERS + attributes.0.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(HEADERS + attributes.0.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&self.family.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | ACK).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&[command, 1, 0, 0]);
        message.extend_from_slice(&attributes.0);
        self.socket.send(&message, 0)?;
        let mut reply = Vec::new();
        loop {
            let (received, _) = self.socket.recv_from_full()?;
            let mut rest = received.as_slice();
            while let Some(length) = rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
                let Some(message) = rest.get(..length).filter(|_| length >= 16) else {
                    break;
                };
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                let field = |at: usize| message.get(at..at + 4).and_then(number);
                if field(8) != Some(self.sequence) {
                    // Left over from a call that was given up.
                    continue;
                }
                let kind = message.get(4..6).and_then(number);
                if kind != Some(ERROR.into()) {
                    reply = message.get(HEADERS..).unwrap_or_default().to_vec();
                    continue;
                }
                return match message.get(16..20).and_then(number).map(u32::cast_signed) {
                    Some(0) => Ok(reply),
                    Some(code) => Err(io::Error::from_raw_os_error(-code)),
                    None => Err(io::Error::other("a netlink error without a code")),
                };
            }
        }
    }

    /// What the kernel says of a device. What its driver does not know is left out.
    ///
    /// # Errors
    /// There is no such device, or the kernel does not reply.
    pub fn read(&mut self, device: &str) -> io::Result<Wire> {
        let optional = |done: io::Result<Vec<u8>>| match done {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            done => done,
        };
        let modes = optional(self.call(LINKMODES_GET, &Attributes::of_device(device)))?;
        let all = attributes(&modes);
        let mbps = value(&all, A_SPEED).and_then(number);
        // Zero is what a device without a link says in older kernels.
        let mbps = mbps.filter(|mbps| *mbps != UNKNOWN && *mbps != 0);
        let speed_bps = mbps.map(|mbps| u64::from(mbps) * 1_000_000);
        let fec = optional(self.call(FEC_GET, &Attributes::of_device(device)))?;
        Ok(Wire {
            speed_bps,
            auto_negotiate: value(&all, A_AUTONEG).and_then(number).map(|on| on != 0),
            fec: fec_reply(&fec, speed_bps),
        })
    }

    /// Changes a device. If one setting is refused, those before it are undone. The first element of an error is the leaf of
    /// openconfig-if-ethernet that it is about.
    ///
    /// # Errors
    /// What the kernel says; `EOPNOTSUPP` if the driver cannot do it.
    pub fn set(&mut self, device: &str, settings: Settings) -> Result<(), (&'static str, io::Error)> {
        let speed = settings
            .speed_bps
            .map(|bps| u32::try_from(bps / 1_000_000).unwrap_or(UNKNOWN));
        let leaf = if speed.is_some() {
            "port-speed"
        } else {
            "auto-negotiate"
        };
        let before = self.read(device).map_err(|error| (leaf, error))?;
        let is_linkmodes = speed.is_some() || settings.auto_negotiate.is_some();
        if is_linkmodes {
            let request = linkmodes(device, speed, settings.auto_negotiate);
            self.call(LINKMODES_SET, &request).map_err(|error| (leaf, error))?;
        }
        let Some(fec) = settings.fec else { return Ok(()) };
        let request = fec_request(Attributes::of_device(device), fec);
        let Err(error) = self.call(FEC_SET, &request) else {
            return Ok(());
        };
        if is_linkmodes {
            let mbps = before.speed_bps.and_then(|bps| u32::try_from(bps / 1_000_000).ok());
            let undo = linkmodes(device, mbps, before.auto_negotiate);
            if let Err(error) = self.call(LINKMODES_SET, &undo) {
                tracing::error!(device, %error, "the speed that was set cannot be undone");
            }
        }
        Err(("fec-mode", error))
    }
}

fn linkmodes(device: &str, mbps: Option<u32>, auto_negotiate: Option<bool>) -> Attributes {
    let mut request = Attributes::of_device(device);
    if let Some(on) = auto_negotiate {
        request = request.with(A_AUTONEG, &[on.into()]);
    }
    if let Some(mbps) = mbps {
        request = request.with(A_SPEED, &mbps.to_ne_bytes()).with(A_DUPLEX, &[FULL]);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_mode_is_read_as_a_driver_that_has_it_would_reply() {
        const G100: Option<u64> = Some(100_000_000_000);
        for (asked, bps, read) in [
            (Fec::Rs528, G100, Fec::Rs528),
            (Fec::Rs544, Some(400_000_000_000), Fec::Rs544),
            (Fec::Fc, G100, Fec::Fc),
            (Fec::Disabled, G100, Fec::Disabled),
            (Fec::Auto, G100, Fec::Auto),
        ] {
            let message = fec_request(Attributes::of_device("eth0"), asked).0;
            assert_eq!(fec_reply(&message, bps), Some(read), "{asked}");
            // What is in use counts more than what was asked for.
            let active = fec_request(Attributes::default(), asked).with(A_FEC_ACTIVE, &BIT_BASER.to_ne_bytes());
            assert_eq!(fec_reply(&active.0, bps), Some(Fec::Fc));
        }
    }

    #[test]
    fn broken_replies_say_nothing() {
        let whole = fec_request(Attributes::of_device("eth0"), Fec::Rs528).0;
        for length in 0..whole.len() {
            let _ = fec_reply(&whole[..length], None);
        }
        assert_eq!(fec_reply(&[], None), None);
        assert_eq!(fec_reply(&[3, 0, 2, 0], None), None);
        assert_eq!(fec_reply(&[0xff; 64], None), None);
    }
}
