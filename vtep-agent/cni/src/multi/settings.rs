//! The configuration of the meta plugin itself.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::names::Scheme;
use crate::config::VERSIONS;
use crate::error::{self, Error};
use crate::protocol::Slot;

#[derive(Debug, Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ifname")]
    interface: String,
}

/// A network configuration with `type: vfabric-multi`. Runtimes add keys of their own, which are left alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Version of CNI of the result.
    #[serde(default)]
    pub cni_version: String,
    /// Name of the CNI network.
    #[serde(default)]
    pub name: String,
    /// Folder with YAML files of pods and NetworkAttachmentDefinitions.
    pub pods: PathBuf,
    /// The default network: `[namespace/]name` of a definition, or the name of a network in `conf_dir`.
    #[serde(default)]
    pub cluster_network: Option<String>,
    /// The default network, in full: one configuration or list.
    #[serde(default)]
    pub delegates: Vec<Box<RawValue>>,
    /// Folder of CNI configurations, for definitions without `spec.config`.
    #[serde(default = "conf_dir")]
    pub conf_dir: PathBuf,
    /// Folder of the journal. It must outlive a restart of the host.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Folder of the pods' network status.
    #[serde(default = "status_dir")]
    pub status_dir: PathBuf,
    /// Folder in which plugins with the capability `CNIDeviceInfoFile` describe devices.
    #[serde(default = "device_info_dir")]
    pub device_info_dir: PathBuf,
    /// Namespace of pods for which the runtime names none, and of a `cluster_network` without one.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// How to name interfaces for which the annotation has no name.
    #[serde(default)]
    pub interface_names: Scheme,
    /// Whether pods may select only definitions of their own namespace and of `global_namespaces`.
    #[serde(default)]
    pub namespace_isolation: bool,
    /// Namespaces whose definitions every pod may select.
    #[serde(default)]
    pub global_namespaces: Vec<String>,
    /// The runtime's requests for the default network.
    #[serde(default)]
    pub runtime_config: Map<String, Value>,
    /// The result of a plugin before this one.
    #[serde(default)]
    pub prev_result: Option<Box<RawValue>>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<Valid>,
}

fn conf_dir() -> PathBuf {
    "/etc/cni/net.d".into()
}

fn state_dir() -> PathBuf {
    "/var/lib/vfabric-multi".into()
}

fn status_dir() -> PathBuf {
    "/run/vfabric/network-status".into()
}

fn device_info_dir() -> PathBuf {
    "/var/run/k8s.cni.cncf.io/devinfo/cni".into()
}

fn namespace() -> String {
    "default".into()
}

impl Settings {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `DECODE` or `CONFIG` names the field; `INCOMPATIBLE_VERSION`.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        let wrong = |e: serde_json::Error| Error::new(error::DECODE, format!("network configuration: {e}"));
        let text = std::str::from_utf8(input);
        let text = text.map_err(|e| Error::new(error::DECODE, format!("network configuration: {e}")))?;
        let settings: Self = serde_json::from_str(text).map_err(wrong)?;
        if !VERSIONS.contains(&settings.cni_version.as_str()) {
            let found = &settings.cni_version;
            let message = format!("cniVersion: `{found}`: expected one of {}", VERSIONS.join(", "));
            return Err(Error::new(error::INCOMPATIBLE_VERSION, message));
        }
        if settings.name.is_empty() {
            return Err(Error::field("name", "", "a name"));
        }
        match (&settings.cluster_network, settings.delegates.len()) {
            (Some(_), 0) | (None, 1) => Ok(settings),
            (Some(name), _) => Err(Error::field("clusterNetwork", name, "no `delegates` beside it")),
            (None, n) => {
                let found = format!("{n} configurations");
                Err(Error::field("delegates", found, "one, or `clusterNetwork`"))
            }
        }
    }

    /// The settings of the follower: a configuration, or a list in which the first plugin is the meta plugin.
    ///
    /// # Errors
    /// As for [`Settings::parse`].
    pub fn of_file(text: &str) -> Result<Self, Error> {
        let wrong = |e: serde_json::Error| Error::new(error::DECODE, format!("network configuration: {e}"));
        let mut document: Map<String, Value> = serde_json::from_str(text).map_err(wrong)?;
        let Some(plugins) = document.remove("plugins") else {
            return Self::parse(text.as_bytes());
        };
        let first = plugins.get(0).and_then(Value::as_object).cloned();
        let mut first = first.ok_or_else(|| Error::field("plugins", &plugins, "a list of configurations"))?;
        for key in ["name", "cniVersion"] {
            if let Some(value) = document.remove(key) {
                first.insert(key.to_owned(), value);
            }
        }
        Self::parse(Value::Object(first).to_string().as_bytes())
    }

    /// The sandboxes that GC leaves alone.
    pub fn valid(&self) -> Vec<Slot> {
        let slot = |v: &Valid| Slot {
            container: v.container.clone(),
            interface: v.interface.clone(),
        };
        self.valid.iter().map(slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_are_named() {
        let of = |rest: &str| {
            Settings::parse(format!(r#"{{"cniVersion":"1.0.0","name":"m","pods":"/p"{rest}}}"#).as_bytes()).map(drop)
        };
        of(r#","clusterNetwork":"a/b","interfaceNames":"kubevirt""#).unwrap();
        for (rest, word) in [
            ("", "delegates"),
            (r#","clusterNetwork":"a","delegates":[{}]"#, "clusterNetwork"),
            (r#","delegates":[{},{}]"#, "delegates"),
            (r#","clusterNetwork":"a","interfaceNames":"eth""#, "eth"),
            (r#","clusterNetwork":"a","namespaceIsolation":"yes""#, "yes"),
        ] {
            let error = of(rest).unwrap_err();
            assert!(error.message.contains(word), "{rest}: {error}");
        }
        let of = |text: &str| Settings::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            of(r#"{"cniVersion":"0.2.0","pods":"/p"}"#).code,
            error::INCOMPATIBLE_VERSION
        );
        assert!(of(r#"{"cniVersion":"1.0.0"}"#).message.contains("pods"));
        assert_eq!(Settings::parse(b"\xff").unwrap_err().code, error::DECODE);
    }

    #[test]
    fn the_follower_reads_a_list() {
        let list = r#"{"cniVersion":"1.0.0","name":"m","plugins":[{"type":"vfabric-multi","pods":"/p",
            "clusterNetwork":"a"}]}"#;
        let settings = Settings::of_file(list).unwrap();
        assert_eq!((settings.name.as_str(), settings.namespace.as_str()), ("m", "default"));
        assert!(
            Settings::of_file(r#"{"plugins":[]}"#)
                .unwrap_err()
                .message
                .starts_with("plugins")
        );
    }
}
