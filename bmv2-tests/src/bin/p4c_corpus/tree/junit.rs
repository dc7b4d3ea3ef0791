//! The results as JUnit XML, as CI systems read it: a test case for each program.

use std::fmt::Write as _;

use super::report::Report;

/// The document.
pub(super) fn document(report: &Report<'_>) -> String {
    let (mut cases, mut failures) = (String::new(), 0);
    for (job, outcome) in &report.rows {
        let seconds = outcome.took_ms as f64 / 1e3;
        let _ = write!(
            cases,
            r#"  <testcase classname="p4c-corpus" name="{}" time="{seconds:.3}""#,
            text(&job.name)
        );
        let differences = outcome.differences(job);
        if differences.is_empty() {
            cases.push_str("/>\n");
            continue;
        }
        cases.push_str(">\n");
        let what: Vec<&str> = differences.iter().map(|d| d.what.as_str()).collect();
        let what = text(&what.join("; "));
        if let Some(why) = &job.known {
            let _ = writeln!(cases, r#"    <skipped message="known: {}: {what}"/>"#, text(why));
        } else {
            failures += 1;
            let lines = differences
                .iter()
                .flat_map(|d| std::iter::once(&d.what).chain(&d.lines));
            let lines: Vec<&str> = lines.map(String::as_str).collect();
            let lines = text(&lines.join("\n"));
            let _ = writeln!(cases, r#"    <failure message="{what}">{lines}</failure>"#);
        }
        cases.push_str("  </testcase>\n");
    }
    let (tests, seconds) = (report.rows.len(), report.elapsed.as_secs_f64());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"p4c-corpus\" tests=\"{tests}\" failures=\"{failures}\" time=\"{seconds:.3}\">\n{cases}</testsuite>\n"
    )
}

/// A text in XML. Characters that XML cannot have become a question mark.
fn text(of: &str) -> String {
    let mut out = String::with_capacity(of.len());
    for c in of.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
