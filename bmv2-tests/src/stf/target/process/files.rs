//! A switch's ports as pcap files: named pipes in, plain files out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use p4_switch::port::pcap::format::{Reader, write_header, write_packet};

use super::super::Failed;

/// Difference between the time stamps of two frames. It must be visible to readers that count microseconds.
const STEP: Duration = Duration::from_micros(10);

/// Position of the link type in a file's header; 1 is Ethernet.
const LINK_TYPE: std::ops::Range<usize> = 20..24;

/// The switch's messages.
const LOG: &str = "log";

/// All ports of a switch.
pub(super) struct Files {
    dir: tempfile::TempDir,
    /// Pipes that are open for more; none once they have ended.
    inputs: BTreeMap<u32, File>,
    ports: BTreeSet<u32>,
    /// Time stamp of the last frame.
    now: Duration,
    /// Whether frames were sent that may still be under way.
    pending: bool,
}

impl Files {
    /// True for a port on which frames arrive.
    pub(super) fn new(ports: &BTreeMap<u32, bool>) -> Result<Self, Failed> {
        let wrong = |e: std::io::Error| format!("files of the ports: {e}");
        let dir = tempfile::tempdir().map_err(wrong)?;
        let mut inputs = BTreeMap::new();
        for (port, is_input) in ports {
            let path = dir.path().join(format!("port{port}_in.pcap"));
            if !is_input {
                // It ends at once, so that the switch does not wait for more frames on it.
                write_header(&mut File::create(&path).map_err(wrong)?).map_err(wrong)?;
                continue;
            }
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| wrong(e.into()))?;
            // Opened for reading and writing, so that neither side waits until the other opens it.
            let mut pipe = OpenOptions::new().read(true).write(true).open(&path).map_err(wrong)?;
            write_header(&mut pipe).map_err(wrong)?;
            inputs.insert(*port, pipe);
        }
        Ok(Self {
            dir,
            inputs,
            ports: ports.keys().copied().collect(),
            now: Duration::from_secs(1),
            pending: false,
        })
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file to which the switch writes its errors.
    pub(super) fn log(&self) -> Result<File, Failed> {
        File::create(self.dir.path().join(LOG)).map_err(|e| format!("{LOG}: {e}"))
    }

    /// The last line of that file, to add to an error.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read(self.dir.path().join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().last().map_or_else(String::new, |line| format!(": {line}"))
    }

    /// Arguments that give a switch its ports.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = String> {
        self.ports
            .iter()
            .flat_map(|port| ["-i".to_owned(), format!("{port}@port{port}")])
    }

    /// Sends a frame to the switch.
    pub(super) fn send(&mut self, port: u32, frame: &[u8]) -> Result<(), Failed> {
        self.now += STEP;
        let now = self.now;
        let pipe = self.inputs.get_mut(&port);
        let pipe = pipe.ok_or_else(|| format!("port {port} takes no more frames"))?;
        // Write the record in one piece, because the switch may read at any moment.
        let mut record = Vec::with_capacity(frame.len() + 16);
        write_packet(&mut record, now, frame).map_err(|e| e.to_string())?;
        pipe.write_all(&record).map_err(|e| format!("port {port}: {e}"))?;
        self.pending = true;
        Ok(())
    }

    /// Ends the input: the switch then handles frames that waited for later ones on other ports.
    pub(super) fn end(&mut self) {
        self.pending |= !self.inputs.is_empty();
        self.inputs.clear();
    }

    /// Whether frames were sent since the last [`Files::settled`].
    pub(super) fn pending(&self) -> bool {
        self.pending
    }

    /// Notes that all frames sent so far have been handled.
    pub(super) fn settled(&mut self) {
        self.pending = false;
    }

    fn output(&self, port: u32) -> PathBuf {
        self.dir.path().join(format!("port{port}_out.pcap"))
    }

    /// Octets that have left.
    pub(super) fn written(&self) -> u64 {
        let sizes = self
            .ports
            .iter()
            .map(|p| std::fs::metadata(self.output(*p)).map_or(0, |m| m.len()));
        sizes.sum()
    }

    /// All frames that have left, by port in their order.
    pub(super) fn frames(&self) -> Result<Vec<(u32, Vec<u8>)>, Failed> {
        let mut frames = Vec::new();
        for port in &self.ports {
            let wrong = |e: std::io::Error| format!("what left by port {port}: {e}");
            let mut bytes = std::fs::read(self.output(*port)).map_err(wrong)?;
            // No frame has left: the header is still in the writer's buffer.
            if bytes.is_empty() {
                continue;
            }
            // BMv2 writes link type 0, although its ports are Ethernet.
            if let Some(link_type) = bytes.get_mut(LINK_TYPE) {
                link_type.copy_from_slice(&1u32.to_ne_bytes());
            }
            let mut reader = Reader::new(bytes.as_slice()).map_err(wrong)?;
            while let Some(packet) = reader.next_packet().map_err(wrong)? {
                frames.push((*port, packet.frame));
            }
        }
        Ok(frames)
    }
}
