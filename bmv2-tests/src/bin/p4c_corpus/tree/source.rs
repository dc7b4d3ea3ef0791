//! Facts about a source file that can be read without compiling it: what it includes, and whether it instantiates `main`.

/// A source file, without its comments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Files that it includes, and whether they stand in quotation marks.
    pub(super) includes: Vec<(String, bool)>,
    /// Whether it instantiates `main`.
    pub(super) has_main: bool,
}

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let text = without_comments(text);
        let mut words = text
            .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ';')
            .flat_map(|w| w.split_inclusive(';'))
            .filter(|w| !w.is_empty())
            .peekable();
        let mut has_main = false;
        while let Some(word) = words.next() {
            has_main |= word == "main;" || word == "main" && words.peek() == Some(&";");
        }
        Self {
            includes: text.lines().filter_map(included).collect(),
            has_main,
        }
    }
}

/// The file that a line includes, and whether it stands in quotation marks.
fn included(line: &str) -> Option<(String, bool)> {
    let rest = line.trim_start().strip_prefix('#')?;
    let rest = rest.trim_start().strip_prefix("include")?.trim_start();
    let (close, quoted) = match rest.chars().next()? {
        '<' => ('>', false),
        '"' => ('"', true),
        _ => return None,
    };
    let (file, _) = rest.get(1..)?.split_once(close)?;
    Some((file.to_owned(), quoted))
}

/// The text with each comment replaced by a blank. Comment signs inside strings are left alone.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let end = if here.starts_with("//") {
            out.push(' ');
            here.find('\n').unwrap_or(here.len())
        } else if here.starts_with("/*") {
            out.push(' ');
            here.find("*/").map_or(here.len(), |end| end + 2)
        } else {
            let end = if here.starts_with('"') { string(here) } else { 1 };
            out.push_str(&here[..end]);
            end
        };
        rest = &here[end..];
    }
    out.push_str(rest);
    out
}

/// Length in octets of the string at the start of `text`. If it does not end on the same line, it is only a quotation
/// mark, and the length is 1.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return 1,
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_hide_nothing_and_add_nothing() {
        let of = |text: &str| Source::read(text);
        assert!(of("S(P(), D()) main;").has_main);
        assert!(of("S(P())\n  main // the package\n ;").has_main);
        assert!(!of("// S() main;\n/* S() main; */").has_main);
        assert!(!of("bit<8> remain; control main_part() {}").has_main);
        let source = of("#include <core.p4>\n  # include \"a//b.p4\" // c\n/* #include \"no.p4\" */\n#include NAME\n");
        assert_eq!(
            source.includes,
            [("core.p4".to_owned(), false), ("a//b.p4".to_owned(), true)]
        );
        assert!(of("@name(\"it\\\"s /* no comment\") S() main;").has_main);
        assert!(of("@name(\" over\nlines\") S() main;").has_main);
    }
}
