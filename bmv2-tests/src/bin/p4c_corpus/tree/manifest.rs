//! What the programs of a tree need: flags, variants, and what is known about them.
//!
//! ```yaml
//! include: [include]            # for all programs; relative to this file
//! define: [TARGET_BMV2]
//! programs:
//! - path: "p4src/**/main.p4"    # below the folder that is looked through
//!   define: [CPU_PORT=255]
//! - path: p4src/main.p4
//!   variant: spine              # one more compilation; a program with variants is compiled only as these
//!   define: [SPINE]
//! - path: "exercises/*/skeleton.p4"
//!   expect: refused             # where no p4c is installed
//! - path: old/**
//!   skip: written for an older v1model
//! - path: p4src/odd.p4
//!   known: p4c leaves out the register of a typedef
//! ```
//!
//! All rules that fit a program apply, in their order.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::glob;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) include: Vec<PathBuf>,
    #[serde(default)]
    define: Vec<String>,
    #[serde(default)]
    programs: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: String,
    variant: Option<String>,
    #[serde(default)]
    include: Vec<PathBuf>,
    #[serde(default)]
    define: Vec<String>,
    expect: Option<Expect>,
    skip: Option<String>,
    known: Option<String>,
}

/// The verdict that a program should get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expect {
    /// It compiles.
    Compiles,
    /// It is refused.
    Refused,
}

/// What applies to one compilation of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) variant: Option<String>,
    pub(super) include: Vec<PathBuf>,
    pub(super) define: Vec<String>,
    pub(super) expect: Option<Expect>,
    /// The reason why it is left out.
    pub(super) skip: Option<String>,
    /// The reason for a difference that is known.
    pub(super) known: Option<String>,
}

impl Manifest {
    /// Reads a manifest; paths in it become relative to the current folder.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let of = || file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(of)?;
        let mut manifest: Self = serde_saphyr::from_str(&text).with_context(of)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let all = manifest.programs.iter_mut().map(|rule| &mut rule.include);
        for path in all.chain([&mut manifest.include]).flatten() {
            *path = folder.join(&*path);
            if !path.is_dir() {
                bail!("{}: {} is no folder", file.display(), path.display());
            }
        }
        Ok(manifest)
    }

    /// The compilations of a program: one, or one for each variant. `used` gets the rules that fit.
    pub(super) fn settings(&self, path: &str, used: &mut [bool]) -> Vec<Settings> {
        let mut common = Settings {
            include: self.include.clone(),
            define: self.define.clone(),
            ..Settings::default()
        };
        let mut fitting = Vec::new();
        for (rule, used) in self.programs.iter().zip(used) {
            if glob::fits(&rule.path, path) {
                *used = true;
                fitting.push(rule);
            }
        }
        for rule in fitting.iter().filter(|rule| rule.variant.is_none()) {
            common.apply(rule);
        }
        let variants = fitting.iter().filter(|rule| rule.variant.is_some()).map(|rule| {
            let mut one = common.clone();
            one.apply(rule);
            one
        });
        let variants: Vec<Settings> = variants.collect();
        if variants.is_empty() { vec![common] } else { variants }
    }

    /// How many rules there are.
    pub(super) fn rules(&self) -> usize {
        self.programs.len()
    }

    /// The patterns of the rules that no program fitted.
    pub(super) fn unused<'a>(&'a self, used: &'a [bool]) -> impl Iterator<Item = &'a str> {
        let all = self.programs.iter().zip(used);
        all.filter(|(_, used)| !**used).map(|(rule, _)| rule.path.as_str())
    }
}

impl Settings {
    fn apply(&mut self, rule: &Rule) {
        self.include.extend(rule.include.iter().cloned());
        self.define.extend(rule.define.iter().cloned());
        self.variant = rule.variant.clone().or(self.variant.take());
        self.expect = rule.expect.or(self.expect);
        self.skip = rule.skip.clone().or(self.skip.take());
        self.known = rule.known.clone().or(self.known.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("inc"))?;
        let file = dir.path().join("m.yaml");
        std::fs::write(&file, text)?;
        Manifest::read(&file)
    }

    #[test]
    fn rules_add_up_and_variants_are_compilations_of_their_own() {
        let text = "define: [A]\nprograms:\n- path: '**'\n  define: [B=1]\n- path: x.p4\n  variant: one\n  define: [C]\n\
                    - path: x.p4\n  variant: two\n  expect: refused\n- path: y.p4\n  known: why\n- path: z.p4\n  skip: no\n";
        let manifest = read(text).unwrap();
        let mut used = vec![false; manifest.rules()];
        let of_x = manifest.settings("x.p4", &mut used);
        let defines: Vec<_> = of_x.iter().map(|s| s.define.join(" ")).collect();
        assert_eq!(defines, ["A B=1 C", "A B=1"]);
        assert_eq!(of_x[1].expect, Some(Expect::Refused));
        let of_y = manifest.settings("y.p4", &mut used);
        assert_eq!((of_y.len(), of_y[0].known.as_deref()), (1, Some("why")));
        assert_eq!(manifest.unused(&used).collect::<Vec<_>>(), ["z.p4"]);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert!(read("programs:\n- path: a\n  defines: [A]\n").is_err());
        assert!(read("include: [inc]").is_ok());
        let missing = read("include: [inc2]").unwrap_err().to_string();
        assert!(missing.contains("is no folder"), "{missing}");
    }
}
