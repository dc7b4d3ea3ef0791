//! The preprocessor does what GNU cpp does as other P4 compilers call it.

use p4_compiler::{Options, compile, compile_file, preprocess};

/// The text after preprocessing on one line.
fn expanded(text: &str) -> String {
    let (out, _, _) =
        preprocess("case.p4", None, text, &Options::default()).unwrap_or_else(|d| panic!("{text}\n{}", d.short()));
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refused(text: &str) -> String {
    match preprocess("case.p4", None, text, &Options::default()) {
        Err(d) => d.short(),
        Ok((out, ..)) => panic!("{text}\nbecame\n{out}"),
    }
}

#[test]
fn macros_of_every_form() {
    let cases = [
        // Arguments that are left out.
        (
            "#define C(name, ...) name; __VA_ARGS__\nC(one) C(two,) C(three, a, b)",
            "one; two; three; a, b",
        ),
        ("#define F(...) [__VA_ARGS__]\nF() F(a) F(a,(b,c))", "[] [a] [a,(b,c)]"),
        ("#define F(rest...) [rest]\nF() F(a, b)", "[] [a, b]"),
        ("#define F(x) <x>\nF()", "<>"),
        ("#define F() f\nF() F ( ) F", "f f F"),
        // GNU's comma, and __VA_OPT__.
        (
            "#define F(a, ...) f(a, ## __VA_ARGS__)\nF(1) F(1,2) F(1,2,3)",
            "f(1) f(1,2) f(1,2,3)",
        ),
        ("#define F(a, r...) f(a, ## r)\nF(1) F(1,2)", "f(1) f(1,2)"),
        (
            "#define F(a, ...) f(a __VA_OPT__(, [__VA_ARGS__]))\nF(1) F(1,) F(1,2)",
            "f(1) f(1) f(1, [2])",
        ),
        // # and ##.
        (
            "#define S(x) #x\nS( a  +  \"b\\n\" )  S()",
            "\"a + \\\"b\\\\n\\\"\" \"\"",
        ),
        (
            "#define S(x) #x\n#define T(x) S(x)\n#define A 1\nS(A) T(A)",
            "\"A\" \"1\"",
        ),
        ("#define P(a, b) a ## b\nP(x, 1) P(, y) P(z, ) P(, )", "x1 y z"),
        (
            "#define P(a, b, c) a ## b ## c\n#define xyz ok\nP(x, y, z) P(x,, z)",
            "ok xz",
        ),
        (
            "#define E()\n#define P(a, b) P2(a, b)\n#define P2(a, b) a##b\nP(P(1, 2), P(3, 4))",
            "1234",
        ),
        ("#define H(a) a ## _t x ## a\nH(p)", "p_t xp"),
        // What expands to the name of another macro, whose arguments follow.
        ("#define F G\n#define G(x) [x]\nF(1)", "[1]"),
        (
            "#define EMPTY\n#define DEFER(x) x EMPTY\n#define A() 123\nDEFER(A)() ",
            "A()",
        ),
        // A macro does not expand itself, even where another macro produces its name.
        ("#define f(x) x f(x)\nf(1)", "1 f(1)"),
        ("#define a b\n#define b a\na b", "a b"),
        ("#define f(a) a*g\n#define g(a) f(a)\nf(2)(9)", "2*9*g"),
        // Arguments over lines, with directives between them.
        ("#define F(a, b) [a|b]\nF(1,\n 2)", "[1|2]"),
        ("#define F(a, b) [a|b]\nF(1,\n#if 1\n2\n#else\n3\n#endif\n)", "[1|2]"),
        // Only parentheses protect commas.
        ("#define F(a, b) [a|b]\nF({1, 2})", "[{1|2}]"),
        // Names that the preprocessor defines itself.
        (
            "__LINE__\n__LINE__ __COUNTER__ __COUNTER__ __INCLUDE_LEVEL__ __FILE__",
            "1 2 0 1 0 \"case.p4\"",
        ),
        (
            "#line 40 \"other.p4\"\n__LINE__ __FILE__\n# 7 \"third.p4\" 2\n__LINE__ __FILE__",
            "40 \"other.p4\" 7 \"third.p4\"",
        ),
        ("_Pragma(\"x\") a", "a"),
        // The text from a macro does not join with its neighbours into one token.
        ("#define GT >\na GT> b >GT", "a > > b > >"),
    ];
    for (text, want) in cases {
        assert_eq!(expanded(text), want, "{text}");
    }
    assert!(refused("#define F(a, b) a\nF(1)").contains("macro F takes 2 arguments, not 1"));
    assert!(refused("#define F(a, ...) a\n#define G(a, b, ...) a\nG(1)").contains("at least 2 arguments, not 1"));
    for text in [
        "#define F(a, a) a",
        "#define F(a",
        "#define F(..., a) a",
        "#define F ## a",
        "#define F a ##",
        "#define defined 1",
        "#define F(a) a\nF(1",
    ] {
        let _ = refused(text);
    }
}

#[test]
fn conditions_are_those_of_c() {
    let chosen = [
        "#if 0 && 1 / 0\nno\n#else\nyes\n#endif",
        "#if 1 || 1 / 0\nyes\n#endif",
        "#if 1 ? 2 : 1 / 0\nyes\n#endif",
        "#if 010 == 8 && 0x10 == 16 && 0b10 == 2 && 1UL\nyes\n#endif",
        "#if undefined_name\nno\n#else\nyes\n#endif",
        "#if true\nno\n#else\nyes\n#endif",
        "#define D defined X\n#define X\n#if D && defined(X) && !defined Y\nyes\n#endif",
        "#if defined __LINE__ && defined(__COUNTER__)\nyes\n#endif",
        "#define F(x) x\n#if F(1) == F(2) - F(1)\nyes\n#endif",
        "#ifdef A\n#elifndef A\nyes\n#endif",
        "#define A\n#ifndef A\n#elifdef A\nyes\n#else\nno\n#endif",
        "#if __has_include(<core.p4>) && !__has_include(\"no/such.p4\")\nyes\n#endif",
        "#if 0\n#if this is not looked at\n#elif nor this (\n#endif\n#bad\n\" '\n#else\nyes\n#endif",
        "#if 1\nyes\n#elif 1 / 0\nno\n#endif",
        "/* a comment \n */ # /* inside */ if 1 // and behind\nyes\n#endif",
    ];
    for text in chosen {
        assert_eq!(expanded(text), "yes", "{text}");
    }
    for text in [
        "#if 1 / 0\n#endif",
        "#if (1\n#endif",
        "#if\n#endif",
        "#else",
        "#endif",
        "#if 1",
        "#if 1\n#else\n#else\n#endif",
    ] {
        let _ = refused(text);
    }
}

#[test]
fn lines_are_joined_before_anything_else() {
    assert_eq!(expanded("ab\\\ncd"), "abcd");
    assert_eq!(expanded("#def\\\nine A 1\\\n2\nA"), "12");
    assert_eq!(expanded("// a comment \\\n that goes on\nb"), "b");
    assert_eq!(expanded("\"one \\\ntwo\""), "\"one two\"");
    assert_eq!(expanded("a \\  \n b"), "a b");
    assert_eq!(expanded("\u{feff}a"), "a");
    assert_eq!(expanded("#define A \\\r\n 1\r\nA\r\n"), "1");
    let d = preprocess("x.p4", None, "a \\\n b \\\n#error here\n", &Options::default());
    assert_eq!(
        d.map(|o| o.0).unwrap().trim(),
        "a b #error here",
        "a # inside a line begins no directive"
    );
}

#[test]
fn a_line_that_is_no_directive_is_left_out() {
    let text = "a\n# a comment as in a shell: don't mind \"it\n#text;\n#\nb\n";
    assert_eq!(expanded(text), "a b");
    let (_, warnings, _) = preprocess("x.p4", None, text, &Options::default()).unwrap();
    assert_eq!(warnings.list.len(), 1, "{}", warnings.short());
    assert!(warnings.short().contains("#text is not a directive"));
}

#[test]
fn directives_inside_a_string_over_lines_are_obeyed() {
    let text = "#define A 1\n#define NAME(x) x.field\n@a(\"\n  first;   second // kept\n#if defined(A)\n  NAME(x) \\\"A\\\" A\n\
                #else\n  without;\n#endif\n  \") @b(\"c\") d";
    let (out, ..) = preprocess("x.p4", None, text, &Options::default()).unwrap_or_else(|d| panic!("{}", d.short()));
    let want = "@a(\"\n  first; second // kept\n\n  x.field \\\"1\\\" 1\n\n\n\n  \") @b(\"c\") d\n";
    assert_eq!(out, want);
    assert!(refused("@a(\"never\nclosed").contains("this string is not closed"));
    assert!(refused("\"open").contains("this string is not closed"));
}

#[test]
fn many_pastes_are_no_limit() {
    let mut text = String::new();
    for i in 0..100 {
        text += &format!("#define M{i}(x) ");
        for j in 0..16 {
            text += &format!("x ## _{j} a ## x ## {j} ");
        }
        text += "\n";
    }
    for i in 0..100 {
        text += &format!("M{i}(n{i})\n");
    }
    let out = expanded(&text);
    assert_eq!(out.split(' ').count(), 3200);
    assert!(out.starts_with("n0_0 an00 n0_1 an01") && out.ends_with("n99_15 an9915"));
}

#[test]
fn directories_come_in_order_and_before_the_compiler_s_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("one/a.p4", "one_a\n#include_next <a.p4>\n");
    write(
        "two/a.p4",
        "two_a\n#include \"b.p4\"\n#if __has_include_next(<a.p4>)\nmore\n#endif\n",
    );
    write("two/b.p4", "two_b\n");
    write("one/b.p4", "one_b\n");
    write("two/core.p4", "own_core\n");
    write("one/odd//name.p4", "#pragma once\nodd\n");
    write("one/twice.p4", "twice\n");
    write(
        "main.p4",
        "#include <a.p4>\n#include <b.p4>\n#include \"core.p4\"\n#define ODD <odd/name.p4>\n#include ODD\n\
         #include <odd//name.p4>\n#import <twice.p4>\n#include <twice.p4>\n",
    );
    let options = Options {
        include_paths: vec![dir.path().join("one"), dir.path().join("two")],
        ..Options::default()
    };
    let main = dir.path().join("main.p4");
    let text = std::fs::read_to_string(&main).unwrap();
    let (out, _, read) =
        preprocess("main.p4", main.parent(), &text, &options).unwrap_or_else(|d| panic!("{}", d.short()));
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["one_a", "two_a", "two_b", "one_b", "own_core", "odd", "twice"]);
    assert_eq!(read.len(), 9, "each file that was read, for build scripts: {read:?}");
}

/// A program whose own `v1model.p4` has one field more, with an alias of BMv2's.
#[test]
fn an_own_architecture_file_and_its_aliases_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let own = include_str!("../include/v1model.p4").replace(
        "    bit<1>  checksum_error;",
        "    bit<1>  checksum_error;\n    @alias(\"queueing_metadata.qid\") bit<5> qid;",
    );
    std::fs::write(dir.path().join("v1model.p4"), own).unwrap();
    let program = dir.path().join("program.p4");
    std::fs::write(
        &program,
        "#include <core.p4>\n#include <v1model.p4>\nheader x_t { bit<8> v; }\nstruct H { x_t x; }\n\
         struct M { @alias(\"queueing_metadata.qid\") bit<5> mine; }\n\
         parser P(packet_in b, out H h, inout M m, inout standard_metadata_t s) { state start { b.extract(h.x); transition accept; } }\n\
         control V(inout H h, inout M m) { apply { } }\n\
         control I(inout H h, inout M m, inout standard_metadata_t s) { apply { s.egress_spec = 1; } }\n\
         control E(inout H h, inout M m, inout standard_metadata_t s) { apply { h.x.v = (bit<8>)s.qid; } }\n\
         control D(packet_out b, in H h) { apply { b.emit(h); } }\n\
         V1Switch(P(), V(), I(), E(), V(), D()) main;\n",
    )
    .unwrap();
    let options = Options {
        include_paths: vec![dir.path().to_path_buf()],
        ..Options::default()
    };
    let compiled = compile_file(&program, &options).unwrap_or_else(|d| panic!("{}", d.short()));
    let text: String = compiled.json.split_whitespace().collect();
    assert!(
        text.contains("[\"queueing_metadata.qid\",[\"standard_metadata\",\"qid\"]]"),
        "{}",
        compiled.json
    );
    assert!(
        compiled
            .warnings
            .short()
            .contains("@alias is ignored: mine is not a field of the standard metadata"),
        "{}",
        compiled.warnings.short()
    );
    let without = compile_file(&program, &Options::default());
    assert!(
        without.is_err(),
        "the file that ships with the compiler has no such field"
    );
}

#[test]
fn a_macro_that_is_defined_again_differently_is_warned_of() {
    let warnings = |text: &str| {
        let (_, warnings, _) = preprocess("x.p4", None, text, &Options::default()).unwrap();
        warnings.short()
    };
    assert!(warnings("#define A 1\n#define A 2\n").contains("macro A is defined again"));
    assert_eq!(
        warnings("#define A 1 +  2\n#define A 1 + 2\n#undef A\n#define A 3\n"),
        ""
    );
    let d = compile(
        "x.p4",
        None,
        "#define A 1\nconst bit<8> x = A;\n#error stop",
        &Options::default(),
    );
    assert!(d.unwrap_err().short().contains("#error stop"));
}
