//! A blank switch in memory: the boot client of `p4-switch`, and a switch without an engine behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fabric_bootz::client::Client;
use fabric_bootz::dial;
use fabric_dhcp::machine::{Action, Machine};
use fabric_dhcp::message::{Identity, Lease};
use fabric_identity::Credentials;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::scale::switch::Switch;

/// Port of DHCP servers.
const SERVER: u16 = 67;
/// Octets of the fixed part of a message (RFC 2131, section 2), and where it has the number of relays and the relay's address.
const FIXED: usize = 236;
const HOPS: usize = 3;
const RELAY: std::ops::Range<usize> = 24..28;
/// Relay agent information with a source port of the relay's own (RFC 3046; RFC 8357, section 5.1).
const RELAY_PORT: [u8; 4] = [82, 2, 19, 0];
const END: u8 = 255;

/// Where a blank switch is powered on.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its directory, with what its manufacturer put into it.
    pub(super) dir: PathBuf,
    /// MAC address of its management port.
    pub(super) mac: [u8; 6],
    /// The relay of its rack.
    pub(super) relay: Ipv4Addr,
    /// The DHCP server.
    pub(super) server: Ipv4Addr,
}

/// The message of a client as a relay passes it on.
fn relayed(mut octets: Vec<u8>, relay: Ipv4Addr) -> Vec<u8> {
    if let Some(hops) = octets.get_mut(HOPS) {
        *hops = 1;
    }
    if let Some(field) = octets.get_mut(RELAY) {
        field.copy_from_slice(&relay.octets());
    }
    // What fills the message up after its end goes.
    while octets.len() > FIXED && octets.last() == Some(&0) {
        octets.pop();
    }
    if octets.last() == Some(&END) {
        octets.pop();
    }
    octets.extend(RELAY_PORT);
    octets.push(END);
    octets
}

/// Gets an address, as often as it takes.
async fn lease(client: &Client, place: &Place) -> Result<Lease> {
    let who = Identity {
        mac: place.mac,
        model: client.model().to_owned(),
        serial: client.serial().to_owned(),
    };
    let socket = UdpSocket::bind((place.relay, 0)).await.context("the relay")?;
    let began = Instant::now();
    let mut random = || rand::random::<u32>();
    let mut machine = Machine::new(who, None, Duration::ZERO);
    let mut octets = [0; 1500];
    loop {
        let due = began + machine.due();
        let received = timeout_at(due, socket.recv(&mut octets)).await;
        let now = began.elapsed();
        let actions = match received {
            Ok(length) => machine.received(octets.get(..length?).unwrap_or_default(), now, &mut random),
            Err(_) => machine.timer(now, &mut random),
        };
        for action in actions {
            match action {
                Action::Broadcast(_, message) | Action::Send(_, message) => {
                    socket
                        .send_to(&relayed(message, place.relay), (place.server, SERVER))
                        .await?;
                }
                Action::Use(lease, _) => return Ok(lease),
                Action::Lose(_) => {}
            }
        }
    }
}

/// Boots to the end: returns when the switch serves. It reports, and renews its certificate, until the runtime ends.
///
/// # Errors
/// It is not what its inventory says, or its files cannot be used.
pub(super) async fn power_on(place: Place, switch: Switch) -> Result<()> {
    let client = open(&place.dir)?;
    let lease = lease(&client, &place).await?;
    let uri = lease.bootz.first().context("the DHCP server names no Bootz server")?;
    let server = dial::address(uri)?;
    let enrolled = client.enrol(server).await;
    let listen = enrolled.config.listen;
    let SocketAddr::V4(at) = listen else {
        bail!("{listen}: expected IPv4")
    };
    if *at.ip() != lease.address {
        bail!(
            "{} got the address {}, but shall listen at {listen}",
            enrolled.config.hostname,
            lease.address
        );
    }
    let credentials = Credentials::load(client.install(&enrolled)?)?;
    let listener = TcpListener::bind(listen).await.with_context(|| listen.to_string())?;
    switch.serve_at(listener, &credentials)?;
    client.keep(enrolled, || vec![server.to_owned()]).await;
    Ok(())
}

fn open(dir: &Path) -> Result<Client> {
    Client::open(dir).with_context(|| dir.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_message_has_the_relay_and_one_end() {
        let mut message = vec![0; FIXED];
        message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, END, 0, 0, 0]);
        let relayed = relayed(message, [10, 9, 1, 1].into());
        assert_eq!((relayed[HOPS], &relayed[RELAY]), (1, &[10, 9, 1, 1][..]));
        assert!(relayed.ends_with(&[53, 1, 1, 82, 2, 19, 0, END]));
    }
}
