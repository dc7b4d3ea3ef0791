//! Compiled programs in this crate, against the programs that they are compiled from. (`data/entities.*` is p4c's output on
//! purpose and is not among them.)

use std::path::Path;

use p4_compiler::Options;

#[test]
fn compiled_programs_are_those_of_their_sources() {
    for program in ["src/bench/kinds", "src/bench/ports/router", "tests/data/crossover"] {
        let path = |extension| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{program}.{extension}"));
        let source = std::fs::read_to_string(path("p4")).unwrap();
        // The bare file name, so that the output holds no path of this machine.
        let name = path("p4").file_name().unwrap().to_string_lossy().into_owned();
        let compiled = p4_compiler::compile(&name, None, &source, &Options::default());
        let compiled = compiled.unwrap_or_else(|d| panic!("{}", d.short()));
        golden::check_file(&path("json"), &compiled.json);
    }
}
