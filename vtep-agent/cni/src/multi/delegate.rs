//! Verbs of CNI for all plugins of an attachment, in their order.

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
            let message = format!("plugin `{}`: ADD: its result is no JSON: {e}", call.kind);
            Error::new(error::DELEGATE, message)
        })?;
        if !document.is_object() {
            let message = format!("plugin `{}`: ADD: its result is no object", call.kind);
            return Err(Error::new(error::DELEGATE, message));
        }
        result = Some(printed);
    }
    Ok(result.unwrap_or_else(|| "{}".to_owned()))
}

/// DEL of all plugins, the last one first.
///
/// # Errors
/// Of the first that fails.
pub fn del(calls: &[Call], result: Option<&str>, environment: &Environment) -> Result<(), Error> {
    for call in calls.iter().rev() {
        run(&call.kind, "DEL", &call.with_result(result), environment)?;
    }
    Ok(())
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
        for (script, said) in [("echo '[]'", "no object"), ("echo '{'", "no JSON")] {
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
