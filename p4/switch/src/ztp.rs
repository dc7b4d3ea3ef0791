//! `--ztp`: the switch gets its device id, address and certificate from its owner before it serves: by OpenConfig Bootz, or with a
//! one-time token at the controller. The address of the owner's Bootz server comes from DHCP or the command line.

use std::path::Path;

use fabric_bootz::client::{Client, Enrolled, waits};
use fabric_bootz::data::SwitchConfig;
use fabric_bootz::token::TokenClient;
use fabric_identity::Files;
use p4_switch::gnoi::os;
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::cli::Options;
use crate::management::Management;

/// The enrolment of this switch, if it has one.
pub(crate) struct Ztp(Option<Enrolment>);

struct Enrolment {
    hostname: String,
    /// Renews the switch's certificate before it expires. With a token this is not
    /// needed, because the controller renews the certificate.
    bootz: Option<(Client, Enrolled)>,
    /// Keeps the leases while the switch runs, and knows the current Bootz servers.
    management: Option<Management>,
}

/// Enrols if the options ask for it, and adds the owner's settings to the options. Returns none if the process was
/// asked to end before that.
///
/// # Errors
/// The identity or the management interface of the switch cannot be used, its token is refused, or the files for TLS cannot be
/// written.
pub(crate) async fn enrol(options: &mut Options) -> Result<Option<Ztp>, Error> {
    let Some(dir) = options.ztp.clone() else {
        return Ok(Some(Ztp(None)));
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let enrolling = async {
        match (&options.ztp_token, &options.ztp_controller) {
            (Some(token), Some(controller)) => by_token(options, &dir, token, controller).await,
            _ => by_bootz(options, &dir).await,
        }
    };
    let (config, files, enrolment) = tokio::select! {
        enrolled = enrolling => enrolled?,
        _ = terminate.recv() => return Ok(None),
        _ = interrupt.recv() => return Ok(None),
    };
    tracing::info!(hostname = config.hostname, device_id = config.device_id, listen = %config.listen, "enrolled");
    options.device_id = config.device_id;
    options.grpc_server_addr = config.listen;
    (options.tls_ca, options.tls_cert, options.tls_key) = (Some(files.ca), Some(files.cert), Some(files.key));
    Ok(Some(Ztp(Some(enrolment))))
}

type Outcome = Result<(SwitchConfig, Files, Enrolment), Error>;

async fn by_bootz(options: &Options, dir: &Path) -> Outcome {
    let client = match &options.ztp_signer {
        Some(program) => Client::open_with_signer(dir, program)?,
        None => Client::open(dir)?,
    };
    let running = os::running_version(options.os_settings()).await;
    let client = client.running(&running);
    let mut management = manage(options, dir, client.model(), client.serial()).await?;
    let server = options.ztp_server.as_deref();
    tracing::info!(
        serial = client.serial(),
        server,
        interface = options.ztp_interface,
        "enrolling"
    );
    let enrolled = match (&mut management, server) {
        (Some(management), _) => from_dhcp(&client, management).await,
        (None, Some(server)) => client.enrol(server).await,
        // The command line has exactly one of the two.
        (None, None) => std::future::pending().await,
    };
    if let Some(wanted) = enrolled.software.as_ref().filter(|wanted| **wanted != running) {
        tracing::warn!(
            wanted,
            running,
            "the owner asks for other software: `fabricctl switch install` brings it"
        );
    }
    let files = client.install(&enrolled)?;
    let config = enrolled.config.clone();
    let enrolment = Enrolment {
        hostname: config.hostname.clone(),
        bootz: Some((client, enrolled)),
        management,
    };
    Ok((config, files, enrolment))
}

async fn by_token(options: &Options, dir: &Path, token: &Path, controller: &str) -> Outcome {
    let client = TokenClient::open(dir, controller)?;
    let mut management = manage(options, dir, client.model(), client.serial()).await?;
    tracing::info!(
        serial = client.serial(),
        controller,
        interface = options.ztp_interface,
        "enrolling with a token"
    );
    if let Some(management) = &mut management {
        management.address().await;
    }
    let enrolled = client.enrol(token).await?;
    if let Some(management) = &mut management {
        management.address_for(enrolled.config.listen.ip()).await;
    }
    let files = client.install(&enrolled)?;
    let config = enrolled.config;
    let enrolment = Enrolment {
        hostname: config.hostname.clone(),
        bootz: None,
        management,
    };
    Ok((config, files, enrolment))
}

/// Starts the DHCP clients of the management interface, if one is named.
async fn manage(options: &Options, dir: &Path, model: &str, serial: &str) -> Result<Option<Management>, Error> {
    match &options.ztp_interface {
        Some(interface) => Ok(Some(Management::start(interface, dir, model, serial).await?)),
        None => Ok(None),
    }
}

/// Gets bootstrap data from the servers that DHCP names. After a failure, DHCP is asked again, as Bootz requires,
/// because the operator may have named another server.
async fn from_dhcp(client: &Client, management: &mut Management) -> Enrolled {
    let mut waits = waits();
    loop {
        management.address().await;
        let servers = management.servers();
        match client.attempt(&servers).await {
            Ok(enrolled) => {
                // Even a switch that has its bootstrap data cannot serve without its address.
                management.address_for(enrolled.config.listen.ip()).await;
                return enrolled;
            }
            Err(_) if servers.is_empty() => {
                tracing::warn!("DHCP names no Bootz server (option 143, over IPv6 136); asking again");
            }
            Err(_) => {}
        }
        if let Some(wait) = waits.next() {
            tokio::time::sleep(wait).await;
        }
        management.ask_again();
    }
}

impl Ztp {
    /// Name of the switch, if its owner gave it one.
    pub(crate) fn hostname(&self) -> Option<&str> {
        self.0.as_ref().map(|own| own.hostname.as_str())
    }

    /// Reports that the switch serves, and renews its certificate and its lease. Never returns.
    pub(crate) async fn keep(self) {
        match self.0 {
            Some(Enrolment {
                bootz: Some((client, enrolled)),
                management,
                ..
            }) => {
                let named = || management.as_ref().map(Management::servers).unwrap_or_default();
                client.keep(enrolled, named).await;
            }
            // The leases are kept for as long as this value lives.
            _own => std::future::pending::<()>().await,
        }
    }
}
