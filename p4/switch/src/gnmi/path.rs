//! gNMI paths (gNMI specification, sections 2.2.2 and 2.4): from messages, and matching with wildcards.

use std::collections::BTreeMap;

use gnmi_proto::gnmi;
use tonic::Status;

/// Longest accepted path; the tree is less than ten levels deep.
const MAX_ELEMS: usize = 32;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Elem {
    /// Node name, or `*` (one level) or `...` (any number of levels) in patterns.
    pub name: String,
    /// List keys; in patterns, `*` and missing keys match everything.
    pub keys: BTreeMap<String, String>,
}

impl Elem {
    /// A node without keys.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keys: BTreeMap::new(),
        }
    }

    /// A list entry with one key.
    pub fn keyed(name: &str, key: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            keys: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        }
    }

    fn matches(&self, node: &Self) -> bool {
        // Names may carry the YANG module in front ("openconfig-interfaces:interfaces").
        let name = self.name.rsplit_once(':').map_or(self.name.as_str(), |(_, name)| name);
        let keys = || {
            self.keys
                .iter()
                .all(|(key, wanted)| wanted == "*" || node.keys.get(key).is_some_and(|held| held == wanted))
        };
        (name == "*" || name == node.name) && keys()
    }
}

/// A path from the root.
pub type Path = Vec<Elem>;

/// Joins prefix and path of a request (section 2.4.1).
///
/// # Errors
/// `INVALID_ARGUMENT` for an origin other than OpenConfig's (section 2.7), deprecated elements or absurd length.
pub fn join(prefix: Option<&gnmi::Path>, path: Option<&gnmi::Path>) -> Result<Path, Status> {
    let mut joined = Path::new();
    for part in [prefix, path].into_iter().flatten() {
        if !matches!(part.origin.as_str(), "" | "openconfig") {
            return Err(Status::invalid_argument(format!(
                "origin {:?} is not served",
                part.origin
            )));
        }
        #[allow(deprecated)]
        if !part.element.is_empty() {
            return Err(Status::invalid_argument(
                "the deprecated path field \"element\" is not supported, use \"elem\"",
            ));
        }
        joined.extend(part.elem.iter().map(|elem| Elem {
            name: elem.name.clone(),
            keys: elem.key.clone(),
        }));
    }
    if joined.len() > MAX_ELEMS {
        return Err(Status::invalid_argument("the path is too long"));
    }
    Ok(joined)
}

/// A path as a message.
pub fn to_wire(path: &[Elem]) -> gnmi::Path {
    let elem = path.iter().map(|elem| gnmi::PathElem {
        name: elem.name.clone(),
        key: elem.keys.clone(),
    });
    gnmi::Path {
        elem: elem.collect(),
        ..gnmi::Path::default()
    }
}

/// Whether `leaf` lies at or below what `pattern` names.
pub fn covers(pattern: &[Elem], leaf: &[Elem]) -> bool {
    match (pattern.split_first(), leaf.split_first()) {
        (None, _) => true,
        (Some((first, rest)), _) if first.name == "..." => (0..=leaf.len()).any(|skip| covers(rest, &leaf[skip..])),
        (Some((first, rest)), Some((node, below))) => first.matches(node) && covers(rest, below),
        (Some(_), None) => false,
    }
}

/// The path for messages: `/interfaces/interface[name=eth0]/state`.
pub fn display(path: &[Elem]) -> String {
    let elems = path.iter().map(|elem| {
        let keys: String = elem
            .keys
            .iter()
            .map(|(key, value)| format!("[{key}={value}]"))
            .collect();
        format!("/{}{keys}", elem.name)
    });
    elems.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(interface: &str) -> Path {
        vec![
            Elem::new("interfaces"),
            Elem::keyed("interface", "name", interface),
            Elem::new("state"),
            Elem::new("oper-status"),
        ]
    }

    #[test]
    fn prefixes_wildcards_and_keys() {
        let eth0 = leaf("eth0");
        assert!(covers(&[], &eth0));
        assert!(covers(&eth0, &eth0));
        assert!(
            covers(&[Elem::new("interfaces"), Elem::new("interface")], &eth0),
            "missing keys match all"
        );
        assert!(covers(&leaf("*"), &eth0));
        assert!(!covers(&leaf("eth1"), &eth0));
        assert!(covers(&[Elem::new("..."), Elem::new("oper-status")], &eth0));
        assert!(!covers(&[Elem::new("..."), Elem::new("mtu")], &eth0));
        assert!(covers(&[Elem::new("*"), Elem::new("*"), Elem::new("state")], &eth0));
        assert!(covers(&[Elem::new("openconfig-interfaces:interfaces")], &eth0));
        let mut deeper = eth0.clone();
        deeper.push(Elem::new("x"));
        assert!(!covers(&deeper, &eth0));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let path = gnmi::Path {
            origin: "cli".into(),
            ..Default::default()
        };
        assert!(join(None, Some(&path)).is_err());
    }
}
