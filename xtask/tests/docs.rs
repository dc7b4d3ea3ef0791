//! The index of the documentation lists every page, and the links of all pages lead to files.

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

/// Words in a text that look like names of functions with three parts or more, and that are not part of a path or of
/// another word.
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

/// The rows of tables in a text, without their heads.
fn rows(text: &str) -> Vec<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.filter(|row| !row.starts_with("| ---") && !row.ends_with("| test |"))
        .collect()
}

/// Each test that a row names must exist.
fn check_tests_exist(rows: &[&str]) {
    let mut code = String::new();
    sources(&root(), &mut code);
    for row in rows {
        for name in names(row) {
            assert!(
                code.contains(&format!("fn {name}(")),
                "there is no function {name}: {row}"
            );
        }
    }
}

#[test]
fn each_case_of_security_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let cases = page.split("## Cases and their tests").nth(1).unwrap();
    let rows = rows(cases.split("\n## ").next().unwrap());
    for number in (1..=16)
        .map(|n| format!("| D{n} |"))
        .chain((1..=17).map(|n| format!("| C{n} |")))
    {
        assert!(rows.iter().any(|row| row.starts_with(&number)), "no row {number}");
    }
    for row in &rows {
        assert!(!row.to_lowercase().contains("pending"), "{row}");
    }
    check_tests_exist(&rows);
}

#[test]
fn each_promise_has_a_number_of_its_own_and_a_test_or_is_pending() {
    let page = std::fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let rows = rows(&page);
    let mut last = 0;
    for row in &rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, test] = cells[..] else { panic!("{row}") };
        let number: u32 = number.parse().unwrap_or_else(|_| panic!("{row}"));
        assert!(number > last, "promise {number} comes after {last}");
        last = number;
        assert!(test == "pending" || !names(test).is_empty(), "no test: {row}");
    }
    assert!(last > 0);
    check_tests_exist(&rows);
}

#[test]
fn each_decision_has_a_number_a_date_and_a_status() {
    for page in pages(&root().join("docs/adr")) {
        let text = std::fs::read_to_string(&page).unwrap();
        let file = page.file_name().unwrap().to_str().unwrap();
        let mut lines = text.lines();
        let title = lines.next().unwrap();
        let number = title
            .strip_prefix("# ")
            .and_then(|t| t.split_once(": "))
            .map(|(n, _)| n);
        let number = number.unwrap_or_else(|| panic!("{file}: `{title}` has no number"));
        assert!(file.starts_with(&format!("{number}-")), "{file} is called `{title}`");
        let status = lines.nth(1).unwrap();
        let (date, word) = status.split_once(", ").unwrap_or_else(|| panic!("{file}: `{status}`"));
        let is_date = date.len() == 10 && date.split('-').filter_map(|part| part.parse::<u16>().ok()).count() == 3;
        // `superseded by switch-7`, for example.
        let is_status = word == "accepted" || word.starts_with("superseded by ");
        assert!(is_date && is_status, "{file}: `{status}` is not a date and a status");
    }
}

/// File names and contents of the files with this extension in a folder.
fn files_of(folder: &str, extension: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|e| e.unwrap().path());
    let chosen = entries.filter(|path| path.extension().is_some_and(|e| e == extension));
    chosen
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn the_page_of_the_pipeline_says_where_each_table_is_filled() {
    let page = std::fs::read_to_string(root().join("docs/pipeline.md")).unwrap();
    let index = page.split("## From a table to the code that fills it").nth(1).unwrap();
    let index = index.split("\n## ").next().unwrap();
    let mut listed: Vec<&str> = index.lines().filter(|line| line.starts_with("| `")).collect();
    let render = files_of("fabric-controller/src/render", "rs");
    for (control, text) in files_of("p4/fabric/control", "p4") {
        let declared = text.lines().filter_map(|line| line.trim().strip_prefix("table "));
        for table in declared.filter_map(|rest| rest.split([' ', '{']).next()) {
            let forms = [
                format!(" {table}::Key {{"),
                format!("({table}::Key {{"),
                format!("use {table}::{{Action, Key}};"),
            ];
            let makes = |text: &str| forms.iter().any(|form| text.contains(form));
            let mut files: Vec<String> = render
                .iter()
                .filter(|(_, text)| makes(text))
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            files.sort();
            let mut place = files.join(", ");
            if files.is_empty() {
                assert!(text.contains("const entries"), "nothing fills {table}");
                place = "the program itself: constant entries".to_owned();
            }
            let row = format!("| `{table}` | `{control}` | {place} |");
            let at = listed.iter().position(|line| *line == row);
            listed.remove(at.unwrap_or_else(|| panic!("docs/pipeline.md lacks the row\n{row}")));
        }
    }
    assert!(listed.is_empty(), "rows of no table: {listed:?}");
}
