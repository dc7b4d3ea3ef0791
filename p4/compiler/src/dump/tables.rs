//! Graph of tables and conditions in DOT.

use bmv2_json::Program;
use std::fmt::Write;

/// One cluster per pipeline; boxes are tables, diamonds conditions, edges carry the action or outcome.
pub fn dot(program: &Program) -> String {
    let mut out = String::from("digraph tables {\n  rankdir=TB;\n");
    let quote = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
    for p in &program.pipelines {
        let _ = writeln!(out, "  subgraph \"cluster_{0}\" {{\n    label=\"{0}\";", quote(&p.name));
        let node = |n: &Option<String>| {
            format!(
                "\"{}.{}\"",
                quote(&p.name),
                n.as_deref().map_or_else(|| "end".into(), quote)
            )
        };
        let mut edges = String::new();
        for t in &p.tables {
            let own = node(&Some(t.name.clone()));
            let _ = writeln!(out, "    {own} [shape=box, label=\"{}\"];", quote(&t.name));
            for (label, next) in &t.next_tables {
                let _ = writeln!(edges, "    {own} -> {} [label=\"{}\"];", node(next), quote(label));
            }
        }
        for c in &p.conditionals {
            let own = node(&Some(c.name.clone()));
            let text = c
                .source_info
                .as_ref()
                .map_or(c.name.as_str(), |s| s.source_fragment.as_str());
            let _ = writeln!(out, "    {own} [shape=diamond, label=\"{}\"];", quote(text));
            let _ = writeln!(edges, "    {own} -> {} [label=\"true\"];", node(&c.true_next));
            let _ = writeln!(edges, "    {own} -> {} [label=\"false\"];", node(&c.false_next));
        }
        let _ = writeln!(out, "    {} [label=\"end\"];\n{edges}  }}", node(&None));
    }
    out.push_str("}\n");
    out
}
