//! The `p4-compiler` command.

#![allow(unreachable_pub)] // The modules are private; `pub` inside them means "for the command".

mod bench;
mod dropin;

use clap::Parser;
use p4_compiler::diagnostics::{Diagnostics, Lint, Severity};
use p4_compiler::{OptLevel, Options, compile_file, dump};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compiles P4_16 for v1model to BMv2 JSON and P4Info.
#[derive(Parser)]
#[command(
    version,
    after_help = "Called as `p4c` or `p4c-bm2-ss`, it takes the flags of these.\n`p4-compiler bench` measures the compiler itself; see `p4-compiler bench --help`."
)]
struct Args {
    /// The program.
    source: PathBuf,
    /// Directory for the results; created if missing.
    #[arg(short, long, default_value = ".")]
    output: PathBuf,
    /// Also write P4Info: NAME.p4info.txtpb and NAME.p4info.bin.
    #[arg(long)]
    p4info: bool,
    /// Also write the program's own entries as a P4Runtime WriteRequest: NAME.entries.txtpb.
    #[arg(long)]
    emit_entries: bool,
    /// Print a stage of the compilation instead of writing files.
    #[arg(long, value_enum)]
    dump: Option<Dump>,
    /// Directory searched for included files.
    #[arg(short = 'I', value_name = "DIR")]
    include: Vec<PathBuf>,
    /// Macro definition.
    #[arg(short = 'D', value_name = "NAME[=TEXT]")]
    define: Vec<String>,
    /// Silence warnings of these names, which the warnings show: `--Wdisable=unused,shadow`.
    #[arg(long = "Wdisable", value_name = "NAME", value_delimiter = ',', value_parser = lint_name)]
    disabled: Vec<String>,
    /// Optimisation: `-O0` leaves the program as it is, `-O1` makes it shorter.
    #[arg(short = 'O', value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    optimise: u8,
    /// Only check the program.
    #[arg(long)]
    check: bool,
    /// Print diagnostics as JSON, for editors.
    #[arg(long)]
    json: bool,
}

/// What `--dump` prints.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Dump {
    /// The syntax tree as P4 source, macros expanded.
    Ast,
    /// The flat program that back ends read.
    Ir,
    /// Tables and conditions and their order, as a DOT graph.
    Tables,
}

impl From<Dump> for p4_compiler::Dump {
    fn from(d: Dump) -> Self {
        match d {
            Dump::Ast => Self::Ast,
            Dump::Ir => Self::Ir,
            Dump::Tables => Self::Tables,
        }
    }
}

fn main() -> ExitCode {
    if let Some(name) = std::env::args().next().and_then(|a| dropin::Name::of(&a)) {
        return dropin::run(name, std::env::args().skip(1));
    }
    // No program is called `bench`: sources end in .p4.
    if std::env::args().nth(1).is_some_and(|a| a == "bench") {
        return bench::run(&bench::Args::parse_from(std::env::args().skip(1)));
    }
    let args = Args::parse();
    let define = |d: &String| match d.split_once('=') {
        Some((n, v)) => (n.to_string(), v.to_string()),
        None => (d.clone(), "1".to_string()),
    };
    let options = Options {
        include_paths: args.include.clone(),
        defines: args.define.iter().map(define).collect(),
        silenced: args.disabled.clone(),
        disabled_annotations: Vec::new(),
        check_only: args.check,
        level: if args.optimise == 0 { OptLevel::O0 } else { OptLevel::O1 },
    };
    if let Some(what) = args.dump {
        return print_dump(&args, &options, what);
    }
    match compile_file(&args.source, &options) {
        Ok(compiled) => {
            report(&compiled.warnings, args.json);
            if args.check {
                return ExitCode::SUCCESS;
            }
            match write(&args, &compiled) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("error: cannot write to {}: {e}", args.output.display());
                    ExitCode::FAILURE
                }
            }
        }
        Err(diagnostics) => {
            report(&diagnostics, args.json);
            ExitCode::FAILURE
        }
    }
}

fn print_dump(args: &Args, options: &Options, what: Dump) -> ExitCode {
    let bytes = match std::fs::read(&args.source) {
        Ok(bytes) => bytes,
        Err(e) => {
            eprintln!("error: cannot read {}: {e}", args.source.display());
            return ExitCode::FAILURE;
        }
    };
    let (name, text) = (args.source.to_string_lossy(), String::from_utf8_lossy(&bytes));
    match dump(&name, args.source.parent(), &text, options, what.into()) {
        Ok((text, warnings)) => {
            report(&warnings, args.json);
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            report(&diagnostics, args.json);
            ExitCode::FAILURE
        }
    }
}

/// A warning's name, if there is such a warning.
fn lint_name(name: &str) -> Result<String, String> {
    if Lint::ALL.iter().any(|l| l.name() == name) {
        return Ok(name.to_string());
    }
    let known: Vec<&str> = Lint::ALL.iter().map(|l| l.name()).collect();
    Err(format!("warnings are called {}", known.join(", ")))
}

fn report(diagnostics: &Diagnostics, json: bool) {
    if json {
        println!("{}", diagnostics.to_json());
        return;
    }
    if !diagnostics.list.is_empty() {
        eprint!("{}", diagnostics.render(std::io::stderr().is_terminal()));
    }
    let errors = diagnostics
        .list
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .count();
    if errors > 0 {
        eprintln!("{errors} error{}", if errors == 1 { "" } else { "s" });
    }
}

fn write(args: &Args, compiled: &p4_compiler::Compiled) -> std::io::Result<()> {
    std::fs::create_dir_all(&args.output)?;
    let stem = args.source.file_stem().unwrap_or_default().to_string_lossy();
    let file = |ext: &str| Path::new(&args.output).join(format!("{stem}.{ext}"));
    std::fs::write(file("json"), &compiled.json)?;
    if args.p4info {
        std::fs::write(file("p4info.txtpb"), &compiled.p4info_text)?;
        std::fs::write(file("p4info.bin"), &compiled.p4info_binary)?;
    }
    if args.emit_entries {
        std::fs::write(file("entries.txtpb"), &compiled.entries_text)?;
    }
    Ok(())
}
