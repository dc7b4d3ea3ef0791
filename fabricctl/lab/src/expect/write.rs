//! Makes a file of expectations from an intent.

use vfabric_api::intent::{Intent, VdcIntent};

use super::file::{By, Expectation, File};

/// What an intent promises: machines reach each other, with the MTU of their networks, if they are in one network or in
/// networks that a router joins. All others never do.
pub fn from_intent(intent: &Intent) -> File {
    let mut expect = Vec::new();
    for vdc in &intent.vdcs {
        for a in &vdc.networks {
            for b in &vdc.networks {
                let count = |n| vdc.attachments.iter().filter(|x| &x.network == n).count();
                let least = if a.name == b.name { 2 } else { 1 };
                if count(&a.name) < least || count(&b.name) < least {
                    continue;
                }
                let row = Expectation {
                    from: format!("{}/{}/*", vdc.name, a.name),
                    to: format!("{}/{}/*", vdc.name, b.name),
                    ..Expectation::default()
                };
                let same = a.name == b.name;
                let routed = !same && joined(vdc, a.name.as_str(), b.name.as_str());
                expect.push(Expectation {
                    reach: same || routed,
                    by: if routed {
                        vec![By::Ping, By::Udp, By::Tcp]
                    } else {
                        Vec::new()
                    },
                    mtu: (same || routed).then(|| a.mtu.min(b.mtu)),
                    ttl: (same || routed).then_some(if same { 64 } else { 63 }),
                    path: if routed {
                        vec!["gateway".into(), "target".into()]
                    } else {
                        Vec::new()
                    },
                    ..row
                });
            }
        }
        let others = intent
            .vdcs
            .iter()
            .filter(|o| o.name != vdc.name && !o.attachments.is_empty());
        if !vdc.attachments.is_empty() {
            expect.extend(others.map(|o| Expectation {
                from: format!("{}/*", vdc.name),
                to: format!("{}/*", o.name),
                reach: false,
                ..Expectation::default()
            }));
        }
    }
    File { expect }
}

fn joined(vdc: &VdcIntent, a: &str, b: &str) -> bool {
    let has = |networks: &[vfabric_api::ident::Name], n: &str| networks.iter().any(|x| x.as_str() == n);
    vdc.routers.iter().any(|r| has(&r.networks, a) && has(&r.networks, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_intent_promises_reach_inside_and_isolation_between() {
        let intent: Intent = serde_saphyr::from_str(crate::INTENT).unwrap();
        let file = from_intent(&intent);
        let text = serde_saphyr::to_string(&file).unwrap();
        assert_eq!(File::parse(&text).unwrap(), file);
        let titles: Vec<_> = file.expect.iter().map(Expectation::title).collect();
        assert!(
            titles.contains(&"blue/web/* reaches blue/db/*".to_owned()),
            "{titles:?}"
        );
        assert!(titles.contains(&"red/* never reaches blue/*".to_owned()), "{titles:?}");
        let small = file.expect.iter().find(|e| e.from == "red/web/*" && e.to == "red/db/*");
        assert_eq!(small.and_then(|e| e.mtu), Some(1400));
    }
}
