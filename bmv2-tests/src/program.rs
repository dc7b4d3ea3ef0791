//! A P4 source with its script: compiled, loaded, run. Every failure becomes text, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use p4_compiler::{Compiled, Options};

use crate::stf::Script;
use crate::stf::names::Names;
use crate::stf::run::{self, Ports};
use crate::stf::target::{Engine, Process, Reference, Target};

/// A switch that scripts can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// The reference evaluator.
    Reference,
    /// The packet engine, with machine code for the program.
    Engine,
    /// The packet engine, with the interpreter.
    Interpreter,
}

impl Core {
    /// All switches that run in this process.
    pub const ALL: [Core; 3] = [Core::Reference, Core::Engine, Core::Interpreter];

    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Engine => "engine",
            Self::Interpreter => "interpreter",
        }
    }

    /// Loads a program with its own entries.
    ///
    /// # Errors
    /// This implementation cannot run the program.
    pub fn load(self, program: &bmv2_json::Program, names: &Names) -> Result<Box<dyn Target>, String> {
        Ok(match self {
            Self::Reference => Box::new(Reference::new(program, names)?),
            Self::Engine => Box::new(Engine::new(program, names, true)?),
            Self::Interpreter => Box::new(Engine::new(program, names, false)?),
        })
    }
}

/// Compiles a program.
///
/// # Errors
/// The compiler's errors, one a line.
pub fn compile(path: &Path, options: &Options) -> Result<Compiled, Vec<String>> {
    let compiled = guarded(|| p4_compiler::compile_file(path, options)).map_err(|e| vec![e])?;
    compiled.map_err(|diagnostics| diagnostics.short().lines().map(str::to_owned).collect())
}

/// Runs a script on a compiled program. The document is read back from its text, as a switch would.
///
/// # Errors
/// Which expectation of the script failed, or why it cannot run.
pub fn run_script(compiled: &Compiled, script: &Path, core: Core, ports: Ports) -> Result<(), Vec<String>> {
    run_on(compiled, script, ports, |program, names, _| core.load(program, names))
}

/// As [`run_script`], on a switch in a separate process, with the command line of `simple_switch_grpc`.
///
/// # Errors
/// As [`run_script`].
pub fn run_script_on(binary: &Path, compiled: &Compiled, script: &Path, ports: Ports) -> Result<(), Vec<String>> {
    run_on(compiled, script, ports, |_, _, script| {
        Ok(Box::new(Process::start(binary, compiled, &script.ports())?))
    })
}

fn run_on(
    compiled: &Compiled,
    script: &Path,
    ports: Ports,
    load: impl FnOnce(&bmv2_json::Program, &Names, &Script) -> Result<Box<dyn Target>, String>,
) -> Result<(), Vec<String>> {
    let run = || -> Result<(), Vec<String>> {
        let one = |e: String| vec![e];
        let name = script.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(script).map_err(|e| one(format!("{name}: {e}")))?;
        let script = Script::parse(&name, &text).map_err(|e| one(e.to_string()))?;
        let program = bmv2_json::Program::from_slice(compiled.json.as_bytes()).map_err(|e| one(e.to_string()))?;
        let names = Names::new(&program).map_err(one)?;
        let mut target = load(&program, &names, &script).map_err(one)?;
        run::run(&script, &names, target.as_mut(), ports)
    };
    guarded(run).unwrap_or_else(|panic| Err(vec![panic]))
}

/// Calls code that must not panic, and reports a panic as an error.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("without a message"))
    })
}
