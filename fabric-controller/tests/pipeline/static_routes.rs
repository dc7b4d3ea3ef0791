//! Packets to addresses that no attachment has: the longest prefix of the static routes counts. (The cases of ICMP
//! errors show that unused addresses of the router's own networks are not routed, although there is a default route.)

use std::net::IpAddr;

use fabric_pipeline::DropReason;

use crate::cases::*;
use crate::frames::*;
use crate::world::*;

/// Of both families: an address of the site behind workload 22, and one somewhere else, behind workload 14.
fn targets() -> [(IpAddr, IpAddr); 2] {
    let address = |text: &str| text.parse().unwrap();
    [
        (address("198.51.100.7"), address("203.0.113.9")),
        (address("2001:db8:7::7"), address("2001:db8:8::9")),
    ]
}

impl World {
    pub(crate) fn static_routes(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for ((w11, w22), (site, elsewhere)) in ips(A, 11).into_iter().zip(ips(B, 22)).zip(targets()) {
            let asks = |packet: &[u8]| self.h1_sends(self.leaf1(), A, &frame(GATEWAY, mac(11), packet));
            let passed = frame(mac(14), GATEWAY, &echo(w11, elsewhere, 63, false));
            cases.push(sent(
                "the route of all, into a tunnel",
                H1,
                asks(&echo(w11, elsewhere, 64, false)),
                vec![(UPLINK, self.made(SPINE, self.host(3), B, &passed))],
            ));
            let passed = tagged(100, &frame(mac(22), GATEWAY, &echo(w11, site, 63, false)));
            cases.push(sent(
                "the longest prefix, to an access port",
                H1,
                asks(&echo(w11, site, 64, false)),
                vec![(ACCESS_B, passed)],
            ));
            // A reply has a source address that no station has: 22 may not send it; 23 has no port security.
            let answer = echo(site, w11, 64, true);
            let back = frame(mac(11), GATEWAY, &echo(site, w11, 63, true));
            cases.push(sent(
                "the way back",
                ACCESS_B,
                tagged(200, &frame(GATEWAY, mac(23), &answer)),
                vec![(H1, self.made(host_mac(1), self.host(1), A, &back))],
            ));
            cases.push(dropped(
                "the way back, by a station that may not",
                ACCESS_B,
                tagged(100, &frame(GATEWAY, mac(22), &answer)),
                DropReason::SourceIp,
            ));
            // Out of the port on which it came in, as routers do (RFC 1812 section 5.2.7.2).
            let passed = tagged(100, &frame(mac(22), GATEWAY, &echo(w22, site, 63, false)));
            cases.push(sent(
                "back to the sender's port",
                ACCESS_B,
                tagged(100, &frame(GATEWAY, mac(22), &echo(w22, site, 64, false))),
                vec![(ACCESS_B, passed)],
            ));
        }
        cases
    }
}
