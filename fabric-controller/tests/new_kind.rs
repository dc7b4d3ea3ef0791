//! Carries out `docs/new-kind.md` on a copy of the tree: it adds a kind of object that works.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The instruction of a code block of the page.
enum Step<'a> {
    /// A new file.
    New(&'a str, String),
    /// Lines to add below the item that starts with a given text (its line, and the lines that continue it).
    Add(&'a str, String, String),
}

#[test]
fn the_page_adds_a_kind_that_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/new-kind.md")).unwrap();
    let steps = steps(&page);
    let touched: BTreeSet<&str> = steps.iter().map(|step| step.file()).collect();
    let new = steps.iter().filter(|step| matches!(step, Step::New(..))).count();
    let said = format!("It touches {} files, {new} of them new", touched.len());
    assert!(page.contains(&said), "the page should say: {said}");

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let copy = target.join("new-kind");
    copy_tree(root, &copy);
    for step in &steps {
        step.carry_out(&copy);
    }
    // With the profile and the dependencies of this test.
    cargo(
        &copy,
        target,
        &["test", "--package", "fabric-controller", "--lib", "contact"],
    );
    cargo(&copy, target, &["check", "--package", "fabricctl"]);
    std::fs::remove_dir_all(&copy).unwrap();
}

impl Step<'_> {
    fn file(&self) -> &str {
        match self {
            Self::New(file, _) | Self::Add(file, ..) => file,
        }
    }

    fn carry_out(&self, copy: &Path) {
        let path = copy.join(self.file());
        let text = match self {
            Self::New(file, text) => {
                assert!(!path.exists(), "{file} exists already");
                text.clone()
            }
            Self::Add(file, below, text) => {
                let old = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
                let mut lines: Vec<&str> = old.lines().collect();
                let at: Vec<usize> = (0..lines.len())
                    .filter(|i| lines[*i].starts_with(below.as_str()))
                    .collect();
                let [at] = at.as_slice() else {
                    panic!(
                        "{file}: expected one line that starts with `{below}`, found {}",
                        at.len()
                    );
                };
                lines.insert(at + 1, text.trim_end());
                lines.join("\n") + "\n"
            }
        };
        std::fs::write(path, text).unwrap();
    }
}

/// The code blocks whose first line names a file.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for block in page.split("\n```rust ").skip(1) {
        let (head, rest) = block.split_once('\n').unwrap();
        let (code, _) = rest.split_once("\n```").unwrap();
        let code = format!("{code}\n");
        let (what, place) = head.split_once(' ').unwrap();
        steps.push(match what {
            "new" => Step::New(place, code),
            "add" => {
                let (file, below) = place.split_once(" below ").unwrap();
                let below = below.strip_prefix('"').and_then(|b| b.strip_suffix('"')).unwrap();
                Step::Add(file, below.replace("\\\"", "\""), code)
            }
            _ => panic!("a block is `new` or `add`, not `{what}`"),
        });
    }
    assert!(steps.len() > 5, "the blocks were not found");
    steps
}

/// Copies the files of the project.
fn copy_tree(root: &Path, copy: &Path) {
    if copy.exists() {
        std::fs::remove_dir_all(copy).unwrap();
    }
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let files = String::from_utf8(listed.stdout).unwrap();
    for file in files
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|f| root.join(f).exists())
    {
        let to = copy.join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root.join(&file), to).unwrap();
    }
}

fn cargo(copy: &Path, target: &Path, args: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}:\n{said}", args.join(" "));
    let ran = String::from_utf8_lossy(&output.stdout);
    assert!(args[0] == "check" || ran.contains("1 passed"), "{ran}");
}
