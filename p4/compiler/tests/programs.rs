//! What users rely on: programs compile to documents that the schema reads back, errors come with their
//! place, and no text makes the compiler panic.

use p4_compiler::{Compiled, Dump, Options, compile, compile_file, dump};
use proptest::prelude::*;
use prost::Message;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "p4"))
        .collect();
    files.sort();
    files
}

fn good(path: &Path) -> Compiled {
    compile_file(path, &Options::default()).unwrap_or_else(|d| panic!("{}", d.short()))
}

#[test]
fn programs_compile_and_read_back() {
    for path in folder("programs") {
        let c = good(&path);
        let read = bmv2_json::Program::from_slice(c.json.as_bytes()).unwrap();
        assert_eq!(read, c.program, "{}", path.display());
        assert_eq!(
            p4runtime_proto::p4::config::v1::P4Info::decode(c.p4info_binary.as_slice()).unwrap(),
            c.p4info
        );
        assert!(c.p4info_text.contains("arch: \"v1model\""));
    }
}

#[test]
fn every_reference_in_the_document_is_defined() {
    for path in folder("programs") {
        let p = good(&path).program;
        for pipe in &p.pipelines {
            let known = |n: &Option<String>| {
                n.as_ref().is_none_or(|n| {
                    pipe.tables.iter().any(|t| t.name == *n) || pipe.conditionals.iter().any(|c| c.name == *n)
                })
            };
            assert!(known(&pipe.init_table));
            for t in &pipe.tables {
                assert!(t.next_tables.values().all(known), "{}", t.name);
                assert!(t.action_ids.iter().all(|id| p.actions.iter().any(|a| a.id == *id)));
            }
            assert!(
                pipe.conditionals
                    .iter()
                    .all(|c| known(&c.true_next) && known(&c.false_next))
            );
        }
        for parser in &p.parsers {
            for t in parser.parse_states.iter().flat_map(|s| &s.transitions) {
                assert!(
                    t.next_state
                        .as_ref()
                        .is_none_or(|n| parser.parse_states.iter().any(|s| s.name == *n))
                );
            }
        }
    }
}

/// All P4 programs of this repository.
fn own_programs() -> Vec<PathBuf> {
    let fabric = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric");
    let mut all = folder("programs");
    all.extend([fabric.join("leaf.p4"), fabric.join("spine.p4")]);
    all
}

#[test]
fn a_dumped_syntax_tree_is_the_same_program() {
    for path in own_programs() {
        let text = std::fs::read_to_string(&path).unwrap();
        let tree = |name: &str, text: &str| {
            dump(name, path.parent(), text, &Options::default(), Dump::Ast)
                .unwrap_or_else(|d| panic!("{}", d.short()))
                .0
        };
        let first = tree("first.p4", &text);
        let again = format!("#include <v1model.p4>\n{first}");
        assert_eq!(tree("again.p4", &again), first, "{}", path.display());
        let (a, b) = (good(&path), compile("again.p4", None, &again, &Options::default()));
        let b = b.unwrap_or_else(|d| panic!("{}", d.short()));
        assert_eq!(a.p4info, b.p4info, "{}", path.display());
        let flat = |text: &str| {
            dump("x.p4", path.parent(), text, &Options::default(), Dump::Ir)
                .unwrap()
                .0
        };
        assert_eq!(flat(&text), flat(&again), "{}", path.display());
    }
}

#[test]
fn router_has_what_the_control_plane_needs() {
    let path = folder("programs")
        .into_iter()
        .find(|p| p.ends_with("router.p4"))
        .unwrap();
    let c = good(&path);
    let names: Vec<&str> = c
        .p4info
        .tables
        .iter()
        .filter_map(|t| t.preamble.as_ref())
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["I.smac", "I.route", "I.acl"]);
    let acl = &c.p4info.tables[2];
    assert!(acl.is_const_table && acl.has_initial_entries);
    assert_eq!(acl.direct_resource_ids.len(), 2);
    assert_eq!(c.p4info.tables[0].idle_timeout_behavior, 1);
    assert_eq!(
        c.p4info.tables[1].match_fields.len(),
        1,
        "a selector key is not a match field"
    );
    assert!(c.p4info.action_profiles[0].with_selector);
    assert_eq!(c.p4info.digests[0].preamble.as_ref().unwrap().name, "learn_t");
    assert_eq!(c.p4info.value_sets[0].size, 4);
    let entries = c.program.pipelines[0]
        .tables
        .iter()
        .find(|t| t.name == "I.acl")
        .unwrap()
        .entries
        .as_ref()
        .unwrap();
    assert_eq!(entries.iter().map(|e| e.priority).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(c.program.field_lists[0].elements.len(), 1);
    assert_eq!(c.entries.updates.len(), 2);
    assert!(
        c.entries_text.contains("priority: 2"),
        "the first entry wins: {}",
        c.entries_text
    );
    let dot = p4_compiler::dot(&c.program);
    assert!(dot.contains("\"ingress.I.acl\"") && dot.contains("[label=\"I.drop\"]"));
}

#[test]
fn externs_of_the_program_are_named_as_bmv2_looks_them_up() {
    let path = folder("programs")
        .into_iter()
        .find(|p| p.ends_with("own_extern.p4"))
        .unwrap();
    let c = good(&path);
    let object = &c.program.extern_instances[0];
    assert_eq!((object.name.as_str(), object.kind.as_str()), ("I.octets", "tally"));
    let attributes: Vec<_> = object
        .attribute_values
        .iter()
        .map(|a| (a.name.as_str(), a.kind.as_str()))
        .collect();
    assert_eq!(attributes, [("size", "hexstr"), ("unit", "string")]);
    let calls: Vec<_> = c.program.actions.iter().flat_map(|a| &a.primitives).collect();
    let of = |op: &str| calls.iter().find(|p| p.op == op).unwrap_or_else(|| panic!("no {op}"));
    assert_eq!(of("_tally_add").parameters.len(), 3);
    // A result is the first argument after the object.
    assert!(matches!(of("_tally_sum").parameters[1], bmv2_json::Value::Field(_)));
    assert!(matches!(&of("fold_octets").parameters[1], bmv2_json::Value::ParametersVector(v) if v.len() == 2));
    assert!(c.warnings.short().contains("must have it built in"));
}

#[test]
fn errors_are_reported_all_at_once_with_their_lines() {
    for path in folder("rejected") {
        let text = std::fs::read_to_string(&path).unwrap();
        let short = compile_file(&path, &Options::default())
            .expect_err("must be rejected")
            .short();
        for (i, line) in text.lines().enumerate() {
            let Some((_, want)) = line.split_once("// expect: ") else {
                continue;
            };
            let place = format!(":{}:", i + 1);
            let found = short.lines().any(|l| l.contains(&place) && l.contains(want.trim()));
            assert!(found, "{}:{}: no \"{want}\" in\n{short}", path.display(), i + 1);
        }
    }
}

#[test]
fn deep_and_huge_inputs_are_refused_not_fatal() {
    let nest = |open: &str, close: &str, n: usize| format!("const int A = {}1{};", open.repeat(n), close.repeat(n));
    let cases = [
        nest("(", ")", 100_000),
        nest("-", "", 100_000),
        nest("{", "}", 100_000),
        format!("const int A = {}1;", "1 + ".repeat(100_000)),
        "const int A = 1 << 1000000000000;".into(),
        "const bit<4294967295> A = 1;".into(),
        "header h { bit<99999999> x; }".into(),
        format!("control c() {{ apply {{ {} }} }}", "if (true) ".repeat(50_000)),
        "#define A A A\n#define B A A\nB B".into(),
        "#include \"nothing.p4\"".into(),
        "/* open".into(),
        "\"open".into(),
        "@a(((".into(),
    ];
    for text in cases {
        assert!(
            compile("case.p4", None, &text, &Options::default()).is_err(),
            "{}",
            text.chars().take(60).collect::<String>()
        );
    }
}

#[test]
fn versions_of_v1model_that_do_not_exist_are_refused() {
    let with = |version: &str| {
        let text = "#include <v1model.p4>\nconst int a = 1;";
        let options = Options {
            defines: vec![("V1MODEL_VERSION".into(), version.into())],
            check_only: true,
            ..Options::default()
        };
        compile("version.p4", None, text, &options)
    };
    assert!(with("20180101").is_ok() && with("20200408").is_ok());
    for version in ["20000101", "20300101", "-1"] {
        let d = with(version).expect_err("must be rejected");
        assert!(d.short().contains("V1MODEL_VERSION must be"), "{}", d.short());
    }
}

#[test]
fn a_file_that_is_not_there_has_no_place_in_a_source() {
    let d = compile_file(Path::new("no/such.p4"), &Options::default()).unwrap_err();
    assert!(
        d.short().starts_with("error: cannot read no/such.p4: "),
        "{}",
        d.short()
    );
    assert!(
        d.render(false).starts_with("Error: cannot read no/such.p4: "),
        "{}",
        d.render(false)
    );
    assert!(d.to_json()[0]["place"].is_null(), "{}", d.to_json());
}

#[test]
fn what_doubles_itself_is_refused_in_time() {
    // Each step is twice as large as the one before: without a limit these never end.
    let chain = |first: &str, step: &dyn Fn(usize) -> String| {
        (1..40)
            .map(step)
            .fold(first.to_string(), |text, line| text + "\n" + &line)
    };
    let cases = [
        chain("#define A0 1", &|i| format!("#define A{i} A{0}+A{0}", i - 1)) + "\nconst int x = A39;",
        chain("#define A0", &|i| format!("#define A{i} A{0} A{0}", i - 1)) + "\nA39",
        chain("struct s0 { bit<8> a; }", &|i| {
            format!("struct s{i} {{ s{0} a; s{0} b; }}", i - 1)
        }),
        chain("const tuple<bit, bit> x0 = {1, 1};", &|i| {
            format!("const tuple<_, _> x{i} = {{x{0}, x{0}}};", i - 1)
        }),
        chain("typedef tuple<bit, bit> t0;", &|i| {
            format!("typedef tuple<t{0}, t{0}> t{i};", i - 1)
        }),
        chain("const string a0 = \"aa\";", &|i| {
            format!("const string a{i} = a{0} ++ a{0};", i - 1)
        }),
    ];
    for text in cases {
        assert!(
            compile("case.p4", None, &text, &Options::default()).is_err(),
            "{}",
            text.lines().nth(1).unwrap_or("")
        );
    }
    // Each of the nested calls of an overloaded function is resolved once.
    let nested = format!(
        "extern bit<8> f(in bit<8> a); extern bit<8> f(in bool a);\ncontrol c(inout bit<8> x) {{ apply {{ x = {}x{}; }} }}",
        "f(".repeat(60),
        ")".repeat(60)
    );
    let check = Options {
        check_only: true,
        ..Options::default()
    };
    assert!(compile("nested.p4", None, &nested, &check).is_ok());
}

#[test]
fn priorities_number_entries_in_the_order_in_which_they_win() {
    let program = |largest: &str, entries: &str| {
        format!(
            "#include <core.p4>\n#include <v1model.p4>\nstruct h {{}}\nstruct m {{ bit<8> a; }}\n\
             parser P(packet_in p, out h x, inout m y, inout standard_metadata_t s) {{ state start {{ transition accept; }} }}\n\
             control V(inout h x, inout m y) {{ apply {{}} }}\n\
             control I(inout h x, inout m y, inout standard_metadata_t s) {{\n\
             table t {{ key = {{ y.a: ternary; }} actions = {{ NoAction; }} {largest} entries = {{ {entries} }} }}\n\
             apply {{ t.apply(); }} }}\n\
             control E(inout h x, inout m y, inout standard_metadata_t s) {{ apply {{}} }}\n\
             control D(packet_out p, in h x) {{ apply {{}} }}\n\
             V1Switch(P(), V(), I(), E(), V(), D()) main;"
        )
    };
    let numbers = |text: &str| {
        let c = compile("t.p4", None, text, &Options::default()).unwrap_or_else(|d| panic!("{}", d.short()));
        let table = c.program.pipelines[0].tables.iter().find(|t| t.name == "I.t").unwrap();
        table
            .entries
            .as_ref()
            .unwrap()
            .iter()
            .map(|e| e.priority)
            .collect::<Vec<_>>()
    };
    let given = "priority = 10: 1: NoAction(); 2: NoAction(); priority = 30: 3: NoAction();";
    assert_eq!(numbers(&program("", given)), [2, 3, 1], "10, 9, 30: the largest wins");
    assert_eq!(
        numbers(&program("largest_priority_wins = false;", given)),
        [1, 2, 3],
        "10, 11, 30"
    );
    assert_eq!(numbers(&program("", "1: NoAction(); 2: NoAction();")), [1, 2]);
}

#[test]
fn an_include_cycle_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loop.p4");
    std::fs::write(&path, "#include \"loop.p4\"\n").unwrap();
    let d = compile_file(&path, &Options::default()).expect_err("must be rejected");
    assert!(d.short().contains("include itself"), "{}", d.short());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Tokens of a real program dropped, doubled and swapped: always a result or errors.
    #[test]
    fn damaged_programs_do_not_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<prop::sample::Index>()), 1..6)) {
        let path = folder("programs").remove(0);
        let text = std::fs::read_to_string(path).unwrap();
        let mut words: Vec<&str> = text.split_inclusive(|c: char| !c.is_alphanumeric()).collect();
        for (at, how, other) in edits {
            let (a, b) = (at.index(words.len()), other.index(words.len()));
            match how {
                0 => { words.remove(a); }
                1 => words.insert(a, words[b]),
                2 => words.swap(a, b),
                _ => words[a] = words[b],
            }
        }
        let text = words.concat();
        if let Err(d) = compile("damaged.p4", None, &text, &Options::default()) {
            prop_assert!(!d.short().contains("failed internally"), "{}\n{}", d.short(), text);
        }
    }
}
