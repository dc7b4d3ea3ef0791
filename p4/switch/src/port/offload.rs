//! Does the work that a sender left to a device: checksums, and cutting large frames into packets.
//!
//! A veth passes frames on as the sending stack made them, with the checksum of TCP or UDP unfinished
//! (`NETIF_F_HW_CSUM`) and many segments in one frame (TSO, USO); GRO merges received ones again. The kernel describes
//! this work in a `virtio_net_hdr` (virtio 1.2, section 5.1.6) beside each frame. A pipeline sees what a wire would
//! carry.
//!
//! Segmentation works like the kernel's own: IPv4 identifications count up, TCP sequence numbers advance, FIN and PSH
//! stay with the last segment and CWR with the first; around a tunnelled packet (VXLAN, Geneve, GRE, IP in IP) the
//! outer lengths and checksums follow. UDP fragmentation offload (`GSO_UDP`), which no kernel since 4.14 sends, is not
//! taken apart.

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// A flag in the kind: the connection uses ECN, which makes no difference here.
const GSO_ECN: u8 = 0x80;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_SCTP: u8 = 132;
/// Extension headers that the outer packet may have in front of its payload: hop-by-hop, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// A VLAN tag that a device or the kernel took out of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Which kind of tag (IEEE 802.1Q).
    pub tpid: u16,
    /// Priority and VLAN id.
    pub tci: u16,
}

impl VlanTag {
    /// TPID of a customer tag.
    pub const CUSTOMER: u16 = 0x8100;

    /// Puts the tag into a frame that has four octets of room in front.
    pub fn put(self, room_and_frame: &mut [u8]) {
        if room_and_frame.len() < 16 {
            return;
        }
        room_and_frame.copy_within(4..16, 0);
        let [a, b] = self.tpid.to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        if let Some(place) = room_and_frame.get_mut(12..16) {
            place.copy_from_slice(&[a, b, c, d]);
        }
    }
}

/// The work that was left to a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// Where summing starts and, counted from there, where the sum belongs.
    pub checksum: Option<(u16, u16)>,
    /// What is in the large frame.
    pub gso_type: u8,
    /// Octets of payload of each packet to make of it.
    pub gso_size: u16,
    /// Where the transport header starts.
    pub transport: u16,
}

impl Offload {
    /// Reads a `virtio_net_hdr` of the host's byte order.
    pub fn from_vnet(header: &[u8]) -> Self {
        let &[
            flags,
            gso_type,
            _,
            _,
            size_a,
            size_b,
            start_a,
            start_b,
            offset_a,
            offset_b,
        ] = header
        else {
            return Self::default();
        };
        let word = |a, b| u16::from_ne_bytes([a, b]);
        let start = word(start_a, start_b);
        Self {
            checksum: (flags & NEEDS_CSUM != 0).then(|| (start, word(offset_a, offset_b))),
            gso_type: gso_type & !GSO_ECN,
            gso_size: word(size_a, size_b),
            transport: start,
        }
    }

    /// Whether the frame is several packets.
    pub fn is_large(&self) -> bool {
        self.gso_type != 0 && self.gso_size != 0
    }
}

/// Sum of 16-bit words (RFC 1071), not yet folded.
fn sum(octets: &[u8]) -> u64 {
    let mut words = octets.chunks_exact(4);
    let mut total = 0u64;
    for word in &mut words {
        if let [a, b, c, d] = *word {
            total += u64::from(u32::from_be_bytes([a, b, c, d]));
        }
    }
    total
        + match *words.remainder() {
            [a] => u64::from(a) << 24,
            [a, b] => u64::from(a) << 24 | u64::from(b) << 16,
            [a, b, c] => u64::from(a) << 24 | u64::from(b) << 16 | u64::from(c) << 8,
            _ => 0,
        }
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    !(total as u16)
}

/// CRC-32C (RFC 9260 appendix A), which SCTP has for a checksum.
fn crc32c(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |mut crc, octet| {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
        crc
    })
}

fn get16(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Finishes a checksum whose field holds the sum of the pseudo-header.
pub fn complete_checksum(frame: &mut [u8], start: u16, offset: u16) {
    let (start, offset) = (usize::from(start), usize::from(offset));
    let Some(covered) = frame.get(start..).filter(|c| offset + 2 <= c.len()) else {
        return;
    };
    // The offset tells the protocol: 6 is UDP, 8 is SCTP, 16 is TCP.
    if offset == 8 && is_sctp(frame, start) {
        let Some(covered) = frame.get_mut(start..).filter(|c| c.len() >= 12) else {
            return;
        };
        covered[8..12].fill(0);
        let crc = crc32c(covered).to_le_bytes();
        covered[8..12].copy_from_slice(&crc);
        return;
    }
    let value = match fold(sum(covered)) {
        // All zeroes would say that there is no checksum (RFC 768).
        0 if offset == 6 => 0xffff,
        value => value,
    };
    put16(frame, start + offset, value);
}

fn is_sctp(frame: &[u8], start: usize) -> bool {
    let inner = inner_ip(frame, start);
    inner.is_some_and(|ip| protocol(frame, ip) == Some(PROTO_SCTP))
}

fn version(frame: &[u8], ip: usize) -> Option<u8> {
    frame.get(ip).map(|b| b >> 4)
}

fn protocol(frame: &[u8], ip: usize) -> Option<u8> {
    match version(frame, ip)? {
        4 => frame.get(ip + 9).copied(),
        6 => frame.get(ip + 6).copied(),
        _ => None,
    }
}

/// Where the first IP header starts.
fn outer_ip(frame: &[u8]) -> Option<usize> {
    let mut at = 12;
    // At most two tags (IEEE 802.1ad).
    for _ in 0..3 {
        match get16(frame, at)? {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Some(at + 2),
            VlanTag::CUSTOMER | 0x88a8 => at += 4,
            _ => return None,
        }
    }
    None
}

/// The protocol after an IP header, and its position.
fn payload(frame: &[u8], ip: usize) -> Option<(u8, usize)> {
    if version(frame, ip)? == 4 {
        let words = usize::from(frame.get(ip)? & 15);
        return Some((protocol(frame, ip)?, ip + words * 4));
    }
    let (mut next, mut at) = (protocol(frame, ip)?, ip + 40);
    // Each step advances by at least eight octets, so the end of the frame bounds their number.
    while EXTENSIONS.contains(&next) {
        next = *frame.get(at)?;
        at += 8 + 8 * usize::from(*frame.get(at + 1)?);
    }
    Some((next, at))
}

/// Where the IP header starts that ends where the transport header starts.
fn inner_ip(frame: &[u8], transport: usize) -> Option<usize> {
    let outer = outer_ip(frame)?;
    if payload(frame, outer)?.1 == transport {
        return Some(outer);
    }
    // In a tunnel, the header is found from its end, so the kind of tunnel does not matter.
    let ipv4 = (5..=15).find_map(|words| {
        let at = transport.checked_sub(words * 4).filter(|at| *at > outer)?;
        let first = 0x40 | words as u8;
        let known = protocol(frame, at).is_some_and(|p| [PROTO_TCP, PROTO_UDP, PROTO_SCTP].contains(&p));
        (frame.get(at) == Some(&first) && known && fold(sum(frame.get(at..transport)?)) == 0).then_some(at)
    });
    let ipv6 = || {
        let at = transport.checked_sub(40).filter(|at| *at > outer)?;
        let known = protocol(frame, at).is_some_and(|p| [PROTO_TCP, PROTO_UDP, PROTO_SCTP].contains(&p));
        (version(frame, at) == Some(6) && known).then_some(at)
    };
    ipv4.or_else(ipv6)
}

/// Sum of the pseudo-header of a transport checksum.
fn pseudo_header(frame: &[u8], ip: usize, protocol: u8, length: usize) -> Option<u64> {
    let addresses = match version(frame, ip)? {
        4 => frame.get(ip + 12..ip + 20)?,
        _ => frame.get(ip + 8..ip + 40)?,
    };
    Some(sum(addresses) + u64::from(protocol) + length as u64)
}

/// Packets that a large frame is cut into. The buffer is kept for the next one.
#[derive(Default)]
pub struct Segments {
    frame: Vec<u8>,
    segment: Vec<u8>,
    offload: Offload,
    /// Where IP headers start, outermost first; both the same without a tunnel.
    outer: usize,
    inner: usize,
    /// Where the payload starts that is cut.
    payload: usize,
    /// Octets of it that are done.
    done: usize,
    index: u16,
}

impl Segments {
    /// Starts with a frame. False if it is not of a kind that can be cut.
    pub fn start(&mut self, frame: &[u8], offload: Offload) -> bool {
        self.frame.clear();
        (self.done, self.index, self.payload) = (0, 0, 0);
        let transport = usize::from(offload.transport);
        let layout = || {
            let outer = outer_ip(frame)?;
            let inner = inner_ip(frame, transport)?;
            let wanted = match offload.gso_type {
                GSO_TCPV4 | GSO_TCPV6 => PROTO_TCP,
                GSO_UDP_L4 => PROTO_UDP,
                _ => return None,
            };
            let header = match wanted {
                PROTO_TCP => usize::from(frame.get(transport + 12)? >> 4) * 4,
                _ => 8,
            };
            let payload = transport + header;
            (header >= 8 && payload < frame.len()).then_some((outer, inner, payload))
        };
        let Some((outer, inner, payload)) = layout().filter(|_| offload.gso_size > 0) else {
            return false;
        };
        (self.outer, self.inner, self.payload) = (outer, inner, payload);
        self.offload = offload;
        self.frame.extend_from_slice(frame);
        true
    }

    /// Whether all packets were given out.
    pub fn is_done(&self) -> bool {
        self.payload + self.done >= self.frame.len()
    }

    /// The next packet.
    pub fn next_segment(&mut self) -> Option<&mut [u8]> {
        let start = self.payload + self.done;
        let rest = self.frame.get(start..).filter(|r| !r.is_empty())?;
        let size = rest.len().min(usize::from(self.offload.gso_size));
        let is_last = size == rest.len();
        self.segment.clear();
        self.segment.extend_from_slice(self.frame.get(..self.payload)?);
        self.segment.extend_from_slice(rest.get(..size)?);
        self.fix(is_last);
        self.done += size;
        self.index = self.index.wrapping_add(1);
        Some(&mut self.segment)
    }

    fn fix(&mut self, is_last: bool) {
        let transport = usize::from(self.offload.transport);
        let index = self.index;
        let segment = &mut self.segment;
        let length = segment.len();
        let (kind, field) = if self.offload.gso_type == GSO_UDP_L4 {
            put16(segment, transport + 4, length.saturating_sub(transport) as u16);
            (PROTO_UDP, 6)
        } else {
            let place = segment.get_mut(transport + 4..transport + 8);
            if let Some(place) = place.and_then(|p| <&mut [u8; 4]>::try_from(p).ok()) {
                *place = u32::from_be_bytes(*place).wrapping_add(self.done as u32).to_be_bytes();
            }
            const FIN_AND_PSH: u8 = 0x09;
            const CWR: u8 = 0x80;
            if let Some(flags) = segment.get_mut(transport + 13) {
                *flags &= !(if is_last { 0 } else { FIN_AND_PSH } | if index == 0 { 0 } else { CWR });
            }
            (PROTO_TCP, 16)
        };
        ip_length(segment, self.inner, index);
        put16(segment, transport + field, 0);
        checksum(segment, self.inner, kind, transport, field);
        if self.outer == self.inner {
            return;
        }
        ip_length(segment, self.outer, index);
        let Some((PROTO_UDP, udp)) = payload(segment, self.outer) else {
            return;
        };
        put16(segment, udp + 4, length.saturating_sub(udp) as u16);
        // Zero: this tunnel has none (RFC 7348 section 5, RFC 6935).
        if get16(segment, udp + 6).is_some_and(|c| c != 0) {
            put16(segment, udp + 6, 0);
            checksum(segment, self.outer, PROTO_UDP, udp, 6);
        }
    }
}

/// Sets the length of an IP packet that reaches to the end of the frame.
fn ip_length(frame: &mut [u8], ip: usize, index: u16) {
    let length = frame.len().saturating_sub(ip);
    if version(frame, ip) == Some(6) {
        put16(frame, ip + 4, length.saturating_sub(40) as u16);
        return;
    }
    put16(frame, ip + 2, length as u16);
    if let Some(identification) = get16(frame, ip + 4) {
        put16(frame, ip + 4, identification.wrapping_add(index));
    }
    put16(frame, ip + 10, 0);
    let header = usize::from(frame.get(ip).copied().unwrap_or(0) & 15) * 4;
    if let Some(octets) = frame.get(ip..ip + header) {
        let value = fold(sum(octets));
        put16(frame, ip + 10, value);
    }
}

/// Computes a transport checksum whose field is zero.
fn checksum(frame: &mut [u8], ip: usize, protocol: u8, transport: usize, field: usize) {
    let Some(covered) = frame.get(transport..) else { return };
    let Some(pseudo) = pseudo_header(frame, ip, protocol, covered.len()) else {
        return;
    };
    let value = match fold(pseudo + sum(covered)) {
        0 if protocol == PROTO_UDP => 0xffff,
        value => value,
    };
    put16(frame, transport + field, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a checksum that covers the pseudo-header too is right.
    fn is_right(frame: &[u8], ip: usize, kind: u8, transport: usize) -> bool {
        let covered = &frame[transport..];
        fold(pseudo_header(frame, ip, kind, covered.len()).unwrap() + sum(covered)) == 0
    }

    fn tcp(payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([
            0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([
            0, 80, 0, 81, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0x50, 0x99, 0, 1, 0, 0, 0, 0,
        ]);
        frame.extend((0..payload).map(|n| n as u8));
        frame
    }

    #[test]
    fn a_large_tcp_frame_is_cut_into_packets_of_its_stream() {
        let offload = Offload {
            checksum: Some((34, 16)),
            gso_type: GSO_TCPV4,
            gso_size: 100,
            transport: 34,
        };
        let mut segments = Segments::default();
        assert!(segments.start(&tcp(250), offload));
        let mut cut = Vec::new();
        while let Some(segment) = segments.next_segment() {
            cut.push(segment.to_vec());
        }
        assert!(segments.is_done());
        let lengths: Vec<_> = cut.iter().map(|s| s.len() - 54).collect();
        assert_eq!(lengths, [100, 100, 50]);
        for (n, segment) in cut.iter().enumerate() {
            assert_eq!(fold(sum(&segment[14..34])), 0, "IPv4 header checksum");
            assert!(is_right(segment, 14, PROTO_TCP, 34), "TCP checksum");
            assert_eq!(usize::from(get16(segment, 16).unwrap()), segment.len() - 14);
            assert_eq!(usize::from(get16(segment, 18).unwrap()), 0x1234 + n);
            let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
            assert_eq!(sequence, 0xffff_fff0u32.wrapping_add(100 * n as u32));
        }
        // CWR stays with the first, FIN and PSH with the last.
        assert_eq!(cut.iter().map(|s| s[47]).collect::<Vec<_>>(), [0x90, 0x10, 0x19]);
    }

    #[test]
    fn an_unfinished_udp_checksum_is_never_left_zero() {
        let mut frame = vec![0u8; 14 + 20];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        // The words of the datagram sum to all ones, so that the checksum would come out as zero.
        frame.extend([0xff, 0xf7, 0, 0, 0, 8, 0, 0]);
        complete_checksum(&mut frame, 34, 6);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn sctp_has_a_crc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "check value of CRC-32/ISCSI");
    }

    proptest! {
        #[test]
        fn any_octets_with_any_header_are_survived(
            mut frame in proptest::collection::vec(any::<u8>(), 0..200),
            header in any::<[u8; 10]>(),
            kind in prop::sample::select(vec![GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4]),
            ethertype in prop::sample::select(vec![[8, 0], [0x86, 0xdd], [0x81, 0]]),
            transport in 0..120u16,
        ) {
            if let Some(place) = frame.get_mut(12..14) {
                place.copy_from_slice(&ethertype);
            }
            let offload = Offload { gso_type: kind, transport, ..Offload::from_vnet(&header) };
            if let Some((start, offset)) = offload.checksum {
                complete_checksum(&mut frame, start, offset);
            }
            complete_checksum(&mut frame, transport, 8);
            let mut segments = Segments::default();
            if segments.start(&frame, offload) {
                while let Some(segment) = segments.next_segment() {
                    prop_assert!(segment.len() <= frame.len());
                }
            }
            VlanTag { tpid: 0x8100, tci: 1 }.put(&mut frame);
        }
    }
}
