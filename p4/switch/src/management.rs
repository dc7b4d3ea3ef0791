//! The management interface: its addresses and the Bootz servers come from DHCP, over IPv4 and IPv6 at the same time. A network may
//! have only one of the two.

use std::net::IpAddr;
use std::path::Path;

use fabric_bootz::dial;
use fabric_dhcp::client::{Client as Dhcp, Settings};
use fabric_dhcp::six::client::Client as Dhcp6;

use crate::Error;

/// Files of the leases, in the directory of the identity.
const LEASES: [&str; 2] = ["lease.json", "lease6.json"];

/// Keeps the leases while it lives.
pub(crate) struct Management {
    four: Dhcp,
    six: Dhcp6,
}

impl Management {
    /// Begins to ask for addresses over DHCP.
    ///
    /// # Errors
    /// There is no such interface, or this process may not change it.
    pub(crate) async fn start(interface: &str, dir: &Path, model: &str, serial: &str) -> Result<Self, Error> {
        let [four, six] = LEASES.map(|lease| Settings {
            interface: interface.to_owned(),
            model: model.to_owned(),
            serial: serial.to_owned(),
            memory: dir.join(lease),
        });
        Ok(Self {
            four: Dhcp::start(four).await?,
            six: Dhcp6::start(six).await?,
        })
    }

    /// Waits until there is an address of either kind.
    pub(crate) async fn address(&mut self) {
        tokio::select! {
            _ = self.four.lease() => {}
            _ = self.six.lease() => {}
        }
    }

    /// Waits until there is an address of the version of IP at which the switch serves. If the machine has that address
    /// already, no lease is needed.
    pub(crate) async fn address_for(&mut self, listen: IpAddr) {
        match listen {
            own if own.is_unspecified() || own.is_loopback() => {}
            IpAddr::V4(_) => drop(self.four.lease().await),
            IpAddr::V6(_) => drop(self.six.lease().await),
        }
    }

    /// `HOST:PORT` of the Bootz servers that the leases name now.
    pub(crate) fn servers(&self) -> Vec<String> {
        let four = self.four.current().map(|lease| lease.bootz).unwrap_or_default();
        let six = self.six.current().map(|lease| lease.bootz).unwrap_or_default();
        let address = |uri: String| match dial::address(&uri) {
            Ok(address) => Some(address.to_owned()),
            Err(error) => {
                tracing::warn!(%error, "DHCP");
                None
            }
        };
        four.into_iter().chain(six).filter_map(address).collect()
    }

    /// Asks for fresh options.
    pub(crate) fn ask_again(&self) {
        self.four.ask_again();
        self.six.ask_again();
    }
}
