//! The benchmark of a large fabric, at small sizes: every row is measured, and figures that do not depend on speed are
//! right.
//!
//! The controller is a process of its own with a durable store; switches and hosts are in memory behind P4Runtime, gNMI
//! and the agents' stream.

use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_measured_and_nothing_is_written_that_need_not_be() {
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_fabric-controller")).parent().unwrap();
    let rows = fabric_lab::scale::rehearse(dir.path().join("scale"), programs.to_owned())
        .await
        .unwrap();
    let figure = |row: &str, figure: &str| {
        let value = rows
            .get(row)
            .and_then(|row| row.get(figure))
            .and_then(|value| value.as_f64());
        value.unwrap_or_else(|| panic!("no `{figure}` of `{row}` in {rows:#}"))
    };
    assert_eq!(figure("plan of 20 objects", "revisions and entities written_"), 0.0);
    assert_eq!(figure("a leaf returns empty", "written to others_"), 0.0);
    assert!(figure("a leaf returns empty", "entities that it had_") > 0.0);
    assert_eq!(figure("restart of the controller", "entities written_"), 0.0);
    // The same work at each size.
    let at = |networks: usize| {
        figure(
            &format!("one more attachment at {networks} networks"),
            "entities written_",
        )
    };
    assert!(at(1_000) > 0.0);
    for row in [
        "load of 1000 networks, 200 attachments",
        "writers: 64",
        "40 networks with an attachment each",
        "120 attachments into one network",
        "10 watchers of a vDC, 2 of everything",
        "a spine is lost, 4 leaves",
    ] {
        assert!(rows.get(row).is_some(), "no row `{row}` in {rows:#}");
    }
}
