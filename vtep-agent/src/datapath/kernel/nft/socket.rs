//! The exchange with nf_tables in one network namespace.
//!
//! Changes go in a transaction: the kernel applies all of it or nothing, and packets see it all at once.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::message::{
    Element, Family, GET_CHAIN, GET_ELEMENT, GET_GENERATION, GET_RULE, GET_TABLE, Message, Shown, Table, attribute,
    shown,
};
use crate::error::NetlinkError;

/// Subsystem of nf_tables (NFNL_SUBSYS_NFTABLES).
const SUBSYSTEM: u16 = 10;
/// Begin and end of a transaction (NFNL_MSG_BATCH_*).
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Send buffer: a transaction is one message. 4 MiB hold some 50,000 elements.
const SEND_BUFFER: usize = 4 << 20;
/// Elements in one message: the list is one attribute, of at most 64 KiB.
pub(in super::super) const MAX_ELEMENTS: usize = 512;
/// Longest time the kernel may take to answer.
const ANSWER_TIMEOUT_SECONDS: i64 = 30;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
/// Header of nfnetlink messages: family, version, resource id.
const NFGENMSG: usize = 4;

/// A socket in one network namespace: that of the thread that opened it.
pub(in super::super) struct Nft {
    socket: Socket,
    sequence: u32,
}

impl Nft {
    pub(in super::super) fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            let timeout = nix::sys::time::TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0);
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
            // Only root of the initial user namespace may exceed the system's limit.
            let forced = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &SEND_BUFFER);
            if forced == Err(nix::errno::Errno::EPERM) {
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBuf, &SEND_BUFFER)?;
            } else {
                forced?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|e| NetlinkError::io("open a socket to nf_tables", &e))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn append(&mut self, buffer: &mut Vec<u8>, kind: u16, flags: u16, family: u8, number: u16, body: &[u8]) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(NLMSG_HEADER + NFGENMSG + body.len()).unwrap_or(u32::MAX);
        buffer.extend_from_slice(&length.to_ne_bytes());
        buffer.extend_from_slice(&kind.to_ne_bytes());
        buffer.extend_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(&self.sequence.to_ne_bytes());
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        buffer.extend_from_slice(&[family, 0]);
        buffer.extend_from_slice(&number.to_be_bytes());
        buffer.extend_from_slice(body);
        self.sequence
    }

    /// Applies messages as one transaction.
    pub(in super::super) fn commit(&mut self, messages: &[Message]) -> Result<(), NetlinkError> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut buffer = Vec::new();
        self.append(&mut buffer, BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
        let begin = self.sequence;
        let first = begin.wrapping_add(1);
        for (i, m) in messages.iter().enumerate() {
            let ack = if i + 1 == messages.len() { NLM_F_ACK } else { 0 };
            let kind = SUBSYSTEM << 8 | m.kind;
            self.append(
                &mut buffer,
                kind,
                NLM_F_REQUEST | ack | m.flags,
                m.family as u8,
                0,
                &m.body.0,
            );
        }
        let last = self.sequence;
        self.append(&mut buffer, END, NLM_F_REQUEST, 0, SUBSYSTEM, &[]);
        let fail = |e: io::Error| NetlinkError::io("change packet filters", &e);
        self.socket.send(&buffer, 0).map_err(fail)?;
        // Errors come for the messages that failed, and an answer for the last message.
        let mut failed = None;
        loop {
            for (kind, sequence, body) in self.receive().map_err(fail)? {
                // Only messages from `begin` to the end message belong to it; others are left over from an earlier
                // exchange.
                let of_this = sequence.wrapping_sub(begin) <= last.wrapping_sub(begin).wrapping_add(1);
                if kind != NLMSG_ERROR || !of_this {
                    continue;
                }
                let code = body.first_chunk::<4>().map_or(-libc::EIO, |b| i32::from_ne_bytes(*b));
                if code != 0 && failed.is_none() {
                    let message = messages.get(sequence.wrapping_sub(first) as usize);
                    failed = Some(NetlinkError {
                        what: message.map_or_else(|| "change packet filters".into(), |m| m.what.clone()),
                        errno: -code,
                        hint: None,
                    });
                }
                // An error about the whole transaction names its first or its last message.
                let whole = sequence == begin || sequence == last.wrapping_add(1);
                if sequence == last || (code != 0 && whole) {
                    return failed.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends a query and collects the replies until the end message.
    fn ask(
        &mut self,
        kind: u16,
        family: Family,
        flags: u16,
        body: &[u8],
        what: &str,
    ) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let fail = |e: io::Error| NetlinkError::io(what, &e);
        let mut buffer = Vec::new();
        let flags = NLM_F_REQUEST | flags;
        let sequence = self.append(&mut buffer, SUBSYSTEM << 8 | kind, flags, family as u8, 0, body);
        self.socket.send(&buffer, 0).map_err(fail)?;
        let mut found = Vec::new();
        loop {
            for (kind, of, body) in self.receive().map_err(fail)? {
                if of != sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        let code = body.first_chunk::<4>().map_or(-libc::EIO, |b| i32::from_ne_bytes(*b));
                        if code == 0 {
                            return Ok(found);
                        }
                        return Err(NetlinkError {
                            what: what.to_owned(),
                            errno: -code,
                            hint: None,
                        });
                    }
                    _ => {
                        found.push(body.get(NFGENMSG..).unwrap_or_default().to_vec());
                        if flags & NLM_F_DUMP == 0 {
                            return Ok(found);
                        }
                    }
                }
            }
        }
    }

    /// The note of a table; `None` when there is no such table.
    pub(in super::super) fn note(&mut self, table: Table) -> Result<Option<Vec<u8>>, NetlinkError> {
        let mut body = super::message::Attributes::default();
        body.text(1, table.name);
        let what = format!("read table {}", table.name);
        match self.ask(GET_TABLE, table.family, 0, &body.0, &what) {
            Ok(found) => Ok(found.first().map(|b| attribute(b, 6).unwrap_or_default().to_vec())),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names of a table's chains.
    pub(in super::super) fn chains(&mut self, table: Table) -> Result<Vec<String>, NetlinkError> {
        let what = format!("read the chains of table {}", table.name);
        let found = self.ask(GET_CHAIN, table.family, NLM_F_DUMP, &[], &what)?;
        let text = |body: &[u8], kind: u16| -> Option<String> {
            let value = attribute(body, kind)?;
            Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned())
        };
        let of_table = found.iter().filter(|b| text(b, 1).as_deref() == Some(table.name));
        Ok(of_table.filter_map(|b| text(b, 3)).collect())
    }

    /// Whether a table has a chain of that name.
    pub(in super::super) fn has_chain(&mut self, table: Table, name: &str) -> Result<bool, NetlinkError> {
        let mut body = super::message::Attributes::default();
        body.text(1, table.name);
        body.text(3, name);
        match self.ask(GET_CHAIN, table.family, 0, &body.0, &format!("read chain {name}")) {
            Ok(found) => Ok(!found.is_empty()),
            Err(e) if e.is_absent() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// How many rules a table has: somebody may have flushed or added some.
    pub(in super::super) fn count_rules(&mut self, table: Table) -> Result<usize, NetlinkError> {
        let mut body = super::message::Attributes::default();
        body.text(1, table.name);
        let what = format!("read the rules of table {}", table.name);
        Ok(self.ask(GET_RULE, table.family, NLM_F_DUMP, &body.0, &what)?.len())
    }

    /// The elements of a set.
    pub(in super::super) fn elements(&mut self, table: Table, set: &str) -> Result<Vec<Shown>, NetlinkError> {
        let mut body = super::message::Attributes::default();
        body.text(1, table.name);
        body.text(2, set);
        let what = format!("read set {set}");
        let found = self.ask(GET_ELEMENT, table.family, NLM_F_DUMP, &body.0, &what)?;
        Ok(found.iter().flat_map(|b| shown(b)).collect())
    }

    /// The number of the last change that anybody made in this namespace.
    pub(in super::super) fn generation(&mut self) -> Result<u32, NetlinkError> {
        let what = "read the generation of packet filters";
        let found = self.ask(GET_GENERATION, Family::Bridge, 0, &[], what)?;
        let id = found.first().and_then(|b| attribute(b, 1)?.try_into().ok());
        Ok(id.map_or(0, u32::from_be_bytes))
    }

    fn receive(&mut self) -> io::Result<Vec<(u16, u32, Vec<u8>)>> {
        let datagram = loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => break datagram,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        Ok(parse(&datagram))
    }
}

/// The messages of a datagram: kind, sequence number, body.
fn parse(mut rest: &[u8]) -> Vec<(u16, u32, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(header) = rest.first_chunk::<NLMSG_HEADER>() {
        let [a, b, c, d, e, f, _, _, i, j, k, l, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(body) = rest.get(NLMSG_HEADER..length) else {
            break;
        };
        found.push((
            u16::from_ne_bytes([e, f]),
            u32::from_ne_bytes([i, j, k, l]),
            body.to_vec(),
        ));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Messages for any number of elements.
pub(in super::super) fn in_parts(elements: &[Element], message: impl Fn(&[Element]) -> Message) -> Vec<Message> {
    elements.chunks(MAX_ELEMENTS).map(message).collect()
}
