//! Patterns for paths below a folder: `*` and `?` stand for parts of a name, `**` for any folders.

/// Whether a path fits a pattern. Both use `/`.
pub(super) fn fits(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            (0..=path.len()).any(|skipped| parts(rest, path.get(skipped..).unwrap_or_default()))
        }
        (Some((part, rest)), Some((name, names))) => {
            let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
            one(&part, &name) && parts(rest, names)
        }
        _ => false,
    }
}

fn one(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| one(rest, name.get(skipped..).unwrap_or_default())),
        (Some(('?', rest)), Some((_, names))) => one(rest, names),
        (Some((a, rest)), Some((b, names))) => a == b && one(rest, names),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stay_in_a_name_and_double_stars_do_not() {
        for (pattern, path, wanted) in [
            ("main.p4", "main.p4", true),
            ("main.p4", "a/main.p4", false),
            ("*.p4", "a/main.p4", false),
            ("*/ma?n.p4", "a/main.p4", true),
            ("**", "a/b/c.p4", true),
            ("**/*.p4", "c.p4", true),
            ("a/**/c*.p4", "a/c.p4", true),
            ("a/**/c*.p4", "a/b/b/c2.p4", true),
            ("a/**/c*.p4", "b/c.p4", false),
        ] {
            assert_eq!(fits(pattern, path), wanted, "{pattern} {path}");
        }
    }
}
