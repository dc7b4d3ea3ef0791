//! Frames for a workload that has left this host: they are sent on to where it is.
//!
//! While hosts and leaves learn that an attachment has moved, some still send to the old host. A bridge does not send a frame
//! back out of the port that it came by. So a chain at the entrance of the VXLAN device takes frames for that MAC address
//! and sends them out of the device again, which knows the new VTEP. Frames for groups and frames of other stations are not
//! concerned. Such a chain belongs to one port, and goes with it. A host at which the workload has yet to arrive never has one: so two
//! hosts do not send a frame to each other in turn.

use vtep_proto::{Attachment, Mode};

use super::entrance::TABLE;
use super::nft::expression::{Base, Rule};
use super::nft::message::Message;

/// Names of the chains begin like this. Then come the index of the port, the index of the VXLAN device, and the MAC
/// address.
const LATE: &str = "late-";

/// The chain that a port needs: for an attachment that has left, when its network has a tunnel.
pub(super) fn chain(port: u32, attachment: &Attachment, tunnel: Option<u32>) -> Option<String> {
    let tunnel = tunnel.filter(|_| attachment.mode == Mode::Leaving)?;
    let mac = attachment.mac.to_string().replace(':', "");
    Some(format!("{LATE}{port}-{tunnel}-{mac}"))
}

/// The index of the port whose chain has that name, and how many rules such a chain has.
pub(super) fn link_of(chain: &str) -> Option<(u32, usize)> {
    let index = chain.strip_prefix(LATE)?.split('-').next()?;
    Some((index.parse().ok()?, 1))
}

/// Creates a chain at the VXLAN device of that name.
pub(super) fn open(chain: &str, attachment: &Attachment, device: &str) -> [Message; 2] {
    let rule = Rule::new()
        .is(Base::Ethernet, 0, &attachment.mac.octets())
        .send_back_out();
    [TABLE.ingress_chain(chain, device), TABLE.rule(chain, rule)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_ports() {
        assert_eq!(link_of("late-7-9-020000000001"), Some((7, 1)));
        for other in ["port-7", "late-", "late-x-9-02", "check"] {
            assert_eq!(link_of(other), None, "{other}");
        }
    }
}
