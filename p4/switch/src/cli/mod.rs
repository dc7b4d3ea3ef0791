//! The command line, with the option names of simple_switch_grpc where it has the same function.
//!
//! bmv2 wants options of the target behind a bare `--`; here it may be anywhere and has no effect.
//!
//! The name under which the program is called matters: as `simple_switch_grpc` it has bmv2's defaults, as `stratum_bmv2` it
//! reads Stratum's flags, and as `simple_switch_CLI` it sends commands to a running switch.

mod chassis;
mod inert;
mod stratum;

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

/// The name of bmv2's switch with P4Runtime. A program called by this name has bmv2's defaults.
pub(crate) const SIMPLE_SWITCH_GRPC: &str = "simple_switch_grpc";
/// The name of bmv2's client of the Thrift port.
pub(crate) const SIMPLE_SWITCH_CLI: &str = "simple_switch_CLI";
/// The name of Stratum's bmv2 target.
pub(crate) const STRATUM_BMV2: &str = "stratum_bmv2";
/// Address of bmv2's switch, and its device id.
const BMV2_ADDRESS: &str = "0.0.0.0:9559";
const BMV2_DEVICE_ID: &str = "0";

/// A software P4 switch: runs BMv2 JSON, serves P4Runtime and gNMI.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(group = clap::ArgGroup::new("ztp_from").multiple(true))]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The program to start with, as BMv2 JSON; without one, the switch waits for a controller to set it
    #[arg(value_name = "JSON", conflicts_with = "no_p4", help_heading = "Program")]
    pub(crate) program: Option<PathBuf>,
    /// P4Info of the program, as text or binary protobuf [default: derived from the program]
    #[arg(long, value_name = "FILE", requires = "program", help_heading = "Program")]
    pub(crate) p4info: Option<PathBuf>,
    /// Start without a program and wait for a controller
    #[arg(long, help_heading = "Program")]
    pub(crate) no_p4: bool,

    /// A port number and the network interface behind it; once for each port
    #[arg(short = 'i', long = "interface", value_name = "PORT@IFACE", value_parser = interface,
          help_heading = "Ports")]
    pub(crate) interfaces: Vec<(u32, String)>,
    /// Port of packet-in and packet-out
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, help_heading = "Ports")]
    pub(crate) cpu_port: Option<u32>,
    /// Port that drops
    #[arg(long, value_name = "PORT", default_value_t = 511, help_heading = "Ports")]
    pub(crate) drop_port: u32,
    /// Forwarding threads; the packets of a flow stay in order [default: one for each core]
    #[arg(long, value_name = "N", help_heading = "Ports")]
    pub(crate) threads: Option<NonZeroU16>,

    /// Whether frames go through the queueing disciplines (tc) of devices
    #[arg(long, value_name = "WHEN", default_value = "attached", help_heading = "Ports")]
    pub(crate) qdisc: Qdisc,
    /// Priority queues of each port; the highest goes first
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Ports")]
    pub(crate) priority_queues: NonZeroU8,

    /// Record what each interface receives and sends, as IFACE_in.pcap and IFACE_out.pcap
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = ".", help_heading = "Capture files")]
    pub(crate) pcap: Option<PathBuf>,
    /// A port that receives the packets of a pcap file, once a program is loaded
    #[arg(long, value_name = "PORT=FILE", value_parser = file, help_heading = "Capture files")]
    pub(crate) pcap_in: Vec<(u32, PathBuf)>,
    /// A port whose packets are written to a pcap file
    #[arg(long, value_name = "PORT=FILE", value_parser = file, help_heading = "Capture files")]
    pub(crate) pcap_out: Vec<(u32, PathBuf)>,

    /// Use IFACE_in.pcap and IFACE_out.pcap in place of each interface, SECONDS after a program is loaded
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "pcap",
        help_heading = "Capture files"
    )]
    pub(crate) use_files: Option<u16>,

    /// Number by which controllers address this switch
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Control")]
    pub(crate) device_id: u64,
    /// Address of the P4Runtime and gNMI server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9559", value_parser = address,
          help_heading = "Control")]
    pub(crate) grpc_server_addr: SocketAddr,
    /// Port for the commands of simple_switch_CLI, on the loopback address
    #[arg(long, value_name = "PORT", help_heading = "Control")]
    pub(crate) thrift_port: Option<NonZeroU16>,
    /// Authorities to trust (PEM). With it, only the fabric's controller may change the switch and only its operators may
    /// read it; without it, everybody may do everything
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"], alias = "grpc-server-cacert",
          help_heading = "Control")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Own certificate chain (PEM), for spiffe://FABRIC/switch/NAME
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_ca",
        alias = "grpc-server-cert",
        help_heading = "Control"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Own private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_ca",
        alias = "grpc-server-key",
        help_heading = "Control"
    )]
    pub(crate) tls_key: Option<PathBuf>,

    /// First enrol by OpenConfig Bootz, with the identity in this directory; the device id, address and certificate then come from
    /// the owner
    #[arg(long, value_name = "DIR", requires = "ztp_from", conflicts_with_all = ["tls_ca", "device_id", "grpc_server_addr"],
          help_heading = "Control")]
    pub(crate) ztp: Option<PathBuf>,
    /// The management interface: its address and the Bootz server come from DHCP
    #[arg(
        long,
        value_name = "IFACE",
        requires = "ztp",
        group = "ztp_from",
        help_heading = "Control"
    )]
    pub(crate) ztp_interface: Option<String>,
    /// The Bootz server, without DHCP
    #[arg(long, value_name = "bootz://HOST:PORT", requires = "ztp", group = "ztp_from", value_parser = bootz_server,
          conflicts_with = "ztp_interface", help_heading = "Control")]
    pub(crate) ztp_server: Option<String>,
    /// A file with a one-time token, as `fabricctl switch token` prints it: for a switch without an IDevID, which enrols at the
    /// controller. Nobody else may read it (0600)
    #[arg(long, value_name = "FILE", requires = "ztp_controller", conflicts_with_all = ["ztp_server", "ztp_signer"],
          help_heading = "Control")]
    pub(crate) ztp_token: Option<PathBuf>,
    /// The controller's port for agents, with a token
    #[arg(long, value_name = "https://HOST:PORT", requires_all = ["ztp", "ztp_token"], group = "ztp_from",
          help_heading = "Control")]
    pub(crate) ztp_controller: Option<String>,

    /// A program that signs with the identity key, instead of `idevid.key` in the directory: for keys in a TPM
    #[arg(long, value_name = "PROGRAM", requires = "ztp", help_heading = "Control")]
    pub(crate) ztp_signer: Option<PathBuf>,

    /// A program that checks and activates packages of software, for gNOI's `OS.Install`; without one, the call is refused
    #[arg(long, value_name = "PROGRAM", requires = "os_dir", help_heading = "Control")]
    pub(crate) os_program: Option<PathBuf>,
    /// Directory of packages that were received over gNOI
    #[arg(long, value_name = "DIR", requires = "os_program", help_heading = "Control")]
    pub(crate) os_dir: Option<PathBuf>,
    /// Largest package that is accepted, in octets
    #[arg(long, value_name = "N", default_value_t = 1 << 30, help_heading = "Control")]
    pub(crate) os_octets: u64,

    /// Lowest severity that is logged
    #[arg(
        short = 'L',
        long,
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Log"
    )]
    pub(crate) log_level: Level,
    /// Log to standard output instead of standard error
    #[arg(long, conflicts_with = "log_file", help_heading = "Log")]
    pub(crate) log_console: bool,
    /// Log to FILE.txt instead of standard error
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub(crate) log_file: Option<PathBuf>,
    /// Print to standard output what happens to each packet, up to a thousand packets a second
    #[arg(long, help_heading = "Log")]
    pub(crate) trace: bool,
    #[command(flatten)]
    inert: inert::Inert,
    /// Warnings to print once the log is open.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// When frames go through the queueing discipline of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Qdisc {
    /// While one is attached (`tc qdisc add`)
    Attached,
    /// Always
    Use,
    /// Never
    Bypass,
}

/// The name under which the program was called, with its options.
pub(crate) enum Called {
    /// A switch.
    Switch(Box<Options>),
    /// `simple_switch_CLI`.
    Client(ClientOptions),
}

/// Sends commands from standard input to a switch on this host, and prints the replies.
#[derive(Debug, Parser)]
#[command(name = SIMPLE_SWITCH_CLI, version, max_term_width = 100)]
pub(crate) struct ClientOptions {
    /// The switch's --thrift-port
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    pub(crate) thrift_port: u16,
    /// The switch's host; switches accept commands only on the loopback address
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) thrift_ip: String,
    /// The program; without effect, because the switch knows it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Kind of the replication engine; without effect, because there is only one
    #[arg(long, value_name = "KIND")]
    pre: Option<String>,
}

/// Reads a command line, which starts with the name of the program.
///
/// # Errors
/// Names the option, its value and what is expected.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Called, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name());
    Ok(match name.and_then(OsStr::to_str) {
        Some(SIMPLE_SWITCH_CLI) => Called::Client(ClientOptions::try_parse_from(arguments)?),
        Some(STRATUM_BMV2) => {
            let fail = |text| {
                Options::command()
                    .name(STRATUM_BMV2)
                    .error(ErrorKind::ValueValidation, text)
            };
            let stratum::Translated { arguments, warnings } = stratum::translate(&arguments).map_err(fail)?;
            let mut options = Options::read(arguments)?;
            options.warnings.extend(warnings);
            Called::Switch(Box::new(options))
        }
        _ => Called::Switch(Box::new(Options::read(arguments)?)),
    })
}

/// Other functions of the program.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measures parts of the switch.
    #[command(hide = true, subcommand)]
    Bench(crate::bench::Bench),
}

/// Severity of what is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// As a filter of the log.
    pub(crate) fn directive(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a port number, one from 0 to {} is expected", u32::MAX))
}

pub(crate) fn interface(text: &str) -> Result<(u32, String), String> {
    let (port, name) = text
        .split_once('@')
        .ok_or("a port number and an interface joined by `@` are expected, as in 1@eth1")?;
    // A name that the kernel accepts (dev_valid_name).
    let is_name = |c: char| !c.is_whitespace() && c != '/' && c != ':';
    if name.is_empty() || name.len() > 15 || !name.chars().all(is_name) {
        return Err(format!(
            "{name:?} is not the name of an interface: 1 to 15 octets, no space, `/` or `:`"
        ));
    }
    Ok((number(port)?, name.to_owned()))
}

fn file(text: &str) -> Result<(u32, PathBuf), String> {
    let (port, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or("a port number and a file joined by `=` are expected, as in 1=in.pcap")?;
    Ok((number(port)?, path.into()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "an address and a port are expected, as in 0.0.0.0:9559, [::1]:9559 or localhost:9559";
    let mut found = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
    found.next().ok_or_else(|| expected.to_owned())
}

/// `HOST:PORT` of a Bootz server.
fn bootz_server(text: &str) -> Result<String, String> {
    let address = fabric_bootz::dial::address(text).map_err(|error| error.to_string())?;
    Ok(address.to_owned())
}

impl Options {
    /// How software is installed, if the operator has a program for that.
    pub(crate) fn os_settings(&self) -> Option<p4_switch::gnoi::os::Settings> {
        Some(p4_switch::gnoi::os::Settings {
            dir: self.os_dir.clone()?,
            program: self.os_program.clone()?,
            most_octets: self.os_octets,
        })
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// Names the option, its value and what is expected.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut arguments = arguments.into_iter();
        let program = arguments.next().unwrap_or_default();
        let is_bmv2 = Path::new(&program).file_name() == Some(OsStr::new(SIMPLE_SWITCH_GRPC));
        let mut command = Self::command();
        if is_bmv2 {
            command = command
                .mut_arg("device_id", |arg| arg.default_value(BMV2_DEVICE_ID))
                .mut_arg("grpc_server_addr", |arg| arg.default_value(BMV2_ADDRESS));
        }
        let arguments = std::iter::once(program).chain(arguments.filter(|a| a != "--"));
        let matches = command.clone().try_get_matches_from(arguments)?;
        let mut options = Self::from_arg_matches(&matches)?;
        options
            .check()
            .map_err(|text| command.error(ErrorKind::ValueValidation, text))?;
        let reasons = options.inert.reasons();
        options.warnings = reasons
            .into_iter()
            .map(|(option, reason)| format!("{option} has no effect: {reason}"))
            .collect();
        if is_bmv2 && matches.value_source("grpc_server_addr") == Some(ValueSource::DefaultValue) {
            options.warnings.push(format!(
                "P4Runtime is served at {BMV2_ADDRESS}, as {SIMPLE_SWITCH_GRPC} does: everybody who reaches this host \
                 can control the switch; --grpc-server-addr sets another address"
            ));
        }
        options.expand_files();
        Ok(options)
    }

    /// Replaces interfaces by the files of `--use-files`.
    fn expand_files(&mut self) {
        if self.use_files.is_some() {
            for (port, name) in std::mem::take(&mut self.interfaces) {
                self.pcap_in.push((port, format!("{name}_in.pcap").into()));
                self.pcap_out.push((port, format!("{name}_out.pcap").into()));
            }
        }
    }

    /// Checks that involve several options.
    fn check(&self) -> Result<(), String> {
        let mut ports: Vec<(u32, String)> = Vec::new();
        let names = self
            .interfaces
            .iter()
            .map(|(p, n)| (*p, format!("--interface {p}@{n}")));
        let files = |option: &str, all: &[(u32, PathBuf)]| {
            let text = |(p, f): &(u32, PathBuf)| (*p, format!("--{option} {p}={}", f.display()));
            all.iter().map(text).collect::<Vec<_>>()
        };
        let (inputs, outputs) = (files("pcap-in", &self.pcap_in), files("pcap-out", &self.pcap_out));
        for (port, text) in names {
            if let Some((_, other)) = ports.iter().find(|(p, _)| *p == port) {
                return Err(format!(
                    "'{text}': port {port} is that of '{other}'; another number is expected"
                ));
            }
            ports.push((port, text));
        }
        for (at, (port, name)) in self.interfaces.iter().enumerate() {
            let before = self.interfaces.iter().take(at).find(|(_, n)| n == name);
            if let Some((other, _)) = before {
                return Err(format!(
                    "'--interface {port}@{name}': the interface is that of port {other}; another one is expected"
                ));
            }
        }
        for (at, (port, text)) in inputs.iter().enumerate().chain(outputs.iter().enumerate()) {
            let same = |all: &[(u32, String)]| {
                let mut before = all.iter().take(at).filter(|(_, t)| t != text);
                before.find(|(p, _)| p == port).map(|(_, t)| t.clone())
            };
            let list = if text.starts_with("--pcap-in") {
                &inputs
            } else {
                &outputs
            };
            let other = ports.iter().find(|(p, _)| p == port).map(|(_, t)| t.clone());
            if let Some(other) = other.or_else(|| same(list)) {
                return Err(format!(
                    "'{text}': port {port} is that of '{other}'; another number is expected"
                ));
            }
        }
        ports.extend(inputs);
        ports.extend(outputs);
        for (port, text) in &ports {
            if *port == self.drop_port {
                return Err(format!(
                    "'{text}': port {port} drops (--drop-port); another number is expected"
                ));
            }
            if Some(*port) == self.cpu_port {
                return Err(format!(
                    "'{text}': port {port} is the controller's (--cpu-port); another number is expected"
                ));
            }
        }
        if self.cpu_port == Some(self.drop_port) {
            let port = self.drop_port;
            return Err(format!(
                "'--cpu-port {port}': port {port} drops (--drop-port); another number is expected"
            ));
        }
        if let Some(dir) = self.pcap.as_ref().filter(|d| !d.is_dir()) {
            return Err(format!(
                "'--pcap {}': a directory that exists is expected",
                dir.display()
            ));
        }
        Ok(())
    }

    /// All port numbers of capture files.
    pub(crate) fn file_ports(&self) -> Vec<u32> {
        let all = self.pcap_in.iter().chain(&self.pcap_out).map(|(port, _)| *port);
        let mut ports: Vec<_> = all.collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let arguments = std::iter::once("p4-switch").chain(line.split_whitespace());
        Options::read(arguments.map(OsString::from)).map_err(|e| e.to_string())
    }

    /// The error contains all of these words.
    fn refused(line: &str, words: &[&str]) {
        let text = read(line).expect_err(line);
        for word in words {
            assert!(text.contains(word), "{line}: {word:?} is missing in: {text}");
        }
    }

    #[test]
    fn what_people_type_for_simple_switch_grpc_is_understood() {
        let line = "--device-id 3 -i 1@veth1 -i 2@veth2 --pcap . -L debug --log-console router.json \
                    -- --grpc-server-addr localhost:50051 --cpu-port 255 --drop-port 500";
        let options = read(line).unwrap();
        assert_eq!(options.device_id, 3);
        assert_eq!(options.interfaces, [(1, "veth1".to_owned()), (2, "veth2".to_owned())]);
        assert_eq!(options.program, Some("router.json".into()));
        assert_eq!(options.grpc_server_addr.port(), 50051);
        assert_eq!((options.cpu_port, options.drop_port), (Some(255), 500));
        assert_eq!(options.pcap, Some(".".into()));
        assert_eq!(options.log_level, Level::Debug);
        assert!(options.log_console);
        assert!(options.warnings.is_empty());
        assert!(read("--no-p4 -i 0@swp1 --grpc-server-addr 0.0.0.0:9559").unwrap().no_p4);
        assert_eq!(read("--pcap --no-p4").unwrap().pcap, Some(".".into()));
    }

    #[test]
    fn files_make_ports() {
        let options = read("--pcap-in 1=a.pcap --pcap-out 1=b.pcap --pcap-out 2=c.pcap").unwrap();
        assert_eq!(options.file_ports(), [1, 2]);
    }

    #[test]
    fn bad_values_are_named_with_what_is_expected() {
        refused("-i veth1", &["'veth1'", "--interface <PORT@IFACE>", "as in 1@eth1"]);
        refused("-i x@veth1", &["'x@veth1'", "\"x\"", "a port number"]);
        refused("-i 1@", &["'1@'", "name of an interface"]);
        refused("-i 1@a_name_of_16_octs", &["name of an interface"]);
        refused(
            "-i 1@a -i 1@b",
            &["--interface 1@b", "--interface 1@a", "another number"],
        );
        refused("-i 1@a -i 2@a", &["--interface 2@a", "port 1"]);
        refused("-i 511@a", &["--interface 511@a", "--drop-port"]);
        refused("-i 64@a --cpu-port 64", &["--interface 64@a", "--cpu-port"]);
        refused("--cpu-port 511", &["--cpu-port 511", "--drop-port"]);
        refused("--cpu-port -1", &["--cpu-port"]);
        refused("--device-id x", &["'x'", "--device-id"]);
        refused("--drop-port 4294967296", &["'4294967296'", "--drop-port"]);
        refused(
            "--grpc-server-addr 9559",
            &["'9559'", "--grpc-server-addr", "an address and a port"],
        );
        refused(
            "--grpc-server-addr 1.2.3.4:99999",
            &["--grpc-server-addr", "an address and a port"],
        );
        refused("--log-level loud", &["'loud'", "--log-level", "warn"]);
        refused("--log-console --log-file x", &["--log-console", "--log-file"]);
        refused("--threads 0", &["'0'", "--threads"]);
        refused("--p4info x.txt", &["JSON"]);
        refused("--no-p4 x.json", &["--no-p4", "JSON"]);
        refused("--pcap /nowhere", &["--pcap /nowhere", "a directory"]);
        refused("--pcap-in in.pcap", &["'in.pcap'", "--pcap-in", "1=in.pcap"]);
        refused("--pcap-in 1=a --pcap-in 1=b", &["--pcap-in 1=b", "--pcap-in 1=a"]);
        refused("--pcap-in 1=a -i 1@b", &["--pcap-in 1=a", "--interface 1@b"]);
        refused("--pcap-out 1=", &["--pcap-out", "1=in.pcap"]);
        refused("--tls-ca ca.pem", &["--tls-cert", "--tls-key"]);
        refused("--thrift-port 0", &["--thrift-port"]);
        refused("--priority-queues 0", &["--priority-queues"]);
        refused("--qdisc no", &["--qdisc", "attached"]);
        refused("--use-files 1 --pcap .", &["--use-files", "--pcap"]);
        refused("--restore-state x", &["--restore-state"]);
    }

    #[test]
    fn what_the_tutorials_and_their_kin_type_is_understood() {
        let line = "-i 1@s1-eth1 -i 2@s1-eth2 --pcap . --nanolog ipc:///tmp/bm-0-log.ipc --device-id 0 s.json \
                    --debugger --dump-packet-data 80 --notifications-addr ipc:///tmp/n.ipc --log-console \
                    --thrift-port 9090 --priority-queues 8 -- --grpc-server-addr 0.0.0.0:50051 --cpu-port 255 \
                    --disable-swap --dp-grpc-server-addr 0.0.0.0:5000 --log-flush";
        let options = read(line).unwrap();
        assert_eq!(options.thrift_port.map(NonZeroU16::get), Some(9090));
        assert_eq!(options.priority_queues.get(), 8);
        for option in [
            "--nanolog",
            "--debugger",
            "--dump-packet-data",
            "--notifications-addr",
            "--disable-swap",
            "--dp-grpc-server-addr",
        ] {
            let said = options.warnings.iter().filter(|w| w.starts_with(option)).count();
            assert_eq!(said, 1, "{option}: {:?}", options.warnings);
        }
        assert_eq!(options.warnings.len(), 6, "{:?}", options.warnings);
    }

    #[test]
    fn under_bmv2s_name_the_defaults_are_bmv2s() {
        let read = |line: &str| Options::read(line.split_whitespace().map(OsString::from)).unwrap();
        let options = read("/usr/bin/simple_switch_grpc --no-p4");
        assert_eq!(options.device_id, 0);
        assert_eq!(options.grpc_server_addr, BMV2_ADDRESS.parse().unwrap());
        assert!(options.warnings[0].contains("everybody"), "{:?}", options.warnings);
        let options = read("simple_switch_grpc --no-p4 --device-id 3 -- --grpc-server-addr 127.0.0.1:1");
        assert_eq!((options.device_id, options.warnings.len()), (3, 0));
        let options = read("p4-switch --no-p4");
        assert_eq!((options.device_id, options.warnings.len()), (1, 0));
        assert!(options.grpc_server_addr.ip().is_loopback());
    }

    #[test]
    fn files_stand_for_interfaces() {
        let options = read("--use-files 2 -i 1@a -i 2@b p.json").unwrap();
        assert!(options.interfaces.is_empty());
        assert_eq!(options.file_ports(), [1, 2]);
        assert_eq!(options.pcap_in[0], (1, "a_in.pcap".into()));
        assert_eq!(options.pcap_out[1], (2, "b_out.pcap".into()));
    }

    #[test]
    fn the_help_has_groups() {
        let help = Options::command().render_long_help().to_string();
        for group in ["Program:", "Ports:", "Capture files:", "Control:", "Log:"] {
            assert!(help.contains(group), "{group}: {help}");
        }
        Options::command().debug_assert();
    }
}
