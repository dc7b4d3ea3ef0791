//! Every argument of every annotation counts, or there is a diagnostic.

use p4_compiler::{Compiled, Options, compile};
use std::fmt::Write;

/// Ways to write the number 5.
const FIVES: &[&str] = &[
    "5",
    "0x5",
    "FIVE",
    "2 + 3",
    "8w5",
    "0b101",
    "0o5",
    "FIVE",
    ".FIVE",
    "2 + 3",
    "FIVE * 1",
    "10 / 2",
    "11 % 6",
    "7 - 2",
    "1 << 2 | 1",
    "20 >> 2",
    "7 & 5",
    "4 ^ 1",
    "(bit<8>)5",
    "(bit<8>)FIVE",
    "true ? 5 : 6",
    "NO ? 6 : FIVE",
    "numbers.five",
    "-(-5)",
    "~8w250",
    "(8w1 ++ 8w5)[7:0]",
    "8w0x15[3:0]",
    "4w5",
    "THREE |+| 8w2",
    "8w7 |-| 8w2",
    "(int)5",
    "typed",
    "{5, 6}[0]",
];

/// Ways to write the text "text".
const TEXTS: &[&str] = &["\"text\"", "\"te\" \"xt\"", "\"te\" ++ \"xt\"", "TEXT", "\"te\" ++ XT"];

const CONSTANTS: &str = "const int FIVE = 5; const bit<8> THREE = 3; const bool NO = false; const string TEXT = \"text\"; const string XT = \"xt\";\n\
    enum bit<8> numbers { five = 5 } type bit<8> own_t; const own_t typed = (own_t)8w5;\n";

/// A program with the annotation at one place of each kind, all of whose effects show in P4Info or the document.
fn program(at: &str, annotation: &str) -> String {
    let here = |place: &str| if place == at { annotation } else { "" };
    let mut out = String::from("#include <core.p4>\n#include <v1model.p4>\n");
    out.push_str(CONSTANTS);
    let _ = write!(
        out,
        "header x_t {{ bit<8> v; bit<8> w; }}\n\
         {controller} header cpu_t {{ {controller_field} bit<8> a; }}\n\
         {new} type bit<8> new_t;\n\
         struct set_t {{ {set_field} bit<8> a; }}\n\
         struct H {{ cpu_t cpu; x_t x; }}\n\
         struct M {{ {metadata} bit<8> a; }}\n\
         {parser} parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {{\n\
           {value_set} value_set<set_t>(4) vs;\n\
           {state} state start {{ b.extract(h.x); {state_block} {{ m.a = 1; }} transition select(h.x.v) {{ vs: accept; default: accept; }} }} }}\n\
         control V(inout H h, inout M m) {{ apply {{ }} }}\n\
         {control} control I(inout H h, inout M m, inout standard_metadata_t s) {{\n\
           {action} action a({param} new_t x) {action_block} {{ h.x.v = (bit<8>)x; }}\n\
           {counter} counter(4, CounterType.packets) c;\n\
           {selector} action_selector(HashAlgorithm.crc16, 16, 8) sel;\n\
           {variable} bit<8> local = 1;\n\
           {constant} const bit<8> K = 1;\n\
           {table} table t {{ key = {{ h.x.v: ternary {key}; }} actions = {{ {action_use} a; @defaultonly NoAction; }}\n\
             {property} size = 16; default_action = NoAction; const entries = {{ 1 &&& 1: a((new_t)8w1) {entry}; 2 &&& 2: a((new_t)8w2); }} }}\n\
           table u {{ key = {{ h.x.v: exact; h.x.w: selector; }} actions = {{ a; @defaultonly NoAction; }} implementation = sel; }}\n\
           apply {{ s.egress_spec = 1; c.count(0); t.apply(); u.apply(); {block} {{ h.x.w = local + K; }}\n\
             {lo} for (bit<8> i = 0; i < 2; i = i + 1) {{ h.x.w = h.x.w + i; }}\n\
             if (s.instance_type == 0) {{ resubmit_preserving_field_list(5); }} }} }}\n\
         control E(inout H h, inout M m, inout standard_metadata_t s) {{ apply {{ }} }}\n\
         control D(packet_out b, in H h) {{ apply {{ b.emit(h); }} }}\n\
         {main} V1Switch(P(), V(), I(), E(), V(), D()) main;\n",
        controller = if at == "controller" {
            annotation
        } else {
            "@controller_header(\"packet_in\")"
        },
        controller_field = here("controller field"),
        new = here("new type"),
        set_field = here("set field"),
        metadata = here("metadata"),
        parser = here("parser"),
        value_set = here("value set"),
        state = here("state"),
        state_block = here("state block"),
        control = here("control"),
        action = here("action"),
        param = here("param"),
        action_block = here("action block"),
        counter = here("counter"),
        selector = here("selector"),
        variable = here("variable"),
        constant = here("constant"),
        table = here("table"),
        key = here("key"),
        action_use = here("action use"),
        property = here("property"),
        entry = here("entry"),
        block = here("block"),
        lo = here("loop"),
        main = here("main"),
    );
    out
}

const PLACES: &[&str] = &[
    "controller",
    "controller field",
    "new type",
    "set field",
    "metadata",
    "parser",
    "value set",
    "state",
    "state block",
    "control",
    "action",
    "param",
    "action block",
    "counter",
    "selector",
    "variable",
    "constant",
    "table",
    "key",
    "action use",
    "property",
    "entry",
    "block",
    "loop",
    "main",
];

fn compiled(at: &str, annotation: &str) -> Result<Compiled, String> {
    compile("case.p4", None, &program(at, annotation), &Options::default()).map_err(|d| d.short())
}

fn good(at: &str, annotation: &str) -> Compiled {
    compiled(at, annotation).unwrap_or_else(|d| panic!("{annotation} at {at}: {d}"))
}

/// What users get: document, P4Info, entries.
fn results(c: &Compiled) -> (String, String, String) {
    // The document names lines of the source. These are the same for all spellings on one line.
    let document = c
        .json
        .lines()
        .filter(|l| !l.contains("column") && !l.contains("source_fragment"));
    (document.collect(), c.p4info_text.clone(), c.entries_text.clone())
}

/// Annotations with a number, each at the places where it means something.
const NUMBERED: &[(&str, &[&str])] = &[
    (
        "id",
        &[
            "controller",
            "controller field",
            "set field",
            "value set",
            "action",
            "param",
            "counter",
            "selector",
            "table",
            "key",
        ],
    ),
    ("field_list", &["metadata"]),
    ("priority", &["entry"]),
    ("max_group_size", &["selector"]),
];

const TEXTUAL: &[(&str, &[&str])] = &[
    (
        "name",
        &[
            "controller field",
            "set field",
            "value set",
            "action",
            "param",
            "counter",
            "selector",
            "table",
            "key",
        ],
    ),
    (
        "brief",
        &[
            "set field",
            "value set",
            "action",
            "param",
            "counter",
            "selector",
            "table",
            "key",
            "main",
        ],
    ),
    (
        "description",
        &[
            "set field",
            "value set",
            "action",
            "param",
            "counter",
            "selector",
            "table",
            "key",
            "main",
        ],
    ),
    ("controller_header", &["controller"]),
];

#[test]
fn an_expression_counts_as_its_value_at_every_place() {
    let plain = results(&good("nowhere", ""));
    for (forms, table) in [(FIVES, NUMBERED), (TEXTS, TEXTUAL)] {
        for (name, places) in table {
            for (i, at) in places.iter().enumerate() {
                let want = results(&good(at, &format!("@{name}({})", forms[0])));
                assert_ne!(want, plain, "@{name} at {at} changes nothing");
                // Every form once, then a name, which is looked up, and an operator at every place.
                let forms = if i == 0 { &forms[1..] } else { &forms[2..4] };
                for form in forms {
                    let got = results(&good(at, &format!("@{name}({form})")));
                    assert_eq!(got, want, "@{name}({form}) at {at}");
                }
                let pragma = results(&good(at, &format!("\n@pragma {name} {}\n", forms[0])));
                assert_eq!((pragma.1, pragma.2), (want.1, want.2), "@pragma {name} at {at}");
            }
        }
    }
}

#[test]
fn a_value_that_is_none_is_refused_at_every_place() {
    let wrong = [
        "@id(h.x.v)",
        "@id(unknown)",
        "@id(\"text\")",
        "@id()",
        "@id(1, 2)",
        "@id(0)",
        "@id(1 << 32)",
        "@id(-1)",
        "@id(1 +)",
        "@id",
        "@name(5)",
        "@name()",
        "@name(unknown)",
        "@name(\"a\", \"b\")",
        "@field_list(unknown)",
        "@field_list(\"text\")",
        "@field_list(-1)",
        "@priority(\"high\")",
        "@max_group_size(\"many\")",
        "@brief(5)",
        "@description(a b)",
        "@match(fuzzy)",
        "@match(5)",
        "@hidden(1)",
        "@optional(1)",
        "@tableonly(\"x\")",
        "@pkginfo(5)",
        "@pkginfo(name = 5)",
        "@platform_property(multicast_group_table_size = \"x\")",
        "@p4runtime_translation(\"uri\")",
        "@p4runtime_translation(5, 5)",
        "@p4runtime_translation(\"uri\", bool)",
        "@selector_size_semantics(5)",
        "@controller_header(5)",
        "@alias(5)",
        "@deprecated(5)",
        "@noWarn(5)",
        "@structured[unknown]",
        "@structured[k = unknown]",
        "@structured[1 << 64]",
    ];
    for at in PLACES {
        for annotation in wrong {
            assert!(compiled(at, annotation).is_err(), "{annotation} at {at} is accepted");
        }
    }
}

/// Each known annotation, at each place: it changes something that the user gets, or it is reported. Those that only
/// speak to people, or to passes that this compiler does not have, are listed.
#[test]
fn nothing_is_dropped_in_silence() {
    let known = [
        "@id(0x2000033)",
        "@id(51)",
        "@name(\"other\")",
        "@field_list(5)",
        "@priority(7)",
        "@max_group_size(7)",
        "@max_member_weight(7)",
        "@selector_size_semantics(\"sum_of_members\")",
        "@brief(\"b\")",
        "@description(\"d\")",
        "@match(lpm)",
        "@hidden",
        "@tableonly",
        "@defaultonly",
        "@controller_header(\"other\")",
        "@alias(\"intrinsic_metadata.x\")",
        "@p4runtime_translation(\"uri\", 16)",
        "@pkginfo(name = \"n\")",
        "@platform_property(multicast_group_table_size = 3)",
        "@optional",
    ];
    let plain = results(&good("nowhere", ""));
    let mut dropped = Vec::new();
    for at in PLACES {
        for annotation in known {
            let Ok(c) = compiled(at, annotation) else { continue };
            let name = annotation.trim_start_matches('@').split('(').next().unwrap();
            let reported = c.warnings.short().contains(&format!("@{name}"));
            // Names and documentation of what the control plane does not see are for readers of the source.
            let inert = matches!(name, "name" | "brief" | "description" | "optional");
            if !reported && !inert && results(&c) == plain {
                dropped.push(format!("{annotation} at {at}"));
            }
        }
        // Annotations that the compiler does not know are for other tools: they are legal everywhere, and are copied
        // wherever P4Info has a place for them.
        good(
            at,
            "@one @two(any tokens 5 + \"x\" { } ( ) ;) @three[1 + 1, TEXT, NO] @four[a = FIVE, b = TEXT]",
        );
    }
    assert!(dropped.is_empty(), "dropped in silence: {dropped:#?}");
}

#[test]
fn a_warning_is_silenced_by_any_constant_text() {
    let with = |annotation: &str| {
        let c = compiled("control", annotation).unwrap();
        c.warnings.short().contains("hides another")
    };
    let text = |annotation: &str| {
        format!(
            "const string SHADOW = \"sha\" ++ \"dow\"; const bit<8> K = 1;\n{annotation} control c(inout bit<8> x) {{ apply {{ bit<8> K = 2; x = K; }} }}"
        )
    };
    let warned = |annotation: &str| {
        let options = Options {
            check_only: true,
            ..Options::default()
        };
        let c = compile("x.p4", None, &text(annotation), &options).unwrap_or_else(|d| panic!("{}", d.short()));
        c.warnings.short().contains("K hides another")
    };
    assert!(!with(""));
    assert!(warned("") && warned("@noWarn(\"unused\")"));
    assert!(!warned("@noWarn(\"shadow\")") && !warned("@noWarn(SHADOW)") && !warned("@noWarn(\"sha\" ++ \"dow\")"));
}

#[test]
fn annotations_stand_only_where_the_grammar_has_them() {
    let wrong = [
        "enum e { @a x }",
        "error { @a x }",
        "@a error { X }",
        "match_kind { @a x }",
        "typedef @a bit<8> t;",
        "control c(inout bit<8> x) { apply { @a x = 1; } }",
        "control c(inout bit<8> x) { apply { @a if (x == 1) { } } }",
        "control c(inout bit<8> x) { table t { @a actions = { NoAction; } } apply { } }",
        "control c(inout bit<8> x) { table t { @a key = { x: exact; } actions = { NoAction; } } apply { } }",
    ];
    for text in wrong {
        let text = format!("#include <core.p4>\n{text}");
        let d = compile("x.p4", None, &text, &Options::default()).expect_err(&text);
        assert!(
            d.short().contains("expected") || d.short().contains("reserved"),
            "{text}: {}",
            d.short()
        );
    }
}

/// A constant expression at every place that takes one, outside annotations.
fn places_of_expressions(form: &str) -> String {
    let five = format!("(bit<8>)({form})");
    format!(
        "#include <core.p4>\n#include <v1model.p4>\n{CONSTANTS}const bit<8> K = {five};\nenum bit<8> named {{ m = {five} }}\n\
         header x_t {{ bit<8> v; bit<8> w; }}\nstruct H {{ x_t x; x_t[6] s; }}\nstruct M {{ bit<8> a; }}\n\
         bit<8> f(in bit<8> x = {five}) {{ return x; }}\n\
         control sized(inout bit<8> v)(bit<8> n, bit<32> m = 5) {{\n\
           register<bit<8>>(m) r;\n table t {{ key = {{ v: exact; }} actions = {{ NoAction; }} size = (bit<32>)n; }}\n\
           apply {{ r.write(0, n); t.apply(); }} }}\n\
         parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) {{\n\
           value_set<bit<8>>({five}) vs;\n\
           state start {{ b.extract(h.x); transition select(h.x.v, {five}) {{ ({five}, _): five; ({five} &&& {five}, {five} .. 9): five; default: other; }} }}\n\
           state other {{ transition select(h.x.v) {{ vs: five; default: accept; }} }}\n\
           state five {{ b.advance(24 + (bit<32>){five}); verify(h.x.v == {five}, error.NoMatch); transition accept; }} }}\n\
         control V(inout H h, inout M m) {{ apply {{ }} }}\n\
         control I(inout H h, inout M m, inout standard_metadata_t s) {{\n\
           sized({five}) one; sized(n = {five}, m = (bit<32>){five}) two;\n\
           bit<8> local = {five};\n const bit<8> L = {five};\n\
           action a(bit<8> x = {five}) {{ h.x.w = x; }}\n\
           table t {{ key = {{ h.x.v: ternary; h.x.w & {five}: exact @name(\"masked\"); }} actions = {{ a; }} size = {five};\n\
             priority_delta = {five}; const default_action = a({five});\n\
             entries = {{ const priority = {five}: ({five} &&& {five}, {five}): a({five}); priority = 4: (1, 2): a(x = {five}); }} }}\n\
           apply {{ s.egress_spec = (bit<9>){five}; one.apply(h.x.v); two.apply(h.x.w); t.apply();\n\
             switch (h.x.v) {{ {five}: {{ h.x.w = {five}; }} default: {{ h.x.w = f() + f({five}) + K + L + local; }} }}\n\
             h.s[{five}].setValid(); h.s[5].v = (h.x.v == {five} && h.x.w != {five}) ? {five} : named.m;\n\
             h.x.w[5:{five} - 1] = 2; for (bit<8> i in {five} .. {five} + 1) {{ h.x.w = h.x.w + i; }}\n\
             if (h.x.v < {five}) {{ h.s.push_front({five}); }} clone(CloneType.I2E, (bit<32>){five});\n\
             if (s.instance_type == 0) {{ resubmit_preserving_field_list({five}); }} }} }}\n\
         control E(inout H h, inout M m, inout standard_metadata_t s) {{ apply {{ }} }}\n\
         control D(packet_out b, in H h) {{ apply {{ b.emit(h); }} }}\n\
         V1Switch(P(), V(), I(), E(), V(), D()) main;\n"
    )
}

#[test]
fn an_expression_counts_as_its_value_outside_annotations_too() {
    let of = |form: &str| {
        let text = places_of_expressions(form);
        let c = compile("case.p4", None, &text, &Options::default());
        results(&c.unwrap_or_else(|d| panic!("{form}: {}", d.short())))
    };
    let want = of(FIVES[0]);
    for form in &FIVES[1..] {
        let got = of(form);
        assert_eq!((&got.1, &got.2), (&want.1, &want.2), "P4Info and entries with {form}");
        assert_eq!(got.0, want.0, "document with {form}");
    }
}
