//! P4Info as other compilers write it: names, ids, sizes, documentation.

use p4_compiler::{Compiled, Options, compile};
use p4runtime_proto::p4::config::v1 as pb;

/// A program around declarations of types and constants, and an ingress control's declarations and statements.
fn program(types: &str, locals: &str, body: &str, main: &str) -> String {
    format!(
        "#include <core.p4>\n#include <v1model.p4>\n{types}\nheader x_t {{ bit<8> v; bit<8> w; }}\nstruct H {{ x_t x; }}\nstruct M {{ bit<8> a; }}\n\
         parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {{ state start {{ b.extract(h.x); transition accept; }} }}\n\
         control V(inout H h, inout M m) {{ apply {{ }} }}\n\
         control I(inout H h, inout M m, inout standard_metadata_t s) {{\n{locals}\napply {{ s.egress_spec = 1; {body} }} }}\n\
         control E(inout H h, inout M m, inout standard_metadata_t s) {{ apply {{ }} }}\n\
         control D(packet_out b, in H h) {{ apply {{ b.emit(h); }} }}\n\
         {main} V1Switch(P(), V(), I(), E(), V(), D()) main;\n"
    )
}

fn good(text: &str) -> Compiled {
    compile("case.p4", None, text, &Options::default()).unwrap_or_else(|d| panic!("{}\n{text}", d.short()))
}

fn bad(text: &str) -> String {
    compile("case.p4", None, text, &Options::default()).map_or_else(|d| d.short(), |_| panic!("it compiles:\n{text}"))
}

fn name(p: &Option<pb::Preamble>) -> &str {
    p.as_ref().map_or("", |p| p.name.as_str())
}

#[test]
fn a_size_of_zero_is_no_size() {
    let locals = "action a() {}\n\
        table t0 { key = { h.x.v: exact; } actions = { a; } size = 1024; }\n\
        table t1 { key = { h.x.v: exact; } actions = { a; } size = 0; }\n\
        table t2 { key = { h.x.v: exact; } actions = { a; } }\n\
        table t3 { key = { h.x.v: exact; } actions = { a; } size = SIZE * 10; }";
    let c = good(&program(
        "const int SIZE = 100;",
        locals,
        "t0.apply(); t1.apply(); t2.apply(); t3.apply();",
        "",
    ));
    let sizes: Vec<i64> = c.p4info.tables.iter().map(|t| t.size).collect();
    assert_eq!(sizes, [1024, 1024, 1024, 1000]);
    let of_document = |n: &str| {
        let tables = c.program.pipelines.iter().flat_map(|p| &p.tables);
        tables.filter(|t| t.name == n).map(|t| t.max_size).next().unwrap()
    };
    assert_eq!(
        ["I.t0", "I.t1", "I.t2", "I.t3"].map(of_document),
        [1024, 1024, 1024, 1000]
    );
}

#[test]
fn sizes_may_be_constructor_parameters() {
    let types = "control sized(inout bit<8> v)(bit<32> n) {\n\
        action a() { v = 1; }\n table t { key = { v: exact; } actions = { a; NoAction; } size = n + 1; default_action = NoAction; }\n apply { t.apply(); } }";
    let c = good(&program(
        types,
        "sized(16) one; sized(0xfff) two;",
        "one.apply(h.x.v); two.apply(h.x.w);",
        "",
    ));
    let sizes: Vec<(&str, i64)> = c.p4info.tables.iter().map(|t| (name(&t.preamble), t.size)).collect();
    assert_eq!(sizes, [("I.one.t", 17), ("I.two.t", 4096)]);
    let huge = "action a() {} table t { key = { h.x.v: exact; } actions = { a; } size = 1 << 31; }";
    assert!(bad(&program("", huge, "t.apply();", "")).contains("a table's size must be from 0 to 2147483647"));
    let unknown = "action a() {} table t { key = { h.x.v: exact; } actions = { a; } size = h.x.v; }";
    assert!(bad(&program("", unknown, "t.apply();", "")).contains("a table's size must be a constant"));
}

#[test]
fn the_package_has_its_documentation_and_annotations() {
    let main = "@brief(\"short\") @description(\"long \" \"text\") @pkginfo(name = \"n\", version = VERSION, url = \"u\")\n\
        @platform_property(multicast_group_table_size = 4 * 4) @other(a b) @structured[x = 1 + 1]\n";
    let c = good(&program("const string VERSION = \"1.\" ++ \"2\";", "", "", main));
    let info = c.p4info.pkg_info.as_ref().unwrap();
    let doc = info.doc.as_ref().unwrap();
    assert_eq!((doc.brief.as_str(), doc.description.as_str()), ("short", "long text"));
    assert_eq!(
        (info.name.as_str(), info.version.as_str(), info.url.as_str()),
        ("n", "1.2", "u")
    );
    assert_eq!(
        info.platform_properties.as_ref().unwrap().multicast_group_table_size,
        16
    );
    assert_eq!(info.annotations, ["@other(a b)"]);
    assert_eq!(info.structured_annotations.len(), 1);
    let c = good(&program("", "", "", "@pkginfo(colour = \"red\")"));
    assert!(
        c.warnings.short().contains("@pkginfo has no key colour"),
        "{}",
        c.warnings.short()
    );
}

#[test]
fn annotations_without_arguments_have_no_parentheses() {
    let locals = "action a() {}\n@oneshot() @two(1, \"x\") table t { key = { h.x.v: exact; } actions = { a; } }";
    let c = good(&program("", locals, "t.apply();", ""));
    let annotations = &c.p4info.tables[0].preamble.as_ref().unwrap().annotations;
    assert_eq!(annotations, &["@oneshot", "@two(1 , \"x\")"]);
}

#[test]
fn tables_of_an_action_profile_are_in_the_order_of_their_names() {
    let locals = "action a() {}\naction_profile(16) p;\n\
        table z { key = { h.x.v: exact; } actions = { a; } implementation = p; }\n\
        table b { key = { h.x.v: exact; } actions = { a; } implementation = p; }\n\
        table m { key = { h.x.v: exact; } actions = { a; } implementation = p; }";
    let c = good(&program("", locals, "z.apply(); b.apply(); m.apply();", ""));
    let id = |n: &str| {
        let t = c.p4info.tables.iter().find(|t| name(&t.preamble) == n);
        t.and_then(|t| t.preamble.as_ref()).map(|p| p.id).unwrap()
    };
    assert_eq!(c.p4info.action_profiles[0].table_ids, ["I.b", "I.m", "I.z"].map(id));
}

#[test]
fn an_extern_made_as_an_argument_has_the_parameter_s_name() {
    let types = "control leaf()(counter c) { apply { c.count(0); } }\n\
        control middle()(counter d) { leaf(d) inner; apply { inner.apply(); } }\n\
        control outer() { leaf(counter(4, CounterType.packets)) inner; apply { inner.apply(); } }";
    let locals =
        "middle(counter(5, CounterType.bytes)) one; outer() two; counter(6, CounterType.bytes) own; middle(own) three;";
    let c = good(&program(types, locals, "one.apply(); two.apply(); three.apply();", ""));
    let mut names: Vec<(&str, i64)> = c.p4info.counters.iter().map(|x| (name(&x.preamble), x.size)).collect();
    names.sort_unstable();
    assert_eq!(names, [("I.one.d", 5), ("I.own", 6), ("I.two.inner.c", 4)]);
}

#[test]
fn fields_get_ids_that_are_free() {
    let types = "const bit<8> TWO = 2;\nstruct set_t { @id(TWO) @match(ternary) @name(\"first\") bit<8> a; @note bit<8> b; bit<8> c; }";
    let locals = "action a(@id(TWO) bit<8> x, bit<8> y, @id(1 + 6) bit<8> z, bit<8> q) { h.x.v = x + y + z + q; }\n\
        table t { key = { h.x.v: exact @id(TWO); h.x.w: exact; m.a: exact @id(9) @name(\"a\"); } actions = { a; } const default_action = a(1, 2, 3, 4); }";
    let text = program(types, locals, "t.apply();", "").replace(
        "state start {",
        "value_set<set_t>(4) vs; state start { transition select(8w1, 8w2, 8w3) { vs: other; default: other; } } state other {",
    );
    let c = good(&text);
    let params: Vec<u32> = c.p4info.actions[0].params.iter().map(|p| p.id).collect();
    assert_eq!(params, [2, 3, 7, 4]);
    let keys: Vec<u32> = c.p4info.tables[0].match_fields.iter().map(|f| f.id).collect();
    assert_eq!(keys, [2, 3, 9]);
    let default = c.p4info.tables[0].initial_default_action.as_ref().unwrap();
    assert_eq!(
        default.arguments.iter().map(|a| a.param_id).collect::<Vec<_>>(),
        [2, 3, 7, 4]
    );
    let set: Vec<_> = c.p4info.value_sets[0]
        .r#match
        .iter()
        .map(|f| (f.id, f.name.as_str(), f.annotations.clone(), f.r#match.clone()))
        .collect();
    use pb::match_field::{Match, MatchType as T};
    let kind = |k: T| Some(Match::MatchType(k as i32));
    assert_eq!(set[0], (2, "first", vec![], kind(T::Ternary)));
    assert_eq!(set[1], (3, "b", vec!["@note".to_string()], kind(T::Exact)));
    assert_eq!(set[2], (4, "c", vec![], kind(T::Exact)));
    let twice = "action a(@id(3) bit<8> x, @id(3) bit<8> y) { h.x.v = x + y; }\ntable t { key = { h.x.v: exact; } actions = { a; } }";
    assert!(bad(&program("", twice, "t.apply();", "")).contains("id 3 is used twice here"));
}

#[test]
fn entries_of_a_hidden_table_are_in_the_document() {
    let locals = "action one() { h.x.w = 0x11; } action two() { h.x.w = 0x22; }\n\
        @hidden table t { key = { h.x.v: exact; } actions = { one; two; } const entries = { 1: one; 2: two; } }";
    let c = good(&program("", locals, "t.apply();", ""));
    assert!(c.p4info.tables.is_empty() && c.entries.updates.is_empty());
    let tables: Vec<_> = c.program.pipelines.iter().flat_map(|p| &p.tables).collect();
    let t = tables.iter().find(|t| t.name == "I.t").unwrap();
    assert_eq!(t.entries.as_ref().map(Vec::len), Some(2));
}

#[test]
fn properties_of_tables_are_checked() {
    let table = |property: &str| {
        let locals = format!(
            "action a() {{}} direct_counter(CounterType.packets) c; action_profile(4) p;\n\
             table t {{ key = {{ h.x.v: ternary; }} actions = {{ a; }} {property} }}"
        );
        program("const bool YES = true;", &locals, "t.apply();", "")
    };
    for property in [
        "counters = c;",
        "implementation = p;",
        "support_timeout = YES;",
        "support_timeout = !YES;",
    ] {
        good(&table(property));
    }
    assert!(bad(&table("counters = p;")).contains("counters needs an object of extern direct_counter"));
    assert!(bad(&table("implementation = 5;")).contains("implementation needs an object of extern action_profile"));
    assert!(bad(&table("support_timeout = 1;")).contains("support_timeout is true or false"));
    assert!(
        bad(&table("entries = { priority = h.x.v: 1 &&& 1: a; }")).contains("an entry's priority must be a constant")
    );
    let c = good(&table("colour = 5;"));
    assert!(
        c.warnings.short().contains("table property colour means nothing here"),
        "{}",
        c.warnings.short()
    );
}

#[test]
fn parameters_without_a_width_and_every_hash_algorithm_reach_the_document_as_bmv2_takes_them() {
    let locals = "action a(bit<0> z, bit<8> y) { h.x.w = y; }\n\
        table t { key = { h.x.v: exact; } actions = { a; } const default_action = a(0, 3); }";
    let algorithms = [
        "crc32",
        "crc32_custom",
        "crc16",
        "crc16_custom",
        "random",
        "identity",
        "csum16",
        "xor16",
    ];
    let calls: String = algorithms
        .iter()
        .map(|a| format!("hash(m.a, HashAlgorithm.{a}, 8w0, {{ h.x.v }}, 8w200); "))
        .collect();
    let c = good(&program("", locals, &format!("{calls} t.apply();"), ""));
    let action = c.program.actions.iter().find(|a| a.name == "I.a").unwrap();
    let widths: Vec<_> = action
        .runtime_data
        .iter()
        .map(|d| (d.name.as_str(), d.bitwidth))
        .collect();
    assert_eq!(widths, [("z", 0), ("y", 8)]);
    let params: Vec<_> = c.p4info.actions[0].params.iter().map(|p| (p.id, p.bitwidth)).collect();
    assert_eq!(params, [(1, 0), (2, 8)]);
    let mut used: Vec<&str> = c.program.calculations.iter().map(|c| c.algo.as_str()).collect();
    used.sort_unstable();
    let mut want = algorithms.to_vec();
    want.sort_unstable();
    assert_eq!(used, want);
}
