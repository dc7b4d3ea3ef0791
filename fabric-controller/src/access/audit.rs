//! The audit log: a file of lines of JSON that only grows, and the last records in memory for the API.
//!
//! **Model.** One thread writes. A record gets its number when it is written; the caller waits until then. When the
//! file `audit.jsonl` reaches [`FILE_OCTETS`], it is renamed to `audit-<number of its last record>.jsonl`; the newest
//! [`FILES`] of these are kept. After a start the last records are read back.
//!
//! **Invariants.** Numbers rise by one and are never reused. A record that was acknowledged survives the end of the
//! process; it is on the disk within [`SYNC_EVERY`]. If a line cannot be written, it waits in memory, changes are
//! refused ([`AuditLog::fault`]), and the thread tries again every [`SYNC_EVERY`]. A line that was cut by a crash is
//! removed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vfabric_api::access::{AuditPage, AuditRecord};
use vfabric_api::ident::Name;

/// Records that the API shows.
const SHOWN: usize = 10_000;
/// Octets after which a file is put aside.
const FILE_OCTETS: u64 = 64 << 20;
/// Files that are kept aside.
const FILES: usize = 8;
/// Longest time until a record is on the disk, and between attempts to write.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Records that wait for the thread.
const QUEUE: usize = 1024;
/// Most octets that wait while the file cannot be written. Records beyond that are counted and lost.
const WAITING_OCTETS: usize = 4 << 20;

/// A record, and what to wake when it is written.
type Job = (AuditRecord, oneshot::Sender<()>);

#[derive(Default)]
struct Recent {
    records: VecDeque<AuditRecord>,
    fault: Option<String>,
}

/// The log.
pub struct AuditLog {
    queue: SyncSender<Job>,
    recent: Arc<Mutex<Recent>>,
}

/// The state of the file, owned by its thread.
struct Writer {
    dir: PathBuf,
    file: File,
    /// Octets of whole lines.
    length: u64,
    next: u64,
    /// Lines that could not be written.
    waiting: Vec<u8>,
    lost: u64,
    synced: Instant,
    dirty: bool,
}

fn locked(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

/// Files that were put aside, with the number of their last record, the oldest first.
fn aside(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|n| n.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads the records of a file; returns the octets of its whole lines.
fn read(file: &File, records: &mut VecDeque<AuditRecord>) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut length, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let octets = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(length);
        }
        length += octets as u64;
        // A line that was damaged later stays in the file; the API does not show it.
        if let Ok(record) = serde_json::from_slice(&line) {
            records.push_back(record);
            if records.len() > SHOWN {
                records.pop_front();
            }
        }
    }
}

impl AuditLog {
    /// Opens the log in a directory.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut records = VecDeque::new();
        let last = aside(dir)?.pop();
        if let Some((_, path)) = &last {
            read(&File::open(path)?, &mut records)?;
        }
        let file = open(&dir.join("audit.jsonl"))?;
        let length = read(&file, &mut records)?;
        let of_records = records.back().map_or(0, |record: &AuditRecord| record.seq);
        let writer = Writer {
            dir: dir.to_owned(),
            file,
            length,
            next: of_records.max(last.map_or(0, |(number, _)| number)) + 1,
            waiting: Vec::new(),
            lost: 0,
            synced: Instant::now(),
            dirty: false,
        };
        let recent = Arc::new(Mutex::new(Recent { records, fault: None }));
        let (queue, jobs) = sync_channel(QUEUE);
        let shared = Arc::clone(&recent);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&jobs, &shared))?;
        Ok(Self { queue, recent })
    }

    /// Why records cannot be written, while they cannot.
    pub fn fault(&self) -> Option<String> {
        locked(&self.recent).fault.clone()
    }

    /// Writes a record. Returns when it is written, or when it waits in memory because the file cannot be written.
    pub async fn record(&self, record: AuditRecord) {
        let (done, written) = oneshot::channel();
        let sent = match self.queue.try_send((record, done)) {
            Err(TrySendError::Full(job)) => {
                let queue = self.queue.clone();
                // The queue always moves on, because its thread only waits for the disk.
                let sent = tokio::task::spawn_blocking(move || queue.send(job).is_ok()).await;
                sent.unwrap_or(false)
            }
            sent => sent.is_ok(),
        };
        if !sent || written.await.is_err() {
            tracing::error!("the thread of the audit log ended");
            locked(&self.recent).fault = Some("its thread ended".into());
        }
    }

    /// The last records below `before`, at most `limit`, the newest first; of one vDC if one is given.
    pub fn page(&self, vdc: Option<&Name>, before: Option<u64>, limit: usize) -> AuditPage {
        let recent = locked(&self.recent);
        let wanted = |r: &&AuditRecord| {
            before.is_none_or(|before| r.seq < before) && vdc.is_none_or(|vdc| r.vdc.as_ref() == Some(vdc))
        };
        let mut items: Vec<AuditRecord> = recent
            .records
            .iter()
            .rev()
            .filter(wanted)
            .take(limit + 1)
            .cloned()
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        AuditPage {
            next: items.last().filter(|_| more).map(|r| r.seq),
            items,
            oldest: recent.records.front().map(|r| r.seq),
        }
    }
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>, recent: &Mutex<Recent>) {
        loop {
            let mut answers = Vec::new();
            match jobs.recv_timeout(SYNC_EVERY) {
                Ok(job) => {
                    let more = std::iter::from_fn(|| jobs.try_recv().ok()).take(QUEUE);
                    for (record, answer) in std::iter::once(job).chain(more) {
                        self.take(record, recent);
                        answers.push(answer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.write().and_then(|()| self.file.sync_data());
                    return;
                }
            }
            let done = self.write().and_then(|()| self.keep());
            let fault = done
                .err()
                .map(|e| format!("{}: {e}", self.dir.join("audit.jsonl").display()));
            let mut seen = locked(recent);
            if seen.fault != fault {
                match &fault {
                    Some(fault) => tracing::error!(fault, "the audit log cannot be written; changes are refused"),
                    None => tracing::info!("the audit log can be written again"),
                }
                seen.fault = fault;
            }
            drop(seen);
            // A caller that is gone needs no answer.
            for answer in answers {
                let _ = answer.send(());
            }
        }
    }

    /// Numbers a record and adds its line to what is to be written.
    fn take(&mut self, mut record: AuditRecord, recent: &Mutex<Recent>) {
        if self.waiting.len() > WAITING_OCTETS {
            self.lost += 1;
            return;
        }
        record.left_out += std::mem::take(&mut self.lost);
        record.seq = self.next;
        self.next += 1;
        // Serializing it cannot fail: it has no maps.
        if let Ok(line) = serde_json::to_vec(&record) {
            self.waiting.extend(line);
            self.waiting.push(b'\n');
        }
        let mut recent = locked(recent);
        recent.records.push_back(record);
        if recent.records.len() > SHOWN {
            recent.records.pop_front();
        }
    }

    /// Writes all waiting lines, or none.
    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Overwrite what an earlier attempt left after the last whole line.
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.waiting)?;
        self.length += self.waiting.len() as u64;
        self.file.set_len(self.length)?;
        self.waiting.clear();
        self.dirty = true;
        Ok(())
    }

    /// Syncs the file when it is time, and renames a full one.
    fn keep(&mut self) -> io::Result<()> {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY {
            self.file.sync_data()?;
            (self.synced, self.dirty) = (Instant::now(), false);
        }
        if self.length < FILE_OCTETS {
            return Ok(());
        }
        self.file.sync_data()?;
        let path = self.dir.join("audit.jsonl");
        std::fs::rename(&path, self.dir.join(format!("audit-{:020}.jsonl", self.next - 1)))?;
        self.file = open(&path)?;
        (self.length, self.dirty) = (0, false);
        let mut old = aside(&self.dir)?;
        old.truncate(old.len().saturating_sub(FILES));
        for (_, path) in old {
            std::fs::remove_file(path)?;
        }
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, vdc: Option<&str>) -> AuditRecord {
        AuditRecord {
            path: path.into(),
            vdc: vdc.map(|v| v.parse().unwrap()),
            status: 201,
            ..AuditRecord::default()
        }
    }

    #[tokio::test]
    async fn records_stay_in_order_over_a_start_and_a_cut_line_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::open(dir.path()).unwrap();
        for i in 0..5 {
            log.record(record(&format!("/{i}"), (i % 2 == 0).then_some("acme")))
                .await;
        }
        let page = log.page(None, None, 2);
        assert_eq!(page.items.iter().map(|r| r.seq).collect::<Vec<_>>(), [5, 4]);
        assert_eq!((page.next, page.oldest), (Some(4), Some(1)));
        let acme = "acme".parse().unwrap();
        let paths = |page: AuditPage| page.items.into_iter().map(|r| r.path).collect::<Vec<_>>();
        assert_eq!(paths(log.page(Some(&acme), Some(5), 10)), ["/2", "/0"]);
        drop(log);

        let path = dir.path().join("audit.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 5);
        text.push_str(r#"{"seq":6,"time"#);
        std::fs::write(&path, text).unwrap();
        let log = AuditLog::open(dir.path()).unwrap();
        log.record(record("/after", None)).await;
        assert_eq!(paths(log.page(None, None, 2)), ["/after", "/4"]);
        let text = std::fs::read_to_string(&path).unwrap();
        let last: AuditRecord = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((last.seq, text.lines().count()), (6, 6));
    }

    #[test]
    fn a_full_file_is_put_aside_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut writer = Writer {
            dir: dir.path().to_owned(),
            file: open(&path).unwrap(),
            length: 0,
            next: 1,
            waiting: Vec::new(),
            lost: 0,
            synced: Instant::now(),
            dirty: false,
        };
        let recent = Mutex::new(Recent::default());
        for _ in 0..FILES + 3 {
            writer.take(record("/x", None), &recent);
            writer.write().unwrap();
            // As if it were full.
            writer.length = FILE_OCTETS;
            writer.keep().unwrap();
        }
        let kept: Vec<u64> = aside(dir.path()).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(kept, (4..=FILES as u64 + 3).collect::<Vec<_>>());
        drop(writer);
        let log = AuditLog::open(dir.path()).unwrap();
        let page = log.page(None, None, 10);
        assert_eq!(
            page.items.first().map(|r| r.seq),
            Some(FILES as u64 + 3),
            "of the newest file aside"
        );
    }

    #[test]
    fn what_cannot_be_written_waits_and_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        drop(open(&path).unwrap());
        let mut writer = Writer {
            dir: dir.path().to_owned(),
            file: File::open(&path).unwrap(), // for reading only
            length: 0,
            next: 1,
            waiting: Vec::new(),
            lost: 0,
            synced: Instant::now(),
            dirty: false,
        };
        let recent = Mutex::new(Recent::default());
        writer.take(record("/x", None), &recent);
        assert!(writer.write().is_err());
        writer.take(record("/y", None), &recent);
        writer.file = open(&path).unwrap();
        writer.write().unwrap();
        let mut records = VecDeque::new();
        read(&File::open(&path).unwrap(), &mut records).unwrap();
        assert_eq!(
            records.iter().map(|r| (r.seq, r.path.as_str())).collect::<Vec<_>>(),
            [(1, "/x"), (2, "/y")]
        );
    }
}
