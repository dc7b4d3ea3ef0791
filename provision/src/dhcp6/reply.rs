//! Which options a client gets, by what it says it is and what it asks for (RFC 8415, section 18.3.2).
//!
//! | client | what leads it on |
//! | --- | --- |
//! | ONIE | 59 (RFC 5970): the installer's URL |
//! | SONiC | 59: URL of `ztp.json`; without asking for 59, 239: URL of the script |
//! | Cumulus | 239: URL of the script |
//! | Arista | 59: URL of the script |
//! | whatever asks for 136 | the Bootz server, as RFC 8572 section 8 has it |
//! | others | 239, if they ask for it |

use dhcproto::v6::DhcpOption;
use vfabric_api::topology::Switch;

use super::packet::{Packet, code, raw};
use super::settings::{Ipv6, Subnet6};
use crate::client::{Client, Kind};
use crate::dhcp::reply::image_of;
use crate::settings::Settings;

/// Longest label of a domain name in octets (RFC 1035, section 2.3.4).
const LABEL: usize = 63;

/// The client that asks, and where it is.
pub struct Asker<'a> {
    /// Its message.
    pub packet: &'a Packet,
    /// What it says about itself.
    pub client: &'a Client,
    /// The switch that it is; none for a machine in the enrolment window.
    pub switch: Option<&'a Switch>,
    /// The subnet that it is in.
    pub subnet: &'a Subnet6,
}

/// The options that are not about an address.
pub fn options(settings: &Settings, ipv6: &Ipv6, asker: &Asker<'_>) -> Vec<DhcpOption> {
    let packet = asker.packet;
    let mut all = Vec::new();
    if packet.asks_for(code::DNS) && !ipv6.dns.is_empty() {
        all.push(DhcpOption::DomainNameServers(ipv6.dns.clone()));
    }
    if packet.asks_for(code::DOMAINS)
        && let Some(name) = settings.domain.as_deref().and_then(domain)
    {
        all.push(raw(code::DOMAINS, name));
    }
    let Some(switch) = asker.switch else { return all };
    let url = ipv6.url(asker.subnet, settings.http_port);
    let file = |name: &str| format!("{url}/ztp/{}/{name}", switch.name).into_bytes();
    let asks = |code| packet.asks_for(code);
    let boot = match asker.client.kind {
        Kind::Onie => {
            let image = image_of(settings, switch).map(|image| format!("{url}/images/{image}").into_bytes());
            image.map(|url| (code::BOOT_FILE_URL, url))
        }
        Kind::Sonic if asks(code::BOOT_FILE_URL) || !asks(code::SCRIPT) => {
            Some((code::BOOT_FILE_URL, file("ztp.json")))
        }
        Kind::Arista => Some((code::BOOT_FILE_URL, file("first-boot.sh"))),
        Kind::Sonic | Kind::Cumulus => Some((code::SCRIPT, file("first-boot.sh"))),
        Kind::Bootz | Kind::Other => asks(code::SCRIPT).then(|| (code::SCRIPT, file("first-boot.sh"))),
    };
    all.extend(boot.map(|(code, octets)| raw(code, octets)));
    if asks(code::SZTP_REDIRECT)
        && let Some(bootz) = ipv6.bootz.option()
    {
        all.push(raw(code::SZTP_REDIRECT, bootz));
    }
    all
}

/// A domain name as DNS writes it; none if it has a label that DNS has not.
fn domain(name: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|l| (1..=LABEL).contains(&usize::from(*l)))?;
        octets.push(length);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::packet;
    use super::super::settings::tests::good;
    use super::*;
    use crate::directory::tests::directory;

    /// Options by code: texts of those that are not `dhcproto`'s.
    fn given(switch: Option<&str>, options: &[(u16, &[u8])]) -> Vec<(u16, String)> {
        let (settings, ipv6, directory) = (crate::settings::tests::good(), good(), directory());
        let packet = packet(1, options);
        let client = Client::of_packet6(&packet);
        let asker = Asker {
            packet: &packet,
            client: &client,
            switch: switch.map(|name| directory.switch(&name.parse().unwrap()).unwrap()),
            subnet: &ipv6.subnets[0],
        };
        let text = |option: &DhcpOption| match option {
            DhcpOption::Unknown(option) => (
                option.code().into(),
                String::from_utf8_lossy(option.data()).into_owned(),
            ),
            DhcpOption::DomainNameServers(all) => (code::DNS, format!("{all:?}")),
            other => panic!("{other:?}"),
        };
        super::options(&settings, &ipv6, &asker).iter().map(text).collect()
    }

    fn asks(codes: &[u16]) -> Vec<u8> {
        codes.iter().flat_map(|code| code.to_be_bytes()).collect()
    }

    #[test]
    fn each_system_gets_its_own_option() {
        let user = |text: &[u8]| [&[0, u8::try_from(text.len()).unwrap()], text].concat();
        let vendor = |text: &[u8]| [&[0, 0, 0, 9], user(text).as_slice()].concat();
        let ztp = "http://[2001:db8:1::1]/ztp/leaf1/ztp.json";
        let script = "http://[2001:db8:1::1]/ztp/leaf1/first-boot.sh";
        let one = |code: u16, text: &str| vec![(code, text.to_owned())];
        let sonic = user(b"SONiC-ZTP");
        assert_eq!(
            given(Some("leaf1"), &[(15, &sonic), (6, &asks(&[59, 239]))]),
            one(59, ztp)
        );
        assert_eq!(given(Some("leaf1"), &[(15, &sonic)]), one(59, ztp));
        assert_eq!(
            given(Some("leaf1"), &[(15, &sonic), (6, &asks(&[239]))]),
            one(239, script)
        );
        // Without the length field, which some clients leave out.
        assert_eq!(given(Some("leaf1"), &[(15, b"SONiC-ZTP")]), one(59, ztp));
        let onie = vendor(b"onie_vendor:x86_64-acme_s1-r0");
        let image = "http://[2001:db8:1::1]/images/nos-1.0-acme.bin";
        assert_eq!(given(Some("leaf1"), &[(16, &onie)]), one(59, image));
        let cumulus = vendor(b"cumulus-linux x86_64");
        assert_eq!(given(Some("leaf1"), &[(16, &cumulus)]), one(239, script));
        let arista = vendor(b"Arista;DCS;01;AF40");
        assert_eq!(given(Some("leaf1"), &[(16, &arista)]), one(59, script));
        let bootz = given(Some("leaf1"), &[(6, &asks(&[136]))]);
        assert_eq!(bootz, one(136, "\0\u{1d}bootz://[2001:db8:1::5]:15006"));
        let plain = given(Some("leaf1"), &[(6, &asks(&[23, 24, 59]))]);
        assert_eq!(
            plain,
            [
                (23, "[2001:db8::53]".to_owned()),
                (24, "\u{6}fabric\u{7}example\0".to_owned())
            ]
        );
        // A machine of the enrolment window gets nothing to boot.
        assert!(given(None, &[(15, &sonic), (6, &asks(&[59, 136, 239]))]).is_empty());
    }

    #[test]
    fn a_domain_that_dns_cannot_write_is_left_out() {
        assert_eq!(domain("a.b").unwrap(), b"\x01a\x01b\0");
        assert!(domain("a..b").is_none() && domain(&"x".repeat(64)).is_none());
    }
}
