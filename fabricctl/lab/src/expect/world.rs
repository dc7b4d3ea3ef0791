//! The machines of a running lab, as expectations name them.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::intent::{NetworkSpec, Place};
use vfabric_api::service::Kind;
use vfabric_api::status::View;

use super::file::Expectation;
use crate::Lab;
use crate::plan::PREFIX;
use crate::probe::EchoServer;

/// A workload or bare-metal machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// `vdc/attachment`: what its echo server says it is.
    pub(super) id: String,
    /// `vdc/network`.
    network: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// Its addresses.
    pub(super) ips: Vec<IpAddr>,
    /// The gateways of its network.
    pub(super) gateways: Vec<IpAddr>,
}

impl Machine {
    #[cfg(test)]
    pub(super) fn of_test(id: &str, ip: IpAddr, gateway: IpAddr) -> Self {
        Self {
            id: id.to_owned(),
            network: String::new(),
            namespace: String::new(),
            ips: vec![ip],
            gateways: vec![gateway],
        }
    }

    /// Whether a pattern of an expectation names it.
    fn is(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            None => self.id == pattern,
            Some("") => true,
            Some(start) => self.id.starts_with(start) || format!("{}/", self.network) == start,
        }
    }
}

/// The data with which expectations are judged.
pub(super) struct World<'a> {
    /// The lab.
    pub(super) lab: &'a Lab,
    /// A client of its controller.
    pub(super) client: Client,
    /// Runtime for calls of the client.
    pub(super) runtime: &'a Runtime,
    machines: Vec<Machine>,
    /// Echo servers; each returns its name.
    _servers: Vec<EchoServer>,
}

/// A sender, a target, and one of the target's addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    /// The sender.
    pub(super) from: &'a Machine,
    /// The target.
    pub(super) to: &'a Machine,
    /// Its address.
    pub(super) ip: IpAddr,
}

impl<'a> World<'a> {
    /// Looks up the machines, and starts an echo server at each.
    ///
    /// # Errors
    /// The controller does not answer.
    pub(super) fn open(lab: &'a Lab, runtime: &'a Runtime) -> Result<Self> {
        let client = lab.client()?;
        let mut machines = Vec::new();
        for vdc in &lab.intent.vdcs {
            for view in runtime.block_on(client.list(Kind::Attachment, Some(&vdc.name)))? {
                let View::Attachment(a) = view else {
                    bail!("the controller listed something that is not an attachment")
                };
                let network = vdc.networks.iter().find(|n| n.name == a.spec.network);
                machines.push(Machine {
                    id: format!("{}/{}", vdc.name, a.spec.name),
                    network: format!("{}/{}", vdc.name, a.spec.network),
                    namespace: match &a.spec.place {
                        Place::Host { netns, .. } => netns.clone(),
                        Place::Port { .. } => format!("{PREFIX}{}-{}", vdc.name, a.spec.name),
                    },
                    ips: a.ips.clone(),
                    gateways: network.map(gateways).unwrap_or_default(),
                });
            }
        }
        let servers = machines.iter().map(|m| EchoServer::start(&m.namespace, &m.id));
        Ok(Self {
            lab,
            client,
            runtime,
            _servers: servers.collect::<Result<_>>()?,
            machines,
        })
    }

    /// Everything that an expectation is about.
    ///
    /// # Errors
    /// It matches nothing: a name is wrong, or the machines have no address of that family.
    pub(super) fn pairs(&self, of: &Expectation) -> Result<Vec<Pair<'_>>> {
        let named = |field: &str, pattern: &str| {
            let found: Vec<&Machine> = self.machines.iter().filter(|m| m.is(pattern)).collect();
            let found = (!found.is_empty()).then_some(found);
            found.with_context(|| format!("{field}: the intent has no attachment `{pattern}`"))
        };
        let (senders, targets) = (named("from", &of.from)?, named("to", &of.to)?);
        let family = |ip: &IpAddr| of.family.is_none_or(|f| f.has(*ip));
        let mut pairs = Vec::new();
        for from in senders {
            for to in targets.iter().copied().filter(|to| to.id != from.id) {
                let can_send = |ip: &IpAddr| from.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
                let ips = to.ips.iter().copied().filter(|ip| family(ip) && can_send(ip));
                pairs.extend(ips.map(|ip| Pair { from, to, ip }));
            }
        }
        if pairs.is_empty() {
            bail!(
                "`{}` to `{}`: no two machines with addresses of one family",
                of.from,
                of.to
            );
        }
        Ok(pairs)
    }
}

fn gateways(of: &NetworkSpec) -> Vec<IpAddr> {
    of.subnets.iter().map(|s| s.gateway()).collect()
}
