//! The pcap file format (draft-ietf-opsawg-pcap): one header, then records. Both byte orders and both resolutions are
//! read; nanoseconds are written.

use std::io::{self, Read, Write};
use std::time::Duration;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
/// Longest record that is accepted, in octets; a file with a longer one is damaged.
const MOST: usize = 256 << 10;

/// A frame with its time, since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it passed.
    pub time: Duration,
    /// Its octets.
    pub frame: Vec<u8>,
}

/// Reads a file.
pub struct Reader<R> {
    input: R,
    is_swapped: bool,
    is_nanoseconds: bool,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It cannot be read, or is not that of a capture of Ethernet frames.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut header = [0; 24];
        input
            .read_exact(&mut header)
            .map_err(|_| damaged("not a pcap file: it ends within the header"))?;
        let magic = word(&header, 0);
        let (is_swapped, is_nanoseconds) = match (magic, magic.swap_bytes()) {
            (MICROSECONDS, _) => (false, false),
            (NANOSECONDS, _) => (false, true),
            (_, MICROSECONDS) => (true, false),
            (_, NANOSECONDS) => (true, true),
            _ => {
                return Err(damaged(
                    "not a pcap file (pcapng is not read; `editcap -F pcap` converts it)",
                ));
            }
        };
        let this = Self {
            input,
            is_swapped,
            is_nanoseconds,
        };
        match this.order(word(&header, 20)) & 0x0fff_ffff {
            ETHERNET => Ok(this),
            other => Err(damaged(&format!(
                "captured on link type {other}, Ethernet (1) is expected"
            ))),
        }
    }

    fn order(&self, value: u32) -> u32 {
        if self.is_swapped { value.swap_bytes() } else { value }
    }

    /// The next packet; none at the end.
    ///
    /// # Errors
    /// The file cannot be read, or ends within a packet.
    pub fn next_packet(&mut self) -> io::Result<Option<Packet>> {
        let mut header = [0; 16];
        match self.input.read(&mut header)? {
            0 => return Ok(None),
            n => self.input.read_exact(header.get_mut(n..).unwrap_or_default())?,
        }
        let [seconds, fraction, length] = [0, 4, 8].map(|at| self.order(word(&header, at)));
        let length = length as usize;
        if length > MOST {
            return Err(damaged(&format!(
                "a packet of {length} octets, at most {MOST} are expected"
            )));
        }
        let mut frame = vec![0; length];
        self.input.read_exact(&mut frame)?;
        let nanoseconds = if self.is_nanoseconds {
            fraction
        } else {
            fraction.saturating_mul(1000)
        };
        Ok(Some(Packet {
            time: Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into()),
            frame,
        }))
    }
}

fn word(octets: &[u8], at: usize) -> u32 {
    let word = octets.get(at..at + 4).and_then(|w| w.try_into().ok());
    u32::from_ne_bytes(word.unwrap_or_default())
}

/// Writes the header of a file.
///
/// # Errors
/// It cannot be written.
pub fn write_header(output: &mut impl Write) -> io::Result<()> {
    // Version 2.4; no time zone, no accuracy.
    let version = u32::from_ne_bytes({
        let ([a, b], [c, d]) = (2u16.to_ne_bytes(), 4u16.to_ne_bytes());
        [a, b, c, d]
    });
    for word in [NANOSECONDS, version, 0, 0, MOST as u32, ETHERNET] {
        output.write_all(&word.to_ne_bytes())?;
    }
    Ok(())
}

/// Writes a packet.
///
/// # Errors
/// It cannot be written.
pub fn write_packet(output: &mut impl Write, time: Duration, frame: &[u8]) -> io::Result<()> {
    let length = frame.len() as u32;
    for word in [time.as_secs() as u32, time.subsec_nanos(), length, length] {
        output.write_all(&word.to_ne_bytes())?;
    }
    output.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut file = Vec::new();
        write_header(&mut file).unwrap();
        let packets = [(1, 5, 60), (2, 999_999_999, 0), (3, 0, 9000)].map(|(s, n, length)| Packet {
            time: Duration::new(s, n),
            frame: vec![s as u8; length],
        });
        for packet in &packets {
            write_packet(&mut file, packet.time, &packet.frame).unwrap();
        }
        let mut reader = Reader::new(file.as_slice()).unwrap();
        for packet in packets {
            assert_eq!(reader.next_packet().unwrap(), Some(packet));
        }
        assert_eq!(reader.next_packet().unwrap(), None);
    }

    #[test]
    fn the_other_byte_order_and_microseconds_are_read() {
        let words = [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65535, 1, 7, 8, 2, 2];
        let swap = |w: &u32| w.swap_bytes().to_ne_bytes();
        let mut file: Vec<u8> = words.iter().flat_map(swap).collect();
        file.extend([1, 2]);
        let packet = Reader::new(file.as_slice()).unwrap().next_packet().unwrap().unwrap();
        assert_eq!(packet.time, Duration::new(7, 8000));
        assert_eq!(packet.frame, [1, 2]);
    }

    proptest! {
        #[test]
        fn any_file_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..200), known in any::<bool>()) {
            let mut file = Vec::new();
            if known {
                write_header(&mut file).unwrap();
            }
            file.extend(octets);
            if let Ok(mut reader) = Reader::new(file.as_slice()) {
                while let Ok(Some(_)) = reader.next_packet() {}
            }
        }
    }
}
