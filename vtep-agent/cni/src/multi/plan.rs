//! Turns a pod's selection into the list of its attachments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::annotation::{self, DEFAULT_NETWORK, NETWORKS, Selection};
use super::catalog::{Catalog, Definition, Pod};
use super::journal::{Attachment, State};
use super::network::{Asked, Call, DEVICE_INFO, Network};
use super::settings::Settings;
use super::workload;
use crate::error::{self, Error};
use crate::protocol::Slot;

/// Annotation of definitions whose interfaces are devices that a Kubernetes device plugin hands out.
const RESOURCE: &str = "k8s.v1.cni.cncf.io/resourceName";

/// A network that was found, and its name in the status.
struct Found {
    shown: String,
    network: Network,
}

fn find(settings: &Settings, catalog: &dyn Catalog, pod: &Pod, field: &str, s: &Selection) -> Result<Found, Error> {
    let Selection { namespace, name, .. } = s;
    let missing = || {
        let message = format!("{field}: no definition {namespace}/{name}");
        Err(Error::new(error::CONFIG, message))
    };
    // The text is the same as for a missing definition, so that a pod learns nothing about other namespaces.
    let open = !settings.namespace_isolation || settings.global_namespaces.contains(namespace);
    if *namespace != pod.namespace && !open {
        return missing();
    }
    match catalog.definition(namespace, name)? {
        Some(definition) => of_definition(settings, &definition),
        None => missing(),
    }
}

fn of_definition(settings: &Settings, definition: &Definition) -> Result<Found, Error> {
    let shown = format!("{}/{}", definition.namespace, definition.name);
    if let Some(resource) = definition.annotations.get(RESOURCE) {
        let message =
            format!("definition {shown}: {RESOURCE}: `{resource}`: devices need Kubernetes, and there is none here");
        return Err(Error::new(error::UNSUPPORTED_FIELD, message));
    }
    let network = Network::of(definition, &settings.conf_dir)?;
    Ok(Found { shown, network })
}

/// The default network: the one that the pod names, else that of the configuration.
fn default_network(settings: &Settings, catalog: &dyn Catalog, pod: &Pod) -> Result<(Found, Selection), Error> {
    if let Some(text) = pod.annotations.get(DEFAULT_NETWORK) {
        let all = annotation::parse(DEFAULT_NETWORK, text, &settings.namespace)?;
        let [selection]: [Selection; 1] = all
            .try_into()
            .map_err(|_| Error::field(DEFAULT_NETWORK, text, "one network"))?;
        if let Some(name) = &selection.interface {
            return Err(Error::field(
                DEFAULT_NETWORK,
                name,
                "no interface: the runtime names it",
            ));
        }
        let everybodys = Pod {
            namespace: selection.namespace.clone(),
            ..Pod::default()
        };
        // Every pod may use definitions in the namespace of the default network.
        let is_open = selection.namespace == settings.namespace;
        let viewer = if is_open { &everybodys } else { pod };
        let found = find(settings, catalog, viewer, DEFAULT_NETWORK, &selection)?;
        return Ok((found, selection));
    }
    Ok((configured(settings, catalog)?, Selection::default()))
}

/// The default network of the configuration.
fn configured(settings: &Settings, catalog: &dyn Catalog) -> Result<Found, Error> {
    if let Some(delegate) = settings.delegates.first() {
        let network = Network::parse("delegates[0]", delegate.get(), "")?;
        if network.name.is_empty() {
            return Err(Error::field("delegates[0].name", "", "a name"));
        }
        return Ok(Found {
            shown: network.name.clone(),
            network,
        });
    }
    let name = settings.cluster_network.as_deref().unwrap_or_default();
    if let Ok(selection) = annotation::reference("clusterNetwork", name, &settings.namespace)
        && let Some(definition) = catalog.definition(&selection.namespace, &selection.name)?
    {
        return of_definition(settings, &definition);
    }
    let network = Network::on_disk(name, &settings.conf_dir)?.ok_or_else(|| {
        let folder = settings.conf_dir.display();
        Error::field(
            "clusterNetwork",
            name,
            &format!("a definition, or a network in {folder}"),
        )
    })?;
    Ok(Found {
        shown: network.name.clone(),
        network,
    })
}

/// An attachment to make. `runtime` has the runtime's requests to plugins with the matching capability.
fn attachment(
    settings: &Settings,
    (pod, slot): (&Pod, &Slot),
    found: &Found,
    s: &Selection,
    interface: String,
    runtime: &Map<String, Value>,
) -> Result<Attachment, Error> {
    let file = settings
        .device_info_dir
        .join(format!("{}-{interface}-device.json", slot.container));
    let mut optional: BTreeMap<String, Value> = runtime.clone().into_iter().collect();
    optional.insert(DEVICE_INFO.to_owned(), file.display().to_string().into());
    optional.retain(|key, _| !s.capabilities.contains_key(key));
    let asked = Asked {
        capabilities: s.capabilities.clone(),
        optional,
        args: Some(&s.args),
        workload: workload::of(pod),
    };
    let calls = found.network.calls(&asked).map_err(|e| {
        let message = format!("network {} (interface {interface}): {}", found.shown, e.message);
        Error::new(e.code, message)
    })?;
    Ok(Attachment {
        network: found.shown.clone(),
        cni_network: found.network.name.clone(),
        generated: s.interface.is_none(),
        default: false,
        device_info: found.network.describes_devices().then_some(file),
        calls,
        interface,
        default_route: s.default_route.clone(),
        displaced: Vec::new(),
        state: State::Adding,
        result: None,
    })
}

/// The default network of a pod. The runtime's requests are only for this network (NPWG 7.5).
///
/// # Errors
/// Names the field, annotation or definition.
pub fn default(settings: &Settings, catalog: &dyn Catalog, pod: &Pod, slot: &Slot) -> Result<Attachment, Error> {
    let (found, selection) = default_network(settings, catalog, pod)?;
    let interface = slot.interface.clone();
    Ok(Attachment {
        default: true,
        generated: false,
        ..attachment(
            settings,
            (pod, slot),
            &found,
            &selection,
            interface,
            &settings.runtime_config,
        )?
    })
}

/// The networks that a pod selects. Existing interfaces that were named here keep their names: `existing` are the
/// attachments of the sandbox.
///
/// # Errors
/// Names the annotation, element and key, or the definition.
pub fn selected(
    settings: &Settings,
    catalog: &dyn Catalog,
    pod: &Pod,
    slot: &Slot,
    existing: &[Attachment],
) -> Result<Vec<Attachment>, Error> {
    let text = pod.annotations.get(NETWORKS).map(String::as_str).unwrap_or_default();
    let selections = annotation::parse(NETWORKS, text, &pod.namespace)?;
    let mut taken: BTreeSet<String> = selections.iter().filter_map(|s| s.interface.clone()).collect();
    taken.insert(slot.interface.clone());
    let mut reusable: Vec<&Attachment> = existing.iter().filter(|a| a.generated && !a.default).collect();
    reusable.retain(|a| !taken.contains(&a.interface));
    // Existing names first, so that a new element does not get one of them.
    let mut names: Vec<Option<String>> = Vec::new();
    for s in &selections {
        let shown = format!("{}/{}", s.namespace, s.name);
        let kept = match &s.interface {
            Some(_) => None,
            None => reusable.iter().position(|a| a.network == shown),
        };
        let kept = kept.map(|i| reusable.remove(i).interface.clone());
        taken.extend(kept.clone());
        names.push(s.interface.clone().or(kept));
    }
    let (mut all, mut used) = (Vec::new(), BTreeSet::from([slot.interface.clone()]));
    for (i, (s, name)) in selections.iter().zip(names).enumerate() {
        let name = name.unwrap_or_else(|| settings.interface_names.name(&s.name, i + 1, &taken));
        taken.insert(name.clone());
        if !used.insert(name.clone()) {
            let message = format!("{NETWORKS}[{i}]: interface {name}: another network of the pod has this name");
            return Err(Error::new(error::CONFIG, message));
        }
        let found = find(settings, catalog, pod, &format!("{NETWORKS}[{i}]"), s)?;
        all.push(attachment(settings, (pod, slot), &found, s, name, &Map::new())?);
    }
    Ok(all)
}

/// The default network's plugins, for verbs without a pod.
///
/// # Errors
/// As for [`default`].
pub fn default_calls(settings: &Settings, catalog: &dyn Catalog) -> Result<(String, Vec<Call>), Error> {
    let found = configured(settings, catalog)?;
    let calls = found.network.calls(&Asked::default())?;
    Ok((found.network.name, calls))
}

/// True when an attachment already matches the wanted one.
pub fn is_same(held: &Attachment, wanted: &Attachment) -> bool {
    let config = |a: &Attachment| {
        let one = |c: &Call| serde_json::from_str::<Value>(&c.config).ok();
        a.calls.iter().map(one).collect::<Vec<_>>()
    };
    held.network == wanted.network && held.default_route == wanted.default_route && config(held) == config(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Definitions by namespace and name.
    struct Named(BTreeMap<(&'static str, &'static str), &'static str>);

    impl Catalog for Named {
        fn pod(&self, _: &str, _: &str) -> Result<Option<Pod>, Error> {
            Ok(None)
        }

        fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>, Error> {
            Ok(self.0.get(&(namespace, name)).map(|config| Definition {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                config: Some((*config).to_owned()),
                annotations: if name == "sriov" {
                    [(RESOURCE.to_owned(), "x/y".to_owned())].into()
                } else {
                    BTreeMap::new()
                },
            }))
        }

        fn definitions(&self) -> Vec<Definition> {
            Vec::new()
        }
    }

    const PLAIN: &str = r#"{"cniVersion":"1.0.0","type":"bridge","capabilities":{"ips":true}}"#;

    fn catalog() -> Named {
        let all = [
            ("blue", "a"),
            ("blue", "b"),
            ("blue", "sriov"),
            ("red", "a"),
            ("infra", "a"),
            ("default", "d"),
        ];
        Named(all.into_iter().map(|key| (key, PLAIN)).collect())
    }

    fn settings(more: &str) -> Settings {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"m","pods":"/p","confDir":"/","clusterNetwork":"d",
            "runtimeConfig":{{"ips":["192.0.2.1"],"portMappings":[]}}{more}}}"#
        );
        Settings::parse(text.as_bytes()).unwrap()
    }

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        Pod {
            namespace: "blue".into(),
            name: "web".into(),
            annotations: annotations
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Pod::default()
        }
    }

    fn slot() -> Slot {
        Slot {
            container: "c1".into(),
            interface: "eth0".into(),
        }
    }

    fn names(settings: &Settings, networks: &str, existing: &[Attachment]) -> Result<String, Error> {
        let all = selected(settings, &catalog(), &pod(&[(NETWORKS, networks)]), &slot(), existing)?;
        let shown = all.iter().map(|a| format!("{}={}", a.interface, a.network));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn interfaces_are_named_by_their_place_and_keep_their_names() {
        let settings = settings("");
        assert_eq!(
            names(&settings, "a,b,a", &[]).unwrap(),
            "net1=blue/a net2=blue/b net3=blue/a"
        );
        assert_eq!(names(&settings, "a@net2,b", &[]).unwrap(), "net2=blue/a net1=blue/b");
        assert_eq!(names(&settings, "red/a@x", &[]).unwrap(), "x=red/a");
        let existing = selected(&settings, &catalog(), &pod(&[(NETWORKS, "a,b,a")]), &slot(), &[]).unwrap();
        assert_eq!(
            names(&settings, "b,red/a,a", &existing).unwrap(),
            "net2=blue/b net3=red/a net1=blue/a"
        );
        for (wrong, said) in [
            ("a@x,b@x", "[1]: interface x"),
            ("a,b@eth0", "[1]: interface eth0"),
            ("a,absent", "[1]: no definition blue/absent"),
            ("sriov", "x/y"),
        ] {
            let error = names(&settings, wrong, &[]).unwrap_err();
            assert!(error.message.contains(said), "{wrong}: {error}");
        }
        let hashed = self::settings(r#","interfaceNames":"kactus""#);
        let twice = names(&hashed, "a,a", &[]).unwrap_err();
        assert!(
            twice.code == error::CONFIG && twice.message.contains("[1]: interface net"),
            "{twice}"
        );
        assert!(names(&hashed, "a,a@second", &[]).is_ok());
    }

    #[test]
    fn other_namespaces_are_closed_where_that_is_asked_for() {
        let settings = settings(r#","namespaceIsolation":true,"globalNamespaces":["infra"]"#);
        assert!(names(&settings, "a,infra/a", &[]).is_ok());
        let (closed, absent) = (names(&settings, "red/a", &[]), names(&settings, "red/b", &[]));
        let word = |e: Result<String, Error>| e.unwrap_err().message.replace("red/a", "red/b");
        assert_eq!(word(closed), word(absent));
    }

    #[test]
    fn the_default_network_is_the_configurations_or_the_pods() {
        let settings = settings("");
        let of = |annotations: &[(&str, &str)]| default(&settings, &catalog(), &pod(annotations), &slot());
        let plain = of(&[]).unwrap();
        assert_eq!(
            (plain.network.as_str(), plain.interface.as_str(), plain.default),
            ("default/d", "eth0", true)
        );
        // The runtime's requests go to the plugins that support them.
        let config: Value = serde_json::from_str(&plain.calls[0].config).unwrap();
        assert_eq!(config["runtimeConfig"], serde_json::json!({ "ips": ["192.0.2.1"] }));
        let own = of(&[(
            DEFAULT_NETWORK,
            r#"[{"name":"a","namespace":"red","ips":["10.0.0.9"]}]"#,
        )])
        .unwrap();
        assert_eq!(own.network, "red/a");
        assert!(own.calls[0].config.contains("10.0.0.9") && !own.calls[0].config.contains("192.0.2.1"));
        for (wrong, said) in [
            ("absent", "default/absent"),
            ("red/a,red/a", "one network"),
            ("red/a@x", "no interface"),
        ] {
            let error = of(&[(DEFAULT_NETWORK, wrong)]).unwrap_err();
            assert!(
                error.message.contains(DEFAULT_NETWORK) && error.message.contains(said),
                "{error}"
            );
        }
        let secondary = selected(&settings, &catalog(), &pod(&[(NETWORKS, "a")]), &slot(), &[]).unwrap();
        assert!(!secondary[0].calls[0].config.contains("runtimeConfig"));
    }
}
