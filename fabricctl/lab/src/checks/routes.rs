//! Do static routes lead where they should, for as long as they exist?

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use vfabric_api::intent::AllowedAddress;
use vfabric_api::kind::{Spec, StaticRoute};
use vfabric_api::service::{Key, Kind};
use vfabric_api::status::{Progress, View};

use super::{Endpoint, Scene};
use crate::netns;
use crate::probe::{self, ANSWER_TIMEOUT};

/// Longest time that a change may take until every device has applied it.
const APPLIED: Duration = Duration::from_secs(30);
/// Longest wait for a reply from an address that must not reply.
const SILENCE: Duration = Duration::from_millis(500);
/// Addresses that no network has, behind the attachment that the routes lead to (RFC 5737, RFC 3849).
const BEHIND: [&str; 2] = ["198.51.100.7", "2001:db8:51::7"];
/// The prefixes that are routed to them.
const PREFIXES: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/48"];

/// An object as a user wrote it.
fn written(cx: &Scene<'_>, key: &Key) -> Result<Spec> {
    Ok(match cx.runtime.block_on(cx.client.get(key))? {
        View::Router(router) => Spec::Router(router.spec),
        View::Attachment(attachment) => Spec::Attachment(attachment.spec),
        _ => bail!("{key} is neither a router nor an attachment"),
    })
}

fn replace(cx: &Scene<'_>, at: &Endpoint, spec: &Spec) -> Result<()> {
    let view = cx
        .runtime
        .block_on(cx.client.replace(&at.vdc, spec, None, Some(APPLIED)))?;
    let applied = match &view {
        View::Router(router) => &router.applied,
        View::Attachment(attachment) => &attachment.applied,
        _ => bail!("the reply is about another object"),
    };
    ensure!(
        applied.progress == Progress::Applied,
        "not applied: {:?}",
        applied.waiting
    );
    Ok(())
}

/// How many replies these endpoints get from behind the attachment.
fn answers(asking: &[&Endpoint], timeout: Duration) -> Result<usize> {
    let mut count = 0;
    for from in asking {
        for address in BEHIND {
            count += usize::from(probe::ping(&from.namespace, address.parse()?, 56, timeout)?.is_some());
        }
    }
    Ok(count)
}

/// A router gets a route to a prefix of each family behind an attachment: others of its networks, on this leaf and on
/// another, reach addresses there; another vDC does not; and without the routes nobody does.
pub(super) fn static_routes(cx: &Scene<'_>) -> Result<String> {
    let via = cx
        .endpoints
        .iter()
        .find(|e| e.host.is_some())
        .context("no workload on a host")?;
    let inside = |e: &&Endpoint| e.vdc == via.vdc && e.network != via.network;
    let near = cx.endpoints.iter().filter(inside).find(|e| e.leaf == via.leaf);
    let far = cx.endpoints.iter().filter(inside).find(|e| e.leaf != via.leaf);
    let asking = [
        near.context("no other network on the same leaf")?,
        far.context("no other network on another leaf")?,
    ];
    let outside = cx.endpoints.iter().find(|e| e.vdc != via.vdc).context("only one vDC")?;
    let routers = cx.runtime.block_on(cx.client.list(Kind::Router, Some(&via.vdc)))?;
    let router = routers.first().context("the vDC has no router")?;
    let key = |kind, name| Key::new(via.vdc.clone(), kind, name);
    let router = written(cx, &key(Kind::Router, router.name().clone()))?;
    let attachment = written(cx, &key(Kind::Attachment, via.name.clone()))?;
    let (Spec::Router(mut routed), Spec::Attachment(mut allowed)) = (router.clone(), attachment.clone()) else {
        bail!("the router or the attachment is of another kind");
    };
    for (prefix, next_hop) in PREFIXES.iter().zip(via.ips()) {
        routed.routes.push(StaticRoute {
            to: prefix.parse()?,
            via: next_hop,
        });
        allowed.allowed_addresses.push(AllowedAddress {
            ip: None,
            cidr: Some(prefix.parse()?),
            mac: None,
        });
    }
    let addresses = |verb: &str| {
        let lines = BEHIND
            .iter()
            .map(|address| format!("address {verb} {address} dev lo\n"));
        // An IPv6 address counts only on an interface that is up.
        let script: String = std::iter::once("link set lo up\n".to_owned()).chain(lines).collect();
        netns::ip_batch(Some(&via.namespace), &script)
    };
    addresses("add")?;
    let done = (|| -> Result<Duration> {
        ensure!(
            answers(&asking, SILENCE)? == 0,
            "an address is reached before there is a route"
        );
        // Packets from behind the attachment have their own source addresses.
        replace(cx, via, &Spec::Attachment(allowed))?;
        let started = Instant::now();
        replace(cx, via, &Spec::Router(routed))?;
        let took = started.elapsed();
        // An applied route works at once, so nobody tries twice.
        let (all, came) = (asking.len() * BEHIND.len(), answers(&asking, ANSWER_TIMEOUT)?);
        ensure!(came == all, "{came} of {all} replies came from behind the attachment");
        for address in BEHIND {
            let address: IpAddr = address.parse()?;
            let crossed = probe::ping(&outside.namespace, address, 56, SILENCE)?;
            ensure!(crossed.is_none(), "{} reaches {address} of another vDC", outside.id);
        }
        Ok(took)
    })();
    // Later checks find everything as it was, whether this one passed or not.
    let back = replace(cx, via, &router).and_then(|()| replace(cx, via, &attachment));
    let left = answers(&asking, SILENCE);
    addresses("del")?;
    let took = done?;
    back?;
    let left = left?;
    ensure!(left == 0, "{left} replies came although the routes are gone");
    cx.ready()?;
    Ok(format!(
        "{} behind {}: applied after {:.0} ms, then reached from both leaves and from no other vDC; not reached without \
         the routes",
        PREFIXES.join(" and "),
        via.id,
        took.as_secs_f64() * 1e3
    ))
}
