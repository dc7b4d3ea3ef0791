//! Figures inside the documentation, written by `cargo xtask bench --docs`.
//!
//! A figure in a page is between two comments, which readers do not see:
//! `<!-- bench compiler: leaf: compile p50 ms -->20<!-- end -->`. The first names the row of the table that `cargo xtask bench`
//! prints, with its unit.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// The text before the name of a figure.
const OPEN: &str = "<!-- bench ";
/// The text after the name.
const CLOSE: &str = " -->";
/// The text after the figure.
const END: &str = "<!-- end -->";

/// Rewrites the figures of all pages of a folder if their benchmark is among the rows. A row is a name with its unit,
/// and a value.
///
/// # Errors
/// A page cannot be read or written, a marker is incomplete, or a benchmark that ran has no figure of that name.
pub(crate) fn write(folder: &Path, rows: &[(String, f64)]) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let written = rewrite(&text, rows).with_context(|| path.display().to_string())?;
        if written != text {
            std::fs::write(&path, written).with_context(|| path.display().to_string())?;
            eprintln!("{}: figures written", path.display());
        }
    }
    Ok(())
}

fn rewrite(text: &str, rows: &[(String, f64)]) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, after) = after.split_once(CLOSE).context("a marker without an end")?;
        let found = after.split_once(END).filter(|(figure, _)| !figure.contains('\n'));
        let (figure, after) = found.with_context(|| format!("`{name}`: no `{END}` on its line"))?;
        let bench = name.split(": ").next().unwrap_or_default();
        let ran = rows.iter().any(|(n, _)| n.split(": ").next() == Some(bench));
        let figure = match rows.iter().find(|(n, _)| n == name) {
            Some((_, value)) => readable(*value),
            None if ran => bail!("the benchmarks have no figure `{name}`"),
            None => figure.to_owned(),
        };
        out.extend([before, OPEN, name, CLOSE, &figure, END]);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Three significant digits, in thousands and millions above 10,000.
fn readable(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_benchmarks_that_ran_are_written_and_others_stay() {
        let text = "leaf <!-- bench compiler: leaf: p50 ms -->20<!-- end --> ms, port <!-- bench switch: pps -->1M<!-- end -->.\n";
        let rows = [("compiler: leaf: p50 ms".to_owned(), 21.46)];
        let now = rewrite(text, &rows).unwrap();
        assert_eq!(now, text.replace("20", "21.5"));
        assert_eq!(rewrite(&now, &rows).unwrap(), now);
        assert_eq!(rewrite("none\n", &rows).unwrap(), "none\n");
    }

    #[test]
    fn a_figure_that_is_no_more_is_named() {
        let text = "<!-- bench compiler: root: p50 ms -->20<!-- end -->";
        let error = rewrite(text, &[("compiler: leaf: p50 ms".to_owned(), 1.0)]).unwrap_err();
        assert!(error.to_string().contains("compiler: root: p50 ms"), "{error}");
        let error = rewrite("<!-- bench a -->20\n<!-- end -->", &[]).unwrap_err();
        assert!(error.to_string().contains("on its line"), "{error}");
    }

    #[test]
    fn markers_of_the_documentation_are_complete() {
        let docs = crate::root().join("docs");
        let mut seen = 0;
        for entry in std::fs::read_dir(docs).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(rewrite(&text, &[]).unwrap(), text);
                seen += text.matches(OPEN).count();
            }
        }
        assert!(seen > 0);
    }

    #[test]
    fn numbers_are_short() {
        let all = [1_730_000.0, 682_913.0, 1234.0, 27.04, 8.26, 0.5].map(readable);
        assert_eq!(all, ["1.73M", "683k", "1234", "27.0", "8.26", "0.50"]);
    }
}
