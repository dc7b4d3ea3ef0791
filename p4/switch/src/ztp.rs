//! `--ztp`: what the switch is comes from its owner (OpenConfig Bootz, without DHCP), and only then does it serve.

use fabric_bootz::client::{Client, Enrolled};
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::cli::Options;

/// The enrolment of this switch, if it has one.
pub(crate) struct Ztp(Option<(Client, Enrolled)>);

/// Enrols if the options say so, and puts what the owner says into them; none if the process was asked to end before.
///
/// # Errors
/// The identity of the switch cannot be used, or the files for TLS cannot be written.
pub(crate) async fn enrol(options: &mut Options) -> Result<Option<Ztp>, Error> {
    let (Some(dir), Some(server)) = (&options.ztp, &options.ztp_server) else {
        return Ok(Some(Ztp(None)));
    };
    let client = Client::open(dir)?;
    tracing::info!(serial = client.serial(), server, "enrolling");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let enrolled = tokio::select! {
        enrolled = client.enrol(server) => enrolled,
        _ = terminate.recv() => return Ok(None),
        _ = interrupt.recv() => return Ok(None),
    };
    let files = client.install(&enrolled)?;
    let config = &enrolled.config;
    tracing::info!(hostname = config.hostname, device_id = config.device_id, listen = %config.listen, "enrolled");
    options.device_id = config.device_id;
    options.grpc_server_addr = config.listen;
    (options.tls_ca, options.tls_cert, options.tls_key) = (Some(files.ca), Some(files.cert), Some(files.key));
    Ok(Some(Ztp(Some((client, enrolled)))))
}

impl Ztp {
    /// Name of the switch, if its owner gave it one.
    pub(crate) fn hostname(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, enrolled)| enrolled.config.hostname.as_str())
    }

    /// Reports that the switch serves, and renews its certificate, for good.
    pub(crate) async fn keep(self) {
        match self.0 {
            Some((client, enrolled)) => client.keep(enrolled).await,
            None => std::future::pending::<()>().await,
        }
    }
}
