//! Any content of configurations, annotations and definitions is either read or refused with an error; nothing panics.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};
use vfabric_cni::config::Config;
use vfabric_cni::multi::annotation::{self, NETWORKS};
use vfabric_cni::multi::catalog::Folder;
use vfabric_cni::multi::network::{Asked, Network};
use vfabric_cni::multi::settings::Settings;
use vfabric_cni::multi::{result, work};

/// Keys that the readers know, so that values of a wrong type reach them.
const KEYS: &[&str] = &[
    "name",
    "namespace",
    "interface",
    "mac",
    "ips",
    "infiniband-guid",
    "cni-args",
    "default-route",
    "portMappings",
    "bandwidth",
    "hostPort",
    "containerPort",
    "protocol",
    "ingressRate",
    "ingressBurst",
    "plugins",
    "type",
    "cniVersion",
    "cniVersions",
    "capabilities",
    "args",
    "cni",
    "runtimeConfig",
    "delegates",
    "pods",
    "clusterNetwork",
    "interfaceNames",
    "ipam",
    "interfaces",
    "routes",
    "address",
    "vdc",
    "network",
    "workload",
    "socket",
    "prevResult",
    "cni.dev/valid-attachments",
];

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("1.0.0".to_owned()),
        Just("a".to_owned()),
        Just("10.0.0.1/24".to_owned()),
        Just("02:00:00:00:00:01".to_owned()),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = proptest::sample::select(KEYS);
        let pairs = proptest::collection::vec((key, inner.clone()), 0..6);
        let object = pairs.prop_map(|all| Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()));
        prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::from), object]
    })
}

/// All readers of text from outside.
fn read(text: &str) {
    let _ = annotation::parse(NETWORKS, text, "blue");
    let _ = Settings::parse(text.as_bytes());
    let _ = Settings::of_file(text);
    if let Ok(network) = Network::parse("x", text, "n") {
        for call in network.calls(&Asked::default()).unwrap() {
            let whole: Value = serde_json::from_str(&call.with_result(Some("{}"))).unwrap();
            assert_eq!(whole["prevResult"], json!({}));
        }
    }
    if let Ok(config) = Config::parse(text.as_bytes()) {
        let _ = (config.wish(text), config.valid(), config.ipam());
    }
    let of = |key: &str| (key == "CNI_COMMAND").then(|| "VERSION".to_owned());
    work::run(of, text.as_bytes()).unwrap();
}

proptest! {
    #[test]
    fn values_of_any_kind_are_read_or_refused(value in value()) {
        read(&value.to_string());
        for version in ["0.3.1", "1.0.0", "1.1.0"] {
            let converted = result::convert(&value, version);
            prop_assert_eq!(&converted["cniVersion"], version);
        }
    }

    #[test]
    fn text_of_any_kind_is_read_or_refused(text in "[\\[{\",:a-z0-9/@ -]{0,40}") {
        read(&text);
    }

    #[test]
    fn files_of_any_kind_stop_no_others(text in ".{0,60}", value in value()) {
        let folder = tempfile::tempdir().unwrap();
        let good = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" } });
        let metadata = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": value });
        for (name, text) in [("a.yaml", good.to_string()), ("b.yaml", text), ("c.yaml", metadata.to_string())] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        use vfabric_cni::multi::catalog::Catalog;
        let catalog = Folder::read(folder.path()).unwrap();
        prop_assert!(catalog.pod("default", "web").is_ok_and(|p| p.is_some()));
    }
}
