//! Proof that a sender was able to send; without it, "nothing arrived" proves nothing.
//!
//! A machine without link, route or switch reaches nobody, and a check of isolation would pass for the wrong reason. So a
//! refused path counts only if
//! - a frame for it was captured at the sender's own interface: the probe, or the request for the MAC address of the
//!   target or gateway (ARP, RFC 826; neighbour solicitation, RFC 4861), and
//! - the sender's frames reach a switch: the gateway (which is the switch) answers a ping in the same family, or a
//!   frame for the refused path was captured at a switch.

use std::net::IpAddr;

use anyhow::Result;

use super::world::{Machine, Pair};
use crate::probe::{self, ANSWER_TIMEOUT};

/// Octets of the MAC addresses of a frame.
const MACS: usize = 12;

/// Whether a gateway of the sender's network answers it.
#[derive(Debug)]
pub(super) struct Control {
    answers: bool,
    /// The gateways that were asked.
    asked: Vec<IpAddr>,
}

/// Pings the sender's gateways, of the target's family, until one answers.
///
/// # Errors
/// The probe cannot be made.
pub(super) fn answers(pair: Pair<'_>) -> Result<Control> {
    let same = |g: &&IpAddr| g.is_ipv4() == pair.ip.is_ipv4();
    let asked: Vec<IpAddr> = pair.from.gateways.iter().filter(same).copied().collect();
    let ping = |g: &IpAddr| probe::ping(&pair.from.namespace, *g, 0, ANSWER_TIMEOUT);
    // A gateway to which no ping can be sent counts as not answering.
    let answers = asked.iter().any(|g| matches!(ping(g), Ok(Some(_))));
    Ok(Control { answers, asked })
}

impl Control {
    /// Why the absence of probes proves nothing; none if the sender was able to send. `taps` are the captures at
    /// target, sender and switches; `mark` is in each probe; `refusals` are the reasons why probes could not be sent.
    pub(super) fn doubt(
        &self,
        pair: Pair<'_>,
        taps: &[(String, Vec<Vec<u8>>)],
        mark: &[u8],
        refusals: &[String],
    ) -> Option<String> {
        let from = &pair.from.id;
        let frames = |at: usize| taps.get(at).map(|(_, f)| f.as_slice()).unwrap_or_default();
        let is_probe = |f: &[u8]| probe::contains(f, mark);
        let sent: Vec<&Vec<u8>> = frames(1).iter().filter(|f| is_probe(f) || asks(f, pair)).collect();
        if sent.is_empty() {
            let why = refusals.first().map_or(String::new(), |r| format!(" ({r})"));
            return Some(format!("nothing was tested: no frame for it left {from}{why}"));
        }
        // Inside a tunnel or after a VLAN tag, the octets after the MAC addresses are the same.
        let carried = |f: &Vec<u8>| {
            let same = |s: &&Vec<u8>| s.get(MACS..).is_some_and(|rest| probe::contains(f, rest));
            is_probe(f) || sent.iter().any(same)
        };
        let at_switches = taps.iter().skip(2).any(|(_, frames)| frames.iter().any(carried));
        (!self.answers && !at_switches).then(|| {
            let gateways = match self.asked.as_slice() {
                [] => "it has no gateway of this family to ask".to_owned(),
                asked => format!("none of its gateways {asked:?} answers"),
            };
            format!("nothing was tested: {from} gets no frame to a switch; {gateways}")
        })
    }
}

/// Whether a frame from the sender asks for the MAC address of the target or of a gateway.
fn asks(frame: &[u8], pair: Pair<'_>) -> bool {
    let Machine { ips, gateways, .. } = pair.from;
    let own = |octets: &[u8]| ips.iter().any(|ip| is(ip, octets));
    let wanted = |octets: &[u8]| is(&pair.ip, octets) || gateways.iter().any(|g| is(g, octets));
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    match at(12, 14) {
        // A request (operation 1) names its sender's address at 28 and the wanted one at 38.
        [0x08, 0x06] => at(20, 22) == [0, 1] && own(at(28, 32)) && wanted(at(38, 42)),
        // ICMPv6 (58) of type 135; the IPv6 source is at 22, the wanted address at 62.
        [0x86, 0xdd] => at(20, 21) == [58] && at(54, 55) == [135] && own(at(22, 38)) && wanted(at(62, 78)),
        _ => false,
    }
}

fn is(ip: &IpAddr, octets: &[u8]) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets() == octets,
        IpAddr::V6(ip) => ip.octets() == octets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: &str, ip: &str) -> Machine {
        Machine::of_test(id, ip.parse().unwrap(), "10.0.0.1".parse().unwrap())
    }

    /// An ARP request for `wanted`.
    fn arp(own: [u8; 4], wanted: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
        frame.extend(own);
        frame.extend([0; 6]);
        frame.extend(wanted);
        frame
    }

    #[test]
    fn silence_counts_only_if_the_sender_could_send() {
        let (from, to) = (machine("a/x", "10.0.0.10"), machine("b/y", "10.0.0.20"));
        let pair = Pair {
            from: &from,
            to: &to,
            ip: to.ips[0],
        };
        let doubt = |answers: bool, at_sender: &[Vec<u8>], at_switch: &[Vec<u8>]| {
            let control = Control {
                answers,
                asked: from.gateways.clone(),
            };
            let tap = |of: &str, frames: &[Vec<u8>]| (of.to_owned(), frames.to_vec());
            let taps = [tap("b/y", &[]), tap("a/x", at_sender), tap("leaf1", at_switch)];
            control.doubt(pair, &taps, b"mark", &["no route".into()])
        };
        let probe = vec![b"01234567890123 mark".to_vec()];
        assert_eq!(doubt(true, &probe, &[]), None, "the gateway answers");
        assert_eq!(doubt(false, &probe, &probe), None, "a switch has it");
        let silent = doubt(false, &probe, &[]).unwrap();
        assert!(
            silent.contains("a/x gets no frame to a switch") && silent.contains("10.0.0.1"),
            "{silent}"
        );
        let nothing = doubt(true, &[], &[]).unwrap();
        assert!(nothing.contains("no frame for it left a/x (no route)"), "{nothing}");

        let asked = vec![arp([10, 0, 0, 10], [10, 0, 0, 20])];
        let tunnelled = vec![[b"outer headers".to_vec(), asked[0].clone()].concat()];
        assert_eq!(
            doubt(false, &asked, &tunnelled),
            None,
            "the request for its MAC address is a frame, too"
        );
        assert!(
            doubt(true, &[arp([10, 0, 0, 20], [10, 0, 0, 20])], &[]).is_some(),
            "of somebody else"
        );
        assert!(
            doubt(true, &[arp([10, 0, 0, 10], [10, 0, 0, 30])], &[]).is_some(),
            "for somebody else"
        );
    }
}
