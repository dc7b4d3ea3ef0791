//! Report of a run: JUnit XML for CI systems, and captures of what went wrong.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// A captured frame is cut to this many octets ...
const SNAP: usize = 2048;
/// ... and a file has at most this many octets of frames.
const MAX_FILE: usize = 1 << 20;
/// Link type Ethernet of the pcap format.
const ETHERNET: u32 = 1;

/// One expectation, judged.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its title.
    pub name: String,
    /// What was measured, or what is wrong.
    pub outcome: Result<String, String>,
    /// Whether it could not be judged at all.
    pub is_error: bool,
    /// How long it took.
    pub took: Duration,
}

/// Writes a JUnit file.
///
/// # Errors
/// The file cannot be written.
pub fn junit(path: &Path, fabric: &str, rows: &[Row]) -> Result<()> {
    let mut suite = TestSuite::new(fabric);
    for row in rows {
        let status = match &row.outcome {
            Ok(_) => TestCaseStatus::success(),
            Err(why) => {
                let kind = if row.is_error {
                    NonSuccessKind::Error
                } else {
                    NonSuccessKind::Failure
                };
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(why.as_str());
                status
            }
        };
        let mut case = TestCase::new(row.name.as_str(), status);
        case.set_classname(fabric).set_time(row.took);
        if let Ok(figure) = &row.outcome {
            case.set_system_out(figure.as_str());
        }
        suite.add_test_case(case);
    }
    let mut report = Report::new("fabricctl check");
    report.add_test_suite(suite);
    let text = report.to_string()?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes frames as a pcap file (draft-ietf-opsawg-pcap), bounded in size.
///
/// # Errors
/// The file cannot be written.
pub fn pcap(path: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let shown = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(std::fs::File::create(path).with_context(shown)?);
    let mut header = Vec::from(0xa1b2_c3d4_u32.to_le_bytes());
    header.extend([2, 0, 4, 0]);
    header.extend([0; 8]);
    header.extend(u32::try_from(SNAP)?.to_le_bytes());
    header.extend(ETHERNET.to_le_bytes());
    out.write_all(&header).with_context(shown)?;
    let mut left = MAX_FILE;
    for frame in frames {
        let kept = frame.get(..frame.len().min(SNAP)).unwrap_or_default();
        let Some(rest) = left.checked_sub(kept.len() + 16) else {
            break;
        };
        left = rest;
        // The capture keeps no times: their fields are 0.
        out.write_all(&[0; 8]).with_context(shown)?;
        out.write_all(&u32::try_from(kept.len())?.to_le_bytes())
            .with_context(shown)?;
        out.write_all(&u32::try_from(frame.len())?.to_le_bytes())
            .with_context(shown)?;
        out.write_all(kept).with_context(shown)?;
    }
    out.flush().with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        pcap(&path, &vec![vec![7; 9000]; 2000]).unwrap();
        let octets = std::fs::read(&path).unwrap();
        assert!(octets.len() > MAX_FILE / 2 && octets.len() <= MAX_FILE + 24);
        assert_eq!(
            octets.get(24 + 8..24 + 16),
            Some([0, 8, 0, 0, 0x28, 0x23, 0, 0].as_slice())
        );
    }

    #[test]
    fn a_failed_row_is_a_failure_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.xml");
        let row = |name: &str, outcome| Row {
            name: name.into(),
            outcome,
            is_error: false,
            took: Duration::ZERO,
        };
        let rows = [row("good", Ok("fine".into())), row("bad <1>", Err("no answer".into()))];
        junit(&path, "lab", &rows).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("tests=\"2\"") && text.contains("failures=\"1\""),
            "{text}"
        );
        assert!(text.contains("bad &lt;1&gt;") && text.contains("no answer"), "{text}");
    }
}
