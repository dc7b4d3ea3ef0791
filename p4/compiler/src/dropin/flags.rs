//! The flags of `p4c` and `p4c-bm2-ss`.

/// Whether a flag has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// No value.
    Nothing,
    /// A value, attached or as the next argument.
    Value,
    /// A value attached with `=`, or none.
    Optional,
}

/// What a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Help,
    Version,
    Targets,
    Include,
    Define,
    Undefine,
    Preprocess,
    NoPreprocessor,
    Output,
    P4Info,
    Entries,
    Format,
    Target,
    Arch,
    Language,
    DisableAnnotations,
    Silence,
    Fail,
    /// Nothing, for this reason.
    Ignored(&'static str),
}

/// A flag under all its names.
#[derive(Debug)]
pub struct Flag {
    pub names: &'static [&'static str],
    pub takes: Takes,
    pub act: Act,
    help: &'static str,
}

const fn flag(names: &'static [&'static str], takes: Takes, act: Act, help: &'static str) -> Flag {
    Flag {
        names,
        takes,
        act,
        help,
    }
}

const fn ignored(names: &'static [&'static str], takes: Takes, why: &'static str) -> Flag {
    flag(names, takes, Act::Ignored(why), why)
}

const PASSES: &str = "this compiler has other passes; see p4-compiler --dump";

use Takes::{Nothing, Optional, Value};

/// All flags; those without effect at the end. Any other flag is refused.
const FLAGS: &[Flag] = &[
    flag(&["--help", "-h"], Nothing, Act::Help, "print this and exit"),
    flag(
        &["--version", "-V"],
        Nothing,
        Act::Version,
        "print the version and exit",
    ),
    flag(
        &["--help-targets", "--target-help"],
        Nothing,
        Act::Targets,
        "print the targets and exit",
    ),
    flag(&["-I"], Value, Act::Include, "directory searched for included files"),
    flag(&["-D"], Value, Act::Define, "macro: NAME or NAME=TEXT"),
    flag(&["-U"], Value, Act::Undefine, "undefine a macro of -D"),
    flag(
        &["-E"],
        Nothing,
        Act::Preprocess,
        "only preprocess; the text goes to standard output",
    ),
    flag(
        &["-e", "--nocpp"],
        Nothing,
        Act::NoPreprocessor,
        "the program is preprocessed already",
    ),
    flag(
        &["-o", "--output"],
        Value,
        Act::Output,
        "p4c: directory (or FILE.json); p4c-bm2-ss: the document's file",
    ),
    flag(
        &["--p4runtime-files", "--p4runtime-file"],
        Value,
        Act::P4Info,
        "files for P4Info, separated by commas; .txtpb, .txt, .json or .bin",
    ),
    flag(
        &["--p4runtime-entries-files", "--p4runtime-entries-file"],
        Value,
        Act::Entries,
        "files for the program's entries, as for P4Info",
    ),
    flag(
        &["--p4runtime-format"],
        Value,
        Act::Format,
        "format of files with other names: text, json or binary",
    ),
    flag(&["--target", "-b"], Value, Act::Target, "bmv2"),
    flag(&["--arch", "-a"], Value, Act::Arch, "v1model"),
    flag(&["--p4v", "--std", "-x"], Value, Act::Language, "16 or p4-16"),
    flag(
        &[
            "--disable-annotations",
            "--disable-annotation",
            "--disable-pragmas",
            "--disable-pragma",
        ],
        Value,
        Act::DisableAnnotations,
        "names of annotations to ignore, separated by commas",
    ),
    flag(
        &["--Wdisable"],
        Optional,
        Act::Silence,
        "silence warnings of these names, or all",
    ),
    flag(
        &["--Werror"],
        Optional,
        Act::Fail,
        "warnings of these names are errors, or all are",
    ),
    ignored(&["--emit-externs"], Nothing, "externs are always emitted"),
    ignored(
        &["-g", "--ndebug"],
        Nothing,
        "the document always names the places in the source",
    ),
    ignored(
        &["-c", "--compile", "-S"],
        Nothing,
        "a document for bmv2 is neither assembled nor linked",
    ),
    ignored(&["-v", "--debug"], Nothing, "this compiler writes no log of its passes"),
    ignored(&["-T"], Value, "this compiler writes no log of its passes"),
    ignored(
        &[
            "--top4",
            "--dump",
            "--pp",
            "--excludeFrontendPasses",
            "--excludeMidendPasses",
        ],
        Value,
        PASSES,
    ),
    ignored(
        &["--listFrontendPasses", "--listMidendPasses", "--testJson"],
        Nothing,
        PASSES,
    ),
    ignored(
        &["--parser-inline-opt", "--loopsUnroll"],
        Nothing,
        "parsers are inlined where they are applied, and loops of a parser stay loops",
    ),
    ignored(
        &["--doNotEmitIncludes"],
        Nothing,
        "the program is not printed after passes",
    ),
    ignored(
        &["-O0", "-O1", "-O2", "-O3"],
        Nothing,
        "the document is always optimised; see p4-compiler -O0",
    ),
    ignored(
        &["--Winfo", "--Wwarn"],
        Optional,
        "warnings are shown as warnings already",
    ),
    ignored(&["--maxErrorCount"], Value, "at most 50 errors are shown"),
    ignored(&["-W"], Value, "warnings of the preprocessor are always on"),
    ignored(&["--metrics"], Value, "this compiler writes no metrics"),
];

/// The flag of an argument, and the value that is attached to it: `--flag=value`, `-Fvalue`.
pub fn find(arg: &str) -> Option<(&'static Flag, Option<String>)> {
    let named = |name: &str| FLAGS.iter().find(|f| f.names.contains(&name));
    if let Some(flag) = named(arg) {
        return Some((flag, None));
    }
    if arg.starts_with("--") {
        let (name, value) = arg.split_once('=')?;
        return Some((named(name)?, Some(value.to_string())));
    }
    let (name, value) = arg.split_at_checked(2)?;
    let flag = named(name).filter(|f| f.takes == Takes::Value)?;
    Some((flag, Some(value.strip_prefix('=').unwrap_or(value).to_string())))
}

/// The text of `--help`.
pub fn help(command: &str) -> String {
    let mut out = format!("Usage: {command} [options] PROGRAM.p4\n\nCompiles P4_16 for v1model to BMv2 JSON.\n\n");
    for f in FLAGS {
        let value = match f.takes {
            Takes::Nothing => "",
            Takes::Value => " VALUE",
            Takes::Optional => "[=NAMES]",
        };
        let effect = if matches!(f.act, Act::Ignored(_)) {
            "no effect: "
        } else {
            ""
        };
        out.push_str(&format!("  {}{value}\n      {effect}{}\n", f.names.join(", "), f.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_attached_or_not() {
        let found = |arg: &str| find(arg).map(|(f, v)| (f.names[0], v));
        assert_eq!(found("-Idir"), Some(("-I", Some("dir".into()))));
        assert_eq!(found("-I"), Some(("-I", None)));
        assert_eq!(found("--std=p4-16"), Some(("--p4v", Some("p4-16".into()))));
        assert_eq!(found("--Werror"), Some(("--Werror", None)));
        assert_eq!(found("-O2"), Some(("-O0", None)));
        assert_eq!(found("--no-such-flag"), None);
        assert_eq!(found("-gx"), None);
    }

    #[test]
    fn no_name_belongs_to_two_flags() {
        let mut all: Vec<&str> = FLAGS.iter().flat_map(|f| f.names).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
