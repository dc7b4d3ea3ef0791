//! CNI networks: a configuration or a list, from a definition or from the folder of configurations (NPWG 3.4.1), and
//! the input of each of its plugins.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::catalog::Definition;
use crate::error::{self, Error};

/// Versions of CNI that delegates may have. Results of older ones have another form.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The capability of plugins that describe their device in a file (NPWG, "Device Information Specification").
pub const DEVICE_INFO: &str = "CNIDeviceInfoFile";
/// Type of our own plugin.
const OWN: &str = "vfabric";
/// Most octets of a configuration.
const MAX_CONFIG: u64 = 1 << 20;

type Keys = BTreeMap<String, Box<RawValue>>;

/// A network: its plugins, in the order of ADD.
#[derive(Debug)]
pub struct Network {
    /// Name of the CNI network.
    pub name: String,
    /// Version of CNI that its plugins speak.
    pub version: String,
    plugins: Vec<Keys>,
}

/// One plugin of an attachment with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its type: the name of its program.
    pub kind: String,
    /// Its configuration, octet for octet, without the result of another plugin.
    pub config: String,
}

/// The requests of an attachment to its plugins.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// By the name of the capability. At least one plugin must have each.
    pub capabilities: BTreeMap<String, Value>,
    /// Requests that plugins may ignore, by the name of the capability.
    pub optional: BTreeMap<String, Value>,
    /// Takes precedence over `args.cni` of the configuration.
    pub args: Option<&'a Map<String, Value>>,
    /// Identity of the workload, for our own plugin; `args` take precedence.
    pub workload: Option<&'a str>,
}

fn raw(value: &Value) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(value.to_string()).map_err(|e| Error::new(error::DECODE, e.to_string()))
}

fn string(keys: &Keys, key: &str) -> Option<String> {
    serde_json::from_str(keys.get(key)?.get()).ok()
}

impl Network {
    /// Reads a configuration or list. If it has no name, `name` is inserted (NPWG 3.4.2).
    ///
    /// # Errors
    /// Names `place` and the field.
    pub fn parse(place: &str, text: &str, name: &str) -> Result<Self, Error> {
        let wrong = |e: serde_json::Error| Error::new(error::DECODE, format!("{place}: {e}"));
        let mut keys: Keys = serde_json::from_str(text).map_err(wrong)?;
        let plugins = match keys.remove("plugins") {
            Some(list) => serde_json::from_str::<Vec<Keys>>(list.get()).map_err(wrong)?,
            None => vec![keys.clone()],
        };
        let name = string(&keys, "name")
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| name.to_owned());
        let versions = keys
            .get("cniVersions")
            .map(|v| serde_json::from_str::<Vec<String>>(v.get()));
        let newest = versions.transpose().map_err(wrong)?.and_then(|all| {
            let place = |v: &String| VERSIONS.iter().position(|known| known == v);
            all.iter().filter_map(place).max().map(|i| VERSIONS[i].to_owned())
        });
        let version = newest.or_else(|| string(&keys, "cniVersion")).unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            let message = format!(
                "{place}: cniVersion: `{version}`: expected one of {}",
                VERSIONS.join(", ")
            );
            return Err(Error::new(error::INCOMPATIBLE_VERSION, message));
        }
        if plugins.is_empty() {
            return Err(Error::field(&format!("{place}: plugins"), "[]", "at least one plugin"));
        }
        for (i, plugin) in plugins.iter().enumerate() {
            let kind = string(plugin, "type").unwrap_or_default();
            if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
                let field = format!("{place}: plugins[{i}].type");
                return Err(Error::field(&field, kind, "the name of a CNI plugin"));
            }
        }
        Ok(Self { name, version, plugins })
    }

    /// The network of a definition: its own configuration, else the list of that name in the folder of
    /// configurations, else the configuration of that name.
    ///
    /// # Errors
    /// When there is none, or it is wrong.
    pub fn of(definition: &Definition, conf_dir: &Path) -> Result<Self, Error> {
        let Definition {
            namespace,
            name,
            config,
            ..
        } = definition;
        let place = format!("definition {namespace}/{name}");
        match config {
            Some(text) => Self::parse(&format!("{place}: spec.config"), text, name),
            None => Self::on_disk(name, conf_dir)?.ok_or_else(|| {
                let folder = conf_dir.display();
                let message = format!("{place}: it has no spec.config, and {folder} has no network `{name}`");
                Error::new(error::CONFIG, message)
            }),
        }
    }

    /// The network of that name in the folder of configurations: lists before configurations, in the order of file names.
    ///
    /// # Errors
    /// When the file of that name is wrong, or the folder cannot be read.
    pub fn on_disk(name: &str, conf_dir: &Path) -> Result<Option<Self>, Error> {
        let wrong = |e: std::io::Error| Error::io(format!("confDir: {}: {}", conf_dir.display(), e.kind()));
        let mut files = Vec::new();
        for file in fs::read_dir(conf_dir).map_err(wrong)? {
            files.push(file.map_err(wrong)?.path());
        }
        files.sort();
        for extensions in [&["conflist"][..], &["conf", "json"]] {
            let of_kind = |f: &&std::path::PathBuf| {
                let extension = f.extension().and_then(|e| e.to_str());
                extension.is_some_and(|e| extensions.contains(&e))
            };
            for file in files.iter().filter(of_kind) {
                let small = fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() <= MAX_CONFIG);
                let text = small.then(|| fs::read_to_string(file).ok()).flatten();
                // Other programs' files may contain anything; an unreadable one has no name.
                let named = |t: &String| {
                    serde_json::from_str::<Keys>(t).is_ok_and(|k| string(&k, "name").as_deref() == Some(name))
                };
                if let Some(text) = text.filter(named) {
                    return Self::parse(&file.display().to_string(), &text, name).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn has(plugin: &Keys, capability: &str) -> bool {
        let declared = plugin.get("capabilities");
        let declared = declared.and_then(|c| serde_json::from_str::<BTreeMap<String, Value>>(c.get()).ok());
        declared.is_some_and(|c| c.get(capability) == Some(&Value::Bool(true)))
    }

    /// True when a plugin describes its device in a file.
    pub fn describes_devices(&self) -> bool {
        self.plugins.iter().any(|p| Self::has(p, DEVICE_INFO))
    }

    /// The input of each plugin. Unchanged values keep their octets.
    ///
    /// # Errors
    /// Names the capability that no plugin has.
    pub fn calls(&self, asked: &Asked<'_>) -> Result<Vec<Call>, Error> {
        for (capability, value) in &asked.capabilities {
            if !self.plugins.iter().any(|p| Self::has(p, capability)) {
                let message = format!(
                    "{capability}: {value}: no plugin of network `{}` has this capability",
                    self.name
                );
                return Err(Error::new(error::UNSUPPORTED_FIELD, message));
            }
        }
        self.plugins.iter().map(|plugin| self.call(plugin, asked)).collect()
    }

    fn call(&self, plugin: &Keys, asked: &Asked<'_>) -> Result<Call, Error> {
        let mut keys = plugin.clone();
        keys.insert("name".into(), raw(&self.name.clone().into())?);
        keys.insert("cniVersion".into(), raw(&self.version.clone().into())?);
        // Only runtimes may set this, not a definition.
        for key in ["prevResult", "cniVersions"] {
            keys.remove(key);
        }
        let both = asked.capabilities.iter().chain(&asked.optional);
        let known = both.filter(|(capability, _)| Self::has(plugin, capability));
        let config: Map<String, Value> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
        if !config.is_empty() {
            keys.insert("runtimeConfig".into(), raw(&config.into())?);
        }
        let mut args = asked.args.cloned().unwrap_or_default();
        let workload = asked
            .workload
            .filter(|_| string(plugin, "type").as_deref() == Some(OWN));
        if let Some(workload) = workload {
            args.entry("workload").or_insert_with(|| workload.into());
        }
        if !args.is_empty() {
            let held = keys
                .get("args")
                .map(|a| serde_json::from_str::<Map<String, Value>>(a.get()));
            let wrong = |e: serde_json::Error| Error::new(error::DECODE, format!("network `{}`: args: {e}", self.name));
            let mut all = held.transpose().map_err(wrong)?.unwrap_or_default();
            let cni = all.entry("cni").or_insert_with(|| Map::new().into());
            match cni {
                Value::Object(cni) => cni.extend(args),
                other => return Err(Error::field("args.cni", other, "an object")),
            }
            keys.insert("args".into(), raw(&all.into())?);
        }
        let config = serde_json::to_string(&keys).map_err(|e| Error::new(error::DECODE, e.to_string()))?;
        Ok(Call {
            kind: string(plugin, "type").unwrap_or_default(),
            config,
        })
    }
}

impl Call {
    /// The configuration with the result of the previous plugin, or of ADD.
    pub fn with_result(&self, result: Option<&str>) -> String {
        let whole = self.config.trim_end();
        match (result, whole.strip_suffix('}')) {
            (Some(result), Some(open)) => format!("{open},\"prevResult\":{}}}", result.trim()),
            _ => self.config.clone(),
        }
    }

    /// The text value of a key.
    pub fn key(&self, key: &str) -> Option<String> {
        string(&serde_json::from_str(&self.config).ok()?, key)
    }

    /// The IPAM plugin that it names, if there is one.
    pub fn ipam(&self) -> Option<String> {
        let keys: Value = serde_json::from_str(&self.config).ok()?;
        let kind = keys.get("ipam")?.get("type")?.as_str()?;
        let good = !kind.is_empty() && !kind.contains('/') && !kind.starts_with('.');
        good.then(|| kind.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(config: Option<&str>) -> Definition {
        Definition {
            namespace: "blue".into(),
            name: "a".into(),
            config: config.map(str::to_owned),
            ..Definition::default()
        }
    }

    #[test]
    fn a_network_is_looked_for_in_the_order_of_the_specification() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: Value| fs::write(folder.path().join(file), text.to_string()).unwrap();
        let kinds = |config: Option<&str>| {
            let network = Network::of(&definition(config), folder.path())?;
            let calls = network.calls(&Asked::default())?;
            Ok::<_, Error>(calls.into_iter().map(|c| c.kind).collect::<Vec<_>>())
        };
        let missing = kinds(None).unwrap_err();
        assert!(missing.message.contains("definition blue/a"), "{missing}");
        fs::write(folder.path().join("00.conflist"), "{").unwrap();
        write("10.conf", json!({ "cniVersion": "0.4.0", "name": "a", "type": "conf" }));
        assert_eq!(kinds(None).unwrap(), ["conf"]);
        let list = json!([{ "type": "one" }, { "type": "two" }]);
        write(
            "20.conflist",
            json!({ "cniVersion": "0.4.0", "name": "a", "plugins": list }),
        );
        assert_eq!(kinds(None).unwrap(), ["one", "two"]);
        assert_eq!(kinds(Some(r#"{"cniVersion":"1.0.0","type":"own"}"#)).unwrap(), ["own"]);
    }

    #[test]
    fn a_plugin_is_given_what_it_declares_and_the_rest_as_it_is() {
        let text = r#"{"cniVersion":"0.3.1","plugins":[
            {"type":"one","capabilities":{"ips":true,"mac":false},"args":{"cni":{"a":1,"b":2},"x":0},"big":12345678901234567890123,
             "float":1.50e3,"prevResult":{}},
            {"type":"two","capabilities":{"mac":true}}]}"#;
        let network = Network::parse("x", text, "a").unwrap();
        let args = json!({ "b": 3 });
        let ips = ("ips".to_owned(), json!(["10.0.0.1"]));
        let mac = ("mac".to_owned(), json!("02:00:00:00:00:01"));
        let asked = Asked {
            capabilities: [ips, mac].into(),
            optional: [(DEVICE_INFO.to_owned(), json!("/x"))].into(),
            args: args.as_object(),
            ..Asked::default()
        };
        let [one, two] = network.calls(&asked).unwrap().try_into().unwrap();
        assert!(
            one.config.contains(r#""big":12345678901234567890123,"#),
            "{}",
            one.config
        );
        assert!(one.config.contains(r#""float":1.50e3"#), "{}", one.config);
        let shown: Value = serde_json::from_str(&one.config).unwrap();
        assert_eq!((&shown["name"], &shown["cniVersion"]), (&json!("a"), &json!("0.3.1")));
        assert_eq!(shown["runtimeConfig"], json!({ "ips": ["10.0.0.1"] }));
        assert_eq!(shown["args"], json!({ "cni": { "a": 1, "b": 3 }, "x": 0 }));
        assert_eq!(shown.get("prevResult"), None);
        let second: Value = serde_json::from_str(&two.with_result(Some("{\"ips\":[]}\n"))).unwrap();
        assert_eq!(second["runtimeConfig"], json!({ "mac": "02:00:00:00:00:01" }));
        assert_eq!(second["prevResult"], json!({ "ips": [] }));
        assert_eq!(two.with_result(None), two.config);
        let guid = ("infinibandGUID".to_owned(), json!("x"));
        let asked = Asked {
            capabilities: [guid].into(),
            ..Asked::default()
        };
        let refused = network.calls(&asked).unwrap_err();
        assert!(refused.code == error::UNSUPPORTED_FIELD && refused.message.starts_with("infinibandGUID"));
    }

    #[test]
    fn wrong_configurations_are_named() {
        for (text, said) in [
            ("{", "spec.config"),
            ("[]", "spec.config"),
            (r#"{"type":"x"}"#, "cniVersion"),
            (r#"{"cniVersion":"0.2.0","type":"x"}"#, "cniVersion: `0.2.0`"),
            (r#"{"cniVersion":"1.0.0"}"#, "plugins[0].type"),
            (r#"{"cniVersion":"1.0.0","type":"../x"}"#, "plugins[0].type"),
            (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "plugins"),
            (
                r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"},{}]}"#,
                "plugins[1].type",
            ),
        ] {
            let error = Network::of(&definition(Some(text)), Path::new("/absent")).unwrap_err();
            assert!(
                error.message.contains("blue/a") && error.message.contains(said),
                "{text}: {error}"
            );
        }
        let newest = r#"{"cniVersions":["0.4.0","1.1.0","9.0.0","1.0.0"],"type":"x"}"#;
        assert_eq!(Network::parse("x", newest, "a").unwrap().version, "1.1.0");
    }
}
