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

/// Names in a text that could be those of functions with three words or more: no part of a path or of another word.
fn names(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c) && !"./-`".contains(c));
    let plain = words.filter(|word| word.chars().all(|c| is_part(c) && !c.is_ascii_uppercase()));
    plain
        .filter(|word| !word.starts_with('_') && word.matches('_').count() >= 2)
        .collect()
}

/// Adds the source files below a folder to a text.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, all);
        } else if name.ends_with(".rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_case_of_security_names_tests_that_there_are() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let cases = page.split("## Cases and their tests").nth(1).unwrap();
    let cases = cases.split("\n## ").next().unwrap();
    let rows: Vec<&str> = cases.lines().filter(|line| line.starts_with("| ")).collect();
    for number in (1..=16)
        .map(|n| format!("| D{n} |"))
        .chain((1..=17).map(|n| format!("| C{n} |")))
    {
        assert!(rows.iter().any(|row| row.starts_with(&number)), "no row {number}");
    }
    let mut code = String::new();
    sources(&root(), &mut code);
    for row in rows {
        assert!(!row.to_lowercase().contains("pending"), "{row}");
        for name in names(row) {
            assert!(
                code.contains(&format!("fn {name}(")),
                "there is no function {name}: {row}"
            );
        }
    }
}
