//! The documentation leads everywhere: its index has every page, and links of all pages end at a file.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Markdown files of a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    pages
}

/// Targets of the links of a page that are files.
fn links(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.map(|target| target.split('#').next().unwrap()).collect()
}

#[test]
fn the_index_has_every_page_and_every_decision() {
    let docs = root().join("docs");
    let index = std::fs::read_to_string(docs.join("README.md")).unwrap();
    let listed = links(&index);
    for folder in ["", "adr"] {
        for page in pages(&docs.join(folder)) {
            let name = page.strip_prefix(&docs).unwrap().to_str().unwrap();
            assert!(
                name == "README.md" || listed.contains(&name),
                "docs/README.md does not list {name}"
            );
        }
    }
    for name in ["../CONTRIBUTING.md", "../SECURITY.md"] {
        assert!(listed.contains(&name), "docs/README.md does not list {name}");
    }
}

#[test]
fn links_end_at_files() {
    let mut seen = 0;
    for folder in ["", "docs", "docs/adr"] {
        for page in pages(&root().join(folder)) {
            let text = std::fs::read_to_string(&page).unwrap();
            for link in links(&text) {
                let target = page.parent().unwrap().join(link);
                assert!(target.exists(), "{}: {link}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "{seen} links were found");
}
