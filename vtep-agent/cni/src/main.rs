//! The CNI plugin: reads the environment and standard input, writes one JSON document.

use std::io::Read;
use std::process::ExitCode;

use vfabric_cni::command;
use vfabric_cni::error::Error;

/// Most octets of a network configuration that are read: a list of valid attachments (GC) takes 100 octets each.
const MAX_INPUT: u64 = 1 << 20;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let mut input = Vec::new();
    let read = std::io::stdin().take(MAX_INPUT).read_to_end(&mut input);
    let done = match read {
        Ok(_) => command::run(environment, &input),
        Err(e) => Err(Error::io(format!("standard input: {e}"))),
    };
    match done {
        Ok(Some(result)) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", error.document(environment("CNI_COMMAND").as_deref(), &input));
            ExitCode::FAILURE
        }
    }
}
