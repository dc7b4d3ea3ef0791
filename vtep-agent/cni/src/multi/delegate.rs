//! Verbs of CNI for all plugins of an attachment, in their order.

use std::fs;

use serde_json::Value;

use super::network::Call;
use crate::error::{self, Error};
use crate::exec::{Environment, run};

/// ADD of all plugins, each with the result of the one before. Returns the last one's result.
///
/// # Errors
/// Of the first that fails.
pub fn add(calls: &[Call], previous: Option<&str>, environment: &Environment) -> Result<String, Error> {
    let mut result = previous.map(str::to_owned);
    for call in calls {
        let printed = run(&call.kind, "ADD", &call.with_result(result.as_deref()), environment)?;
        // CNI before 0.4.0 let plugins print nothing.
        let printed = if printed.trim().is_empty() {
            "{}".to_owned()
        } else {
            printed
        };
        let document: Value = serde_json::from_str(&printed).map_err(|e| {
            let message = format!("plugin `{}`: ADD: its result is not JSON: {e}", call.kind);
            Error::new(error::DELEGATE, message)
        })?;
        if !document.is_object() {
            let message = format!("plugin `{}`: ADD: its result is not an object", call.kind);
            return Err(Error::new(error::DELEGATE, message));
        }
        result = Some(printed);
    }
    Ok(result.unwrap_or_else(|| "{}".to_owned()))
}

/// DEL of all plugins, the last one first.
///
/// Plugins such as macvlan and ipvlan put an interface upon a link of the host, the `master`. The kernel removes such
/// interfaces together with that link, but the plugins' DEL fails without it (containernetworking/plugins 1.1.1). Then
/// only the addresses are left, and the IPAM plugin takes those back.
///
/// # Errors
/// Of the first that fails.
pub fn del(calls: &[Call], result: Option<&str>, environment: &Environment) -> Result<(), Error> {
    for call in calls.iter().rev() {
        let config = call.with_result(result);
        match run(&call.kind, "DEL", &config, environment) {
            Err(error) if lacks_master(call) => {
                tracing::warn!(%error, interface = environment.interface, "its master is gone, and the interface with it");
                if let Some(ipam) = call.ipam() {
                    run(&ipam, "DEL", &config, environment)?;
                }
            }
            done => drop(done?),
        }
    }
    Ok(())
}

/// Whether a plugin needs a link of the host that does not exist.
fn lacks_master(call: &Call) -> bool {
    let master = call.key("master").filter(|m| !m.is_empty());
    // Asks `/proc`, which shows the links of this process' own namespace; `/sys` shows those of another one.
    let links = fs::read_to_string("/proc/thread-self/net/dev");
    match (master, links) {
        (Some(master), Ok(links)) => {
            let mut names = links.lines().filter_map(|line| line.split_once(':'));
            !names.any(|(name, _)| name.trim() == master)
        }
        _ => false,
    }
}

/// A verb that prints nothing, of all plugins whose configuration has at least that version of CNI.
///
/// # Errors
/// Of the first that fails.
pub fn each(
    command: &str,
    since: &str,
    calls: &[Call],
    config: impl Fn(&Call) -> String,
    environment: &Environment,
) -> Result<(), Error> {
    for call in calls {
        if call.key("cniVersion").is_some_and(|v| v.as_str() >= since) {
            run(&call.kind, command, &config(call), environment)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::tests::plugin;

    #[test]
    fn a_result_is_an_object() {
        for (script, said) in [("echo '[]'", "not an object"), ("echo '{'", "not JSON")] {
            let (_folder, environment) = plugin(script);
            let call = Call {
                kind: "p".into(),
                config: "{}".into(),
            };
            let error = add(&[call], None, &environment).unwrap_err();
            assert!(error.message.contains(said), "{script}: {error}");
        }
    }

    #[test]
    fn without_its_master_only_addresses_are_taken_back() {
        let (folder, environment) = plugin(
            r#"cat > "${0%/*}/$CNI_COMMAND"; case "$0" in */p) echo '{"code":1,"msg":"Link not found"}'; exit 1;; esac"#,
        );
        fs::copy(folder.path().join("p"), folder.path().join("addresses")).unwrap();
        let call = |master: &str, ipam: &str| Call {
            kind: "p".into(),
            config: format!(r#"{{"master":"{master}","ipam":{ipam}}}"#),
        };
        let ipam = r#"{"type":"addresses"}"#;
        del(&[call("absent0", ipam)], None, &environment).unwrap();
        assert!(
            fs::read_to_string(folder.path().join("DEL"))
                .unwrap()
                .contains("addresses")
        );
        del(&[call("absent0", "{}")], None, &environment).unwrap();
        // Any other failure counts, and so does that of an IPAM plugin that cannot take the addresses back.
        for call in [call("lo", ipam), call("", ipam), call("absent0", r#"{"type":"p"}"#)] {
            let error = del(&[call], None, &environment).unwrap_err();
            assert!(error.message.contains("Link not found"), "{error}");
        }
    }

    #[test]
    fn each_plugin_gets_the_result_of_the_one_before_and_its_environment() {
        let (_folder, environment) = plugin(
            r#"input=$(cat); echo "{\"was\":\"$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS\",\"in\":$input}""#,
        );
        let call = |n: u32| Call {
            kind: "p".into(),
            config: format!("{{\"n\":{n}}}"),
        };
        let result = add(&[call(1), call(2)], None, &environment).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result["was"], "ADD c /n net1 A=1");
        assert_eq!(
            (&result["in"]["n"], &result["in"]["prevResult"]["in"]["n"]),
            (&2.into(), &1.into())
        );
    }
}
