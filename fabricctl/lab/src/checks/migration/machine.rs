//! A virtual machine: QEMU without hardware acceleration, and its monitor (QMP).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vfabric_api::ident::Mac;

use super::guest::READY;
use crate::{netns, process};

/// Debian's package `qemu-system-x86` has it.
pub(super) const QEMU: &str = "qemu-system-x86_64";
/// The device through which the machine's frames go, in the namespace that it runs in.
pub(super) const TAP: &str = "tap0";
/// Memory of the guest, in MiB: enough for the kernels of distributions to unpack themselves.
const MEMORY_MIB: &str = "192";
/// What the kernel is started with. When it stops, the machine ends.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1";
/// Longest time for the guest to start; it takes some 3 s on a quiet machine.
const STARTED: Duration = Duration::from_secs(90);
/// Longest time for the monitor to reply.
const REPLY: Duration = Duration::from_secs(20);
/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Lines of the console and of QEMU's own messages that an error shows.
const LAST_LINES: usize = 8;

/// The parts of a machine.
pub(super) struct Hardware<'a> {
    /// The guest's kernel.
    pub(super) kernel: &'a Path,
    /// The guest's root file system.
    pub(super) root: &'a Path,
    /// MAC address of its interface.
    pub(super) mac: Mac,
}

/// A running machine. It ends when it is dropped.
pub(super) struct Machine {
    name: String,
    child: Child,
    monitor: BufReader<UnixStream>,
    console: PathBuf,
    messages: PathBuf,
}

impl Machine {
    /// Starts a machine whose files are in a folder. With `incoming`, it waits until another machine sends its guest
    /// to that socket.
    ///
    /// # Errors
    /// QEMU cannot be run, or ends at once.
    pub(super) fn start(
        folder: &Path,
        name: &str,
        namespace: &str,
        hardware: &Hardware<'_>,
        incoming: Option<&Path>,
    ) -> Result<Self> {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let (console, messages, socket) = (file("console"), file("log"), file("qmp"));
        let log = File::create(&messages)?;
        let mut command = process::command(QEMU);
        command.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", MEMORY_MIB]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        command.arg("-kernel").arg(hardware.kernel);
        command.arg("-initrd").arg(hardware.root);
        command.args(["-append", KERNEL_ARGUMENTS]);
        command.args(["-serial", &format!("file:{}", console.display())]);
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())]);
        command.args(["-netdev", &format!("tap,id=net,ifname={TAP},script=no,downscript=no")]);
        command.args([
            "-device",
            &format!("virtio-net-pci,netdev=net,mac={},romfile=", hardware.mac),
        ]);
        if let Some(socket) = incoming {
            command.args(["-incoming", &format!("unix:{}", socket.display())]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = netns::within(namespace, || {
            command.spawn().with_context(|| format!("cannot run `{QEMU}`"))
        })?;
        let monitor = match connect(&socket, &mut child) {
            Ok(monitor) => monitor,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.context(last_lines(&messages)));
            }
        };
        let mut machine = Self {
            name: name.to_owned(),
            child,
            monitor: BufReader::new(monitor),
            console,
            messages,
        };
        // The greeting comes first; then capabilities are agreed on (QEMU, `interop/qmp-spec`).
        machine.read()?;
        machine.ask("qmp_capabilities", json!({}))?;
        Ok(machine)
    }

    /// Waits until the guest has started.
    ///
    /// # Errors
    /// The guest stops or takes too long. The error has the end of its console.
    pub(super) fn await_guest(&mut self) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let console = fs::read(&self.console).unwrap_or_default();
            if String::from_utf8_lossy(&console).contains(READY) {
                return Ok(started.elapsed());
            }
            self.expect_alive()?;
            ensure!(
                started.elapsed() < STARTED,
                "the guest has not started within {} s: {}",
                STARTED.as_secs(),
                last_lines(&self.console)
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Fails if QEMU has ended.
    fn expect_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let (said, console) = (last_lines(&self.messages), last_lines(&self.console));
            bail!("machine `{}` has ended ({status}): {said} {console}", self.name);
        }
        Ok(())
    }

    /// Sends a command to the monitor and returns the reply.
    ///
    /// # Errors
    /// It refuses, or does not reply.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let whose = format!("machine `{}`: {command}", self.name);
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.monitor.get_mut(), "{request}").with_context(|| whose.clone())?;
        loop {
            let mut reply = self.read().with_context(|| whose.clone())?;
            if let Some(error) = reply.get("error") {
                bail!("{whose}: {error}");
            }
            // Everything else is an event.
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.monitor.read_line(&mut line)?;
        ensure!(length > 0, "the monitor has ended: {}", last_lines(&self.messages));
        Ok(serde_json::from_str(&line)?)
    }

    /// Begins to send the guest to a socket, at this many octets a second at most.
    ///
    /// # Errors
    /// The monitor refuses.
    pub(super) fn send_guest(&mut self, socket: &Path, octets_per_s: u64) -> Result<()> {
        self.ask("migrate-set-parameters", json!({ "max-bandwidth": octets_per_s }))?;
        self.ask("migrate", json!({ "uri": format!("unix:{}", socket.display()) }))?;
        Ok(())
    }

    /// Waits until the transfer of the guest has reached a state. Returns QEMU's figures.
    ///
    /// # Errors
    /// It fails, or takes too long.
    pub(super) fn await_sending(&mut self, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let started = Instant::now();
        loop {
            let figures = self.ask("query-migrate", json!({}))?;
            if is_so(&figures) {
                return Ok(figures);
            }
            let failed = figures["status"] == "failed" || started.elapsed() > REPLY;
            ensure!(
                !failed,
                "the guest is not sent: {figures}; {}",
                last_lines(&self.messages)
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether the guest runs here.
    ///
    /// # Errors
    /// The monitor does not reply.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.ask("query-status", json!({}))?["running"] == true)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects to the monitor as soon as it listens.
fn connect(socket: &Path, child: &mut Child) -> Result<UnixStream> {
    let started = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(REPLY))?;
                return Ok(stream);
            }
            Err(error) => {
                let ended = child.try_wait()?;
                if ended.is_some() || started.elapsed() > REPLY {
                    return Err(error).with_context(|| format!("no monitor at {}", socket.display()));
                }
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The end of a file.
fn last_lines(path: &Path) -> String {
    let octets = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&octets);
    let all: Vec<&str> = text.lines().collect();
    let last = all.get(all.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    last.join(" / ")
}
