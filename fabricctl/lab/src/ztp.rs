//! A lab whose switches are blank: they only have an identity from their manufacturer. A provisioning server on the
//! management network gives them addresses and bootstrap data; the controller enrols them.
//!
//! The lab is manufacturer and owner at once. Switches have no addresses, names or certificates before they are powered on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fabric_bootz::testing::{Signer, World, signer};
use vfabric_api::client::Client;
use vfabric_api::ident::{Label, Name};
use vfabric_api::intent::Place;
use vfabric_api::provisioning::Provisioning;
use vfabric_api::topology::{Switch, Topology};

use super::pki::{Identity, Subject};
use super::{LOOK_EVERY, Lab, READY_TIMEOUT, plan, probe, process};
use crate::say;

/// Name of the provisioning server among the daemons.
const PROVISION: &str = "provision";
/// The model, as it is in switches and vouchers.
const MODEL: &str = "x86_64-acme_s1-r0";
/// Port of the controller for the provisioning server.
const OWNER_PORT: u16 = 15007;
/// Port of the provisioning server's Bootz server.
const BOOTZ_PORT: u16 = 15006;
/// Longest wait for one reply to a ping; the first ones may find no path yet.
const ONE_PING: Duration = Duration::from_millis(50);

/// Serial number of a switch of a lab.
fn serial(switch: &Name) -> String {
    format!("LAB-{switch}")
}

/// The inventory says which machine is which switch: by its serial number.
///
/// # Errors
/// A name does not make a valid serial number.
pub(super) fn label(topology: &mut Topology) -> Result<()> {
    for switch in &mut topology.switches {
        let label: Result<Label, _> = serial(&switch.name).parse();
        switch.serial = Some(label.context("serial number")?);
        switch.model = Some(MODEL.parse().context("model")?);
    }
    Ok(())
}

impl Lab {
    fn ztp_dir(&self) -> PathBuf {
        self.dir.join("ztp")
    }

    /// Directory in which a switch keeps its identity, and later its bootstrap data.
    fn identity_of(&self, switch: &Name) -> PathBuf {
        self.ztp_dir().join(switch.as_str())
    }

    /// Certificate and key of a subject, such as `switch/leaf1`; for an enrolled switch, those that it received.
    pub(super) fn files_of(&self, subject: &str) -> Identity {
        match subject.strip_prefix("switch/").filter(|_| self.options.ztp) {
            Some(switch) => Identity {
                cert: self.ztp_dir().join(switch).join("cert.pem"),
                key: self.ztp_dir().join(switch).join("tls.key"),
            },
            None => self.pki.identity(subject),
        }
    }

    /// The command line of a blank switch: where it finds its identity, and its management interface.
    pub(super) fn blank(&self, switch: &Switch, command: &mut Command) {
        let identity = self.identity_of(&switch.name);
        command.arg("--ztp").arg(identity).args(["--ztp-interface", "mgmt0"]);
    }

    /// A further subject of a certificate by the lab's authority: the provisioning server.
    pub(super) fn provision_subject() -> Subject {
        Subject {
            id: PROVISION.to_owned(),
            names: Vec::new(),
        }
    }

    /// The settings of enrolment.
    pub(super) fn bootz_settings(&self) -> PathBuf {
        self.ztp_dir().join("bootz.yaml")
    }

    /// Makes the manufacturer, its devices with their vouchers, the owner, and both settings.
    pub(super) fn deliver_switches(&self) -> Result<()> {
        let dir = self.ztp_dir();
        fabric_identity::private_directory(&dir)?;
        let openssl = process::command("openssl").arg("version").output();
        openssl.context("`openssl` signs the vouchers: install it")?;
        let world = World::new(&dir);
        for switch in &self.topology.switches {
            let serial = serial(&switch.name);
            world.deliver(&world.maker.device(&serial), &self.identity_of(&switch.name));
            world.lay_down(&serial, &world.voucher_text(&serial, ""));
        }
        let enrolling: Signer = signer("vfabric lab enrolment");
        std::fs::write(dir.join("enrol.pem"), &enrolling.pem)?;
        std::fs::write(dir.join("enrol.key"), &enrolling.key)?;
        // Everybody trusts both authorities.
        let ca = self.pki.ca();
        let both = format!("{}{}", std::fs::read_to_string(&ca)?, enrolling.pem);
        std::fs::write(ca, both)?;
        std::fs::write(self.bootz_settings(), self.owner_yaml())?;
        Ok(std::fs::write(dir.join("provision.yaml"), self.provision_yaml())?)
    }

    fn owner_yaml(&self) -> String {
        format!(
            "listen: {}:{OWNER_PORT}\nmanufacturers: maker.pem\nvouchers: .\nowner_certificate: owner.cms\n\
             owner_key: owner.key\nauthority_certificate: enrol.pem\nauthority_key: enrol.key\n",
            self.plan.controller
        )
    }

    fn provision_yaml(&self) -> String {
        let (address, files) = (self.plan.controller, self.pki.identity(PROVISION));
        let [a, b, c, _] = address.octets();
        format!(
            "address: {address}\ninterfaces: [{link}]\nsubnets: [{{ subnet: {a}.{b}.{c}.0/24 }}]\nlease_seconds: 600\n\
             state: state\nbootz_server: {{ port: {BOOTZ_PORT}, owner: \"{address}:{OWNER_PORT}\", tls_ca: {ca}, \
             tls_cert: {cert}, tls_key: {key} }}\n",
            link = plan::MGMT_LINK,
            ca = self.pki.ca().display(),
            cert = files.cert.display(),
            key = files.key.display(),
        )
    }

    /// Starts the provisioning server.
    pub(super) fn start_provision(&self) -> Result<()> {
        let mut command = process::command(self.bin("fabric-provision"));
        command
            .arg("serve")
            .arg("--settings")
            .arg(self.ztp_dir().join("provision.yaml"));
        command.arg("--inventory").arg(self.dir.join("topology.yaml"));
        self.daemons.start(PROVISION, None, command)
    }

    /// Waits until every switch is in service, and returns their time lines.
    ///
    /// # Errors
    /// One takes too long; says what it waits for.
    pub(super) async fn in_service(&self, client: &Client) -> Result<Vec<Provisioning>> {
        let until = Instant::now() + READY_TIMEOUT;
        loop {
            self.expect_daemons()?;
            let lines = client.provisioning().await?;
            let Some(waiting) = lines.iter().find(|line| !line.in_service) else {
                return Ok(lines);
            };
            if Instant::now() > until {
                let what = waiting.waits_for.as_deref().unwrap_or_default();
                let error = waiting.last_error.as_deref().unwrap_or_default();
                bail!(
                    "{} is not in service: waits for {what}; last error: {error}",
                    waiting.switch
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pings from the first workload of the intent to the last attachment of its vDC until a reply comes back. Returns the
    /// names of both; none if the intent has no two.
    ///
    /// # Errors
    /// None comes back in time.
    pub(super) fn first_packet(&self) -> Result<Option<String>> {
        let pairs = self.intent.vdcs.iter().filter_map(|vdc| {
            let from = vdc.attachments.iter().find_map(|a| match &a.place {
                Place::Host { netns, .. } => Some((a, netns)),
                Place::Port { .. } => None,
            })?;
            let to = vdc.attachments.iter().rev().find(|a| a.name != from.0.name)?;
            let address = to.ips.iter().copied().find(IpAddr::is_ipv4)?;
            Some((from.1, address, format!("{}/{} to {}", vdc.name, from.0.name, to.name)))
        });
        let Some((from, to, words)) = pairs.into_iter().next() else {
            return Ok(None);
        };
        let until = Instant::now() + READY_TIMEOUT;
        while probe::ping(from, to, 0, ONE_PING)?.is_none() {
            if Instant::now() > until {
                bail!("no packet from {words}");
            }
        }
        Ok(Some(words))
    }

    /// Prints how long the switches took.
    pub(super) fn report_ztp(&self, packet: Option<(String, Duration)>, all: Duration, lines: &[Provisioning]) {
        for line in lines {
            let took = line
                .took_ms
                .map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64());
            say!(
                "  {:<10} in service {took:.2} s after its first request for an address",
                line.switch
            );
        }
        if let Some((words, took)) = packet {
            say!("  power-on to first packet ({words}): {:.2} s", took.as_secs_f64());
        }
        say!(
            "  power-on to all {} switches in service: {:.2} s",
            lines.len(),
            all.as_secs_f64()
        );
    }
}
