//! Ordinary sockets of one vDC ask for the addresses of another.

use std::time::Duration;

use anyhow::{Result, bail};

use super::cast::Cast;
use crate::probe::{self, ANSWER_TIMEOUT, Capture};

/// Longest wait for a reply from an address that nobody may use.
const SILENCE: Duration = Duration::from_millis(100);

/// The vDCs use the same addresses on purpose: what answers must always be one's own.
pub(super) fn between_vdcs(cast: &Cast<'_>) -> Result<String> {
    let cx = cast.cx;
    let captures: Vec<_> = cx
        .endpoints
        .iter()
        .map(|e| Ok((e, Capture::start(&e.namespace)?)))
        .collect::<Result<_>>()?;
    let marker = |vdc: &dyn std::fmt::Display| format!("secret of {vdc}");
    let mut asked = 0;
    for (from, to) in cx.pairs(|a, b| a.vdc != b.vdc)? {
        for ip in to.ips() {
            // An address that exists in both vDCs must be answered by the asker's own vDC, any other address by nobody.
            let own = cx.endpoints.iter().any(|e| e.vdc == from.vdc && e.ips().contains(&ip));
            let patience = if own { ANSWER_TIMEOUT } else { SILENCE };
            match probe::ask(&from.namespace, ip, &marker(&from.vdc), patience)? {
                Some((who, _)) if !who.starts_with(&format!("{}/", from.vdc)) => {
                    bail!("{} asked {ip} and {who} of another vDC answered", from.id)
                }
                None if own => bail!("{}: {ip} of its own vDC does not answer", from.id),
                _ => asked += 1,
            }
        }
    }
    let mut frames = 0;
    for (endpoint, seen) in Capture::finish_all(captures)? {
        for frame in seen {
            frames += 1;
            let other = cx.lab.intent.vdcs.iter().filter(|v| v.name != endpoint.vdc);
            if let Some(leak) = other
                .map(|v| marker(&v.name))
                .find(|m| probe::contains(&frame, m.as_bytes()))
            {
                bail!("{} received a packet with the {leak}", endpoint.id);
            }
        }
    }
    Ok(format!(
        "{asked} attempts over v4 and v6, {frames} frames captured, none of the other vDC"
    ))
}
