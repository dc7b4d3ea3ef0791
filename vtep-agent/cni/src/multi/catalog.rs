//! Pods and NetworkAttachmentDefinitions: the trait of their sources, and a folder of YAML files as a source.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{self, Error};

/// Most files in a folder: many times the number of pods on one host.
const MAX_FILES: usize = 10_000;
/// Most octets of a file.
const MAX_FILE: u64 = 1 << 20;

/// The parts of a pod that the meta plugin needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, if it has one.
    pub uid: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A NetworkAttachmentDefinition (NPWG 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.config`: a CNI configuration or list; if left out, it is in the folder of configurations.
    pub config: Option<String>,
}

/// Finds pods and definitions. `None` means that the source is complete and has no such object.
pub trait Catalog {
    /// A pod.
    ///
    /// # Errors
    /// When it occurs twice, or when an unreadable part of the source may have it.
    fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Error>;

    /// A definition.
    ///
    /// # Errors
    /// As for [`Catalog::pod`].
    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>, Error>;

    /// All definitions that can be read.
    fn definitions(&self) -> Vec<Definition>;
}

/// A folder of YAML files, each with any number of documents. Kinds other than `Pod` and `NetworkAttachmentDefinition` are left
/// alone, and so are files whose names start with a dot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folder {
    pods: BTreeMap<(String, String), Vec<(PathBuf, Pod)>>,
    definitions: BTreeMap<(String, String), Vec<(PathBuf, Definition)>>,
    /// Why files could not be read. They may contain anything.
    damaged: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    config: Option<String>,
}

/// Only the fields that identify the kind, because documents of other kinds may have any form.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: Option<String>,
}

/// Refuses files that others may write, because a definition makes root run any CNI plugin with any configuration.
fn guarded(metadata: &fs::Metadata) -> Result<(), String> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o002 != 0 {
        return Err(format!("mode {mode:o}: everybody may write there"));
    }
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(format!("it belongs to user {owner}, expected root"));
    }
    Ok(())
}

impl Folder {
    /// Reads a folder. A file that cannot be read is noted; it matters only if an object is missing.
    ///
    /// # Errors
    /// When the folder cannot be read, or everybody may write there.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |e: std::io::Error| Error::io(format!("pods: {}: {}", path.display(), e.kind()));
        let unguarded = |why: String| Error::new(error::CONFIG, format!("pods: {}: {why}", path.display()));
        guarded(&fs::metadata(path).map_err(wrong)?).map_err(unguarded)?;
        let mut folder = Self::default();
        let mut files = Vec::new();
        for file in fs::read_dir(path).map_err(wrong)? {
            let file = file.map_err(wrong)?.path();
            let name = file
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            let known = [".yaml", ".yml", ".json"].iter().any(|e| name.ends_with(e));
            if known && !name.starts_with('.') {
                files.push(file);
            }
            if files.len() > MAX_FILES {
                let message = format!("pods: {} has more than {MAX_FILES} files", path.display());
                return Err(Error::new(error::CONFIG, message));
            }
        }
        files.sort();
        for file in files {
            if let Err(why) = folder.read_file(&file) {
                folder.damaged.push(format!("{}: {why}", file.display()));
            }
        }
        Ok(folder)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), String> {
        let metadata = match fs::metadata(path) {
            // Removed since the folder was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| e.to_string())?,
        };
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(format!("expected a file of at most {MAX_FILE} octets"));
        }
        guarded(&metadata)?;
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| e.to_string())?,
        };
        self.add(path, &text)
    }

    /// Adds the documents of a file: all of them or, when one is wrong, none.
    fn add(&mut self, path: &Path, text: &str) -> Result<(), String> {
        let one_line = |e: serde_saphyr::Error| e.without_snippet().to_string().replace('\n', " ");
        let heads: Vec<Option<Head>> = serde_saphyr::from_multiple(text).map_err(one_line)?;
        let known = |h: &Option<Head>| {
            let kind = h.as_ref().and_then(|h| h.kind.as_deref());
            matches!(kind, Some("Pod" | "NetworkAttachmentDefinition"))
        };
        if !heads.iter().any(known) {
            return Ok(());
        }
        let documents: Vec<Option<Document>> = serde_saphyr::from_multiple(text).map_err(one_line)?;
        let documents = documents.into_iter().flatten();
        let (mut pods, mut definitions) = (Vec::new(), Vec::new());
        for document in documents {
            let Metadata {
                namespace,
                name,
                uid,
                labels,
                annotations,
            } = document.metadata;
            let version = match document.kind.as_str() {
                "Pod" => "v1",
                "NetworkAttachmentDefinition" => "k8s.cni.cncf.io/v1",
                _ => continue,
            };
            if document.api_version != version {
                let found = document.api_version;
                return Err(format!(
                    "{} `{name}`: apiVersion: `{found}`: expected {version}",
                    document.kind
                ));
            }
            if name.is_empty() {
                return Err(format!("{}: metadata.name is missing", document.kind));
            }
            let namespace = namespace.unwrap_or_else(|| "default".to_owned());
            let (annotations, key) = (annotations.unwrap_or_default(), (namespace.clone(), name.clone()));
            if document.kind == "Pod" {
                let pod = Pod {
                    namespace,
                    name,
                    uid,
                    labels: labels.unwrap_or_default(),
                    annotations,
                };
                pods.push((key, pod));
            } else {
                let definition = Definition {
                    namespace,
                    name,
                    annotations,
                    config: document.spec.and_then(|s| s.config).filter(|c| !c.trim().is_empty()),
                };
                definitions.push((key, definition));
            }
        }
        for (key, pod) in pods {
            self.pods.entry(key).or_default().push((path.to_owned(), pod));
        }
        for (key, definition) in definitions {
            self.definitions
                .entry(key)
                .or_default()
                .push((path.to_owned(), definition));
        }
        Ok(())
    }

    /// Why files could not be read.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    fn one<T: Clone>(
        &self,
        of: &BTreeMap<(String, String), Vec<(PathBuf, T)>>,
        what: &str,
        (namespace, name): (&str, &str),
    ) -> Result<Option<T>, Error> {
        match of.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice) {
            Some([(_, one)]) => Ok(Some(one.clone())),
            Some([(a, _), (b, _), ..]) => {
                let (a, b) = (a.display(), b.display());
                let message = format!("{what} {namespace}/{name} occurs twice: in {a} and in {b}");
                Err(Error::new(error::CONFIG, message))
            }
            // It may be in one of them.
            _ if !self.damaged.is_empty() => {
                let message = format!("{what} {namespace}/{name} cannot be found: {}", self.damaged.join("; "));
                Err(Error::new(error::TRY_AGAIN, message))
            }
            _ => Ok(None),
        }
    }
}

impl Catalog for Folder {
    fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Error> {
        self.one(&self.pods, "pod", (namespace, name))
    }

    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>, Error> {
        self.one(&self.definitions, "definition", (namespace, name))
    }

    fn definitions(&self) -> Vec<Definition> {
        let all = self.definitions.values().flatten();
        all.map(|(_, definition)| definition.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  uid: u1\n  annotations:\n    \
        k8s.v1.cni.cncf.io/networks: a,b\nspec: { containers: [] }\n";
    const DEFINITION: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n\
        metadata: { name: a, namespace: blue }\nspec:\n  config: '{ \"type\": \"bridge\" }'\n";

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let folder = Folder::read(directory.path()).unwrap();
        (directory, folder)
    }

    #[test]
    fn documents_of_files_are_found() {
        let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\nspec: { config: { a: 1 } }\n";
        let both = format!("{POD}---\n{DEFINITION}---\n");
        let (_directory, folder) = folder(&[("a.yaml", &both), ("b.yml", other), ("note.txt", "{"), (".x.yaml", "{")]);
        assert_eq!(folder.damaged(), [""; 0]);
        let pod = folder.pod("default", "web").unwrap().unwrap();
        assert_eq!(
            (
                pod.uid.as_deref(),
                pod.annotations["k8s.v1.cni.cncf.io/networks"].as_str()
            ),
            (Some("u1"), "a,b")
        );
        let definition = folder.definition("blue", "a").unwrap().unwrap();
        assert_eq!(definition.config.as_deref(), Some(r#"{ "type": "bridge" }"#));
        assert_eq!(folder.definition("default", "a"), Ok(None));
        assert_eq!(folder.definitions(), [definition]);
    }

    #[test]
    fn two_of_a_name_and_damage_stop_only_who_needs_them() {
        let other = DEFINITION.replace("name: a", "name: b");
        let all = [
            ("1.yaml", DEFINITION),
            ("2.yaml", DEFINITION),
            ("3.yaml", &other),
            ("4.yaml", "kind: ["),
        ];
        let (_directory, folder) = folder(&all);
        let twice = folder.definition("blue", "a").unwrap_err();
        assert!(
            twice.message.contains("1.yaml") && twice.message.contains("2.yaml"),
            "{twice}"
        );
        assert!(folder.definition("blue", "b").unwrap().is_some());
        let missing = folder.pod("default", "web").unwrap_err();
        assert!(
            missing.code == error::TRY_AGAIN && missing.message.contains("4.yaml"),
            "{missing}"
        );
        let old = DEFINITION.replace("cncf.io/v1", "cncf.io/v2");
        let nameless = POD.replace("name: web", "labels: {}");
        for (text, said) in [(old.as_str(), "apiVersion"), (&nameless, "metadata.name")] {
            let (_directory, folder) = self::folder(&[("x.yaml", text)]);
            assert!(folder.damaged()[0].contains(said), "{:?}", folder.damaged());
        }
        assert!(Folder::read(Path::new("/absent")).is_err());
    }

    #[test]
    fn what_everybody_may_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, _) = folder(&[("a.yaml", POD)]);
        let open = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        open(&directory.path().join("a.yaml"), 0o666);
        let read = Folder::read(directory.path()).unwrap();
        let refused = read.pod("default", "web").unwrap_err();
        assert!(refused.message.contains("a.yaml: mode 666"), "{refused}");
        open(directory.path(), 0o1777);
        let refused = Folder::read(directory.path()).unwrap_err();
        assert!(
            refused.code == error::CONFIG && refused.message.contains("mode 1777"),
            "{refused}"
        );
    }
}
