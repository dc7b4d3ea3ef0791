//! A synchronous rtnetlink socket (RFC 3549; linux/netlink.h).
//!
//! The kernel carries out a request inside `send`, so there is nothing to wait for: a blocking socket on the thread
//! that owns the datapath is the simplest solution. Many requests go in one `send` ([`BATCH_OCTETS`]); each gets its
//! own acknowledgement, with the kernel's text about a failure (extended acknowledgements).

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::NetlinkError;

/// Requests that go in one `send`. The kernel copies a `send` into one buffer and answers
/// into the socket's receive buffer (212992 octets by default), an acknowledgement taking
/// less than 1 KiB of it: 64 requests of up to 256 octets stay clear of both limits.
const BATCH_REQUESTS: usize = 64;
/// Octets that go in one `send`, for requests that are larger than usual.
const BATCH_OCTETS: usize = 32 * 1024;
/// How often a dump is repeated if the kernel says that a change interrupted it.
const DUMP_ATTEMPTS: usize = 5;
/// Longest time the kernel may take to answer; it answers inside `send`, so this only ends
/// a wait that a lost message would make endless.
const ANSWER_TIMEOUT_SECONDS: i64 = 30;

const NLMSG_HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// Extended acknowledgement: a text (NLMSGERR_ATTR_MSG).
const ATTR_MSG: u16 = 1;

/// One request: what to send, and its description for errors.
pub(super) struct Request {
    pub(super) message: RouteNetlinkMessage,
    /// `NLM_F_CREATE`, `NLM_F_REPLACE` ...; `REQUEST` and `ACK` are added.
    pub(super) flags: u16,
    pub(super) what: String,
}

impl Request {
    pub(super) fn new(message: RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Self {
        Self {
            message,
            flags,
            what: what.into(),
        }
    }
}

/// A socket in one network namespace: that of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An answer of the kernel.
enum Answer {
    /// A message of a dump, or the object that was asked for.
    Object(Box<RouteNetlinkMessage>),
    /// The acknowledgement of a request, or the failure.
    Acknowledged(Result<(), (i32, Option<String>)>),
    /// The end of a dump.
    Done,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Self::try_open().map_err(|e| NetlinkError::io("open a netlink socket", &e))
    }

    fn try_open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        // Dumps honour filters only when asked strictly (Linux 4.20).
        socket.set_netlink_get_strict_chk(true)?;
        let timeout = nix::sys::time::TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0);
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends requests and returns the outcome of each, in the same order. A request is carried out even if one before
    /// it failed.
    pub(super) fn batch(&mut self, requests: Vec<Request>) -> Vec<Result<(), NetlinkError>> {
        let mut outcomes: Vec<Option<Result<(), NetlinkError>>> = requests.iter().map(|_| None).collect();
        let mut rest = requests.into_iter().enumerate().peekable();
        while rest.peek().is_some() {
            let mut buffer = Vec::with_capacity(BATCH_OCTETS);
            let mut sent: Vec<(usize, u32, String)> = Vec::with_capacity(BATCH_REQUESTS);
            while sent.len() < BATCH_REQUESTS && buffer.len() < BATCH_OCTETS {
                let Some((index, request)) = rest.next() else { break };
                let sequence = self.serialize(request.message, request.flags | NLM_F_ACK, &mut buffer);
                sent.push((index, sequence, request.what));
            }
            self.exchange(&buffer, sent, &mut outcomes);
        }
        let lost = || NetlinkError::io("netlink", &io::Error::from_raw_os_error(libc::EIO));
        outcomes.into_iter().map(|o| o.unwrap_or_else(|| Err(lost()))).collect()
    }

    /// Sends one buffer of requests and collects their acknowledgements.
    fn exchange(
        &mut self,
        buffer: &[u8],
        mut sent: Vec<(usize, u32, String)>,
        outcomes: &mut [Option<Result<(), NetlinkError>>],
    ) {
        let mut fail_rest = |sent: Vec<(usize, u32, String)>, error: &io::Error| {
            for (index, _, what) in sent {
                outcomes[index] = Some(Err(NetlinkError::io(what, error)));
            }
        };
        if let Err(error) = self.socket.send(buffer, 0) {
            return fail_rest(sent, &error);
        }
        let mut done = Vec::with_capacity(sent.len());
        while !sent.is_empty() {
            let answers = match self.receive() {
                Ok(answers) => answers,
                Err(error) => {
                    fail_rest(sent, &error);
                    break;
                }
            };
            for (header, answer) in answers {
                let Answer::Acknowledged(result) = answer else { continue };
                if let Some(at) = sent
                    .iter()
                    .position(|(_, sequence, _)| *sequence == header.sequence_number)
                {
                    let (index, _, what) = sent.swap_remove(at);
                    done.push((
                        index,
                        result.map_err(|(errno, hint)| NetlinkError { what, errno, hint }),
                    ));
                }
            }
        }
        for (index, result) in done {
            outcomes[index] = Some(result);
        }
    }

    /// Sends one request and waits for its acknowledgement.
    pub(super) fn request(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.batch(vec![request]).pop().unwrap_or(Ok(()))
    }

    /// Asks for one object; `None` when there is none.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        match self.converse(message, 0, what) {
            Ok((mut objects, _)) => Ok(objects.pop()),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for all objects that match.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 1..DUMP_ATTEMPTS {
            let (objects, interrupted) = self.converse(message.clone(), NLM_F_DUMP, what)?;
            if !interrupted {
                return Ok(objects);
            }
        }
        // Still changing: use the last dump; notifications report later changes.
        Ok(self.converse(message, NLM_F_DUMP, what)?.0)
    }

    /// Sends a query and collects the objects of the reply; returns whether the kernel says that they changed
    /// meanwhile.
    fn converse(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), NetlinkError> {
        let fail = |e: io::Error| NetlinkError::io(what, &e);
        let mut buffer = Vec::new();
        let sequence = self.serialize(message, flags, &mut buffer);
        self.socket.send(&buffer, 0).map_err(fail)?;
        let (mut objects, mut interrupted) = (Vec::new(), false);
        loop {
            for (header, answer) in self.receive().map_err(fail)? {
                if header.sequence_number != sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match answer {
                    Answer::Object(object) => {
                        objects.push(*object);
                        if flags & NLM_F_DUMP == 0 {
                            return Ok((objects, interrupted));
                        }
                    }
                    Answer::Done | Answer::Acknowledged(Ok(())) => return Ok((objects, interrupted)),
                    Answer::Acknowledged(Err((errno, hint))) => {
                        return Err(NetlinkError {
                            what: what.to_owned(),
                            errno,
                            hint,
                        });
                    }
                }
            }
        }
    }

    /// Appends a request to a buffer and returns its sequence number.
    fn serialize(&mut self, message: RouteNetlinkMessage, flags: u16, buffer: &mut Vec<u8>) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..]);
        self.sequence
    }

    fn receive(&mut self) -> io::Result<Vec<(NetlinkHeader, Answer)>> {
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

/// The messages of a datagram from the kernel. What this program cannot decode (an attribute
/// of a link of some other kind) is left out: it is not one of ours.
fn parse(datagram: &[u8]) -> Vec<(NetlinkHeader, Answer)> {
    let mut answers = Vec::new();
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b) as usize) {
        if length < NLMSG_HEADER || length > rest.len() {
            break;
        }
        let (message, _) = rest.split_at(length);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let field16 = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        let mut header = NetlinkHeader::default();
        header.length = length as u32;
        header.message_type = field16(4);
        header.flags = field16(6);
        header.sequence_number = u32::from_ne_bytes([message[8], message[9], message[10], message[11]]);
        let answer = match header.message_type {
            NLMSG_DONE => Answer::Done,
            NLMSG_ERROR => Answer::Acknowledged(acknowledgement(header.flags, &message[NLMSG_HEADER..])),
            kind => match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|m| m.payload) {
                Ok(NetlinkPayload::InnerMessage(object)) => Answer::Object(Box::new(object)),
                Ok(_) => continue,
                Err(error) => {
                    tracing::trace!(kind, %error, "netlink message left out");
                    continue;
                }
            },
        };
        answers.push((header, answer));
    }
    answers
}

/// Reads octets as an answer of the kernel and forgets it.
pub(super) fn read_any(octets: &[u8]) {
    parse(octets);
}

/// Reads NLMSG_ERROR: 0 or a negative error number, the header of the request (its body too
/// unless capped), attributes.
fn acknowledgement(flags: u16, payload: &[u8]) -> Result<(), (i32, Option<String>)> {
    let code = payload
        .first_chunk::<4>()
        .map_or(-libc::EIO, |b| i32::from_ne_bytes(*b));
    if code == 0 {
        return Ok(());
    }
    let mut hint = None;
    if flags & NLM_F_ACK_TLVS != 0 {
        let request = payload
            .get(4..8)
            .and_then(|b| b.try_into().ok())
            .map_or(NLMSG_HEADER, |b| u32::from_ne_bytes(b) as usize);
        let skip = 4 + if flags & NLM_F_CAPPED != 0 {
            NLMSG_HEADER
        } else {
            request.next_multiple_of(4)
        };
        let mut attributes = payload.get(skip..).unwrap_or_default();
        while let Some(head) = attributes.first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
            let Some(value) = attributes.get(4..length) else { break };
            if kind == ATTR_MSG {
                hint = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Err((-code, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_survived() {
        for length in 0..40usize {
            let mut datagram = vec![0xffu8; length];
            assert!(parse(&datagram).is_empty());
            if length >= 4 {
                datagram[..4].copy_from_slice(&(length as u32).to_ne_bytes());
                parse(&datagram);
            }
        }
    }

    #[test]
    fn failures_carry_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 16]);
        payload.extend_from_slice(&10u16.to_ne_bytes());
        payload.extend_from_slice(&ATTR_MSG.to_ne_bytes());
        payload.extend_from_slice(b"No it\0\0\0");
        let got = acknowledgement(NLM_F_CAPPED | NLM_F_ACK_TLVS, &payload);
        assert_eq!(got, Err((libc::EINVAL, Some("No it".to_owned()))));
    }
}
