//! `--ztp`: the switch gets its device id, address and certificate from its owner (OpenConfig Bootz) before it serves.
//! The address of the owner's Bootz server comes from DHCP or the command line.

use std::path::Path;

use fabric_bootz::client::{Client, Enrolled, waits};
use fabric_bootz::dial;
use fabric_dhcp::client::{Client as Dhcp, Settings};
use fabric_dhcp::message::Lease;
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::cli::Options;

/// The lease of the management interface, in the directory of the identity.
const LEASE: &str = "lease.json";

/// The enrolment of this switch, if it has one.
pub(crate) struct Ztp(Option<Enrolment>);

struct Enrolment {
    client: Client,
    enrolled: Enrolled,
    /// Keeps the lease while the switch runs, and knows the Bootz servers of now.
    dhcp: Option<Dhcp>,
}

/// Enrols if the options ask for it, and adds the owner's settings to the options. Returns none if the process was
/// asked to end before that.
///
/// # Errors
/// The identity or the management interface of the switch cannot be used, or the files for TLS cannot be written.
pub(crate) async fn enrol(options: &mut Options) -> Result<Option<Ztp>, Error> {
    let Some(dir) = &options.ztp else {
        return Ok(Some(Ztp(None)));
    };
    let client = match &options.ztp_signer {
        Some(program) => Client::open_with_signer(dir, program)?,
        None => Client::open(dir)?,
    };
    let mut dhcp = match &options.ztp_interface {
        Some(interface) => Some(lease(&client, dir, interface).await?),
        None => None,
    };
    let server = options.ztp_server.as_deref();
    tracing::info!(
        serial = client.serial(),
        server,
        interface = options.ztp_interface,
        "enrolling"
    );
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let enrolling = async {
        match (&mut dhcp, server) {
            (Some(dhcp), _) => from_dhcp(&client, dhcp).await,
            (None, Some(server)) => client.enrol(server).await,
            // The command line has exactly one of the two.
            (None, None) => std::future::pending().await,
        }
    };
    let enrolled = tokio::select! {
        enrolled = enrolling => enrolled,
        _ = terminate.recv() => return Ok(None),
        _ = interrupt.recv() => return Ok(None),
    };
    let files = client.install(&enrolled)?;
    let config = &enrolled.config;
    tracing::info!(hostname = config.hostname, device_id = config.device_id, listen = %config.listen, "enrolled");
    options.device_id = config.device_id;
    options.grpc_server_addr = config.listen;
    (options.tls_ca, options.tls_cert, options.tls_key) = (Some(files.ca), Some(files.cert), Some(files.key));
    Ok(Some(Ztp(Some(Enrolment { client, enrolled, dhcp }))))
}

/// Begins to keep the management interface supplied with an address.
async fn lease(client: &Client, dir: &Path, interface: &str) -> Result<Dhcp, Error> {
    let settings = Settings {
        interface: interface.to_owned(),
        model: client.model().to_owned(),
        serial: client.serial().to_owned(),
        memory: dir.join(LEASE),
    };
    Ok(Dhcp::start(settings).await?)
}

/// Gets bootstrap data from the servers that DHCP names. After a failure, DHCP is asked again, as Bootz requires,
/// because the operator may have named another server.
async fn from_dhcp(client: &Client, dhcp: &mut Dhcp) -> Enrolled {
    let mut waits = waits();
    loop {
        // Even a switch that has its bootstrap data cannot serve without its address.
        let lease = dhcp.lease().await;
        let servers = servers(&lease);
        match client.attempt(&servers).await {
            Ok(enrolled) => return enrolled,
            Err(_) if servers.is_empty() => tracing::warn!(
                server = %lease.server,
                "the DHCP server names no Bootz server (option 143); asking again"
            ),
            Err(_) => {}
        }
        if let Some(wait) = waits.next() {
            tokio::time::sleep(wait).await;
        }
        dhcp.ask_again();
    }
}

/// `HOST:PORT` of the Bootz servers that a lease names.
fn servers(lease: &Lease) -> Vec<String> {
    let address = |uri: &String| match dial::address(uri) {
        Ok(address) => Some(address.to_owned()),
        Err(error) => {
            tracing::warn!(%error, server = %lease.server, "DHCP");
            None
        }
    };
    lease.bootz.iter().filter_map(address).collect()
}

impl Ztp {
    /// Name of the switch, if its owner gave it one.
    pub(crate) fn hostname(&self) -> Option<&str> {
        self.0.as_ref().map(|own| own.enrolled.config.hostname.as_str())
    }

    /// Reports that the switch serves, and renews its certificate and its lease. Never returns.
    pub(crate) async fn keep(self) {
        match self.0 {
            Some(Enrolment { client, enrolled, dhcp }) => {
                let named = || dhcp.as_ref().and_then(Dhcp::current).map(|lease| servers(&lease));
                client.keep(enrolled, || named().unwrap_or_default()).await;
            }
            None => std::future::pending::<()>().await,
        }
    }
}
