//! Images over TFTP, read only (RFC 1350), with the options of RFC 2347 to 2349: block size, time-out, size.
//!
//! ONIE tries TFTP last, and puts the file names into folders named after its addresses. The folders are ignored,
//! because the sender's address identifies the client. Only `octet` mode is supported. After 65,535, block numbers
//! continue with 0, as all clients expect for large files.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vfabric_api::ident::Label;

use crate::board::{What, now};
use crate::client::{Client, shown};
use crate::http::Files;

/// Transfers at once. A transfer holds a socket and one block.
const TRANSFERS: usize = 64;
/// Size of a block without the option (RFC 1350), and smallest and largest size with it; larger blocks would be
/// fragmented.
const BLOCK: usize = 512;
const BLOCKS: std::ops::RangeInclusive<usize> = 8..=1468;
/// Wait for an acknowledgement, unless the client asks for another one.
const WAIT: Duration = Duration::from_secs(1);
/// How often a block is sent before the client is given up.
const TRIES: u32 = 6;
/// Longest request that is read.
const REQUEST: usize = 512;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file as the client names it.
    pub file: String,
    /// Octets of a block.
    pub block: usize,
    /// Wait for an acknowledgement.
    pub wait: Duration,
    /// Options to confirm; the size is filled in when it is known.
    options: Vec<(&'static str, String)>,
}

/// Why a request is refused: TFTP's error code (RFC 1350 section 5) and text.
pub type Refused = (u16, &'static str);

impl ReadRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Why it is refused; `None` for a datagram that is not a request and gets no answer.
    pub fn parse(octets: &[u8]) -> Result<Self, Option<Refused>> {
        let (code, rest) = octets.split_first_chunk::<2>().ok_or(None)?;
        match u16::from_be_bytes(*code) {
            RRQ => {}
            WRQ => return Err(Some((2, "this server is read only"))),
            _ => return Err(None),
        }
        let Some(rest) = rest.strip_suffix(&[0]) else {
            return Err(Some((4, "the request does not end")));
        };
        let mut fields = rest.split(|b| *b == 0);
        let (Some(file), Some(mode)) = (fields.next(), fields.next()) else {
            return Err(Some((4, "the request has no mode")));
        };
        if !mode.eq_ignore_ascii_case(b"octet") {
            return Err(Some((0, "only octet mode is supported")));
        }
        let file = std::str::from_utf8(file).map_err(|_| Some((1, "there is no such file")))?;
        let mut request = Self {
            file: file.to_owned(),
            block: BLOCK,
            wait: WAIT,
            options: Vec::new(),
        };
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let value = std::str::from_utf8(value).ok().and_then(|v| v.parse::<usize>().ok());
            let Some(value) = value else { continue };
            // Options that are not known, or out of range, are left out of the confirmation (RFC 2347).
            if name.eq_ignore_ascii_case(b"blksize") && value >= *BLOCKS.start() {
                request.block = value.min(*BLOCKS.end());
                request.options.push(("blksize", request.block.to_string()));
            } else if name.eq_ignore_ascii_case(b"timeout") && (1..=255).contains(&value) {
                request.wait = Duration::from_secs(value as u64);
                request.options.push(("timeout", value.to_string()));
            } else if name.eq_ignore_ascii_case(b"tsize") {
                request.options.push(("tsize", String::new()));
            }
        }
        Ok(request)
    }

    fn confirmation(&self, size: u64) -> Option<Vec<u8>> {
        if self.options.is_empty() {
            return None;
        }
        let mut packet = OACK.to_be_bytes().to_vec();
        for (name, value) in &self.options {
            let value = if *name == "tsize" {
                size.to_string()
            } else {
                value.clone()
            };
            packet.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
        }
        Some(packet)
    }
}

fn error(code: u16, text: &str) -> Vec<u8> {
    [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes(), &[0]].concat()
}

/// Serves until it is stopped. `own` is the source address of answers.
pub async fn serve(socket: UdpSocket, own: Ipv4Addr, files: Arc<Files>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(TRANSFERS));
    let mut octets = [0; REQUEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut octets) => received,
            () = stop.cancelled() => return,
        };
        // Errors of earlier answers (ICMP) come here too.
        let Ok((length, peer)) = received else { continue };
        let request = match ReadRequest::parse(octets.get(..length).unwrap_or_default()) {
            Ok(request) => request,
            Err(None) => continue,
            Err(Some((code, text))) => {
                let _ = socket.send_to(&error(code, text), peer).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            files.board.trouble(
                now(),
                &format!("{TRANSFERS} TFTP transfers run already: more are refused"),
            );
            let _ = socket.send_to(&error(0, "too many transfers: try again"), peer).await;
            continue;
        };
        let files = Arc::clone(&files);
        tokio::spawn(async move {
            if let Err(why) = transfer(&files, &request, own, peer).await {
                tracing::debug!(%peer, error = %why, "TFTP transfer ended");
            }
            drop(place);
        });
    }
}

async fn transfer(files: &Arc<Files>, request: &ReadRequest, own: Ipv4Addr, peer: SocketAddr) -> io::Result<()> {
    // The port identifies the transfer (RFC 1350 section 4).
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(peer).await?;
    let (client, _) = Client::of_headers(|_| None);
    let who = files.who(peer.ip(), &client, None);
    let last = request.file.rsplit('/').next().unwrap_or_default().to_owned();
    let name: Result<Label, String> = if last.starts_with("onie-") {
        files.waterfall(&last, &who)
    } else {
        last.parse()
            .map_err(|_| format!("{}: there is no such file", shown(request.file.as_bytes())))
    };
    let opened = match name {
        Ok(name) => {
            let (files, opening) = (Arc::clone(files), name.clone());
            let image = tokio::task::spawn_blocking(move || files.images.open(&opening)).await;
            image
                .map_err(io::Error::other)?
                .map(|image| (name, image))
                .map_err(|e| e.to_string())
        }
        Err(why) => Err(why),
    };
    let (name, image) = match opened {
        Ok(opened) => opened,
        Err(why) => {
            files.step(&who, What::NoFile, &format!("TFTP: {why}"));
            socket.send(&error(1, "there is no such file for you")).await?;
            return Ok(());
        }
    };
    let size = image.size;
    let sent = send(&socket, request, tokio::fs::File::from_std(image.file), size).await;
    match &sent {
        Ok(()) => files.step(&who, What::ImageFetched, &format!("{name}, {size} octets by TFTP")),
        Err(error) => files.step(&who, What::ImageBroken, &format!("{name} by TFTP: {error}")),
    }
    sent
}

async fn send(socket: &UdpSocket, request: &ReadRequest, mut file: tokio::fs::File, size: u64) -> io::Result<()> {
    if let Some(confirmation) = request.confirmation(size) {
        deliver(socket, &confirmation, 0, request.wait).await?;
    }
    let mut block: u16 = 1;
    let mut packet = Vec::with_capacity(4 + request.block);
    loop {
        packet.clear();
        packet.extend(DATA.to_be_bytes());
        packet.extend(block.to_be_bytes());
        let length = (&mut file).take(request.block as u64).read_to_end(&mut packet).await?;
        deliver(socket, &packet, block, request.wait).await?;
        // A short block is the last one; a file that ends with a full one is followed by an empty one.
        if length < request.block {
            return Ok(());
        }
        block = block.wrapping_add(1);
    }
}

/// Sends a packet until it is acknowledged. Acknowledgements of earlier blocks do not cause a repetition (RFC 1123
/// section 4.2.3.1).
async fn deliver(socket: &UdpSocket, packet: &[u8], block: u16, wait: Duration) -> io::Result<()> {
    for _ in 0..TRIES {
        socket.send(packet).await?;
        let acknowledged = async {
            let mut octets = [0; REQUEST];
            loop {
                let length = socket.recv(&mut octets).await?;
                let Some((code, rest)) = octets.get(..length).and_then(<[u8]>::split_first_chunk::<2>) else {
                    continue;
                };
                match u16::from_be_bytes(*code) {
                    ACK if rest.starts_with(&block.to_be_bytes()) => return Ok(()),
                    ERROR => {
                        let text = rest.get(2..).unwrap_or_default();
                        let why = format!("the client ends it: {}", shown(text));
                        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
                    }
                    _ => {}
                }
            }
        };
        match timeout(wait, acknowledged).await {
            Ok(result) => return result,
            Err(_) => continue,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the client does not acknowledge",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[&str]) -> Vec<u8> {
        let mut octets = RRQ.to_be_bytes().to_vec();
        for field in fields {
            octets.extend(field.bytes().chain([0]));
        }
        octets
    }

    #[test]
    fn options_are_confirmed_as_far_as_they_are_known() {
        let octets = request(&[
            "nos.bin", "OCTET", "blksize", "9000", "x", "1", "tsize", "0", "timeout", "300", "TIMEOUT", "2",
        ]);
        let read = ReadRequest::parse(&octets).unwrap();
        assert_eq!(
            (read.file.as_str(), read.block, read.wait),
            ("nos.bin", 1468, Duration::from_secs(2))
        );
        assert_eq!(
            read.confirmation(77).unwrap(),
            b"\0\x06blksize\x001468\0tsize\x0077\0timeout\x002\0"
        );
        let plain = ReadRequest::parse(&request(&["nos.bin", "octet"])).unwrap();
        assert_eq!((plain.block, plain.confirmation(1)), (512, None));
    }

    #[test]
    fn what_is_not_served_is_refused_and_what_is_no_request_gets_no_answer() {
        let code = |octets: &[u8]| ReadRequest::parse(octets).unwrap_err().map(|(code, _)| code);
        assert_eq!(code(b"\0\x02x\0octet\0"), Some(2));
        assert_eq!(code(&request(&["x", "netascii"])), Some(0));
        assert_eq!(code(&request(&["x"])), Some(4));
        assert_eq!(code(b"\0\x01x\0octet"), Some(4));
        assert_eq!(code(b"\0\x04\0\x01"), None);
        assert_eq!(code(b"\0"), None);
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(code in 0..8u8, octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = ReadRequest::parse(&[&[0, code], octets.as_slice()].concat());
            let _ = ReadRequest::parse(&octets);
        }
    }
}
