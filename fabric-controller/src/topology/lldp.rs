//! Link probes: LLDP frames (IEEE 802.1AB-2016) that name the port from which they were sent, and that
//! only this controller can make.
//!
//! | TLV | type | content |
//! | --- | --- | --- |
//! | chassis id | 1, subtype 7 (locally assigned) | name of the switch |
//! | port id | 2, subtype 7 (locally assigned) | number of the port |
//! | time to live | 3 | [`TTL_S`] seconds |
//! | organisationally specific | 127, [`OUI`], subtype 1 | sequence number (8 octets), HMAC-SHA256 of everything before (32 octets) |
//! | end of LLDPDU | 0 | |
//!
//! The key is random, chosen when the controller starts, and kept only in memory. So neither a
//! tenant nor frames of an earlier controller can fake a link. The sequence number
//! grows, so a recorded frame cannot be used again.

use ring::hmac;
use vfabric_api::ident::{Mac, PortId};

/// Group address of the nearest bridge: no bridge forwards it (IEEE 802.1AB-2016, table 7-1).
const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
const ETHERTYPE: u16 = 0x88cc;
/// Locally administered, as the MAC addresses of the fabric's routers.
const OUI: [u8; 3] = [0x02, 0xfa, 0xb0];
const SUBTYPE: u8 = 1;
/// How long another LLDP agent may rely on the frame, in seconds: as long as the controller does.
const TTL_S: u16 = 3;
/// Subtype of chassis and port ids: locally assigned (tables 8-2 and 8-3).
const LOCALLY_ASSIGNED: u8 = 7;
/// Longest chassis or port id (sections 8.5.2.3, 8.5.3.3).
const MAX_ID: usize = 255;
/// Length of an HMAC-SHA256.
const TAG: usize = 32;

/// Types of TLVs (table 8-1).
mod tlv {
    pub(super) const END: u8 = 0;
    pub(super) const CHASSIS_ID: u8 = 1;
    pub(super) const PORT_ID: u8 = 2;
    pub(super) const TTL: u8 = 3;
    pub(super) const ORGANISATION: u8 = 127;
}

/// The content of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The switch from which it was sent.
    pub switch: String,
    /// The port from which it was sent.
    pub port: PortId,
    /// Greater than that of every probe sent before.
    pub sequence: u64,
}

/// Makes and checks probes.
///
/// ```
/// use fabric_controller::topology::lldp::{Probe, Prober};
/// use vfabric_api::ident::{Mac, PortId};
///
/// let prober = Prober::new(&[7; 32]);
/// let probe = Probe {
///     switch: "leaf1".into(),
///     port: PortId::try_from(3u16).unwrap(),
///     sequence: 1,
/// };
/// let frame = prober.frame(&probe, Mac([0x02, 0xfa, 0xb0, 0, 0, 3]));
/// assert_eq!(prober.read(&frame), Some(probe));
/// // Without the secret it is not a probe. assert_eq!(Prober::new(&[8; 32]).read(&frame), None);
/// ```
pub struct Prober {
    key: hmac::Key,
}

impl Prober {
    /// Uses this secret. Anybody who knows it can forge probes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The frame of a probe that leaves a switch whose MAC address is `source`.
    pub fn frame(&self, probe: &Probe, source: Mac) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        frame.extend(NEAREST_BRIDGE);
        frame.extend(source.0);
        frame.extend(ETHERTYPE.to_be_bytes());
        let start = frame.len();
        put(
            &mut frame,
            tlv::CHASSIS_ID,
            &[&[LOCALLY_ASSIGNED], id(probe.switch.as_bytes())],
        );
        put(
            &mut frame,
            tlv::PORT_ID,
            &[&[LOCALLY_ASSIGNED], probe.port.to_string().as_bytes()],
        );
        put(&mut frame, tlv::TTL, &[&TTL_S.to_be_bytes()]);
        let sequence = probe.sequence.to_be_bytes();
        put(&mut frame, tlv::ORGANISATION, &[&OUI, &[SUBTYPE], &sequence, &[0; TAG]]);
        let signed = frame.len() - TAG;
        let tag = hmac::sign(&self.key, frame.get(start..signed).unwrap_or_default());
        frame.truncate(signed);
        frame.extend(tag.as_ref());
        put(&mut frame, tlv::END, &[]);
        frame
    }

    /// The probe in a frame; none if it is not one of ours. Padding after the end of the
    /// LLDPDU is ignored.
    pub fn read(&self, frame: &[u8]) -> Option<Probe> {
        let (header, pdu) = frame.split_at_checked(14)?;
        (header.get(12..)? == ETHERTYPE.to_be_bytes()).then_some(())?;
        let mut rest = pdu;
        let chassis = take(&mut rest, tlv::CHASSIS_ID)?.strip_prefix(&[LOCALLY_ASSIGNED])?;
        let port = take(&mut rest, tlv::PORT_ID)?.strip_prefix(&[LOCALLY_ASSIGNED])?;
        take(&mut rest, tlv::TTL)?;
        let own = take(&mut rest, tlv::ORGANISATION)?;
        let (body, tag) = own.split_last_chunk::<TAG>()?;
        let signed = pdu.len() - rest.len() - TAG;
        hmac::verify(&self.key, pdu.get(..signed)?, tag).ok()?;
        let sequence = body.strip_prefix(&OUI)?.strip_prefix(&[SUBTYPE])?;
        take(&mut rest, tlv::END)?;
        Some(Probe {
            switch: std::str::from_utf8(chassis).ok()?.to_owned(),
            port: PortId::try_from(std::str::from_utf8(port).ok()?.parse::<u16>().ok()?).ok()?,
            sequence: u64::from_be_bytes(sequence.try_into().ok()?),
        })
    }
}

/// An id that fits its TLV. (Names of switches are shorter.)
fn id(text: &[u8]) -> &[u8] {
    text.get(..MAX_ID).unwrap_or(text)
}

/// Appends a TLV: 7 bits type, 9 bits length (section 8.4).
fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let length = u16::try_from(length).unwrap_or(u16::MAX) & 0x1ff;
    out.extend((u16::from(kind) << 9 | length).to_be_bytes());
    out.extend(parts.iter().copied().flatten());
}

/// Removes the next TLV, if it has that type.
fn take<'a>(rest: &mut &'a [u8], kind: u8) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_first_chunk::<2>()?;
    let head = u16::from_be_bytes(*head);
    (head >> 9 == u16::from(kind)).then_some(())?;
    let (value, tail) = tail.split_at_checked(usize::from(head & 0x1ff))?;
    *rest = tail;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: Mac = Mac([0x02, 0xfa, 0xb0, 0, 0, 3]);

    fn probe() -> Probe {
        Probe {
            switch: "leaf1".into(),
            port: 2.try_into().unwrap(),
            sequence: 0x0102,
        }
    }

    #[test]
    fn a_frame_is_lldp_octet_by_octet() {
        let frame = Prober::new(&[7; 32]).frame(&probe(), SOURCE);
        let mut expected = vec![
            0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e, 0x02, 0xfa, 0xb0, 0, 0, 3, 0x88, 0xcc,
        ];
        expected.extend(b"\x02\x06\x07leaf1"); // chassis id, 6 octets
        expected.extend(b"\x04\x02\x072"); // port id, 2 octets
        expected.extend([0x06, 0x02, 0, 3]); // time to live
        expected.extend([0xfe, 44, 0x02, 0xfa, 0xb0, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(frame[..expected.len()], expected);
        assert_eq!(frame[expected.len() + TAG..], [0, 0], "end of LLDPDU");
        assert!(frame.len() >= 60, "shorter than the least Ethernet frame");
    }

    #[test]
    fn only_who_knows_the_secret_is_believed() {
        let prober = Prober::new(&[7; 32]);
        let mut frame = prober.frame(&probe(), SOURCE);
        assert_eq!(prober.read(&frame), Some(probe()));
        assert_eq!(Prober::new(&[8; 32]).read(&frame), None, "another controller's");
        frame.extend([0; 20]);
        assert_eq!(prober.read(&frame), Some(probe()), "padded");
        for at in 14..frame.len() - 22 {
            let mut forged = frame.clone();
            forged[at] ^= 1;
            assert_eq!(prober.read(&forged), None, "octet {at} changed");
        }
    }

    proptest! {
        #[test]
        fn any_frame_can_be_read(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Prober::new(&[7; 32]).read(&frame), None);
        }

        #[test]
        fn what_is_sent_is_read(switch in "[a-z0-9-]{1,63}", port in 1..510u16, sequence: u64) {
            let probe = Probe { switch, port: port.try_into().unwrap(), sequence };
            let prober = Prober::new(&[7; 32]);
            prop_assert_eq!(prober.read(&prober.frame(&probe, SOURCE)), Some(probe));
        }
    }
}
