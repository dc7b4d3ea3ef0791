//! Links to our programs, under the names by which tools for bmv2, p4c and Stratum call theirs.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A name, and the program of ours that the link leads to.
const SHIMS: [(&str, &str); 5] = [
    ("simple_switch_grpc", "p4-switch"),
    ("simple_switch_CLI", "p4-switch"),
    ("stratum_bmv2", "p4-switch"),
    ("p4c", "p4-compiler"),
    ("p4c-bm2-ss", "p4-compiler"),
];

/// Puts the links into `dir`, to programs in `programs`. Any other file under one of the names is kept, and reported as
/// an error.
pub(crate) fn lay(dir: &Path, programs: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    for (name, program) in SHIMS {
        let (link, target) = (dir.join(name), programs.join(program));
        if !target.is_file() {
            bail!("{}: no such program", target.display());
        }
        match link.symlink_metadata() {
            Ok(found) if !found.is_symlink() => bail!("{}: a file is in the way", link.display()),
            Ok(_) => std::fs::remove_file(&link).with_context(|| link.display().to_string())?,
            Err(_) => {}
        }
        symlink(&target, &link).with_context(|| link.display().to_string())?;
        println!("{} -> {}", link.display(), target.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_laid_and_laid_again_and_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (programs, links) = (dir.path().join("programs"), dir.path().join("a/b"));
        std::fs::create_dir(&programs).unwrap();
        assert!(lay(&links, &programs).is_err(), "no programs");
        for program in ["p4-switch", "p4-compiler"] {
            std::fs::write(programs.join(program), "").unwrap();
        }
        for _ in 0..2 {
            lay(&links, &programs).unwrap();
            for (name, program) in SHIMS {
                assert_eq!(std::fs::read_link(links.join(name)).unwrap(), programs.join(program));
            }
        }
        std::fs::remove_file(links.join("p4c")).unwrap();
        std::fs::write(links.join("p4c"), "theirs").unwrap();
        assert!(lay(&links, &programs).is_err());
        assert_eq!(std::fs::read_to_string(links.join("p4c")).unwrap(), "theirs");
    }
}
