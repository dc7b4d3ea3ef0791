//! Addresses from an IPAM plugin (CNI 1.1 section 4, "Plugin Delegation"), such as host-local.
//!
//! The plugin gets our own configuration unchanged. Its addresses are requested from the fabric like those that a user names: each
//! must be inside a subnet of the tenant network and free there. Its routes and gateways are not used; the fabric has its own.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::error::{self, Error};
use crate::exec::{self, Environment};
use crate::protocol::Slot;

/// The IPAM plugin of a network.
#[derive(Debug, Clone)]
pub struct Ipam {
    kind: String,
    config: String,
    version: String,
    environment: Environment,
}

/// Its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Name servers.
    pub dns: Option<Value>,
}

#[derive(Deserialize)]
struct Success {
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    dns: Option<Value>,
}

#[derive(Deserialize)]
struct Ip {
    address: IpNet,
}

impl Ipam {
    /// The plugin that a configuration names, if there is one.
    pub fn of(environment: &impl Fn(&str) -> Option<String>, config: &Config, input: &[u8]) -> Option<Self> {
        let variable = |name: &str| environment(name).unwrap_or_default();
        Some(Self {
            kind: config.ipam()?.to_owned(),
            config: String::from_utf8_lossy(input).into_owned(),
            version: config.cni_version.clone(),
            environment: Environment {
                container: variable("CNI_CONTAINERID"),
                netns: variable("CNI_NETNS"),
                interface: variable("CNI_IFNAME"),
                args: variable("CNI_ARGS"),
                path: variable("CNI_PATH"),
            },
        })
    }

    /// The same plugin for another interface.
    #[must_use]
    pub fn of_slot(&self, slot: &Slot) -> Self {
        let mut other = self.clone();
        (other.environment.container, other.environment.interface) = (slot.container.clone(), slot.interface.clone());
        other
    }

    fn run(&self, command: &str) -> Result<String, Error> {
        if self.kind.contains('/') || self.kind.starts_with('.') {
            return Err(Error::field("ipam.type", &self.kind, "the name of a CNI plugin"));
        }
        let done = exec::run(&self.kind, command, &self.config, &self.environment);
        done.map_err(|e| Error::new(e.code, format!("ipam: {}", e.message)))
    }

    /// Allocates addresses. If they turn out to be unusable, they are released.
    ///
    /// # Errors
    /// When the plugin fails or gives none.
    pub fn add(&self) -> Result<Given, Error> {
        let printed = self.run("ADD")?;
        let given = self.read(&printed);
        if given.is_err() {
            self.del()?;
        }
        given
    }

    fn read(&self, printed: &str) -> Result<Given, Error> {
        let wrong = |why: String| Error::new(error::DELEGATE, format!("ipam: plugin `{}`: ADD: {why}", self.kind));
        let success: Success = serde_json::from_str(printed).map_err(|e| wrong(e.to_string()))?;
        if success.ips.is_empty() {
            return Err(wrong("it gave no address".into()));
        }
        Ok(Given {
            ips: success.ips.iter().map(|ip| ip.address.addr()).collect(),
            dns: success.dns.filter(|d| d.as_object().is_some_and(|d| !d.is_empty())),
        })
    }

    /// Gives addresses back; succeeds if none were allocated.
    ///
    /// # Errors
    /// Of the plugin.
    pub fn del(&self) -> Result<(), Error> {
        self.run("DEL").map(drop)
    }

    /// Compares with the result of ADD, if the version has that verb.
    ///
    /// # Errors
    /// Of the plugin.
    pub fn check(&self) -> Result<(), Error> {
        if self.version.as_str() < "0.4.0" {
            return Ok(());
        }
        self.run("CHECK").map(drop)
    }

    /// Checks that it can allocate addresses, if the version has that verb.
    ///
    /// # Errors
    /// Of the plugin.
    pub fn status(&self) -> Result<(), Error> {
        if self.version.as_str() < "1.1.0" {
            return Ok(());
        }
        self.run("STATUS").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::tests::plugin;

    fn ipam(environment: &Environment, kind: &str) -> Ipam {
        Ipam {
            kind: kind.into(),
            config: "{}".into(),
            version: "1.0.0".into(),
            environment: environment.clone(),
        }
    }

    #[test]
    fn addresses_are_read_and_what_is_of_no_use_is_given_back() {
        let (_folder, environment) = plugin(
            r#"echo '{"ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"},{"address":"fd00::5/64"}],"dns":{}}'"#,
        );
        let given = ipam(&environment, "p").add().unwrap();
        assert_eq!(
            given.ips,
            ["10.0.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]
        );
        assert_eq!(given.dns, None);
        let (folder, environment) = plugin(r#"echo $CNI_COMMAND >> $(dirname $0)/log; echo '{}'"#);
        let error = ipam(&environment, "p").add().unwrap_err();
        assert!(error.message.contains("gave no address"), "{error}");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("log")).unwrap(),
            "ADD\nDEL\n"
        );
        let other = ipam(&environment, "../p").add().unwrap_err();
        assert!(other.message.starts_with("ipam.type"), "{other}");
    }
}
