//! One exercise from its files to a running network.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use p4_compiler::Compiled;

use super::network::{Network, call};
use super::topology::{Switch, Topology};

/// P4Runtime port of the first switch, as in the tutorials.
const FIRST_GRPC: u16 = 50_051;
/// Thrift port of the first switch.
const FIRST_THRIFT: u16 = 9_090;
/// Number of folders in which a named file is searched: the topology's, and those above it.
const LEVELS: usize = 3;
/// Longest time until a switch serves.
const START: Duration = Duration::from_secs(20);
/// How often to look whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The topology file.
    pub topology: PathBuf,
    /// Programs. A switch that names no program gets the first one. A switch that names a program gets the one here
    /// with the same file name, if there is one. Without any: the only `.p4` file beside the topology or in a folder
    /// above it, or none where a controller brings it.
    pub programs: Vec<PathBuf>,
    /// Links besides those of the topology, as [`Topology::with_link`] reads them.
    pub links: Vec<String>,
    /// The switch, `p4-switch` or one with its command line.
    pub switch: PathBuf,
    /// The program that writes a runtime file to a switch: this one, called with `load`.
    pub loader: PathBuf,
    /// Where compiled programs, logs and captures are put.
    pub out: PathBuf,
    /// Record each port's packets.
    pub pcap: bool,
    /// Links have no delay and lose nothing, for kernels that cannot do this.
    pub without_delay: bool,
}

/// A running exercise; dropping it stops everything.
pub struct Exercise {
    topology: Topology,
    network: Network,
    switches: Vec<Child>,
}

impl Exercise {
    /// Its topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Its namespaces.
    pub fn network(&self) -> &Network {
        &self.network
    }
}

impl Drop for Exercise {
    fn drop(&mut self) {
        for switch in &mut self.switches {
            let _ = switch.kill();
            let _ = switch.wait();
        }
    }
}

/// Brings an exercise up; `progress` is called with each step.
///
/// # Errors
/// The reason why it cannot run, with the file and the place in it. Nothing is left behind.
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Exercise> {
    let mut topology = Topology::read(&options.topology)?;
    for link in &options.links {
        topology = topology.with_link(link)?;
    }
    let warn = |what: &String| format!("warning: {what}");
    topology.ignored.iter().for_each(|what| progress(&warn(what)));
    let file = std::path::absolute(&options.topology)?;
    let base = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let mut programs = Programs {
        base,
        options,
        compiled: BTreeMap::new(),
    };
    let mut loaded = Vec::new();
    for (name, switch) in &topology.switches {
        let needed = topology.programs_are_needed || !options.programs.is_empty();
        let program = needed
            .then(|| programs.of(switch))
            .transpose()
            .with_context(|| format!("switches.{name}"))?;
        match &program {
            Some(program) => progress(&format!("{name}: {}", program.source.display())),
            None => progress(&format!("{name}: waits for a controller to bring its program")),
        }
        loaded.push((name, switch, program));
    }
    progress("hosts and links");
    let mut links = topology.links.clone();
    if options.without_delay {
        links.iter_mut().for_each(|l| (l.delay_us, l.loss_percent) = (0, 0.0));
    }
    let (network, complaints) = Network::build(&topology, &links)?;
    complaints.iter().for_each(|what| progress(&warn(what)));
    let mut exercise = Exercise {
        topology: topology.clone(),
        network,
        switches: Vec::new(),
    };
    for (i, (name, switch, program)) in (0u16..).zip(&loaded) {
        progress(&format!("switch {name}"));
        let place = Place {
            index: i,
            name,
            switch,
            program: program.as_ref(),
        };
        let child = place.start(options, &exercise)?;
        exercise.switches.push(child);
        place
            .load(base, options, &exercise)
            .with_context(|| format!("switches.{name}"))?;
    }
    Ok(exercise)
}

/// A compiled program as files.
#[derive(Debug, Clone)]
struct Program {
    source: PathBuf,
    json: PathBuf,
    p4info: PathBuf,
}

/// Programs of an exercise, each compiled once.
struct Programs<'a> {
    base: &'a Path,
    options: &'a Options,
    compiled: BTreeMap<PathBuf, Program>,
}

impl Programs<'_> {
    /// The program that a switch runs: the program that it names, the program whose JSON file it names, or the only
    /// one.
    fn of(&mut self, switch: &Switch) -> Result<Program> {
        let source = match &switch.program {
            Some(named) => self.find(named)?,
            None => self
                .options
                .programs
                .first()
                .map_or_else(|| self.only(), |p| Ok(p.clone()))?,
        };
        if let Some(program) = self.compiled.get(&source) {
            return Ok(program.clone());
        }
        let stem = source.file_stem().context("a program without a name")?;
        let file = |end: &str| self.options.out.join(format!("{}.{end}", stem.to_string_lossy()));
        let program = Program {
            source: source.clone(),
            json: file("json"),
            p4info: file("p4.p4info.txtpb"),
        };
        let Compiled { json, p4info_text, .. } = crate::program::compile(&source, &p4_compiler::Options::default())
            .map_err(|lines| anyhow::anyhow!("{}", lines.join("\n")))?;
        std::fs::write(&program.json, json).with_context(|| program.json.display().to_string())?;
        std::fs::write(&program.p4info, p4info_text).with_context(|| program.p4info.display().to_string())?;
        self.compiled.insert(source, program.clone());
        Ok(program)
    }

    /// The source of a named program. Files name what `make` puts into `build/`; the source lies beside the topology or
    /// above it.
    fn find(&self, named: &Path) -> Result<PathBuf> {
        let stem = named.file_stem().context("program without a name")?;
        if let Some(given) = self.options.programs.iter().find(|p| p.file_stem() == Some(stem)) {
            return Ok(given.clone());
        }
        let source = Path::new(stem).with_extension("p4");
        let is_source = named.extension().is_some_and(|e| e == "p4");
        let named = is_source.then(|| near(self.base, named)).and_then(Result::ok);
        named.map_or_else(|| near(self.base, &source), Ok)
    }

    fn only(&self) -> Result<PathBuf> {
        for folder in self.base.ancestors().take(4) {
            let Ok(entries) = std::fs::read_dir(if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            }) else {
                continue;
            };
            let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            found.retain(|p| p.extension().is_some_and(|e| e == "p4"));
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one.clone()),
                several => bail!(
                    "{} has {} programs; name one with --program",
                    folder.display(),
                    several.len()
                ),
            }
        }
        bail!("no P4 program near {}; name one with --program", self.base.display())
    }
}

/// A file that is named in a topology: relative to the folder in which `make` is called, which is the topology's or one
/// above it.
fn near(base: &Path, named: &Path) -> Result<PathBuf> {
    let mut places = base.ancestors().take(LEVELS).map(|folder| folder.join(named));
    let found = places.find(|p| p.is_file());
    found.with_context(|| format!("no {} in {} or above it", named.display(), base.display()))
}

/// A switch and its place among the others.
struct Place<'a> {
    index: u16,
    name: &'a str,
    switch: &'a Switch,
    program: Option<&'a Program>,
}

impl Place<'_> {
    /// Where it serves P4Runtime.
    fn grpc(&self) -> SocketAddrV4 {
        let by_place = || SocketAddrV4::new(Ipv4Addr::LOCALHOST, FIRST_GRPC + self.index);
        self.switch
            .server
            .as_ref()
            .map_or_else(by_place, |server| server.address)
    }

    fn device_id(&self) -> u64 {
        let server = self.switch.server.as_ref();
        server.map_or(self.index.into(), |server| server.device_id)
    }

    fn thrift(&self) -> u16 {
        FIRST_THRIFT + self.index
    }

    fn start(&self, options: &Options, exercise: &Exercise) -> Result<Child> {
        let file = options.out.join(format!("{}.log", self.name));
        let log = std::fs::File::create(&file).with_context(|| file.display().to_string())?;
        let mut command = Network::command(&exercise.network.switches(), &options.switch.to_string_lossy());
        for link in &exercise.topology.links {
            for end in &link.ends {
                if let super::topology::End::Port(switch, port) = end
                    && switch == self.name
                {
                    command.args(["-i", &format!("{port}@{}", Network::port(self.name, *port))]);
                }
            }
        }
        if options.pcap {
            command.arg("--pcap").arg(&options.out);
        }
        command.args([
            "--device-id",
            &self.device_id().to_string(),
            "--thrift-port",
            &self.thrift().to_string(),
        ]);
        // Entries come over P4Runtime with the program, or by commands to a program that runs.
        let is_loaded = self.switch.cli_input.is_some() || exercise.topology.programs_are_loaded;
        match self.program.filter(|_| is_loaded) {
            Some(program) => command.arg(&program.json),
            None => command.arg("--no-p4"),
        };
        command.args(["--", "--grpc-server-addr", &self.grpc().to_string()]);
        if let Some(port) = self.switch.cpu_port {
            command.args(["--cpu-port", &port.to_string()]);
        }
        if let Some(queues) = self.switch.priority_queues {
            command.args(["--priority-queues", &queues.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("cannot start {}", options.switch.display()))?;
        if let Err(error) = self.wait(&mut child, &file) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(child)
    }

    fn load(&self, base: &Path, options: &Options, exercise: &Exercise) -> Result<()> {
        let namespace = exercise.network.switches();
        if let (Some(file), Some(program)) = (&self.switch.runtime_json, self.program) {
            let mut load = Network::command(&namespace, &options.loader.to_string_lossy());
            load.args([
                "load",
                "--address",
                &self.grpc().to_string(),
                "--device-id",
                &self.device_id().to_string(),
            ]);
            load.arg("--json").arg(&program.json);
            load.arg("--p4info").arg(&program.p4info);
            call(load.arg(near(base, file)?))?;
        }
        if let Some(file) = &self.switch.cli_input {
            let file = near(base, file)?;
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            // p4-utils skips comments; simple_switch_CLI prints an error for them and goes on.
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let commands: String = lines.flat_map(|line| [line, "\n"]).collect();
            self.commands(&namespace, options, commands.as_bytes())
                .with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Passes commands to the switch under the name that it knows.
    fn commands(&self, namespace: &str, options: &Options, commands: &[u8]) -> Result<()> {
        let cli = options.out.join("simple_switch_CLI");
        if std::fs::symlink_metadata(&cli).is_err() {
            std::os::unix::fs::symlink(&options.switch, &cli).with_context(|| cli.display().to_string())?;
        }
        let mut command = Network::command(namespace, &cli.to_string_lossy());
        command.args(["--thrift-port", &self.thrift().to_string()]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run the command line")?;
        let mut stdin = child.stdin.take().context("standard input")?;
        stdin.write_all(commands)?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let complaint = said.lines().find(|l| l.contains("Error") || l.contains("Invalid"));
        match complaint {
            Some(line) => bail!("{line}"),
            None if !output.status.success() => bail!("{}", said.trim()),
            None => Ok(()),
        }
    }

    /// Waits until the switch serves on both of its ports.
    fn wait(&self, child: &mut Child, log: &Path) -> Result<()> {
        let started = Instant::now();
        let thrift = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.thrift());
        let ports = [self.grpc(), thrift];
        loop {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("the switch ended with {status}:\n{}", said.trim());
            }
            if ports.iter().all(|port| listens(child.id(), *port)) {
                return Ok(());
            }
            if started.elapsed() > START {
                bail!("the switch does not serve; its log is {}", log.display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Whether somebody listens at an address, or on its port at every address, in the namespace of a process (proc(5),
/// `/proc/net/tcp`).
fn listens(pid: u32, at: SocketAddrV4) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let ips = [*at.ip(), Ipv4Addr::UNSPECIFIED].map(|ip| u32::from_ne_bytes(ip.octets()));
    let wanted = ips.map(|ip| format!("{ip:08X}:{:04X}", at.port()));
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| wanted.iter().any(|w| w == local)) && words.nth(1) == Some("0A")
    })
}
