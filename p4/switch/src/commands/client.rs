//! `simple_switch_CLI`: reads commands, sends them to a switch, and prints its replies.

use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Write};
use std::net::TcpStream;

/// Longest reply that is accepted, in octets: a dump of a large table.
const MAX_REPLY: u64 = 1 << 30;
/// The prompt of bmv2.
const PROMPT: &str = "RuntimeCmd: ";

/// Runs the commands of `input` until it ends, or one is `exit`.
///
/// # Errors
/// The switch cannot be reached, or is not one of ours.
pub fn run(host: &str, port: u16, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let context = |error: io::Error| io::Error::new(error.kind(), format!("{host}:{port}: {error}"));
    let stream = TcpStream::connect((host, port)).map_err(context)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let shows_prompt = io::stdin().is_terminal();
    let mut line = String::new();
    loop {
        if shows_prompt {
            output.write_all(PROMPT.as_bytes())?;
            output.flush()?;
        }
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let command = line.trim();
        if matches!(command, "exit" | "quit" | "EOF") {
            return Ok(());
        }
        writer.write_all(format!("{command}\n").as_bytes()).map_err(context)?;
        let mut head = String::new();
        reader.read_line(&mut head).map_err(context)?;
        let octets: u64 = head
            .trim()
            .parse()
            .ok()
            .filter(|octets| *octets <= MAX_REPLY)
            .ok_or_else(|| {
                context(io::Error::other(
                    "this is not a switch of the same kind as this command",
                ))
            })?;
        let copied = io::copy(&mut (&mut reader).take(octets), output).map_err(context)?;
        if copied != octets {
            return Err(context(io::ErrorKind::UnexpectedEof.into()));
        }
        output.flush()?;
    }
}
