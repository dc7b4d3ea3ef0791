//! Runs a fuzz target for any length of time: `cargo xtask fuzz NAME --seconds N`.

use anyhow::{Result, bail};
use bmv2_tests::fuzz::{differential, regressions, run, target, targets};
use clap::Parser;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Fuzz a part of the project.
#[derive(Parser)]
struct Cli {
    /// parser, compiler, bmv2_json, packet, differential, rest, yaml, vtep, gnmi, lldp, netlink or dhcp6
    target: String,
    /// How many seconds to run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Start of the generated inputs: another number makes other inputs [default: the time]
    #[arg(long)]
    start: Option<u64>,
    /// differential: this program with the entries and packets of one seed, `--start`, to look at a finding
    #[arg(long)]
    program: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let time = Duration::from_secs(cli.seconds);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let start = cli.start.unwrap_or(clock.as_secs());
    // A panic is a finding and is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(file) = &cli.program {
        let text = std::fs::read_to_string(file)?;
        return differential::given(&file.to_string_lossy(), &text, start).map_err(anyhow::Error::msg);
    }
    if cli.target == "differential" {
        let end = Instant::now() + time;
        let mut seed = start;
        while Instant::now() < end {
            if let Err(why) = differential::generated(seed) {
                bail!("{why}");
            }
            seed += 1;
        }
        println!("differential: {} programs from {start}, no difference", seed - start);
        return Ok(());
    }
    let Some(target) = target(&cli.target) else {
        let names: Vec<String> = targets().map(|t| format!("\n  {:<13} {}", t.name, t.about)).collect();
        bail!(
            "no target `{}`; there are{}\n  differential  -O0 and -O1 do the same to the same packets",
            cli.target,
            names.concat()
        );
    };
    match run(target, start, usize::MAX, time) {
        Ok(n) => println!("{}: {n} inputs from {start}, no finding", target.name),
        Err(finding) => {
            let folder = regressions(target.name);
            std::fs::create_dir_all(&folder)?;
            let file = folder.join(format!("from-{start}"));
            std::fs::write(&file, &finding.input)?;
            bail!("{finding}\nkept as {}, which the tests run from now on", file.display());
        }
    }
    Ok(())
}
