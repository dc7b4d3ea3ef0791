//! The OpenAPI document that the server publishes, against `docs/openapi.json`.

use std::path::Path;

#[test]
fn the_published_document_is_the_golden_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let document = serde_json::to_string_pretty(&vfabric_api::rest::openapi()).unwrap();
    golden::check_file(&file, &(document + "\n"));
}
