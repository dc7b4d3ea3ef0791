//! The flags of `stratum_bmv2`, as the Mininet classes written for it pass them, translated into options of this
//! switch.

use std::ffi::OsString;
use std::path::Path;

use super::chassis;

/// Flags that change nothing here, each with its reason.
const INERT: [(&str, &str); 12] = [
    ("forwarding_pipeline_configs_file", "no program is kept over a restart"),
    ("persistent_config_dir", "nothing is kept over a restart"),
    ("local_stratum_url", "one address serves P4Runtime and gNMI"),
    (
        "max_num_controllers_per_node",
        "the number of controllers has no such limit",
    ),
    ("write_req_log_file", "requests are not logged"),
    ("read_req_log_file", "requests are not logged"),
    ("grpc_max_recv_msg_size", "messages of up to 128 MiB are accepted"),
    ("log_dir", "the log goes to standard error"),
    ("v", "bmv2_log_level sets what is logged"),
    ("minloglevel", "bmv2_log_level sets what is logged"),
    ("stderrthreshold", "bmv2_log_level sets what is logged"),
    ("enable_onlp", "there is no platform to manage"),
];

/// Flags that ask for what always happens: the log goes to standard error.
const MET: [&str; 4] = ["logtostderr", "alsologtostderr", "logtosyslog", "colorlogtostderr"];

/// A command line of this switch.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) arguments: Vec<OsString>,
    pub(super) warnings: Vec<String>,
}

/// Name and value of a flag: `-name=value`, `--name value`, `-name` and `-noname`.
fn flags(arguments: &[OsString]) -> Result<Vec<(String, Option<String>)>, String> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for argument in arguments.iter().skip(1) {
        let text = argument.to_str().ok_or_else(|| format!("{argument:?} is not text"))?;
        match text.strip_prefix("--").or_else(|| text.strip_prefix('-')) {
            Some(flag) => match flag.split_once('=') {
                Some((name, value)) => found.push((name.to_owned(), Some(value.to_owned()))),
                None => found.push((flag.to_owned(), None)),
            },
            None => match found.last_mut() {
                Some((_, value @ None)) => *value = Some(text.to_owned()),
                _ => return Err(format!("{text:?}: a flag is expected, as in -device_id=1")),
            },
        }
    }
    Ok(found)
}

/// Translates a command line, which starts with the name of the program.
///
/// # Errors
/// Names the flag, its value and what is expected.
pub(super) fn translate(arguments: &[OsString]) -> Result<Translated, String> {
    let mut out = Translated::default();
    let (mut device_id, mut chassis) = (None, chassis::Chassis::default());
    let mut options: Vec<(&str, String)> = Vec::new();
    let mut program = None;
    for (name, value) in flags(arguments)? {
        let bare = name.strip_prefix("no").unwrap_or(&name);
        if MET.contains(&name.as_str()) || MET.contains(&bare) {
            continue;
        }
        if let Some((_, reason)) = INERT.iter().find(|(inert, _)| *inert == name || *inert == bare) {
            out.warnings.push(format!("-{name} has no effect: {reason}"));
            continue;
        }
        let value = value.ok_or_else(|| format!("-{name}: a value is expected, as in -{name}=..."))?;
        let option = match name.as_str() {
            "device_id" => {
                device_id = Some(value);
                continue;
            }
            "chassis_config_file" => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("-{name}={value}: {error}"))?;
                chassis = chassis::read(&text).map_err(|error| format!("-{name}={value}: {error}"))?;
                continue;
            }
            "initial_pipeline" => {
                // The file is the one in Stratum's own container, with a program that drops everything.
                match Path::new(&value).is_file() {
                    true => program = Some(value),
                    false => out
                        .warnings
                        .push(format!("-{name}={value}: no such file; there is no program yet")),
                }
                continue;
            }
            "external_stratum_urls" => {
                let (first, others) = value.split_once(',').unwrap_or((&value, ""));
                if !others.is_empty() {
                    out.warnings
                        .push(format!("-{name}: only {first} is served, not {others}"));
                }
                options.push(("--grpc-server-addr", first.to_owned()));
                continue;
            }
            "cpu_port" => "--cpu-port",
            "bmv2_thrift_port" => "--thrift-port",
            "bmv2_log_level" => "--log-level",
            "ca_cert_file" => "--tls-ca",
            "server_cert_file" => "--tls-cert",
            "server_key_file" => "--tls-key",
            _ => return Err(format!("-{name}: no such flag")),
        };
        if !value.is_empty() {
            options.push((option, value));
        }
    }
    out.arguments.push(super::STRATUM_BMV2.into());
    let node = chassis.node.map(|node| node.to_string());
    options.extend(node.or(device_id).map(|id| ("--device-id", id)));
    let ports = chassis
        .ports
        .iter()
        .map(|(id, name)| ("--interface", format!("{id}@{name}")));
    options.extend(ports);
    for (option, value) in options {
        out.arguments.extend([option.into(), value.into()]);
    }
    match program {
        Some(program) => out.arguments.push(program.into()),
        None => out.arguments.push("--no-p4".into()),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Result<Translated, String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        translate(&arguments)
    }

    #[test]
    fn what_a_mininet_class_passes_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("chassis-config.txt");
        std::fs::write(&config, "nodes { id: 1 } singleton_ports { id: 1 name: \"s1-eth1\" }").unwrap();
        let line = format!(
            "stratum_bmv2 -device_id=1 -chassis_config_file={} -forwarding_pipeline_configs_file=/dev/null \
             -persistent_config_dir={} -initial_pipeline=/root/dummy.json -cpu_port=255 \
             -external_stratum_urls=0.0.0.0:50001 -local_stratum_url=localhost:41235 \
             -max_num_controllers_per_node=10 -write_req_log_file=/dev/null -logtosyslog=false -logtostderr=true \
             -bmv2_log_level=warn",
            config.display(),
            dir.path().display()
        );
        let Translated { arguments, warnings } = translated(&line).unwrap();
        let text: Vec<_> = arguments.iter().filter_map(|a| a.to_str()).collect();
        assert_eq!(
            text.join(" "),
            "stratum_bmv2 --cpu-port 255 --grpc-server-addr 0.0.0.0:50001 --log-level warn --device-id 1 \
             --interface 1@s1-eth1 --no-p4"
        );
        assert_eq!(warnings.len(), 6, "{warnings:?}");
        let options = crate::cli::Options::read(arguments).unwrap();
        assert_eq!(options.interfaces, [(1, "s1-eth1".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, words) in [
            ("s -no_such_flag=1", "no_such_flag"),
            ("s -cpu_port", "-cpu_port"),
            ("s cpu_port=1", "a flag is expected"),
            ("s -chassis_config_file=/nowhere/x", "/nowhere/x"),
        ] {
            let error = translated(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
