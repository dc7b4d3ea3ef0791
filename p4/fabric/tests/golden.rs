//! What the fabric's programs publish to a control plane: P4Info, as text, against the files in `golden/`.

use std::path::Path;

use fabric_pipeline::Pipeline;
use golden::Golden;
use p4_compiler::Options;

#[test]
fn the_p4info_of_the_fabrics_programs_is_the_golden_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut golden = Golden::folder(root.join("golden"));
    for pipeline in [Pipeline::LEAF, Pipeline::SPINE] {
        let source = root.join(format!("{}.p4", pipeline.name));
        let compiled = p4_compiler::compile_file(&source, &Options::default());
        let compiled = compiled.unwrap_or_else(|d| panic!("{}", d.short()));
        assert_eq!(
            pipeline.decode_p4info().unwrap(),
            compiled.p4info,
            "the embedded {} was not made from this source",
            pipeline.name
        );
        golden.check(&format!("{}.p4info.txtpb", pipeline.name), &compiled.p4info_text);
    }
    golden.finish();
}
